"""Asking about some pictures only: what it saves, what the propagated verdicts are worth, what is lost.

For each project, seed, critic and share of pictures asked: calls, what they would cost with gpt-4o, verdicts
against asked ones and against the truth, and the aligned model. `critique.agreement` is 0, so that the shares
are those asked; everything else is as in the project file, except five epochs and one λ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from experiments.cells import Cells, header
from experiments.pages.numbers import mean_std
from experiments.tables import table
from lvlm_va.config.loading import load_config
from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.pricing import BATCH_DISCOUNT
from lvlm_va.io.console import QuietConsole
from lvlm_va.io.files import write_atomically
from lvlm_va.project.inputs import load_inputs
from lvlm_va.project.presets import preset
from lvlm_va.project.stages.alignment import (
    align_with,
    alignment_set,
    choose,
    original_fit,
)
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.evaluation import measure, verdict_report
from lvlm_va.project.stages.explanation import Explained, explain
from lvlm_va.project.stages.original import original_model
from lvlm_va.project.stages.query_plan import plan_questions
from lvlm_va.project.stages.verdicts import collect_verdicts, make_panel
from lvlm_va.run.directory import RunDirectory, fingerprint
from lvlm_va.run.files import ALIGNED, ORIGINAL, open_store

__all__ = ["ASKED", "PROJECTS", "reproduce_fewer_questions"]

PROJECTS: Sequence[Path] = (preset("decoy-mnist"),)
"""The project files of the experiment."""

ASKED = (1.0, 0.5, 0.3, 0.2, 0.1)
"""Shares of the pictures."""

_CRITICS = ("builtin", "ground-truth")
_PRICED = "openai:gpt-4o"
_COMMON = ("align.epochs=5", "align.lambda=0.03", "critique.agreement=0")


def reproduce_fewer_questions(
    out: Path,
    runs: Path,
    seeds: int,
    settings: Sequence[str],
    console: QuietConsole,
    command: str,
    projects: Sequence[Path] = PROJECTS,
) -> Path:
    """Compute every cell that is missing; write fewer-questions.json and .md into `out`/decoy-mnist.

    The arguments are those of `reproduce_decoy_mnist`, and the project files.
    """
    folder = out / "decoy-mnist"
    about = header("Fewer questions", command, priced=_PRICED)
    cells = Cells(folder / "fewer-questions.json", about)
    results: list[dict[str, Any]] = []
    for file in projects:
        for seed in range(seeds):
            results += _seed(
                cells, file, runs / f"fewer-questions-{file.stem}-{seed}", seed, settings, console
            )
    write_atomically(folder / "fewer-questions.md", _markdown(about, results).encode())
    return folder / "fewer-questions.md"


def _seed(
    cells: Cells, file: Path, run: Path, seed: int, settings: Sequence[str], console: QuietConsole
) -> list[dict[str, Any]]:
    sections = ("data", "model", "explain", "align", "evaluate")
    base = [*_COMMON, *(f"{section}.seed={seed}" for section in sections), *settings]
    console.note(f"{file.stem}, seed {seed}")
    project = load_inputs(load_config(file, base), log=console.note)
    results = []
    with RunDirectory.open(run, project.config.model_dump(mode="json", by_alias=True)) as directory:
        context = Context(project, directory, console)
        original = original_model(context)
        explained = explain(context, original)
        for critic in _CRITICS:
            for ask in ASKED:
                config = load_config(file, [*base, f"critique.critic={critic}", f"critique.ask={ask}"])
                one = Context(replace(project, config=config), directory, console)
                name = f"{config.project}, seed {seed}, {critic}, ask {ask:g}"
                about = {"project": config.project, "seed": seed, "critic": critic, "ask": ask}
                results.append(
                    cells.cell(
                        name,
                        fingerprint(config.model_dump(mode="json")),
                        partial(_cell, about, one, explained, original),
                    )
                )
    return results


def _cell(
    about: dict[str, Any], context: Context, explained: Explained, original: nn.Module
) -> dict[str, Any]:
    return {**about, **_measured(context, explained, original)}


def _measured(context: Context, explained: Explained, original: nn.Module) -> dict[str, Any]:
    settings, specifications = context.config.critique, context.project.specifications
    asking = plan_questions(context, explained)
    with open_store(context.run) as store:
        online = settings.model_copy(update={"critic": _PRICED, "prices": {}})
        priced = make_panel(online, specifications, by_file=True)
        cost = estimate(asking.first, priced, store)
    collected = collect_verdicts(context, explained, make_panel(settings, specifications))
    # The critics here measure, so what they would have said of the others costs nothing.
    everything = settings.model_copy(update={"ask": 1.0})
    full = context.config.model_copy(update={"critique": everything})
    whole = replace(context, project=replace(context.project, config=full))
    asked_of_all = collect_verdicts(whole, explained, make_panel(everything, specifications)).in_force

    asked = {subject.image_id for subject in asking.first}
    pairs = [
        (ours.spurious, theirs.spurious)
        for ours, theirs in zip(collected.in_force, asked_of_all, strict=True)
        if ours.image_id not in asked and theirs.spurious is not None
    ]
    scored = [(a, b) for a, b in pairs if a is not None]
    masks = alignment_set(context, explained, collected.in_force)
    before = original_fit(context, original, masks)
    fits = align_with(context, ALIGNED, original, masks, before.standing) if bool(masks.masks.any()) else []
    after = choose(context, before, fits) if fits else before
    return {
        "pictures": len(asking.subjects),
        "asked": len(asked),
        "calls": cost.critic_calls + cost.judge_calls,
        "usd": None if cost.usd is None else cost.usd / BATCH_DISCOUNT,  # `by_file` prices a batch
        "propagated": len(scored),
        "unscored": len(pairs) - len(scored),
        "same_as_asked": sum(a == b for a, b in scored) / len(scored) if scored else None,
        "condemned_found": sum(a is True for a, b in pairs if b) / max(1, sum(b for _, b in pairs)),
        "verified": None if collected.propagation is None else collected.propagation["verified"],
        "quality": verdict_report(context, explained, collected.in_force)["quality"],
        "aligned": measure(context, ALIGNED, after),
        "original": measure(context, ORIGINAL, before),
    }


def _markdown(about: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    cells = [cell for cell in results if "ask" in cell]
    rows = []
    for key in dict.fromkeys((c["project"], c["critic"], c["ask"]) for c in cells):
        some = [c for c in cells if (c["project"], c["critic"], c["ask"]) == key]
        rows.append([key[0], key[1], f"{key[2]:g}", *_row(some)])
    lines = [
        f"# {about['experiment']}",
        "",
        f"Command: `{about['command']}`  ",
        f"Versions: {', '.join(f'{k} {v}' for k, v in about['versions'].items())}  ",
        f"Machine: {about['machine']}  ",
        f"Numbers: {about['average']}.",
        "",
        "*Asked*: share of the pictures that the critic is asked about, the random remainder included.",
        f"*USD*: estimate for {about['priced']}, asked online. *Same*: share of propagated verdicts that the",
        "critic, asked, would have given. *Found*: share of the segments that the critic condemns, among",
        "pictures not asked about, that propagation condemns; an unscored one is not found. *Accuracy*,",
        "*recall*: all verdicts against the ground truth. *Aligned*, *gain*: WGA of the main test set where",
        "groups are known, plain accuracy where not; aligned minus original, in points.",
        "",
        *table(
            [
                *("project", "critic", "asked", "calls", "USD", "same", "found", "unscored"),
                *("accuracy", "recall", "aligned", "gain"),
            ],
            rows,
        ),
    ]
    failed = [[cell["cell"], cell["failed"]] for cell in results if "failed" in cell]
    if failed:
        lines += ["", "## Failed", "", *table(["cell", "reason"], failed)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    propagated = [c for c in cells if c["same_as_asked"] is not None]
    gains = [100 * (_score(c["aligned"]) - _score(c["original"])) for c in cells]
    priced = [c["usd"] for c in cells if c["usd"] is not None]
    known = [c["quality"] for c in cells if c["quality"] is not None]
    calls, usd = sum(c["calls"] for c in cells) / len(cells), sum(priced) / max(1, len(priced))
    return [
        f"{calls:.0f}",
        f"{usd:.2f}" if priced else "–",
        mean_std([c["same_as_asked"] for c in propagated]),
        mean_std([c["condemned_found"] for c in propagated]),
        mean_std([c["unscored"] / (c["unscored"] + c["propagated"]) for c in propagated]),
        mean_std([q["accuracy"] for q in known]),
        mean_std([q["recall"] for q in known]),
        mean_std([_score(c["aligned"]) for c in cells]),
        f"{sum(gains) / len(gains):+.1f}",
    ]


def _score(measured: Mapping[str, Any]) -> float:
    """WGA where groups are known, else plain accuracy, of the main test set."""
    main, accuracy = next(iter(measured["accuracy"].items()))
    return float(measured["groups"][main]["worst"] if main in measured["groups"] else accuracy)
