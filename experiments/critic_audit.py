"""A critic by file beside the built-in one, on confounders that neither was made for.

    python -m experiments.critic_audit export --data DIR --store FILE --to QUESTIONS
    python -m experiments.critic_audit measure --data DIR --store FILE --import QUESTIONS --answered-by NAME

Images, attribution and counts are those of `experiments.builtin_audit`: no classifier is needed. `export`
writes the questions as folders; called after `measure`, those to the judge that are open. `measure` takes the
answers, asks both critics, and writes the numbers, the table, and the answers as text.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.audit_images import HELD_OUT, MENDED_ON
from experiments.audit_tally import Tally
from experiments.builtin_audit import J, explain
from experiments.pages.numbers import share, table
from lvlm_va._version import __version__
from lvlm_va.cli.running import run_app
from lvlm_va.config.schema import CritiqueConfig
from lvlm_va.critique.driver import critique
from lvlm_va.critique.estimate import open_questions
from lvlm_va.critique.folder_export import lay_out
from lvlm_va.critique.folder_import import import_folders
from lvlm_va.critique.question import ExplainedImage, Question
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Store
from lvlm_va.project.critics import make_critic_judge

KINDS = {
    **{name: MENDED_ON[f"knee, {name}"] for name in ("arrows", "coins", "film edges", "uneven exposure")},
    **{name: source for name, source in HELD_OUT.items() if name.endswith("a date")},
}
"""Where the specification asks for the confounder to be condemned; the dates lie on seven kinds of images."""
_BY_FILE = CritiqueConfig(critic="file", judge="lines")
_BUILTIN = CritiqueConfig(critic="builtin", judge="lines")

Data = Annotated[Path, typer.Option("--data", help="With knee/.")]
StoreFile = Annotated[Path, typer.Option("--store", help="Of questions and answers; made if new.")]
Number = Annotated[int, typer.Option("--number", help="Images of each kind.")]
app = typer.Typer(add_completion=False)


def _asked(
    data: Path, number: int, settings: CritiqueConfig
) -> Iterator[tuple[str, CriticJudge, list[ExplainedImage]]]:
    """Kind by kind: its name, who is asked, and about what."""
    for name, source in KINDS.items():
        samples = list(source(data, number))
        specifications = {sample.specification.name: sample.specification for sample in samples}
        yield name, make_critic_judge(settings, specifications, by_file=True), explain(samples)


@app.command()
def export(
    data: Data,
    store: StoreFile,
    to: Annotated[Path, typer.Option("--to", help="A folder that does not exist.")],
    number: Number = 4,
) -> None:
    """Write the questions that are open."""
    with Store.open(store) as kept:
        questions: list[Question] = []
        for _, critic_judge, explained in _asked(data, number, _BY_FILE):
            questions += open_questions(explained, critic_judge, kept)
        written = lay_out(questions, make_critic_judge(_BY_FILE, by_file=True), kept, to)
    typer.echo(f"{written.requests} questions in {to}")


@app.command()
def measure(
    data: Data,
    store: StoreFile,
    answered_by: Annotated[str, typer.Option("--answered-by", help="The model.")],
    answers: Annotated[list[Path], typer.Option("--import", help="Folders that were filled in.")] = [],  # noqa: B006
    note: Annotated[str, typer.Option("--note", help="How it was asked.")] = "",
    number: Number = 4,
    out: Annotated[Path, typer.Option("--out")] = Path("results/critics"),
) -> None:
    """Take answers, count verdicts of both critics, write the page."""
    kinds: dict[str, dict[str, Any]] = {name: {} for name in KINDS}
    with Store.open(store) as kept:
        taken = import_folders(answers, kept, answered_by=answered_by, note=note)
        typer.echo(f"{taken.imported} answers taken, {taken.known} known before, {taken.empty} empty")
        for who, settings in (("builtin", _BUILTIN), (answered_by, _BY_FILE)):
            for name, critic_judge, explained in _asked(data, number, settings):
                tally, by_id = Tally(), {one.image_id: one for one in explained}
                for verdict in critique(explained, critic_judge, kept):
                    tally.add(by_id[verdict.image_id], verdict.segment, verdict.spurious)
                kinds[name][who] = tally.counts()
        said = [
            {"stage": one.stage, "key": one.key, "answer": one.reply.text}
            for one in kept.exchanges()
            if one.reply is not None and one.backend != "builtin"
        ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "answers.jsonl").write_text(
        "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in said), "utf-8"
    )
    document = {"version": __version__, "number": number, "J": J, "note": note, "kinds": kinds}
    (out / "audit.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (out / "table.md").write_text(page(kinds), "utf-8")


def page(kinds: dict[str, dict[str, Any]]) -> str:
    """The table alone; README.md says what it means."""
    rows = []
    for name, critics in kinds.items():
        for who, row in critics.items():
            rows.append(
                [
                    name,
                    who,
                    f"{row['condemned']} of {row['segments']}",
                    *(share(row[key]) for key in ("precision", "recall")),
                    f"{row['found']} of {row['holds']}",
                    f"{row['unscored']}",
                ]
            )
    head = ("confounder", "critic", "condemned", "precision", "recall, ≥ 5 %", "found", "unscored")
    return "\n".join(table(head, rows)) + "\n"


if __name__ == "__main__":
    run_app(app)
