"""Whether the expert's examples move the judge: asked without and with them, about critiques held back."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from lvlm_va.config.loading import CritiqueConfig
from lvlm_va.critique.batch_export import write_requests
from lvlm_va.critique.batch_import import import_responses
from lvlm_va.critique.clear_lines import clear_lines
from lvlm_va.critique.driver import critique_in_turn
from lvlm_va.critique.estimate import Estimate, open_questions
from lvlm_va.critique.examples import ExampleVerdict, Pair, load_examples, load_pairs
from lvlm_va.critique.folder_export import lay_out
from lvlm_va.critique.folder_import import import_folders
from lvlm_va.critique.judge import JUDGE_PARAMETERS
from lvlm_va.critique.question import ExplainedImage, Question
from lvlm_va.critique.rendering import render
from lvlm_va.critique.rereading import Rereading
from lvlm_va.critique.review import LINES, limited
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import AskedByFile, ConfigError, CriticError, RunError
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.questions import ExportedQuestions, is_batch, say_taken
from lvlm_va.report.record import read_critiques, read_images, read_judged
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import open_store
from lvlm_va.run.judge_check import Compared, JudgeCheck, keep_judge_check

__all__ = ["JudgeChecking", "say_cost"]

_MOST_SHOWN = 8

_Key = tuple[str, int]
"""An image's id and a segment."""


@dataclass(frozen=True)
class _Material:
    """What the expert said, and whom it is put to.

    Attributes:
        pairs: image id → the critique with the expert's verdicts.
        shown: the images whose critiques are examples; the others are held back.
        foreign: examples of the expert's file whose critique is none of this run.
        said: what the run's judge had said.
        without, with_examples: the judge with the examples of this package, and with the expert's.
        images: those of `pairs`.
    """

    pairs: Mapping[str, Pair]
    shown: Sequence[str]
    foreign: Sequence[Pair]
    said: Mapping[_Key, bool | None]
    without: Rereading
    with_examples: Rereading
    images: Sequence[ExplainedImage]

    @property
    def judges(self) -> tuple[Rereading, Rereading]:
        return self.without, self.with_examples

    def open_questions(self, store: Store) -> Iterator[Question]:
        return chain.from_iterable(open_questions(self.images, one, store) for one in self.judges)


class JudgeChecking:
    """Puts a run's critiques on which the expert has spoken to its judge, without and with examples.

    The expert's verdicts are those of a file of examples (`lvlm-va judge examples`, corrected) and those
    of every critique of which verdicts.csv overrules a verdict. Shown are the examples of the file, and held
    back the other critiques; where the file leaves none, or there is no file, half of them are shown, at most
    eight, by chance but the same ones each time. Answers are kept in the run's store: what was asked once is
    not asked again.

    Args:
        path: the run's directory.
        examples: the file; the run's own `critique.judge_examples` if None.
        judge: who is asked; the run's own judge if None.
        max_usd: US dollars that may be spent on the run, earlier questions included; as in the run if None.
        console: told what it will cost before anything is asked.

    Raises:
        RunError: if there is no finished critique, or the expert spoke on fewer than two critiques.
        ConfigError, CriticError, SpecificationError: if the judge or the file cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        examples: str | Path | None = None,
        judge: str | None = None,
        max_usd: float | None = None,
        console: QuietConsole | None = None,
    ) -> None:
        self._path = Path(path)
        self._examples = None if examples is None else Path(examples)
        self._judge = judge
        self._max_usd = max_usd
        self._console = console or QuietConsole()

    def cost(self) -> Estimate:
        """What is still to be asked; needs no key. A repair cannot be foreseen."""
        with RunDirectory.open(self._path) as run:
            material = self._material(run, by_file=True)
            with open_store(run) as store:
                return _cost(material, store)

    def check(self) -> JudgeCheck:
        """Ask, compare, and keep the result in the run.

        Raises:
            Interrupted, BudgetReached, CriticError: with everything answered so far kept.
        """
        with RunDirectory.open(self._path) as run:
            settings = self._settings(run)
            material = self._material(run, by_file=False)
            with open_store(run) as store:
                self._console.note(say_cost(_cost(material, store), material.without.judge_name))
                try:
                    answered = critique_in_turn(
                        material.images,
                        material.judges,
                        store,
                        max_usd=settings.max_usd,
                        concurrency=settings.concurrency,
                    )
                except AskedByFile:
                    raise CriticError(
                        f"{material.without.judge.name} is asked by file: repeat the command with --export, "
                        "bring the answers with --import"
                    ) from None
                self._console.spent(store.spent(), store.unpriced())
                if missing := _cost(material, store).judge_calls:
                    why = next((v.reason for v in chain(*answered) if v.spurious is None), "no reason given")
                    raise CriticError(
                        f"{material.without.judge_name}: {missing} judgements were not given ({why}); "
                        "nothing can be said of the judge yet. What was answered is kept: repeat the command"
                    )
            found = _compare(material, *answered)
            keep_judge_check(run, found)
            return found

    def export_questions(self, path: str | Path) -> ExportedQuestions:
        """Write the open questions of a judge asked by file: X.jsonl as a batch, another name as a folder."""
        with RunDirectory.open(self._path) as run:
            material = self._material(run, by_file=True)
            with open_store(run) as store:
                write = write_requests if is_batch(Path(path)) else lay_out
                done = write(material.open_questions(store), material.without, store, path)
        return ExportedQuestions(done.requests, tuple(done.files), done.others)

    def import_answers(
        self, paths: Sequence[str | Path], *, answered_by: str | None = None, note: str = ""
    ) -> str:
        """Take the answers, folders or a batch's files; what came, in words."""
        found = [Path(path) for path in paths]
        with RunDirectory.open(self._path) as run, open_store(run) as store:
            if all(path.is_dir() for path in found):
                taken = import_folders(found, store, answered_by=answered_by, note=note)
            else:
                taken = import_responses(found, store, prices=self._settings(run).prices or None)
        return "\n".join(say_taken(taken))

    def _settings(self, run: RunDirectory) -> CritiqueConfig:
        """The run's, with the judge as the critic, for the critic is not asked."""
        try:
            settings = CritiqueConfig.model_validate(run.config.get("critique", {}))
        except ValidationError as error:
            raise RunError(
                f"{run.path}: its settings cannot be read ({error.error_count()} unknown)"
            ) from None
        updates: dict[str, object] = {}
        if self._judge is not None:
            updates["judge"] = self._judge
        if self._max_usd is not None:
            updates["max_usd"] = self._max_usd
        if self._examples is not None:
            updates["judge_examples"] = self._examples
        return settings.model_copy(update=updates)

    def _material(self, run: RunDirectory, *, by_file: bool) -> _Material:
        settings = self._settings(run)
        judged = read_judged(run)
        critiques = read_critiques(run, judged)
        images = read_images(run).explained_images
        texts = {image_id: critique.text for image_id, critique in critiques.items()}
        in_file = [] if settings.judge_examples is None else load_pairs(settings.judge_examples)
        known = {_plain(text): image_id for image_id, text in texts.items()}
        of_file = {known[_plain(pair.critique)]: pair for pair in in_file if _plain(pair.critique) in known}
        foreign = [pair for pair in in_file if _plain(pair.critique) not in known]
        overruled = {o.person.image_id for o in judged.overruled} & texts.keys()
        pairs = dict(of_file)
        for image_id in sorted(overruled - of_file.keys()):
            pair = _pair(texts[image_id], [v for v in judged.in_force if v.image_id == image_id])
            if pair is not None:
                pairs[image_id] = pair
        shown = _shown(list(of_file), list(pairs))
        if not shown:
            raise RunError(
                f"{run.path}: you spoke on {len(pairs)} of its critiques, and two are the least. Overrule "
                "verdicts in verdicts.csv, or correct those that lvlm-va judge examples writes and name the "
                "file with --examples"
            )
        name = settings.critic if settings.judge in (None, LINES) else str(settings.judge)
        asked = settings.model_copy(update={"critic": name, "judge": None, "judge_examples": None})
        judge = make_critic_judge(asked, by_file=by_file, run=run.path).judge
        if judge.kind != "lvlm":
            raise ConfigError(
                f"the judge {judge.name} reads the verdict lines and no examples; name another, --judge "
                "openai:<model>, hf:<model> or file"
            )
        without = Rereading(
            judge,
            judge,
            {
                images[i].class_name: ClassSpecification.recorded(
                    images[i].class_name, critiques[i].specification, critiques[i].version
                )
                for i in pairs
            },
            render,
            examples=load_examples(),
            judge_parameters=limited(JUDGE_PARAMETERS, settings.max_tokens),
            background=settings.background,
            lines_first=settings.judge == LINES,
            critiques=texts,
        )
        examples = [pair.example for pair in (*(pairs[i] for i in shown), *foreign)]
        return _Material(
            pairs,
            shown,
            foreign,
            {(v.image_id, v.segment): v.spurious for v in judged.said},
            without,
            replace(without, examples=examples),
            [images[i] for i in pairs],
        )


def say_cost(cost: Estimate, judge: str) -> str:
    """What is still to be asked, in one sentence."""
    if not cost.judge_calls:
        return "Every question is answered already; nothing will be asked."
    price = "at an unknown price" if cost.usd is None else f"about {cost.usd:.2f} USD"
    return (
        f"To ask: {cost.judge_calls} judgements ({judge}); about {cost.input_tokens:,} tokens in and "
        f"{cost.output_tokens:,} out, {price}."
    )


def _cost(material: _Material, store: Store) -> Estimate:
    total = Estimate()
    for question in material.open_questions(store):
        total = total.plus(question, material.without.judge)
    return total


def _shown(in_file: Sequence[str], all_of_them: Sequence[str]) -> list[str]:
    """The images whose critiques are examples; none where nothing would be held back."""
    if in_file and len(in_file) < len(all_of_them):
        return list(in_file)
    by_chance = sorted(all_of_them, key=lambda image_id: hashlib.sha256(image_id.encode()).digest())
    return by_chance[: min(_MOST_SHOWN, len(by_chance) // 2)]


def _pair(critique: str, verdicts: Sequence[Verdict]) -> Pair | None:
    """A critique with the verdicts in force; None where there are none."""
    scored = [
        ExampleVerdict(segment=v.segment, spurious=v.spurious, reason=v.reason or "?")
        for v in verdicts
        if v.spurious is not None
    ]
    return Pair(critique=critique, verdicts=scored) if scored else None


def _compare(material: _Material, before: Sequence[Verdict], after: Sequence[Verdict]) -> JudgeCheck:
    lines_first = material.without.lines_first
    clear = {
        (image_id, segment)
        for image_id, pair in material.pairs.items()
        if lines_first
        for segment in clear_lines(pair.critique, [v.segment for v in pair.verdicts])
    }
    given = {
        (image_id, v.segment): v.spurious for image_id, pair in material.pairs.items() for v in pair.verdicts
    }
    asked = {key: spurious for key, spurious in given.items() if key not in clear}
    judged = [{(v.image_id, v.segment): v.spurious for v in verdicts} for verdicts in (before, after)]

    def compared(keys: Sequence[_Key]) -> Compared:
        hits = (sum(one.get(key) is asked[key] for key in keys) for one in judged)
        return Compared(len(keys), *hits)

    held_back = [key for key in asked if key[0] not in material.shown]
    corrected = [key for key in held_back if material.said.get(key) is not asked[key]]
    return JudgeCheck(
        judge=material.without.judge.name,
        examples=len(material.shown) + len(material.foreign),
        held_back=len(material.pairs) - len(material.shown),
        corrected=compared(corrected),
        kept=compared([key for key in held_back if key not in corrected]),
        shown=compared([key for key in asked if key[0] in material.shown]),
        clear=len(clear),
    )


def _plain(text: str) -> str:
    """A critique as far as a file of examples keeps it: white space is an editor's affair."""
    return "".join(text.split())
