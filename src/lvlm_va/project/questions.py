"""The critics' questions by themselves: what they would cost, asked now, asked by file; and the canary."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lvlm_va.config.loading import Config, CritiqueConfig
from lvlm_va.console import QuietConsole
from lvlm_va.critique import canary
from lvlm_va.critique.batch_export import check_target, export_requests
from lvlm_va.critique.batch_import import import_responses
from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.question import Subject
from lvlm_va.errors import ConfigError
from lvlm_va.project.opening import open_project
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explanation import Explained, explain
from lvlm_va.project.stages.original import original_model
from lvlm_va.project.stages.query_plan import Asking, plan_questions, say_propagation
from lvlm_va.project.stages.verdicts import (
    KINDS,
    VERDICTS,
    collect_verdicts,
    make_panel,
    open_store,
    say_estimate,
)
from lvlm_va.redaction import one_line
from lvlm_va.screen import shown

__all__ = ["Check", "ask", "check_critic", "dry_run", "export_questions", "import_answers"]

_SHOWN = 20  # damaged lines
_GO_ON = "Go on with the same critic, and without a key: lvlm-va critique for the verdicts, or lvlm-va align."
_MOST_UNKNOWN = 20  # that are named; of a file of another run all are unknown


def dry_run(config: Config, console: QuietConsole) -> str:
    """Explain the pictures and say what the critique would cost; needs no key and asks nothing."""
    with open_project(config, console, by_file=True) as (context, panel):
        explained = _explained(context)
        with open_store(context.run) as store:
            asking = plan_questions(context, explained)
            due = asking.due(panel, store)
            expected = estimate(due, panel, store)
    text = say_estimate(expected, panel) + _say_share(asking, due)
    if expected.usd and not config.critique.prices:
        text += " That is the price of a batch; asked online it is twice as much."
    return text


def ask(config: Config, console: QuietConsole) -> str:
    """Ask critic and judge, and stop there: verdicts.csv is then the expert's to overrule."""
    with open_project(config, console) as (context, panel):
        collected = collect_verdicts(context, _explained(context), panel)
        verdicts, shared = collected.in_force, say_propagation(collected.propagation)
        shared += "\n" if shared else ""
        counts = {value: sum(v.spurious is value for v in verdicts) for value in (True, False, None)}
        return (
            f"{len(verdicts)} segments: {counts[True]} spurious, {counts[False]} valid, {counts[None]} "
            f"unscored, by {panel.critic.name}{KINDS[panel.critic.kind]}.\n"
            f"{shared}To overrule a verdict, edit {context.run.file(VERDICTS)}; then align."
        )


def export_questions(config: Config, path: Path, console: QuietConsole) -> str:
    """Write the questions that are open now in the OpenAI Batch format.

    Raises:
        ConfigError: if the critic cannot be asked by file, or the file exists.
    """
    check_target(path)
    with open_project(config, console, by_file=True) as (context, panel):
        explained = _explained(context)
        with open_store(context.run) as store:
            due = plan_questions(context, explained).due(panel, store)
            export = export_requests(due, panel, store, path)
    if not export.requests:
        return f"Every question is answered; nothing to export. {_GO_ON}"
    files = ", ".join(str(file) for file in export.files)
    return (
        f"{_count(export.requests, 'question')} written to {files}. To take the answers, repeat the command "
        "with --import ANSWERS in place of --export."
    )


def import_answers(config: Config, paths: Sequence[Path], console: QuietConsole) -> str:
    """Take the answers of a batch into the store, and say what came, what failed and what is still open.

    Raises:
        ConfigError: if a file cannot be opened, or no line of it can be read; what the others hold is taken.
    """
    with open_project(config, console, by_file=True) as (context, panel):
        explained = _explained(context)
        with open_store(context.run) as store:
            taken = import_responses(paths, store, prices=config.critique.prices or None)
            left = estimate(plan_questions(context, explained).due(panel, store), panel, store)
    lines = [f"{_count(taken.imported, 'answer')} taken, {taken.known} known before."]
    lines += [f"of no use, though answered: {key[:12]}: {shown(why, 300)}" for key, why in taken.useless]
    lines += [f"failed, will be asked again: {key[:12]}: {shown(why, 300)}" for key, why in taken.failed]
    lines += [f"never asked here: {shown(one_line(key, 100), 100)}" for key in taken.unknown[:_MOST_UNKNOWN]]
    if (more := len(taken.unknown) - _MOST_UNKNOWN) > 0:
        lines.append(f"... and {more} more that were never asked here")
    lines += [f"{file}, line {number}: {shown(why, 300)}" for file, number, why in taken.damaged[:_SHOWN]]
    if len(taken.damaged) > _SHOWN:
        lines.append(f"... and {len(taken.damaged) - _SHOWN} more lines that could not be read")
    if taken.unreadable:
        raise ConfigError(
            "\n".join(
                [*lines, f"no line could be read: {', '.join(taken.unreadable)}; is it the output file?"]
            )
        )
    if left.critic_calls + left.judge_calls:
        lines.append(
            f"Still open: {_count(left.critic_calls, 'critique')} and "
            f"{_count(left.judge_calls, 'judgement')}. Repeat the command with --export and a new file."
        )
    else:
        lines.append(f"Nothing is open. {_GO_ON}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Check:
    """Outcome of the canary.

    Attributes:
        text: for the person.
        right_share: share of marks that were judged rightly, in [0, 1]; None if nothing was asked.
    """

    text: str
    right_share: float | None


def check_critic(settings: CritiqueConfig, *, dry_run: bool = False) -> Check:
    """Ask critic and judge about pictures whose answers are known."""
    if dry_run:
        pictures = canary.canary_pictures()
        return Check(f"This asks about {len(pictures)} pictures: {2 * len(pictures)} questions.", None)
    panel = make_panel(settings, {})

    async def ask() -> canary.CanaryResult:
        try:
            return await canary.check(
                panel.critic,
                panel.judge,
                concurrency=settings.concurrency,
                max_tokens=settings.max_tokens,
            )
        finally:
            await panel.critic.close()
            await panel.judge.close()

    result = asyncio.run(ask())
    price = "unknown price" if result.usd is None else f"{result.usd:.4f} USD"
    lines = [
        f"{panel.critic.name}{KINDS[panel.critic.kind]}: {result.right} of {result.marks} marks judged "
        f"rightly ({result.right_share:.0%}), {result.unscored} unscored; {result.pictures_right} of "
        f"{result.pictures} pictures without a mistake; {result.seconds:.1f} s, {price}."
    ]
    return Check("\n".join([*lines, *result.failures]), result.right_share)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _say_share(asking: Asking, due: Sequence[Subject]) -> str:
    """What must be added to an estimate where not all pictures are asked about."""
    if len(due) == len(asking.subjects):
        return ""
    return (
        f" That is about {len(due)} of {len(asking.subjects)} pictures; more are asked about if the random "
        "remainder among them disagrees with the verdicts propagated from the others."
    )


def _explained(context: Context) -> Explained:
    return explain(context, original_model(context))
