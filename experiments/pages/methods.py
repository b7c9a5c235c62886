"""Methods side by side on each dataset: knee and skin are Fig. 8 and 9."""

from collections.abc import Sequence

from experiments import measures
from experiments.description import Experiment
from experiments.pages.bars import Bar, Block, draw_bars
from experiments.pages.colours import arm_colour
from experiments.pages.kind import Kind
from experiments.pages.numbers import interval, mean_std, probability, signed, table
from experiments.pages.paper import beside, with_paper
from experiments.pages.setups import Arm, Setup
from lvlm_va.evaluate.statistics import Paired

__all__ = ["KIND"]

_TERMS = (
    "*Right reasons* is the paper's gradient penalty; *counterfactual* is ours and uses the same verdicts; "
    "*RRR* is the penalty with ground-truth masks. *Control* is plain fine-tuning: what more epochs alone "
    "do. *Reads*: what a method is told beyond images, their classes and the specifications."
)
_MORE = (
    "Accuracy is the mean over images; training-weighted, the mean over groups weighted by their shares of "
    "the training set. ECE is the expected calibration error. μ_align is told before → after, over the same "
    "seeds. Flips: share of test images whose prediction changes when the planted feature, and nothing "
    "else, is added or removed."
)
_CHANCE = (
    "Differences from the original model, paired by seed: bootstrap interval of their mean (95 %, "
    "percentile; of few seeds too narrow), and the exact two-sided p-value of Wilcoxon's signed-rank test "
    "beside the smallest that so many pairs can give. P-values are not corrected for the number of rows."
)
_GROUPS = "On the main test set; in brackets how many images a group has."
_RIVALS = ("control", "subg", "dfr", "jtt")


def _figure(_: Experiment, every: Sequence[Setup]) -> bytes | None:
    blocks = [_block(setup) for setup in every if len(_measured(setup)) > len(setup.originals)]
    return draw_bars(blocks) if blocks else None


def _sections(about: Experiment, setup: Setup) -> list[str]:
    lines = ["", f"## {setup.title}", "", *setup.about_tests, *_side_by_side(about, setup)]
    if setup.any is None:
        return lines
    lines += beside(about, setup)
    for heading, words, found in (
        ("more measures", _MORE, _more(setup)),
        ("more than chance?", _CHANCE, _chance(setup)),
        ("LVLM-VA less each baseline", "Paired by seed, as above.", _ahead(setup)),
        ("accuracy by group", _GROUPS, _by_group(setup)),
        ("other test sets", "Plain accuracy, the mean over images.", _other_tests(setup)),
    ):
        if found:
            lines += ["", f"### {setup.title}: {heading}", "", words, "", *found]
    return lines


def _short(_: Experiment, setup: Setup) -> list[str]:
    rows = [
        [
            *_named(setup, arm, reads=True),
            *(setup.mean(arm, score.get) for score in setup.scores),
            setup.delta(arm, setup.deciding.get),
            setup.mean(arm, measures.sensitivity),
        ]
        for arm in _measured(setup)
    ]
    scores = [score.name for score in setup.scores]
    head = ["method", "masks by", "reads", "n", *scores, f"Δ{setup.deciding.name}", "sensitivity"]
    return table(head, rows)


def _measured(setup: Setup) -> list[Arm]:
    return [arm for arm in setup.arms if setup.results(arm)]


def _block(setup: Setup) -> Block:
    return Block(
        setup.heading,
        [f"Δ{score.name}" for score in setup.scores],
        [
            Bar(
                setup.label(arm),
                arm_colour(arm),
                [setup.gains(arm, score.get) for score in setup.scores],
                setup.is_oracle(arm),
                setup.sees_groups(arm),
            )
            for arm in _measured(setup)
            if arm.method != "original"
        ],
        setup.seeds,
    )


def _named(setup: Setup, arm: Arm, *, reads: bool = False) -> list[str]:
    """The first cells of a row: who did what, and for how many seeds."""
    told = [setup.reads(arm)] if reads else []
    return [setup.name(arm), arm.masks, *told, str(len(setup.results(arm)))]


def _side_by_side(about: Experiment, setup: Setup) -> list[str]:
    """Failed arms are rows, too."""
    scores = setup.scores
    rows = []
    for arm in setup.arms:
        row = _named(setup, arm, reads=True)
        for score in scores:
            row += [setup.mean(arm, score.get), setup.delta(arm, score.get)]
        row += setup.columns(arm, about.columns)
        rows.append([*row, setup.mean(arm, measures.seconds, 0), setup.troubles(arm)])
    named = [words for score in scores for words in (score.name, f"Δ{score.name}")]
    head = ["method", "masks by", "reads", "n", *named, *about.columns, "seconds", "failed"]
    return table(*with_paper(about, setup, head, rows))


def _more(setup: Setup) -> list[str]:
    rows = []
    for arm in _measured(setup):
        before = mean_std(setup.before(arm, measures.mu_align).values(), len(setup.results(arm)))
        after = setup.mean(arm, measures.mu_align)
        rows.append(
            [
                *_named(setup, arm),
                *(
                    setup.mean(arm, get)
                    for get in (measures.plain_accuracy, measures.training_weighted, measures.ece)
                ),
                after if arm.method == "original" or after == "–" else f"{before} → {after}",
                setup.mean(arm, measures.flips("added")),
                setup.mean(arm, measures.flips("removed")),
            ]
        )
    head = ["method", "masks by", "n", "accuracy", "training-weighted", "ECE", "μ_align"]
    return table([*head, "flips when added", "flips when removed"], rows)


def _chance(setup: Setup) -> list[str]:
    rows = [
        [setup.name(arm), arm.masks, *_told(gain)]
        for arm in _measured(setup)
        if arm.method != "original" and (gain := setup.gain(arm, setup.deciding.get)) is not None
    ]
    head = ["method", "masks by", "pairs", f"Δ{setup.deciding.name}", "95 % interval", "better in", "p"]
    return table([*head, "smallest possible p"], rows) if rows else []


def _ahead(setup: Setup) -> list[str]:
    """Each arm of LVLM-VA less each baseline."""
    rows = []
    for ours in (arm for arm in _measured(setup) if arm.is_ours):
        for other in (arm for arm in _measured(setup) if _is_rival(arm)):
            lead = setup.lead(ours, other, setup.deciding.get)
            if lead is None:
                continue
            row = [f"{setup.name(ours)}, {ours.masks}", setup.name(other), *_told(lead)]
            if setup.groups:
                average = setup.lead(ours, other, setup.scores[0].get)
                row.append(signed(average.differences.values(), lead.test.n) if average else "–")
            rows.append(row)
    name = setup.deciding.name
    head = ["LVLM-VA", "less", "pairs", f"{name}, difference", "95 % interval", "better in", "p"]
    head += ["smallest possible p", *([f"{setup.scores[0].name}, difference"] if setup.groups else [])]
    return table(head, rows) if rows else []


def _is_rival(arm: Arm) -> bool:
    return arm.method in _RIVALS or (arm.is_bound and arm.method == "right reasons")


def _told(pairs: Paired) -> list[str]:
    """Pairs, difference, interval, in how many better, p, smallest p."""
    differences, test = pairs.differences.values(), pairs.test
    return [
        str(test.n),
        signed(differences, test.n),
        interval(pairs.interval),
        f"{sum(difference > 0 for difference in differences)} of {test.n}",
        probability(test.two_sided),
        probability(test.smallest_two_sided),
    ]


def _by_group(setup: Setup) -> list[str]:
    rows = [
        [*_named(setup, arm), *(setup.mean(arm, measures.accuracy_of(name)) for name in setup.groups)]
        for arm in _measured(setup)
    ]
    names = [f"{name} ({setup.group_sizes.get(name, '?')})" for name in setup.groups]
    return table(["method", "masks by", "n", *names], rows) if setup.groups else []


def _other_tests(setup: Setup) -> list[str]:
    """Where groups are not known, every test set has its column in the first table already."""
    others = setup.tests[1:] if setup.groups else []
    rows = [
        [*_named(setup, arm), *(setup.mean(arm, measures.accuracy_on(test)) for test in others)]
        for arm in _measured(setup)
    ]
    return table(["method", "masks by", "n", *others], rows) if others else []


KIND = Kind(
    lambda _: _TERMS, lambda _: "gains over the original model, by method", _figure, _sections, _short
)
