"""The critics' questions by themselves: what they would cost, asked now, asked by file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lvlm_va.critique.backends.file import FileBackend
from lvlm_va.critique.backends.person import PersonBackend
from lvlm_va.critique.batch_export import export_requests
from lvlm_va.critique.batch_import import Import, import_responses
from lvlm_va.critique.estimate import Estimate, estimate
from lvlm_va.critique.folder_export import export_folder
from lvlm_va.critique.folder_import import import_folders
from lvlm_va.critique.person.judging import Judged, Judging
from lvlm_va.critique.person.sheet import SHEET, export_segments, import_segments
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.review import CriticJudge
from lvlm_va.errors import AskedByFile, ConfigError
from lvlm_va.io.redaction import one_line
from lvlm_va.io.screen import shown
from lvlm_va.project.results import CostEstimate
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explained import Explained
from lvlm_va.project.stages.explanation import explain
from lvlm_va.project.stages.judging import open_judging
from lvlm_va.project.stages.original import original_model
from lvlm_va.project.stages.query_plan import QueryPlan, plan_questions
from lvlm_va.project.stages.verdicts import collect_verdicts, say_estimate
from lvlm_va.run.files import open_store

__all__ = [
    "ExportedQuestions",
    "ImportedAnswers",
    "estimate_cost",
    "explained",
    "export_questions",
    "import_answers",
    "is_batch",
    "judging",
    "say_taken",
]

_SHOWN = 20  # lines of one kind; of a file of another run all are unknown
_GO_ON = (
    "Go on with the same settings, and without a key: lvlm-va critique for the verdicts, or lvlm-va align."
)


def explained(context: Context) -> Explained:
    """The critiqued images, explained."""
    return explain(context, original_model(context))


@contextmanager
def judging(context: Context, critic_judge: CriticJudge) -> Iterator[Judging]:
    """A person's judgements of the segments.

    Raises:
        ConfigError: if the critic is no person.
    """
    person = critic_judge.critic
    if not isinstance(person, PersonBackend):
        raise ConfigError(f"{person.name} is no person; write critique.critic: person")
    with open_judging(context, explained(context), person) as opened:
        yield opened


def estimate_cost(context: Context, critic_judge: CriticJudge) -> CostEstimate:
    """What the open questions would cost."""
    if isinstance(critic_judge.critic, PersonBackend):
        with judging(context, critic_judge) as opened:
            left = _count(opened.due, "segment")
            text = (
                f"To judge: {left}, of {len(opened.segments)}; {opened.judged} are judged. It costs no money."
            )
            return CostEstimate(Estimate(), text)
    found = explained(context)
    with open_store(context.run) as store:
        query_plan = plan_questions(context, found)
        due = query_plan.due(critic_judge, store)
        expected = estimate(due, critic_judge, store)
    text = say_estimate(expected, critic_judge) + _say_share(query_plan, due)
    if expected.usd and not context.config.critique.prices:
        text += " That is the price of a batch; asked online it is twice as much."
    return CostEstimate(expected, text)


@dataclass(frozen=True)
class ExportedQuestions:
    """Questions that were written.

    Attributes:
        questions: how many.
        files: where they are, a folder or files in the OpenAI Batch format; none where nothing is to be asked
            so.
        others: critic or judge that is not asked this way → its open questions.
    """

    questions: int
    files: tuple[Path, ...]
    others: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self._written(), *(_open_elsewhere(*one) for one in self.others.items())])

    def _written(self) -> str:
        if not self.questions:
            return (
                "Nothing is to be asked so." if self.others else f"Nothing is to be asked by file. {_GO_ON}"
            )
        files = ", ".join(map(str, self.files))
        written = f"{_count(self.questions, 'question')} written to {files}."
        if is_batch(self.files[0]):
            return (
                f"{written} To take the answers, repeat the command with --import ANSWERS in place of "
                "--export."
            )
        if (self.files[0] / SHEET).is_file():
            written = f"{_count(self.questions, 'segment')} to judge written to {files}."
        return (
            f"{written} Its README.md tells whoever answers what to do. To take the answers, all or a few, "
            f"repeat the command with --import {files} --answered-by NAME in place of --export."
        )


def export_questions(context: Context, critic_judge: CriticJudge, path: Path) -> ExportedQuestions:
    """Write the questions that are open now: a file as JSON Lines in the OpenAI Batch format, else a folder.

    A critic that answers here, and whose judge is asked by file, is asked first.

    Raises:
        ConfigError: if neither critic nor judge can be asked this way, or the target exists.
    """
    if isinstance(critic_judge.critic, PersonBackend):
        return _export_segments(context, critic_judge, path)
    found = explained(context)
    if isinstance(critic_judge.judge, FileBackend) and not isinstance(critic_judge.critic, FileBackend):
        with suppress(AskedByFile):
            collect_verdicts(context, found, critic_judge)
    with open_store(context.run) as store:
        due = plan_questions(context, found).due(critic_judge, store)
        write = export_requests if is_batch(path) else export_folder
        export = write(due, critic_judge, store, path)
    return ExportedQuestions(export.requests, tuple(export.files), export.others)


@dataclass(frozen=True)
class ImportedAnswers:
    """What files brought.

    Attributes:
        taken: answers that came, failed, are unknown or damaged.
        left: what is still open and asked by file.
        judged: what follows from a person's judgements, and how sure it is; None of any other critic.
        due: of a person: how many segments are still to be judged.
    """

    taken: Import
    left: Estimate
    judged: Judged | None = None
    due: int = 0

    def __str__(self) -> str:
        left = self.left
        lines = say_taken(self.taken)
        if self.judged is not None:
            lines.append(str(self.judged))
        if self.due:
            lines.append(
                f"Still to judge: {_count(self.due, 'segment')}. Repeat the command with --export and a new "
                "name."
            )
        elif left.critic_calls + left.judge_calls:
            lines.append(
                f"Still open: {_count(left.critic_calls, 'critique')} and "
                f"{_count(left.judge_calls, 'judgement')}. Repeat the command with --export and a new name."
            )
        else:
            lines.append(f"Nothing is open. {_GO_ON}")
        return "\n".join(lines)


def import_answers(
    context: Context,
    critic_judge: CriticJudge,
    paths: Sequence[Path],
    *,
    answered_by: str | None = None,
    note: str = "",
) -> ImportedAnswers:
    """Take answers into the store: folders of questions, or a batch's files.

    Args:
        context: the run.
        critic_judge: who was asked.
        paths: folders or files, not both.
        answered_by: of folders: the model or the person.
        note: of folders: how it was asked.

    Raises:
        ConfigError: if a file or folder cannot be read, or none of it makes sense; what the others hold is
            taken. Also where nobody is named for a folder, or somebody for a batch, which names its model.
    """
    if isinstance(critic_judge.critic, PersonBackend):
        with judging(context, critic_judge) as opened:
            taken = import_segments(paths, opened, answered_by=answered_by, note=note)
            judged, due = opened.carried_over()[1], opened.due
        if taken.unreadable:
            raise ConfigError(
                "\n".join([*say_taken(taken), f"cannot be read: {'; '.join(taken.unreadable)}"])
            )
        return ImportedAnswers(taken, Estimate(), judged, due)
    folders = [path for path in paths if path.is_dir()]
    if folders and len(folders) < len(paths):
        raise ConfigError("import folders and files of a batch one after the other")
    if not folders and (answered_by or note):
        raise ConfigError(
            "--answered-by and --note belong to answers in a folder; the files of a batch name their model"
        )
    found = explained(context)
    with open_store(context.run) as store:
        if folders:
            taken = import_folders(folders, store, answered_by=answered_by, note=note)
            why = f"holds no folder of a question: {', '.join(taken.unreadable)}; name what --export wrote"
        else:
            taken = import_responses(paths, store, prices=context.config.critique.prices or None)
            why = f"no line could be read: {', '.join(taken.unreadable)}; is it the output file?"
        left = estimate(plan_questions(context, found).due(critic_judge, store), critic_judge, store)
    by_file = [isinstance(one, FileBackend) for one in (critic_judge.critic, critic_judge.judge)]
    left = replace(
        left, critic_calls=left.critic_calls * by_file[0], judge_calls=left.judge_calls * by_file[1]
    )
    if taken.unreadable:
        raise ConfigError("\n".join([*say_taken(taken), why]))
    return ImportedAnswers(taken, left)


def _export_segments(context: Context, critic_judge: CriticJudge, path: Path) -> ExportedQuestions:
    if is_batch(path):
        raise ConfigError(f"{path}: a person is asked with pictures; name a folder")
    with judging(context, critic_judge) as opened:
        export = export_segments(
            opened.next(opened.due),
            critic_judge.specifications.values(),
            critic_judge.intervene,
            path,
        )
    return ExportedQuestions(export.requests, tuple(export.files))


def is_batch(path: Path) -> bool:
    """Whether a name is that of a file in the OpenAI Batch format, rather than of a folder of questions."""
    return path.suffix.lower() in {".jsonl", ".json", ".ndjson"}


def _open_elsewhere(name: str, number: int) -> str:
    """What to do about questions that are not asked this way."""
    questions = f"{_count(number, 'question')} to {name}"
    if name.startswith("openai:"):
        return f"Open: {questions}, by --export X.jsonl; with a key, lvlm-va critique asks online."
    if name.partition(":")[0] == "file":
        return f"Open: {questions}, by --export DIR."
    return f"Open: {questions}, which lvlm-va critique asks."


def say_taken(taken: Import) -> list[str]:
    """What came, in words."""
    empty = f", {taken.empty} left empty" if taken.empty else ""
    lines = [f"{_count(taken.imported, 'answer')} taken, {taken.known} known before{empty}."]
    lines += [f"of no use, though answered: {key[:12]}: {shown(why, 300)}" for key, why in taken.useless]
    lines += [f"failed, will be asked again: {key[:12]}: {shown(why, 300)}" for key, why in taken.failed]
    lines += [f"never asked here: {shown(one_line(key, 100), 100)}" for key in taken.unknown[:_SHOWN]]
    if (more := len(taken.unknown) - _SHOWN) > 0:
        lines.append(f"... and {more} more that were never asked here")
    lines += [f"{where}: {shown(why, 300)}" for where, why in taken.damaged[:_SHOWN]]
    if (more := len(taken.damaged) - _SHOWN) > 0:
        lines.append(f"... and {more} more that could not be read")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _say_share(query_plan: QueryPlan, due: Sequence[ExplainedImage]) -> str:
    """What must be added to an estimate where not all images are asked about."""
    if len(due) == len(query_plan.explained_images):
        return ""
    return (
        f" That is about {len(due)} of {len(query_plan.explained_images)} images; more are asked about "
        "if the random remainder among them disagrees with the verdicts propagated from the others."
    )
