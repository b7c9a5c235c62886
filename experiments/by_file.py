"""Critics on another network: the questions of every run written to files, answers taken from them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.trial import Trial
from experiments.workspace import Workspace, judged_context, load_context, read_explained
from lvlm_va.critique.batch_export import export_requests
from lvlm_va.critique.batch_import import import_responses
from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.folder_export import export_folder
from lvlm_va.critique.folder_import import import_folders
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.query_plan import plan_questions
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import open_store

__all__ = ["exchange", "judged_workspaces"]

_FILE = "file:"


def judged_workspaces(trials: Iterable[Trial], critics: Sequence[str]) -> list[tuple[Workspace, str]]:
    """Where these critics judge segments: one workspace for each run of the experiment, each once."""
    found: dict[Path, tuple[Workspace, str]] = {}
    for trial in trials:
        if trial.critic is not None and trial.critic in critics:
            found.setdefault(trial.workspace.judged(trial.critic), (trial.workspace, trial.critic))
    return list(found.values())


def exchange(
    workspaces: Sequence[tuple[Workspace, str]],
    console: QuietConsole,
    *,
    imports: Sequence[Path] = (),
    export: Path | None = None,
) -> list[str]:
    """Take answers, then write what is still open; no key is needed.

    Args:
        workspaces: see `judged_workspaces`; their images must have been explained.
        console: told about progress.
        imports: of any of the runs: answers in the OpenAI Batch format, as those in results/answers are; or
            folders of questions that were exported for a critic file:<who>.
        export: folder for the open questions, for each run a file, or for file:<who> a folder; None writes
            none.

    Returns:
        What came and what is open, a sentence for each workspace.

    Raises:
        ConfigError: if a file cannot be read, or one to be written is there already.
    """
    return [_exchange(workspace, critic, console, imports, export) for workspace, critic in workspaces]


def _exchange(
    workspace: Workspace, critic: str, console: QuietConsole, imports: Sequence[Path], export: Path | None
) -> str:
    path = workspace.judged(critic)
    with RunDirectory.open(path, workspace.config.model_dump(mode="json", by_alias=True)) as run:
        context: Context = judged_context(load_context(workspace, run, console), critic)
        critic_judge = make_critic_judge(context.config.critique, context.inputs.specifications, by_file=True)
        explained = read_explained(context, workspace)
        told = []
        with open_store(run) as store:
            if imports:
                if all(path.is_dir() for path in imports):
                    taken = import_folders(imports, store, answered_by=critic.removeprefix(_FILE))
                else:
                    taken = import_responses(imports, store)
                told.append(
                    f"{taken.imported} answers taken, {taken.known} known before, {len(taken.unknown)} to "
                    "questions never asked here"
                )
            due = plan_questions(context, explained).due(critic_judge, store)
            left = estimate(due, critic_judge, store)
            told.append(f"{left.critic_calls} critiques and {left.judge_calls} judgements are open")
            if export is not None and due:
                export.mkdir(parents=True, exist_ok=True)
                where = f"{workspace.dataset}-{workspace.size}-seed-{workspace.seed}"
                name = f"{where}-{path.parent.name}-{path.name}"
                if critic.startswith(_FILE):
                    written = export_folder(due, critic_judge, store, export / name)
                else:
                    written = export_requests(due, critic_judge, store, export / f"{name}.jsonl")
                told.append(f"{written.requests} questions in {', '.join(str(f) for f in written.files)}")
    return f"{workspace.dataset}, seed {workspace.seed}, {critic}: {'; '.join(told)}"
