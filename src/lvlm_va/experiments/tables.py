"""Cells of a λ sweep as Markdown: mean ± standard deviation over seeds, with n."""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

__all__ = ["best_by_validation", "headline", "markdown", "mean_std", "preamble", "table"]


def mean_std(values: Sequence[float]) -> str:
    """E.g. 0.972 ± 0.001 (n = 3); the standard deviation divides by n − 1."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.3f} (n = 1)"
    return f"{mean(values):.3f} ± {stdev(values):.3f} (n = {len(values)})"


def best_by_validation(cells: Sequence[Mapping[str, Any]], arm: str) -> list[Mapping[str, Any]]:
    """For each seed the cell of `arm` with the best validation accuracy; of equals the smaller λ."""
    best: dict[int, Mapping[str, Any]] = {}
    for cell in sorted((c for c in cells if c.get("arm") == arm), key=lambda c: float(c["lambda"])):
        if cell["seed"] not in best or cell["validation"] > best[cell["seed"]]["validation"]:
            best[cell["seed"]] = cell
    return list(best.values())


def preamble(header: Mapping[str, Any]) -> list[str]:
    """Title, command, versions and machine of a page of results: lines of Markdown."""
    return [
        f"# {header['experiment']}",
        "",
        f"Command: `{header['command']}`  ",
        f"Versions: {', '.join(f'{k} {v}' for k, v in header['versions'].items())}  ",
        f"Machine: {header['machine']}  ",
    ]


def markdown(header: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    """The whole result as a page."""
    failed = [cell for cell in results if "failed" in cell]
    cells = [cell for cell in results if "arm" in cell]
    tests = list(cells[0]["accuracy"]) if cells else []
    lines = [
        *preamble(header),
        f"Numbers: {header['average']}.",
        "",
        "![accuracy and μ_align over λ](fig5.svg)",
        "",
        "## At the λ that the validation set chooses, seed by seed",
        "",
        "An *oracle* reads the ground truth: those rows are upper bounds, not results of the method.",
        "",
        *headline(header, results),
        "",
        "## Verdicts",
        "",
        "Accuracy: share of flagged segments that contain part of the patch (Table 1). Recall: share of "
        "segments with part of the patch that were flagged.",
        "",
        *table(
            ["verdicts of", "segments", "flagged", "unscored", "accuracy", "recall"],
            [_verdict_row(results, arm, name) for arm, name in header["arms"].items() if _of(results, arm)],
        ),
        "",
        "## Every λ",
        "",
    ]
    for arm, name in header["arms"].items():
        swept = [cell for cell in cells if cell["arm"] == arm]
        rows = [
            [f"{lam:g}", *_columns([c for c in swept if c["lambda"] == lam], tests)]
            for lam in sorted({cell["lambda"] for cell in swept})
        ]
        lines += [f"### {name}", "", *table(["λ", *tests, "μ_align"], rows), ""]
    if failed:
        lines += [
            "## Failed cells",
            "",
            *table(["cell", "reason"], [[c["cell"], c["failed"]] for c in failed]),
        ]
    return "\n".join(lines).rstrip() + "\n"


def headline(header: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each source of masks at the λ that the validation set chooses for each seed: lines of Markdown."""
    cells = [cell for cell in results if "arm" in cell]
    tests = list(cells[0]["accuracy"]) if cells else []
    rows = [
        [name, *_columns(best_by_validation(cells, arm), tests), _lambdas(cells, arm)]
        for arm, name in header["arms"].items()
    ]
    return table(["masks", *tests, "μ_align", "λ chosen"], rows)


def _columns(cells: Sequence[Mapping[str, Any]], tests: Sequence[str]) -> list[str]:
    pick: list[Callable[[Mapping[str, Any]], float]] = [
        *(lambda cell, test=test: float(cell["accuracy"][test]) for test in tests),
        lambda cell: float(cell["mu_align"]["mean"]),
    ]
    return [mean_std([value(cell) for cell in cells]) for value in pick]


def _lambdas(cells: Sequence[Mapping[str, Any]], arm: str) -> str:
    if arm == "unaligned":
        return ""
    return ", ".join(f"{cell['lambda']:g}" for cell in best_by_validation(cells, arm))


def _of(results: Sequence[Mapping[str, Any]], arm: str) -> list[Mapping[str, Any]]:
    return [cell["verdicts"] for cell in results if cell.get("verdicts_of") == arm]


def _verdict_row(results: Sequence[Mapping[str, Any]], arm: str, name: str) -> list[str]:
    reports = _of(results, arm)
    counts = [str(sum(report[key] for report in reports)) for key in ("segments", "spurious", "unscored")]
    shares = [mean_std([report["quality"][key] for report in reports]) for key in ("accuracy", "recall")]
    return [name, *counts, *shares]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, a line an element."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
