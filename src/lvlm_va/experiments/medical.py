"""Knee and skin: what each right-reasons term gains, with whose verdicts (Fig. 8, Table 1, and beyond).

Per seed (weights, order, sampling): train, explain and segment once; collect the built-in critic's and the
oracle's verdicts on the same segments; then fine-tune side by side: λ = 0 as the control, the paper's
right-reasons term, counterfactual pictures, both; with the same masks for as many epochs. Which epoch is kept
is chosen by the verdicts, never by group labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from lvlm_va.alignment.training import AlignmentSet
from lvlm_va.config import Config, load_config
from lvlm_va.console import QuietConsole
from lvlm_va.data.cache import write_atomically
from lvlm_va.errors import ConfigError
from lvlm_va.experiments.cells import Cells, header
from lvlm_va.experiments.medical_tables import figure8, markdown
from lvlm_va.hints import did_you_mean
from lvlm_va.project import load_project
from lvlm_va.run import RunDirectory, fingerprint
from lvlm_va.stages.alignment import Fit, align_with, alignment_set, ground_truth_set, original_fit
from lvlm_va.stages.context import Context, tensor_fingerprint, weights_fingerprint
from lvlm_va.stages.evaluation import measure, verdict_report
from lvlm_va.stages.explained import Explained, explain
from lvlm_va.stages.original import original_model
from lvlm_va.stages.verdicts import collect_verdicts, make_panel

__all__ = ["ARMS", "REDUCED", "SOURCES", "Arm", "reproduce_medical"]

_SIZES = ("full", "reduced", "auto")

SOURCES = {
    "builtin": "built-in critic (measures; not an LVLM)",
    "oracle-verdicts": "oracle verdicts (oracle)",
    "ground-truth-masks": "ground-truth masks (oracle)",
}
"""Where masks come from; what reads the ground truth is named an oracle."""

_CRITICS = {"builtin": "builtin", "oracle-verdicts": "ground-truth"}


@dataclass(frozen=True)
class Arm:
    """One way to fine-tune.

    Attributes:
        term: "control", "right reasons", "counterfactual" or "both".
        source: of the masks, a key of `SOURCES`.
    """

    term: str
    source: str

    @property
    def name(self) -> str:
        """As tables have it."""
        return self.term if self.term == "control" else f"{self.term}, {self.source}"


ARMS = (
    Arm("control", "oracle-verdicts"),
    Arm("counterfactual", "oracle-verdicts"),
    Arm("counterfactual", "builtin"),
    Arm("counterfactual", "ground-truth-masks"),
    Arm("right reasons", "oracle-verdicts"),
    Arm("both", "oracle-verdicts"),
    Arm("right reasons", "builtin"),
    Arm("right reasons", "ground-truth-masks"),
    Arm("both", "builtin"),
    Arm("both", "ground-truth-masks"),
)
"""In the order in which they are computed; at reduced size the first six."""

_REDUCED_ARMS = 6

REDUCED = {
    "knee": ("data.size=112", "explain.baselines=5", "align.epochs=1", "evaluate.pictures=40"),
    "skin": (
        "data.size=112",
        "data.parts=[core]",
        "data.validation=50",
        "explain.pictures=256",
        "explain.baselines=5",
        "align.epochs=2",
        "evaluate.pictures=40",
    ),
}
"""What is smaller where there is no GPU: pictures of 112 × 112, of skin the part "core" only (552 training
pictures), fewer reference pictures and epochs."""

_SEEDS = {"full": 7, "reduced": 3}


def reproduce_medical(
    what: str,
    size: str,
    out: Path,
    runs: Path,
    seeds: int | None,
    settings: Sequence[str],
    console: QuietConsole,
    command: str,
    arms: Sequence[Arm] | None = None,
) -> Path:
    """Compute every cell that is missing, then write results.json, README.md and fig8.svg.

    Args:
        what: "knee" or "skin".
        size: "full" as in the paper, "reduced" for two cores; "auto" is full where there is a GPU.
        out: folder of the results; they go into `out`/`what`-reduced or `out`/`what`.
        runs: where models and critiques are kept between calls.
        seeds: 0 .. seeds − 1; 7 at full size and 3 at reduced size when None.
        settings: "key=value" overrides.
        console: told about progress.
        command: how this was called, for the record.
        arms: what is fine-tuned; all `ARMS` at full size and the first six at reduced size when None.

    Returns:
        The Markdown file.
    """
    if what not in REDUCED:
        raise ConfigError(f"unknown experiment {what!r}; known are {', '.join(REDUCED)}")
    if size not in _SIZES:
        raise ConfigError(f"--size {size!r}; {did_you_mean(size, _SIZES)}")
    chosen = size if size != "auto" else ("full" if torch.cuda.is_available() else "reduced")
    if chosen == "reduced":
        console.note(f"Reduced size: {', '.join(REDUCED[what])}. The results are labelled so.")
    name = what if chosen == "full" else f"{what}-reduced"
    folder = out / name
    smaller = REDUCED[what] if chosen == "reduced" else ()
    about = header(
        f"{what.capitalize()}, {chosen} size", command, sources=SOURCES, reduced=list(smaller), what=what
    )
    cells = Cells(folder / "results.json", about)
    chosen_arms = arms or (ARMS if chosen == "full" else ARMS[:_REDUCED_ARMS])
    results: list[dict[str, Any]] = []
    for seed in range(_SEEDS[chosen] if seeds is None else seeds):
        sections = ("data", "model", "explain", "align", "evaluate")
        config = load_config(
            Path(str(files("lvlm_va.experiments") / f"{what}.yaml")),
            [*smaller, *(f"{section}.seed={seed}" for section in sections), *settings],
        )
        results += _seed(cells, runs / f"{name}-seed-{seed}", seed, config, chosen_arms, console)
        write_atomically(folder / "README.md", markdown(about, results).encode())
        write_atomically(folder / "fig8.svg", figure8(about, results))
    return folder / "README.md"


def _seed(
    cells: Cells, run: Path, seed: int, config: Config, arms: Sequence[Arm], console: QuietConsole
) -> list[dict[str, Any]]:
    console.note(f"{config.project}, seed {seed}")
    project = load_project(config, log=console.note)
    results: list[dict[str, Any]] = []
    document = config.model_dump(mode="json", by_alias=True)
    masks: dict[str, AlignmentSet] = {}
    with RunDirectory.open(run / "builtin", document) as directory:
        context = Context(project, directory, console)
        original = original_model(context)
        explained = explain(context, original)
        masks["builtin"] = _critiqued(cells, context, "builtin", seed, explained, results)
        with RunDirectory.open(run / "oracle-verdicts", document) as judged:
            # The same model and segments; only who judges them differs.
            oracle = replace(context, run=judged)
            masks["oracle-verdicts"] = _critiqued(cells, oracle, "oracle-verdicts", seed, explained, results)
        truth = ground_truth_set(context, explained)
        assert truth is not None, "both data sets know their ground truth"
        masks["ground-truth-masks"] = truth
        # Every model is scored with the same condemned segments: those of the built-in critic.
        unaligned = original_fit(context, original, masks["builtin"])
        about = {"weights": project.initial_weights, "arm": "original", "term": "original", "source": ""}
        inputs = fingerprint(weights_fingerprint(original), config.evaluate.model_dump())
        results.append(
            cells.cell(
                f"seed {seed}, original",
                inputs,
                lambda: {"seed": seed, **about, **measure(context, "original", unaligned)},
            )
        )
        results += [_aligned(cells, context, arm, seed, unaligned, masks[arm.source]) for arm in arms]
    return results


def _critiqued(
    cells: Cells,
    context: Context,
    source: str,
    seed: int,
    explained: Explained,
    results: list[dict[str, Any]],
) -> AlignmentSet:
    critique = context.config.critique.model_copy(update={"critic": _CRITICS[source]})
    config = context.config.model_copy(update={"critique": critique})
    context = replace(context, project=replace(context.project, config=config))
    panel = make_panel(critique, context.project.specifications)
    verdicts = collect_verdicts(context, explained, panel)
    alignment = alignment_set(context, explained, verdicts.in_force)

    def compute() -> dict[str, Any]:
        return {
            "seed": seed,
            "verdicts_of": source,
            "verdicts": verdict_report(context, explained, verdicts.in_force),
            "masks": _overlap(context, alignment),
            "selection_spurious_share": explained.selection.spurious_share,
        }

    inputs = fingerprint(tensor_fingerprint(alignment.masks), [v.spurious for v in verdicts.in_force])
    results.append(cells.cell(f"seed {seed}, verdicts of {source}", inputs, compute))
    return alignment


def _overlap(context: Context, alignment: AlignmentSet) -> dict[str, float]:
    """Intersection over union of the masks with the planted feature, over pictures that carry it."""
    truth = context.splits.train.spurious_masks(alignment.indices)
    assert truth is not None
    carrying = truth.flatten(1).any(1)
    A, G = alignment.masks[carrying].flatten(1), truth[carrying].flatten(1)
    iou = (A & G).sum(1) / (A | G).sum(1)
    return {
        "pictures": int(carrying.sum()),
        "masked": int(A.any(1).sum()),
        "iou": float(iou.mean()),
        "masked_without": int(alignment.masks[~carrying].flatten(1).any(1).sum()),
        "without": int((~carrying).sum()),
    }


def _aligned(
    cells: Cells, context: Context, arm: Arm, seed: int, unaligned: Fit, alignment: AlignmentSet
) -> dict[str, Any]:
    (lam,) = context.config.align.lam
    kappa = context.config.align.counterfactual
    settings = context.config.align.model_copy(
        update={
            "lam": (lam if arm.term in ("right reasons", "both") else 0.0,),
            "counterfactual": kappa if arm.term in ("counterfactual", "both") else 0.0,
        }
    )
    config = context.config.model_copy(update={"align": settings})
    one = replace(context, project=replace(context.project, config=config))

    def compute() -> dict[str, Any]:
        (fit,) = align_with(one, arm.name, unaligned.model, alignment, unaligned.standing)
        seconds = one.run.stages[f"align: {arm.name}, λ = {fit.lam:g}"].seconds
        by_verdicts, before = (f.standing.score("verdicts", unaligned.standing) for f in (fit, unaligned))
        return {
            "seed": seed,
            "arm": arm.name,
            "term": arm.term,
            "source": arm.source,
            "epochs": fit.epochs,
            "seconds": seconds,
            "better_than_original_by_verdicts": by_verdicts > before,
            **measure(one, arm.name, fit),
        }

    inputs = fingerprint(
        weights_fingerprint(unaligned.model),
        asdict(unaligned.standing),
        alignment.indices.tolist(),
        tensor_fingerprint(alignment.masks),
        settings.model_dump(),
        config.evaluate.model_dump(),
        config.explain.model_dump(include={"attribution", "baselines"}),
    )
    return cells.cell(f"seed {seed}, {arm.name}", inputs, compute)
