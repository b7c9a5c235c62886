"""Critics on another network: the questions of every run written to files, answers taken from them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.cell import Cell
from experiments.preparation import Place, judged_context, load_context, read_explained
from lvlm_va.critique.batch_export import export_requests
from lvlm_va.critique.batch_import import import_responses
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.query_plan import plan_questions
from lvlm_va.project.stages.verdicts import make_panel
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import open_store

__all__ = ["exchange", "judged_places"]


def judged_places(cells: Iterable[Cell], critics: Sequence[str]) -> list[tuple[Place, str]]:
    """Where these critics judge segments: one place for each run of the experiment, each once."""
    found: dict[Path, tuple[Place, str]] = {}
    for cell in cells:
        if cell.critic is not None and cell.critic in critics:
            found.setdefault(cell.place.judged(cell.critic), (cell.place, cell.critic))
    return list(found.values())


def exchange(
    places: Sequence[tuple[Place, str]],
    console: QuietConsole,
    *,
    imports: Sequence[Path] = (),
    export: Path | None = None,
) -> list[str]:
    """Take answers, then write what is still open; no key is needed.

    Args:
        places: see `judged_places`; their pictures must have been explained.
        console: told about progress.
        imports: answers in the OpenAI Batch format, of any of the runs.
        export: folder for the open questions, one file a run; None writes none.

    Returns:
        What came and what is open, a sentence for each place.

    Raises:
        ConfigError: if a file cannot be read, or one to be written is there already.
    """
    return [_exchange(place, critic, console, imports, export) for place, critic in places]


def _exchange(
    place: Place, critic: str, console: QuietConsole, imports: Sequence[Path], export: Path | None
) -> str:
    path = place.judged(critic)
    with RunDirectory.open(path, place.config.model_dump(mode="json", by_alias=True)) as run:
        context: Context = judged_context(load_context(place, run, console), critic)
        panel = make_panel(context.config.critique, context.project.specifications, by_file=True)
        explained = read_explained(context, place)
        told = []
        with open_store(run) as store:
            if imports:
                taken = import_responses(imports, store)
                told.append(f"{taken.imported} answers taken, {taken.known} known before")
            due = plan_questions(context, explained).due(panel, store)
            told.append(f"{len(due)} of {len(explained.usable)} pictures are open")
            if export is not None and due:
                export.mkdir(parents=True, exist_ok=True)
                name = f"{place.dataset}-{place.size}-seed-{place.seed}-{path.parent.name}-{path.name}.jsonl"
                written = export_requests(due, panel, store, export / name)
                told.append(f"{written.requests} questions in {', '.join(str(f) for f in written.files)}")
    return f"{place.dataset}, seed {place.seed}, {critic}: {'; '.join(told)}"
