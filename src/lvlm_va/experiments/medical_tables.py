"""Cells of the medical experiments as Markdown, and gains in AGA and WGA as a figure (Fig. 8)."""

import io
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from lvlm_va.experiments.tables import mean_std, preamble, table

__all__ = ["figure8", "gains", "headline", "markdown"]

Cell = Mapping[str, Any]


def gains(cells: Sequence[Cell], arm: str, measure: str) -> list[float]:
    """For each seed the measure ("average" or "worst") of `arm` on the main test set less the original's."""
    before = {cell["seed"]: _groups(cell)[measure] for cell in cells if cell.get("arm") == "original"}
    return [
        _groups(cell)[measure] - before[cell["seed"]]
        for cell in cells
        if cell.get("arm") == arm and cell["seed"] in before
    ]


def markdown(header: Mapping[str, Any], results: Sequence[Cell]) -> str:
    """The whole result as a page."""
    cells = _ordered(header, results)
    arms = list(dict.fromkeys(cell["arm"] for cell in cells))
    lines = [
        *preamble(header),
        f"Initial weights: {', '.join(sorted({c['weights'] for c in cells if 'weights' in c}))}  ",
        *([f"Reduced size: {', '.join(header['reduced'])}  "] if header["reduced"] else []),
        "Numbers: mean ± standard deviation (n − 1) over seeds. AGA is the plain mean over the four groups, "
        "WGA the worst of them, on the main test set; Δ is against the original model of the same seed.",
        "",
        "An *oracle* reads the ground truth: those rows are upper bounds, not results of the method. Which "
        "epoch is kept is chosen by the verdicts on the validation set; group labels choose nothing.",
        "",
        "![gains in AGA and WGA](fig8.svg)",
        "",
        "## Side by side",
        "",
        *headline(header, results),
        "",
        "## Groups of the main test set",
        "",
        *_by_group(cells, arms),
        "",
        "## Verdicts",
        "",
        "Accuracy: share of flagged segments that contain part of the planted feature (Table 1), or, in the "
        "second column, that do or lie beside the lesion. Recall: share of segments with part of the planted "
        "feature that were flagged. IoU: of masks and planted feature, over the pictures that carry it.",
        "",
        *_verdicts(header, results),
    ]
    lines += [
        "",
        "## Choosing without group labels",
        "",
        "Of all models of a seed, the original among them, the one that scores best on the validation set, "
        "and what it is worth on the test set. By true groups is how the paper's baselines choose: it reads "
        "group labels. Of fine-tunings with masks that read the ground truth the choice is an oracle's, too.",
        "",
        *_choices(cells),
    ]
    others = [name for name in _tests(cells) if name != _main(cells)]
    if others:
        lines += ["", "## Accuracy on other test sets", "", *_other_tests(cells, arms, others)]
    lines += ["", "## Every seed", "", *_every_seed(cells)]
    failed = [[cell["cell"], cell["failed"]] for cell in results if "failed" in cell]
    if failed:
        lines += ["", "## Failed cells", "", *table(["cell", "reason"], failed)]
    return "\n".join(lines) + "\n"


def headline(
    header: Mapping[str, Any], results: Sequence[Cell], terms: Sequence[str] | None = None
) -> list[str]:
    """Every arm, or those of some terms, mean over seeds: lines of Markdown."""
    cells = _ordered(header, results)
    arms = dict.fromkeys(cell["arm"] for cell in cells if terms is None or cell["term"] in terms)
    head = ["fine-tuning", "masks", "AGA", "ΔAGA", "WGA", "ΔWGA", "μ_align", "seconds"]
    return table(head, [_row(header, cells, arm) for arm in arms])


def figure8(header: Mapping[str, Any], results: Sequence[Cell]) -> bytes:
    """An SVG file: ΔAGA and ΔWGA of every arm, mean over seeds, bars of one standard deviation."""
    cells = _ordered(header, results)
    arms = list(dict.fromkeys(cell["arm"] for cell in cells if cell["arm"] != "original"))
    with mpl.rc_context({"svg.hashsalt": "lvlm-va", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(8, 1.2 + 0.45 * len(arms)), layout="constrained")
        axes = figure.subplots()
        for offset, measure, label, colour in (
            (-0.18, "average", "ΔAGA", "#0072B2"),
            (0.18, "worst", "ΔWGA", "#D55E00"),
        ):
            values = [gains(cells, arm, measure) for arm in arms]
            axes.barh(
                [n + offset for n in range(len(arms))],
                [mean(v) if v else 0.0 for v in values],
                height=0.34,
                xerr=[stdev(v) if len(v) > 1 else 0.0 for v in values],
                label=label,
                color=colour,
                error_kw={"capsize": 2},
            )
        axes.set_yticks(range(len(arms)), [_shown(arm) for arm in arms])
        axes.invert_yaxis()
        axes.axvline(0, color="#555555", linewidth=0.8)
        axes.set_xlabel("gain over the original model")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, loc="outside upper right", ncols=2)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


_TERMS = ("original", "control", "right reasons", "counterfactual", "both")


def _ordered(header: Mapping[str, Any], results: Sequence[Cell]) -> list[Cell]:
    """The models' cells by seed, term, and source of masks, whatever order they were computed in."""
    sources = ["", *header["sources"]]

    def place(cell: Cell) -> tuple[int, int, int]:
        term, source = cell["term"], cell["source"]
        return (
            cell["seed"],
            _TERMS.index(term) if term in _TERMS else len(_TERMS),
            sources.index(source) if source in sources else len(sources),
        )

    return sorted((cell for cell in results if "arm" in cell), key=place)


def _shown(arm: str) -> str:
    for source, words in (
        ("builtin", "built-in critic"),
        ("oracle-verdicts", "oracle verdicts"),
        ("ground-truth-masks", "true masks (oracle)"),
    ):
        arm = arm.replace(source, words)
    return arm


def _main(cells: Sequence[Cell]) -> str:
    return next(iter(_tests(cells)), "")


def _tests(cells: Sequence[Cell]) -> list[str]:
    return list(cells[0]["accuracy"]) if cells else []


def _groups(cell: Cell) -> Mapping[str, Any]:
    """`GroupAccuracy` on the main test set."""
    groups: Mapping[str, Any] = next(iter(cell["groups"].values()))
    return groups


def _of(cells: Sequence[Cell], arm: str) -> list[Cell]:
    return [cell for cell in cells if cell["arm"] == arm]


def _row(header: Mapping[str, Any], cells: Sequence[Cell], arm: str) -> list[str]:
    own = _of(cells, arm)
    source = own[0]["source"]
    row = [own[0]["term"], "" if own[0]["term"] == "control" else header["sources"].get(source, "")]
    for measure in ("average", "worst"):
        row.append(mean_std([_groups(cell)[measure] for cell in own]))
        row.append("" if arm == "original" else _signed(gains(cells, arm, measure)))
    row.append(mean_std([cell["mu_align"]["mean"] for cell in own if cell["mu_align"] is not None]))
    row.append("" if arm == "original" else f"{mean(cell['seconds'] for cell in own):.0f}")
    return row


def _signed(values: Sequence[float]) -> str:
    text = mean_std(values)
    return text if text.startswith(("-", "–")) else f"+{text}"


def _by_group(cells: Sequence[Cell], arms: Sequence[str]) -> list[str]:
    names = list(_groups(cells[0])["accuracy"]) if cells else []
    rows = [
        [
            _shown(arm),
            *(mean_std([_groups(cell)["accuracy"][name] for cell in _of(cells, arm)]) for name in names),
        ]
        for arm in arms
    ]
    return table(["fine-tuning", *names], rows)


def _verdicts(header: Mapping[str, Any], results: Sequence[Cell]) -> list[str]:
    rows = []
    for source, name in header["sources"].items():
        own = [cell for cell in results if cell.get("verdicts_of") == source]
        if not own:
            continue
        reports = [cell["verdicts"] for cell in own]
        rows.append(
            [
                name,
                *(
                    str(sum(report[key] for report in reports))
                    for key in ("segments", "spurious", "unscored")
                ),
                mean_std([report["quality"]["accuracy"] for report in reports]),
                mean_std([r["quality_either"]["accuracy"] for r in reports if "quality_either" in r]),
                mean_std([report["quality"]["recall"] for report in reports]),
                mean_std([cell["masks"]["iou"] for cell in own]),
            ]
        )
    head = [
        "verdicts of",
        "segments",
        "flagged",
        "unscored",
        "accuracy",
        "accuracy, or beside",
        "recall",
        "IoU",
    ]
    return table(head, rows)


_CRITERIA: Mapping[str, Callable[[Cell], float]] = {
    "what the verdicts say": lambda cell: _number(cell["standing"]["verdicts"], "score"),
    "plain accuracy": lambda cell: float(cell["standing"]["accuracy"]),
    "the worst true group": lambda cell: _number(cell["standing"]["groups"], "worst"),
}


def _number(scores: Mapping[str, float] | None, key: str) -> float:
    return float("-inf") if scores is None else scores[key]


def _choices(cells: Sequence[Cell]) -> list[str]:
    rows = []
    for name, score in _CRITERIA.items():
        chosen = [
            max((cell for cell in cells if cell["seed"] == seed), key=score)
            for seed in sorted({cell["seed"] for cell in cells})
        ]
        values = (mean_std([_groups(cell)[measure] for cell in chosen]) for measure in ("average", "worst"))
        rows.append([name, *values, "; ".join(_shown(cell["arm"]) for cell in chosen)])
    return table(["chosen by", "AGA", "WGA", "chosen, seed by seed"], rows)


def _other_tests(cells: Sequence[Cell], arms: Sequence[str], tests: Sequence[str]) -> list[str]:
    rows = [
        [_shown(arm), *(mean_std([cell["accuracy"][test] for cell in _of(cells, arm)]) for test in tests)]
        for arm in arms
    ]
    return table(["fine-tuning", *tests], rows)


def _every_seed(cells: Sequence[Cell]) -> list[str]:
    rows = []
    for cell in cells:
        standing = cell["standing"]
        rows.append(
            [
                str(cell["seed"]),
                _shown(cell["arm"]),
                *(f"{_groups(cell)[measure]:.3f}" for measure in ("average", "worst")),
                f"{standing['accuracy']:.3f}",
                f"{standing['verdicts']['score']:.3f}" if standing["verdicts"] else "–",
                f"{standing['groups']['worst']:.3f}" if standing["groups"] else "–",
            ]
        )
    head = ["seed", "fine-tuning", "AGA", "WGA", "validation accuracy", "score by verdicts", "validation WGA"]
    return table(head, rows)
