"""Ask the critic and the judge, and let the expert overrule them (Sec. 4.1)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter
from torch import nn

from lvlm_va._version import __version__
from lvlm_va.critique.backends.builtin import BuiltinCritic
from lvlm_va.critique.backends.person import PersonBackend
from lvlm_va.critique.driver import critique
from lvlm_va.critique.estimate import Estimate, estimate
from lvlm_va.critique.person.judging import Judged, Judging
from lvlm_va.critique.propagation import Propagation
from lvlm_va.critique.question import KINDS, ExplainedImage
from lvlm_va.critique.review import LINES, CriticJudge
from lvlm_va.critique.unanswered import check_answered, say_too_little, say_unscored, unscored_evidence
from lvlm_va.critique.verdict import Verdict
from lvlm_va.project.fingerprints import tensor_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explained import Explained
from lvlm_va.project.stages.judging import ask_person, open_judging
from lvlm_va.project.stages.query_plan import QueryPlan, plan_questions, read_images
from lvlm_va.project.stages.together import ask_together
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory, fingerprint
from lvlm_va.run.files import CRITIC_VERDICTS, PARTS, VERDICTS, open_store
from lvlm_va.run.judge_check import ignored_examples
from lvlm_va.run.verdict_table import Overruled, read_verdicts, reconcile, verdicts_file

__all__ = [
    "Verdicts",
    "collect_verdicts",
    "say_estimate",
]


@dataclass(frozen=True, eq=False)
class _Said:
    """What the critic said, how many verdicts were propagated, and what all of them are on."""

    verdicts: list[Verdict]
    propagation: Propagation | Judged | None
    explained: Explained

    @property
    def segments(self) -> str:
        """Fingerprint of the segments that the verdicts are on."""
        return fingerprint(self.explained.ids, tensor_fingerprint(self.explained.segmentation.labels))


@dataclass(frozen=True)
class Verdicts:
    """One verdict per segment.

    Attributes:
        explained: the images with their segments, those divided that the critic called mixed.
        in_force: the critic's, except where a person overruled it.
        overruled: what a person changed.
        propagation: how many verdicts were asked for and how many propagated; None where all images were
            asked about.
    """

    explained: Explained
    in_force: Sequence[Verdict]
    overruled: Sequence[Overruled]
    propagation: Propagation | Judged | None = None


def say_estimate(expected: Estimate, critic_judge: CriticJudge) -> str:
    """The estimate in one sentence, for the person who pays."""
    calls = expected.critic_calls + expected.judge_calls
    if not calls:
        return "Every question is answered already; nothing will be asked."
    doubtful = ", more only where lines leave doubt" if critic_judge.lines_first else ""
    parts = ", more for the parts of mixed segments" if critic_judge.split else ""
    price = "at an unknown price" if expected.usd is None else f"about {expected.usd:.2f} USD"
    return (
        f"To ask: {expected.critic_calls} critiques ({critic_judge.critic.name}) and {expected.judge_calls} "
        f"judgements ({critic_judge.judge.name}){doubtful}{parts}; "
        f"about {expected.input_tokens:,} tokens in and "
        f"{expected.output_tokens:,} out, {price}."
    )


def collect_verdicts(
    context: Context, explained: Explained, critic_judge: CriticJudge, model: nn.Module | None = None
) -> Verdicts:
    """Stage critique: one verdict per segment of every usable image; also in verdicts.csv.

    Where mixed segments were divided, the segments are also in segments/parts.safetensors.

    Args:
        context: of the run.
        explained: its images.
        critic_judge: who is asked.
        model: the explained classifier, for a person's judgements; read from the run when not given.

    Raises:
        Interrupted, BudgetReached, CriticError: with everything answered so far kept; the last also where not
            one segment has a verdict, of the critic or of a person.
        RunError: if verdicts.csv was edited into something that cannot be read.
    """
    person = critic_judge.critic
    if isinstance(person, PersonBackend):
        with open_judging(context, explained, person, model) as judging:
            ask_person(context, judging, person)
            told = ["judged", judging.fingerprint, judging.wanted, __version__]
            return _collect(
                context,
                explained,
                critic_judge,
                explained.explained_images(context.splits),
                told,
                lambda: _carried_over(context, explained, judging),
            )
    plan = plan_questions(context, explained)
    told = [] if plan.plan is None else [asdict(plan.plan), plan.required, __version__]
    return _collect(
        context,
        explained,
        critic_judge,
        plan.explained_images,
        told,
        lambda: _ask(context, explained, plan, critic_judge),
    )


def _carried_over(context: Context, explained: Explained, judging: Judging) -> _Said:
    verdicts, judged = judging.carried_over()
    context.console.note(str(judged))
    return _Said(verdicts, judged, explained)


def _collect(
    context: Context,
    explained: Explained,
    critic_judge: CriticJudge,
    explained_images: Sequence[ExplainedImage],
    told: Sequence[object],
    ask: Callable[[], _Said],
) -> Verdicts:
    """The verdicts that `ask` brings, unless they are known; `told` is what they depend on besides."""
    run = context.run
    table, said_table = run.file(VERDICTS), run.file(CRITIC_VERDICTS)
    backends = (critic_judge.critic, critic_judge.judge)

    def load() -> _Said:
        verdicts = read_verdicts(said_table)
        failed = any(v.spurious is None and v.author == critic_judge.author for v in verdicts)
        if failed and "lvlm" in (critic_judge.critic.kind, critic_judge.judge.kind):
            raise ValueError("some questions may only have failed to arrive: ask those again")
        known = run.stages["critique"].summary["propagation"]
        return _Said(
            verdicts,
            None if known is None else TypeAdapter(Propagation | Judged).validate_python(known),
            _with_parts(run, explained, verdicts),
        )

    def save(said: _Said) -> None:
        if said.explained is not explained:
            run.write(PARTS, artefacts.segmentation_pieces(said.explained.segmentation))
        run.write(VERDICTS, verdicts_file(_carry_over(context, said.verdicts, said.segments)))
        run.write(CRITIC_VERDICTS, verdicts_file(said.verdicts))

    said, _ = run.stage(
        "critique",
        fingerprint(
            "critique",
            [one.fingerprint for one in explained_images],
            [(backend.name, None if backend.kind == "lvlm" else __version__) for backend in backends],
            {name: v.version for name, v in critic_judge.specifications.items()},
            [example.text for example in critic_judge.examples],
            # Left out where it is "spurious", as all runs were before there was a choice.
            *([] if critic_judge.intervene == "spurious" else [critic_judge.intervene]),
            # Likewise: what does not read a prompt is not told.
            *(["background"] if _allows_background(critic_judge) else []),
            *([LINES] if critic_judge.lines_first else []),
            *([f"split {critic_judge.split}"] if critic_judge.split else []),
            *([] if context.config.critique.detail == "high" else [context.config.critique.detail]),
            *told,
        ),
        ask,
        save,
        load,
        summarise=lambda said: {
            "critic": critic_judge.critic.name,
            "judge": critic_judge.judge_name,
            "kind": critic_judge.critic.kind,
            "intervene": critic_judge.intervene,
            "segments": said.segments,
            "spurious": sum(v.spurious is True for v in said.verdicts),
            "valid": sum(v.spurious is False for v in said.verdicts),
            "unscored": sum(v.spurious is None for v in said.verdicts),
            "propagation": None if said.propagation is None else asdict(said.propagation),
        },
    )
    if not table.exists():
        run.write(VERDICTS, verdicts_file(said.verdicts))
    verdicts = Verdicts(
        said.explained, *reconcile(said.verdicts, read_verdicts(table), where=table), said.propagation
    )
    # What measures has answered where it abstains; a model or person that gave not one verdict has not.
    if {"lvlm", "person"} & {critic_judge.critic.kind, critic_judge.judge.kind}:
        check_answered(verdicts.in_force)
    if unscored := say_unscored(verdicts.in_force):
        context.console.note(unscored)
    images = explained_images
    if said.explained is not explained:
        images = said.explained.explained_images(context.splits)
    share = unscored_evidence(images, verdicts.in_force)
    if warning := say_too_little(critic_judge.critic.name, share):
        context.console.note(f"WARNING: {warning}")
    if warning := ignored_examples(run):
        context.console.note(f"WARNING: {warning}")
    return verdicts


def _allows_background(critic_judge: CriticJudge) -> bool:
    reads = "lvlm" in (critic_judge.critic.kind, critic_judge.judge.kind)
    return reads and critic_judge.background == "valid"


def _with_parts(run: RunDirectory, explained: Explained, verdicts: Sequence[Verdict]) -> Explained:
    """The segments that were kept with these verdicts."""
    if all(v.segment <= explained.segmentation.pi.shape[1] for v in verdicts):
        return explained
    return replace(explained, segmentation=artefacts.read_segmentation(run.file(PARTS)))


def _ask(context: Context, explained: Explained, query_plan: QueryPlan, critic_judge: CriticJudge) -> _Said:
    settings, first = context.config.critique, query_plan.first
    done, total, told = 0, len(first), 0.0
    costs = "lvlm" in (critic_judge.critic.kind, critic_judge.judge.kind)

    def progress(_image_id: str, _verdicts: tuple[Verdict, ...]) -> None:
        nonlocal done, told
        done += 1
        context.console.progress(done, total)
        if costs and (done == total or time.monotonic() > told + 1):  # all costs are summed up each time
            told = time.monotonic()
            context.console.spent(store.spent(), store.unpriced())

    def further(said: Sequence[Verdict]) -> Sequence[ExplainedImage]:
        nonlocal total
        more = query_plan.further(said)
        if more:
            total += len(more)
            context.console.note(f"{query_plan.complete(said, critic_judge.author)[1]} Asking {len(more)}.")
        return more

    if isinstance(critic_judge.critic, BuiltinCritic):
        read_images(context, first)
    with open_store(context.run) as store:
        if costs:
            context.console.note(say_estimate(estimate(first, critic_judge, store), critic_judge))
        who = critic_judge.critic.name + KINDS[critic_judge.critic.kind]
        of = f" of {len(query_plan.explained_images)}" if total < len(query_plan.explained_images) else ""
        with context.console.stage(f"Critique of {total}{of} images by {who}"):
            if context.share:
                ask_together(context, first, critic_judge, store, progress)
                done = 0
            said = critique(
                first,
                critic_judge,
                store,
                max_usd=settings.max_usd,
                concurrency=settings.concurrency,
                progress=progress,
                further=further,
            )
    verdicts, propagation = query_plan.complete(said, critic_judge.author)
    if propagation is not None:
        context.console.note(str(propagation))
    divided = explained.with_parts_of(verdicts)
    if parts := sum(v.segment > explained.segmentation.pi.shape[1] for v in verdicts):
        context.console.note(f"{parts} of {len(verdicts)} segments are parts of segments called mixed.")
    return _Said(verdicts, propagation, divided)


def _carry_over(context: Context, verdicts: Sequence[Verdict], segments: str) -> list[Verdict]:
    """New critiques, with what a person had written into the old table."""
    run = context.run
    table, said_table = run.file(VERDICTS), run.file(CRITIC_VERDICTS)
    if not (table.exists() and said_table.exists()):
        return list(verdicts)
    said, rows, new = read_verdicts(said_table), read_verdicts(table), set(verdicts)
    critics = {v.author for v in (*said, *verdicts)}
    overruled = [row for row in rows if row.author not in critics]
    if any(row.author in critics and row not in new for row in rows):
        # Else a process was killed after it had written the new table, and before the rest.
        overruled = [o.person for o in reconcile(said, rows, where=table)[1]]
    persons = {(v.image_id, v.segment): v for v in overruled}
    before = run.stages.get("critique")
    if persons and (before is None or before.summary["segments"] != segments):
        number = len(list(run.path.glob("verdicts.before-*.csv"))) + 1
        kept = run.write(f"verdicts.before-{number}.csv", table.read_bytes())
        context.console.note(
            f"The segments changed, so {len(persons)} verdicts edited by hand no longer fit; they are kept "
            f"in {kept}"
        )
        persons = {}
    return [persons.get((v.image_id, v.segment), v) for v in verdicts]
