"""DecoyMNIST over λ, seeds and sources of verdicts: the data of Fig. 5.

Per seed (data, weights and sampling): train, explain and segment once; then fine-tune for every λ with the
built-in critic's masks, with oracle verdicts on the same segments, and with ground-truth masks. λ is chosen
on the validation set: held-out training digits with patches of random shade.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from lvlm_va.alignment.training import AlignmentSet
from lvlm_va.config import Config, load_config
from lvlm_va.console import QuietConsole
from lvlm_va.data.cache import write_atomically
from lvlm_va.experiments.cells import Cells, header
from lvlm_va.experiments.figure5 import figure5
from lvlm_va.experiments.tables import markdown
from lvlm_va.project import load_project
from lvlm_va.run import RunDirectory, fingerprint
from lvlm_va.stages.alignment import Fit, align_with, alignment_set, ground_truth_set, original_fit
from lvlm_va.stages.context import Context, tensor_fingerprint, weights_fingerprint
from lvlm_va.stages.evaluation import measure, verdict_report
from lvlm_va.stages.explained import Explained, explain
from lvlm_va.stages.original import original_model
from lvlm_va.stages.verdicts import collect_verdicts, make_panel

__all__ = ["ARMS", "DECOY_MNIST", "reproduce_decoy_mnist"]

ARMS = {
    "unaligned": "original model",
    "builtin": "built-in critic (measures; not an LVLM)",
    "oracle-verdicts": "oracle verdicts on the same segments (oracle)",
    "ground-truth-masks": "ground-truth masks (oracle)",
}
"""Where masks come from; what reads the ground truth is named an oracle."""

DECOY_MNIST = Path(str(files("lvlm_va.experiments") / "decoy_mnist.yaml"))
"""The project file of the experiment."""

_CRITICS = {"builtin": "builtin", "oracle-verdicts": "ground-truth"}


def reproduce_decoy_mnist(
    out: Path, runs: Path, seeds: int, settings: Sequence[str], console: QuietConsole, command: str
) -> Path:
    """Compute every cell that is missing, then write results.json, README.md and fig5.svg.

    Args:
        out: folder of the results; they go into `out`/decoy-mnist.
        runs: where models and critiques are kept between calls.
        seeds: 0 .. seeds − 1.
        settings: "key=value" overrides.
        console: told about progress.
        command: how this was called, for the record.

    Returns:
        The Markdown file.
    """
    folder = out / "decoy-mnist"
    about = header("DecoyMNIST, Fig. 5", command, arms=ARMS)
    cells = Cells(folder / "results.json", about)
    results = []
    for seed in range(seeds):
        results += _seed(cells, runs / f"decoy-mnist-seed-{seed}", seed, settings, console)
    text = markdown(about, results)
    write_atomically(folder / "README.md", text.encode())
    write_atomically(folder / "fig5.svg", figure5(results))
    return folder / "README.md"


def _seed(
    cells: Cells, run: Path, seed: int, settings: Sequence[str], console: QuietConsole
) -> list[dict[str, Any]]:
    config = _config(seed, settings)
    console.note(f"Seed {seed}")
    project = load_project(config, log=console.note)
    results: list[dict[str, Any]] = []
    with RunDirectory.open(run / "builtin", config.model_dump(mode="json", by_alias=True)) as directory:
        context = Context(project, directory, console)
        original = original_model(context)
        explained = explain(context, original)
        masks = {"builtin": _critiqued(cells, context, "builtin", seed, explained, results)}
        unaligned = original_fit(context, original, masks["builtin"])
        results.append(_unaligned(cells, context, seed, unaligned))
        truth = ground_truth_set(context, explained)
        assert truth is not None
        masks["ground-truth-masks"] = truth
    with RunDirectory.open(run / "oracle", config.model_dump(mode="json", by_alias=True)) as directory:
        # The same model and segments; only who judges them differs.
        oracle = replace(context, run=directory)
        masks["oracle-verdicts"] = _critiqued(cells, oracle, "oracle-verdicts", seed, explained, results)
    with RunDirectory.open(run / "builtin", config.model_dump(mode="json", by_alias=True)) as directory:
        context = replace(context, run=directory)
        for lam in config.align.lam:
            one = _with_lambda(context, lam)
            results += [_aligned(cells, one, arm, seed, unaligned, masks[arm]) for arm in masks]
    return results


def _config(seed: int, settings: Sequence[str]) -> Config:
    """The committed project file, with this seed for everything that is drawn at random."""
    sections = ("data", "model", "explain", "align", "evaluate")
    return load_config(DECOY_MNIST, [*(f"{section}.seed={seed}" for section in sections), *settings])


def _with_lambda(context: Context, lam: float) -> Context:
    config = context.config
    config = config.model_copy(update={"align": config.align.model_copy(update={"lam": (lam,)})})
    return replace(context, project=replace(context.project, config=config))


def _unaligned(cells: Cells, context: Context, seed: int, unaligned: Fit) -> dict[str, Any]:
    def compute() -> dict[str, Any]:
        return {"seed": seed, "arm": "unaligned", **measure(context, "unaligned", unaligned)}

    inputs = fingerprint(weights_fingerprint(unaligned.model), context.config.evaluate.model_dump())
    return cells.cell(f"seed {seed}, unaligned", inputs, compute)


def _critiqued(
    cells: Cells,
    context: Context,
    arm: str,
    seed: int,
    explained: Explained,
    results: list[dict[str, Any]],
) -> AlignmentSet:
    settings = context.config.critique.model_copy(update={"critic": _CRITICS[arm]})
    panel = make_panel(settings, context.project.specifications)
    verdicts = collect_verdicts(context, explained, panel)
    alignment = alignment_set(context, explained, verdicts.in_force)

    def compute() -> dict[str, Any]:
        report = verdict_report(context, explained, verdicts.in_force)
        share = explained.selection.spurious_share
        return {"seed": seed, "verdicts_of": arm, "verdicts": report, "selection_spurious_share": share}

    inputs = fingerprint(tensor_fingerprint(alignment.masks), [v.spurious for v in verdicts.in_force])
    results.append(cells.cell(f"seed {seed}, verdicts of {arm}", inputs, compute))
    return alignment


def _aligned(
    cells: Cells, context: Context, arm: str, seed: int, unaligned: Fit, alignment: AlignmentSet
) -> dict[str, Any]:
    (lam,) = context.config.align.lam

    def compute() -> dict[str, Any]:
        (fit,) = align_with(context, arm, unaligned.model, alignment, unaligned.standing)
        return {"seed": seed, "arm": arm, **measure(context, arm, fit)}

    inputs = fingerprint(
        weights_fingerprint(unaligned.model),
        alignment.indices.tolist(),
        tensor_fingerprint(alignment.masks),
        context.config.align.model_dump(),
        context.config.evaluate.model_dump(),
        context.config.explain.model_dump(include={"attribution", "baselines"}),
    )
    return cells.cell(f"seed {seed}, {arm}, λ = {lam:g}", inputs, compute)
