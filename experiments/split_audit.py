"""Does it pay to divide mixed segments and ask again (`critique.split`), against more segments?

    python -m experiments.split_audit RUN --name knee --out FILE

RUN is any run's directory whose images were explained and whose planted feature is known; it is only read.
The attribution is segmented with each J (where J is the run's, its own segments serve), and oracles, which
read the ground truth, judge the segments:

sharp   the package's oracle: condemns whatever holds a pixel of the feature; mixed where the feature covers
        1 % to 50 % of a segment
seen    condemns where the feature covers a tenth, as the model did that answered in `results/answers`: it
        condemned 36 of the 36 segments of which the tag covered a tenth, and none of 11 with less than 1 %
mainly  goes by what fills most of a segment and passes the rest: condemns where the feature covers half

The last two call a segment mixed where the feature covers 5 % to 50 % of it.

Only images that carry the feature are judged: in the others nothing is mixed or condemned, and each costs one
critique of J segments in any row. The masks A that follow are compared with the feature: recall is the share
of the feature's pixels in A, also by the share of the segment that they lie in (of the J segments, before any
was divided) that the feature covers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from lvlm_va._version import __version__
from lvlm_va.alignment.masks import attribution_cores, correction_masks, verdict_matrix
from lvlm_va.cli.running import run_app
from lvlm_va.critique.backends.ground_truth import GroundTruthBackend
from lvlm_va.critique.backends.own import OwnCritic
from lvlm_va.critique.driver import critique
from lvlm_va.critique.question import Backend, ExplainedImage, Question
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.evaluate.overlap import mask_overlap
from lvlm_va.explain.parts import with_parts
from lvlm_va.explain.segmentation import Segmentation, ppeps_wgm
from lvlm_va.report.record import read_images
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import SEGMENTS
from lvlm_va.vision import read_letters, see

SETTINGS = ((5, 0), (5, 1), (5, 2), (7, 0), (7, 1), (7, 2), (3, 0), (3, 1), (3, 2), (10, 0), (15, 0))
"""(J, split)."""
BINS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.01)
"""Shares of a segment that the feature covers."""
LEAST, MOST = 0.05, 0.5


class Covering:
    """An oracle that goes by the share of a segment that the feature covers."""

    kind = "oracle"

    def __init__(self, name: str, condemns_from: float) -> None:
        self.name, self._condemns_from = f"{name} (oracle)", condemns_from

    def critique(self, question: Question) -> dict[int, tuple[Any, str]]:
        """Mixed, where that may be said, if the feature covers enough to be seen and less than half."""
        explained, said = question.explained, {}
        assert explained.spurious is not None
        for j in question.segment_ids:
            covered = float(explained.spurious[explained.segments == j].mean())
            mixed = question.mixed and LEAST <= covered < MOST
            said[j] = ("mixed" if mixed else covered >= self._condemns_from, f"it covers {covered:.0%}")
        return said


ORACLES: Mapping[str, Backend] = {
    "sharp": GroundTruthBackend(),
    "seen": OwnCritic(Covering("seen", 0.1)),
    "mainly": OwnCritic(Covering("mainly", MOST)),
}


def audit(
    images: Sequence[ExplainedImage], segments: Sequence[int], own: Segmentation
) -> Iterator[dict[str, Any]]:
    """One row for each oracle, J and split."""
    phi = torch.from_numpy(np.stack([one.attribution for one in images]))
    truth = torch.from_numpy(np.stack([_truth(one) for one in images]))
    things = [_things(one) for one in images]
    classes = {one.class_name: ClassSpecification(one.class_name, "?") for one in images}
    for J in segments:
        segmentation = own if own.pi.shape[1] == J else ppeps_wgm(phi, J, n_init=1)
        asked = [
            replace(one, segments=segmentation.labels[n].numpy(), shares=tuple(segmentation.pi[n].tolist()))
            for n, one in enumerate(images)
            if n not in segmentation.set_aside
        ]
        row_of = {one.image_id: n for n, one in enumerate(images)}
        covered = _covered(segmentation.labels, truth)
        for split in [split for own, split in SETTINGS if own == J]:
            for oracle, backend in ORACLES.items():
                critic_judge = CriticJudge(backend, backend, classes, lambda _: (), split=split)
                with Store.open(":memory:") as store:
                    verdicts = critique(asked, critic_judge, store)
                    critiques = [e for e in store.exchanges() if e.stage == "critic"]
                left: dict[int, list[int]] = {}
                for v in verdicts:
                    left.setdefault(row_of[v.image_id], []).append(v.segment)
                divided = with_parts(segmentation, phi, left)
                R = verdict_matrix(verdicts, [one.image_id for one in images], divided.pi.shape[1])
                A = correction_masks(divided.labels, R)
                cores = correction_masks(attribution_cores(divided.labels, phi), R)
                row = {
                    "oracle": oracle,
                    "J": J,
                    "split": split,
                    "images": len(asked),
                    "critiques": len(critiques),
                    "segments_asked": sum(len(e.segment_ids) for e in critiques),
                    "unscored": sum(v.spurious is None for v in verdicts),
                    "recall": float((A & truth).sum() / truth.sum()),
                    "precision": float((A & truth).sum() / A.sum()) if bool(A.any()) else None,
                    "iou": mask_overlap(A, truth)["iou"],
                    "iou_attribution": mask_overlap(cores, truth)["iou"],
                    "recall_by_cover": _by_cover(A, truth, covered),
                }
                row["iou_objects"] = mask_overlap(_objects_within(things, A), truth)["iou"]
                yield row


def _things(one: ExplainedImage) -> list[Tensor]:
    """What stands out of an image, (H, W) bool each: looked for once, unlike in `objects_within`."""
    regions = see(one.image, read_letters(one.image)).regions
    return [torch.from_numpy(region.mask) for region in regions if region.role != "ground"]


def _objects_within(things: Sequence[Sequence[Tensor]], A: Tensor) -> Tensor:
    """`align.mask: objects`: of each mask the things of which it covers four fifths."""
    cut = torch.zeros_like(A)
    for n, found in enumerate(things):
        for thing in found:
            if int((thing & A[n]).sum()) >= 0.8 * int(thing.sum()):
                cut[n] |= thing
    return cut


def _truth(one: ExplainedImage) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if one.spurious is None:
        raise typer.BadParameter("where the planted feature lies is not known")
    return one.spurious


def _covered(labels: Tensor, truth: Tensor) -> Tensor:
    """(N, H, W): at each pixel, the share of its segment that the feature covers."""
    covered = torch.zeros(labels.shape)
    for n, C in enumerate(labels):
        for j in C.unique().tolist():
            covered[n][C == j] = truth[n][C == j].float().mean()
    return covered


def _by_cover(A: Tensor, truth: Tensor, covered: Tensor) -> list[dict[str, float | int | None]]:
    found: list[dict[str, float | int | None]] = []
    for low, high in pairwise(BINS):
        here = truth & (covered >= low) & (covered < high)
        number = int(here.sum())
        found.append(
            {
                "from": low,
                "below": high,
                "pixels": number,
                "recall": float((A & here).sum() / number) if number else None,
            }
        )
    return found


app = typer.Typer(add_completion=False)


@app.command()
def main(
    run: Annotated[Path, typer.Argument(help="A run's directory; it is only read.")],
    name: Annotated[str, typer.Option("--name", help="What to call its images.")],
    out: Annotated[Path, typer.Option("--out", help="A JSON file; other runs in it stay.")],
    segments: Annotated[list[int], typer.Option("--segments", help="J; repeatable.")] = [3, 5, 7, 10, 15],  # noqa: B006
    number: Annotated[int, typer.Option("--number", help="Of the images with the feature, at most.")] = 1000,
) -> None:
    """Compare dividing mixed segments with more segments."""
    opened = RunDirectory.read(run)
    images = read_images(opened)
    ids = list(images.explained_images)
    usable = [one for one in images.explained_images.values() if one.segment_ids]
    carrying = [one for one in usable if _truth(one).any()]
    if not carrying:
        raise typer.BadParameter("no image carries the planted feature")
    document = json.loads(out.read_text("utf-8")) if out.exists() else {"runs": {}}
    size, carrying = usable[0].image.shape[0], carrying[:number]
    known = document["runs"].get(name, {"rows": []})["rows"]
    rows: list[dict[str, Any]] = [row for row in known if row["J"] not in segments]
    runs = {name: {"size": size, "carrying": len(carrying), "rows": rows}}
    document = {"version": __version__, "least": LEAST, "most": MOST, "runs": document["runs"] | runs}
    out.parent.mkdir(parents=True, exist_ok=True)
    own = artefacts.read_segmentation(opened.file(SEGMENTS)).rows([ids.index(i.image_id) for i in carrying])
    for row in audit(carrying, segments, own):
        rows.append(row)
        typer.echo(json.dumps(row))
        out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    draw(document, out.with_name("split.png"))
    typer.echo(tables(document))


def tables(document: Mapping[str, Any]) -> str:
    """The rows as Markdown."""
    lines = []
    for name, run in document["runs"].items():
        lines += [
            f"**{name}**, {run['carrying']} images with the feature, {run['size']} × {run['size']}:",
            "",
        ]
        bins = [f"{low:.0%}–{min(high, 1):.0%}" for low, high in pairwise(BINS)]
        lines += [
            f"| oracle | J | split | critiques | segments asked | {' | '.join(_COLUMNS)} | "
            f"recall where it covers {' | '.join(bins)} |",
            "|" + " --- |" * (5 + len(_COLUMNS) + len(bins)),
        ]
        for row in sorted(run["rows"], key=lambda r: (list(ORACLES).index(r["oracle"]), r["J"], r["split"])):
            values = [row[key] for key in _COLUMNS.values()] + [b["recall"] for b in row["recall_by_cover"]]
            lines.append(
                f"| {row['oracle']} | {row['J']} | {row['split']} | {row['critiques'] / row['images']:.2f} | "
                f"{row['segments_asked'] / row['images']:.1f} | "
                + " | ".join("—" if value is None else f"{value:.2f}" for value in values)
                + " |"
            )
        lines.append("")
    return "\n".join(lines)


_COLUMNS = {
    "recall": "recall",
    "precision": "precision",
    "IoU": "iou",
    "IoU, attribution": "iou_attribution",
    "IoU, objects": "iou_objects",
}


PANELS = (("sharp", "iou", "IoU of A, oracle “sharp”"), ("seen", "recall", "recall, oracle “seen”"))
LINES = {0: "#0072b2", 3: "#009e73", 5: "#d55e00", 7: "#cc79a7"}
"""Plain J, then the J that is divided, and their colours."""


def draw(document: Mapping[str, Any], path: Path) -> None:
    """IoU and recall over segments asked about, plain J against divided ones."""
    runs = document["runs"]
    figure = Figure(figsize=(8, 2.9 * len(runs)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(runs), len(PANELS), squeeze=False)
    for (name, run), row in zip(runs.items(), axes, strict=True):
        for axis, (oracle, key, what) in zip(row, PANELS, strict=True):
            rows = [r for r in run["rows"] if r["oracle"] == oracle]
            for of, colour in LINES.items():
                chosen = [r for r in rows if (r["J"] == of if of else r["split"] == 0)]
                points = sorted((r["segments_asked"] / r["images"], r[key], r["J"]) for r in chosen)
                label = f"J = {of}, split 0, 1, 2" if of else "plain J"
                x, y = [p[0] for p in points], [p[1] for p in points]
                axis.plot(x, y, "o-", color=colour, label=label)
                for point in points if not of else ():
                    axis.annotate(
                        f"{point[2]}", point[:2], textcoords="offset points", xytext=(4, -10), fontsize=8
                    )
            axis.set_title(f"{name}: {what}", fontsize=9)
            axis.set_xlabel("segments asked about, per image", fontsize=8)
            axis.set_ylim(0, 1.05)
            axis.tick_params(labelsize=8)
    axes[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    run_app(app)
