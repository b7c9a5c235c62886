"""How far a few judgements of a person go, with the ground truth (an oracle) answering in the person's place.

    python -m experiments.person_audit measure --runs RUNS --dataset knee --size reduced
    python -m experiments.person_audit page

`measure` takes explained images that `python -m experiments table1 --runs RUNS` left there, or makes them. Of
every kind of feature, and of judging at random, it says after 10, 20, 40 and 80 judgements how many verdicts
there are and how many are right. `page` writes the tables and the figure.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from experiments.audit_tally import SLIVER, Tally
from experiments.description import scale
from experiments.pages.numbers import share
from experiments.person_oracle import AUTHOR, oracle_answer
from experiments.workspace import (
    Workspace,
    load_context,
    prepare_attribution,
    prepare_explanation,
    prepare_model,
    read_explained,
    read_original,
)
from lvlm_va._version import __version__
from lvlm_va.cli.running import run_app
from lvlm_va.critique.person.judgements import Judgements
from lvlm_va.critique.person.judging import Judging
from lvlm_va.critique.person.similarity import FEATURES
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.io.console import Console
from lvlm_va.project.stages.judging import segment_activations
from lvlm_va.project.stages.query_plan import measured_segments
from lvlm_va.run.directory import RunDirectory

_AFTER = (10, 20, 40, 80)
_REPEATS = 3

Numbers = dict[str, float | None]


def _outcome(judging: Judging, propagates: bool) -> Numbers:
    """The verdicts as they are now, against the oracle's."""
    verdicts, judged = judging.carried_over()
    tally, right = Tally(), 0
    propagated = propagated_right = 0
    for verdict in verdicts:
        segment = judging.find(verdict.image_id, verdict.segment)
        said = judging.judgement(segment) is not None
        spurious = verdict.spurious if propagates or said else None
        truth = tally.add(segment.explained, segment.number, spurious) > 0
        right += spurious is truth
        propagated += spurious is not None and not said
        propagated_right += not said and spurious is truth
    checked = judged.verified
    return {
        "right": right / scored if (scored := tally.segments - tally.unscored) else None,
        "accuracy": tally.precision,
        "recall": tally.right / tally.planted if tally.planted else None,
        "recall_large": tally.recall,
        "unscored": tally.unscored / tally.segments,
        "propagated_right": propagated_right / propagated if propagated else None,
        "agreement": checked.share if propagates else None,
        "agreement_low": checked.low if propagates else None,
    }


def _walk(judging: Judging, seed: int, *, at_random: bool, propagates: bool) -> dict[int, Numbers]:
    """What came out after so many judgements."""
    found = {}
    order = np.random.default_rng(seed).permutation(len(judging.segments)).tolist()
    for after in _AFTER:
        while judging.judged < min(after, len(judging.segments)):
            segment = judging.segments[order[judging.judged]] if at_random else judging.next()[0]
            judging.submit(segment, oracle_answer(segment), author=AUTHOR)
        found[after] = _outcome(judging, propagates)
    return found


def _mean(outcomes: Sequence[Numbers]) -> Numbers:
    """Of each number over the repeats that have it."""
    means: Numbers = {}
    for key in outcomes[0]:
        values = [value for one in outcomes if (value := one[key]) is not None]
        means[key] = round(float(np.mean(values)), 4) if values else None
    return means


def _measure(
    explained_images: Sequence[ExplainedImage],
    measured: NDArray[np.float64],
    activations: NDArray[np.float64],
) -> dict[str, dict[int, Numbers]]:
    """Way of judging → number of judgements → what came out, mean over the repeats."""

    def judging(features: Sequence[str], seed: int) -> Judging:
        kept = Judgements.open(Path(":memory:"), "person")
        return Judging(
            explained_images, measured, activations, kept, wanted=_AFTER[-1], seed=seed, features=features
        )

    ways: dict[str, tuple[Sequence[str], bool, bool]] = {
        "at random, not propagated": (FEATURES, True, False),
        "at random, propagated": (FEATURES, True, True),
        **{f"{name} only": ((name,), False, True) for name in FEATURES},
        "place and appearance": (("place", "appearance"), False, True),
        "all": (FEATURES, False, True),
    }
    table = {}
    for way, (features, at_random, propagates) in ways.items():
        walks = [
            _walk(judging(features, seed), seed, at_random=at_random, propagates=propagates)
            for seed in range(_REPEATS)
        ]
        table[way] = {after: _mean([walk[after] for walk in walks]) for after in _AFTER}
    return table


def _document(
    explained_images: Sequence[ExplainedImage],
    measured: NDArray[np.float64],
    activations: NDArray[np.float64],
) -> dict[str, Any]:
    truth = [
        float((one.spurious & (one.segments == j)).sum()) / max(1, int(one.spurious.sum()))
        for one in explained_images
        if one.spurious is not None
        for j in one.segment_ids
    ]
    return {
        "images": len(explained_images),
        "segments": len(measured),
        "planted": sum(share > 0 for share in truth),
        "planted_large": sum(share >= SLIVER for share in truth),
        "repeats": _REPEATS,
        "judged_by": "an oracle (the ground truth)",
        "ways": _measure(explained_images, measured, activations),
    }


app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def measure(
    runs: Annotated[Path, typer.Option(help="Where models and explanations are kept.")],
    dataset: Annotated[str, typer.Option(help="decoy-mnist, knee or skin.")],
    size: Annotated[str, typer.Option(help="full, reduced or quick.")] = "reduced",
    seed: Annotated[int, typer.Option(help="Of model, images and segments.")] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/person-critic"),
) -> None:
    """Measure one data set."""
    console = Console()
    workspace = Workspace(
        runs.resolve(), dataset, size, seed, (*scale(dataset, size).settings, *(settings or ()))
    )
    if not (workspace.explained / "run.json").is_file():
        prepare_model(workspace)
        prepare_attribution(workspace)
        prepare_explanation(workspace)
    path = workspace.explained / "person-audit"
    with RunDirectory.open(path, workspace.config.model_dump(mode="json", by_alias=True)) as run:
        context = load_context(workspace, run, console)
        explained = read_explained(context, workspace)
        images = explained.explained_images(context.splits)
        measured = measured_segments(context, images)
        seen = segment_activations(context, explained, images, read_original(context, workspace))
    document = {
        "version": __version__,
        "dataset": dataset,
        "size": size,
        "seed": seed,
        "settings": settings or [],
        **_document(images, measured, seen),
    }
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{dataset}-{size}-seed-{seed}-{len(images)}.json"
    file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    typer.echo(f"Written: {file}")


_HEAD = (
    "| judged | after | verdicts right | accuracy | recall | recall, ≥ 5 % | unscored | propagated right | "
    "its estimate (lower bound) |"
)


@app.command()
def page(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/person-critic"),
) -> None:
    """Write the tables, for the README, and the figure."""
    results = [json.loads(file.read_text("utf-8")) for file in sorted(out.glob("*-seed-*.json"))]
    lines = []
    for result in results:
        lines += [
            f"## {result['dataset']}, {result['images']} images, seed {result['seed']} ({result['size']})",
            "",
            f"{result['segments']} segments; {result['planted']} hold the planted feature, "
            f"{result['planted_large']} at least 5 % of it. Mean of {result['repeats']} draws.",
            "",
            _HEAD,
            f"|{' --- |' * _HEAD.count(' | ')} --- |",
            *(
                _row(way, after, numbers)
                for way, rows in result["ways"].items()
                for after, numbers in rows.items()
            ),
            "",
        ]
    (out / "tables.md").write_text("\n".join(lines), "utf-8")
    _draw(results, out / "figure.png")


def _row(way: str, after: str, numbers: Mapping[str, float | None]) -> str:
    names = ("right", "accuracy", "recall", "recall_large", "unscored", "propagated_right")
    cells = " | ".join(share(numbers[name]) for name in names)
    estimate = share(numbers["agreement"])
    if numbers["agreement"] is not None:
        estimate += f" ({share(numbers['agreement_low'])})"
    return f"| {way} | {after} | {cells} | {estimate} |"


def _draw(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Recall and share unscored over the number of judgements: a column a data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(results), figsize=(4 * len(results), 6), sharex=True, squeeze=False, layout="constrained"
    )
    for column, result in enumerate(results):
        for row, (key, words) in enumerate(
            (("recall_large", "recall (segments with ≥ 5 %)"), ("unscored", "share unscored"))
        ):
            axis = axes[row][column]
            for way, rows in result["ways"].items():
                values = [numbers[key] for numbers in rows.values()]
                bold = way == "all"
                axis.plot(list(map(int, rows)), values, label=way, marker="o", linewidth=2.5 if bold else 1.2)
            axis.set(xscale="log", ylim=(-0.03, 1.03), ylabel=words if column == 0 else "")
            axis.set_xticks(_AFTER, list(map(str, _AFTER)))
            axis.minorticks_off()
        axes[0][column].set_title(f"{result['dataset']}, {result['images']} images\n(an oracle judges)")
        axes[1][column].set_xlabel("judgements")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    run_app(app)
