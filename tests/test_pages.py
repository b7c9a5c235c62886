"""Pages of results: the numbers of made-up trials, by hand; what failed and what is missing; the figures."""

import re
from statistics import mean, stdev
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import wilcoxon

from experiments import pages
from experiments.pages.numbers import mean_std, signed, table
from experiments.pages.setups import setups
from result_lines import about, failed, judged, measured, results, ungrouped

SVG = "{http://www.w3.org/2000/svg}"


def rows(text, heading):
    """The first table after a line of the page, each row a dictionary."""
    lines = text[text.index(f"{heading}\n") :].splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("|"))
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    head, _, *body = found
    return [dict(zip(head, row, strict=True)) for row in body]


def words(svg):
    """All texts of a figure."""
    return [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def render(experiment, lines):
    return pages.render(experiment, results(lines))


def headline(experiment, lines):
    return pages.headline(experiment, results(lines))


def original(worst=(0.5, 0.6, 0.7), **where):
    return [measured("original", seed=seed, worst=value, **where) for seed, value in enumerate(worst)]


# Numbers


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_mean_and_standard_deviation(values):
    assert mean_std(values) == f"{mean(values):.3f} ± {stdev(values):.3f} (n = {len(values)})"
    assert mean_std(values, len(values)) == f"{mean(values):.3f} ± {stdev(values):.3f}"
    assert mean_std(values, len(values) + 1).endswith(f"(n = {len(values)})")


def test_one_value_has_no_deviation_and_none_is_a_dash():
    assert mean_std([0.5]) == "0.500 (n = 1)"
    assert mean_std([]) == "–"
    assert (signed([0.5], 1), signed([-0.5], 1), signed([])) == ("+0.500", "-0.500", "–")


def test_a_table_takes_any_reason_and_leaves_out_what_no_row_says():
    assert table(["a", "b", "c"], [["x|y\nz", "", "1"], ["", "–", ""]]) == [
        "| a | c |",
        "| --- | --- |",
        "| x\\|y z | 1 |",
        "|  |  |",
    ]


# Methods


def test_means_and_gains_by_hand():
    ours = [
        measured("counterfactual", seed=seed, source="builtin", worst=worst, average=0.95)
        for seed, worst in ((0, 0.6), (1, 0.8), (2, 1.0))
    ]
    text, files = render(about("terms", "methods"), [*ours, *original()])
    before, after = rows(text, "## Knee, reduced size")
    assert before["method"] == "original model"
    assert before["WGA"] == "0.600 ± 0.100"
    assert after["n"] == "3"
    assert after["masks by"] == "built-in critic"
    assert after["WGA"] == "0.800 ± 0.200"
    assert after["ΔWGA"] == "+0.200 ± 0.100"
    assert after["ΔAGA"] == "+0.050 ± 0.000"
    more = rows(text, "### Knee, reduced size: more measures")[1]
    assert more["ECE"] == "0.125 ± 0.000"
    assert more["μ_align"] == "0.750 ± 0.000 → 0.750 ± 0.000"
    assert more["flips when added"] == "0.375 ± 0.000"
    assert "flips when removed" not in more
    assert rows(text, "### Knee, reduced size: accuracy by group")[1]["with tag (30)"] == "0.800 ± 0.200"
    assert {"+0.200", "+0.050"} <= set(words(files["terms.svg"]))


def test_gains_are_over_the_seeds_that_both_have():
    late = [measured("jtt", seed=seed, worst=worst) for seed, worst in ((1, 0.8), (2, 0.8), (5, 0.1))]
    text, _ = render(about("baselines", "methods"), [*late, *original()])
    row = rows(text, "## Knee, reduced size")[1]
    assert row["n"] == "3"
    assert row["WGA"] == f"{1.7 / 3:.3f} ± {stdev((0.8, 0.8, 0.1)):.3f}"
    assert row["ΔWGA"] == f"+0.150 ± {stdev((0.2, 0.1)):.3f} (n = 2)"
    assert rows(text, "### Knee, reduced size: more than chance?")[0]["pairs"] == "2"


def test_a_gain_is_over_the_very_model_that_was_changed():
    (before,) = original((0.5,))
    carries = {"original": {"weights": "of another training", "measures": before["measures"]}}
    carried = measured("control", seed=0, worst=0.8, record=carries)
    (setup,) = setups(results([measured("original", seed=0, worst=0.7), carried]))
    (control,) = (arm for arm in setup.arms if arm.method == "control")
    assert setup.gains(control, setup.deciding.get) == [pytest.approx(0.3)], "0.8 less 0.5, not less 0.7"


def test_the_original_model_of_a_cell_has_no_setting_that_the_cell_lacks():
    lines = [
        measured("original", seed=0, worst=0.1),
        measured("original", seed=0, worst=0.2, setting={"data.size": 64}),
        measured("original", seed=0, worst=0.3, setting={"data.size": 128}),
        measured("control", seed=0, worst=0.9, setting={"data.size": 64, "align.epochs": 1}),
        measured("control", seed=0, worst=0.9, setting={"align.epochs": 1}),
    ]
    (setup,) = setups(results(lines))
    controls = [arm for arm in setup.arms if arm.method == "control"]
    gains = {arm.settings: setup.gains(arm, setup.deciding.get) for arm in controls}
    assert gains == {
        "align.epochs = 1, data.size = 64": [pytest.approx(0.7)],
        "align.epochs = 1": [pytest.approx(0.8)],
    }
    assert setup.name(controls[0]).endswith("align.epochs = 1")


def test_chance_is_the_exact_test_beside_its_smallest_p():
    before, after = (0.3, 0.32, 0.35, 0.41, 0.5), (0.5, 0.31, 0.45, 0.44, 0.9)
    ours = [
        measured("right reasons", source="oracle-verdicts", seed=seed, worst=worst)
        for seed, worst in enumerate(after)
    ]
    text, _ = render(about("terms", "methods"), [*original(before), *ours])
    (row,) = rows(text, "### Knee, reduced size: more than chance?")
    expected = wilcoxon([a - b for a, b in zip(after, before, strict=True)], method="exact").pvalue
    assert row["p"] == f"{expected:.4f}"
    assert row["smallest possible p"] == "0.0625"
    assert row["better in"] == "4 of 5"


def test_ours_less_each_baseline():
    lines = [
        *original(),
        *(measured("subg", seed=seed, worst=0.7, average=0.8) for seed in range(3)),
        *(measured("both", source="builtin", seed=seed, worst=0.8) for seed in range(3)),
        *(measured("right reasons", source="ground-truth-masks", seed=s, worst=0.9) for s in range(3)),
    ]
    text, _ = render(about("baselines", "methods"), lines)
    found = {row["less"]: row for row in rows(text, "### Knee, reduced size: LVLM-VA less each baseline")}
    assert list(found) == ["RRR (right reasons)", "SUBG"]
    assert found["SUBG"]["WGA, difference"] == "+0.100 ± 0.000"
    assert found["SUBG"]["AGA, difference"] == "+0.100 ± 0.000"
    assert found["RRR (right reasons)"]["WGA, difference"] == "-0.100 ± 0.000"
    reads = {row["method"]: row["reads"] for row in rows(text, "## Knee, reduced size")}
    assert reads["SUBG"] == "group labels of training"
    assert reads["RRR (right reasons)"].endswith("(oracle)")
    assert reads["LVLM-VA, both terms"] == ""


def test_a_failed_cell_is_a_row_with_its_reason():
    lines = [
        *original(),
        measured("dfr", seed=0, worst=0.7),
        failed("dfr", "no image of | a group", seed=2),
        failed("jtt", "the error set is empty", seed=0),
        failed("jtt", "the error set is empty", seed=1),
    ]
    text, _ = render(about("baselines", "methods"), lines)
    found = {row["method"]: row for row in rows(text, "## Knee, reduced size")}
    assert (found["DFR"]["n"], found["DFR"]["failed"]) == ("1", "failed: seed 2")
    assert (found["JTT"]["n"], found["JTT"]["WGA"]) == ("0", "–")
    assert found["JTT"]["failed"] == "failed: seeds 0, 1"
    reasons = {row["trial"]: row["reason"] for row in rows(text, "## Failed trials")}
    assert reasons["knee reduced, seed 2, dfr"] == "no image of \\| a group"
    assert len(reasons) == 3


def test_without_groups_plain_accuracy_stands_for_them():
    lines = [
        ungrouped("original", seed=0, accuracy=0.5, clean=0.25),
        ungrouped("counterfactual", source="builtin", seed=0, accuracy=0.75, clean=0.875),
    ]
    text, files = render(about("terms", "methods"), lines)
    assert "plain accuracy, the mean over images, stands for AGA and WGA" in text
    after = rows(text, "## DecoyMNIST")[1]
    assert after["Δaccuracy, DecoyMNIST test"] == "+0.250"
    assert after["Δaccuracy, clean MNIST test"] == "+0.625"
    assert "+0.625" in words(files["terms.svg"])


def test_other_test_sets_have_their_table():
    more = {"accuracy": {"knee test": 0.9, "knee elsewhere": 0.125}}
    text, _ = render(about("terms", "methods"), [measured("original", seed=0, worst=0.5, more=more)])
    (row,) = rows(text, "### Knee, reduced size: other test sets")
    assert row["knee elsewhere"] == "0.125"


def test_sizes_are_said_in_every_title():
    reduced = measured("original", seed=0, worst=0.5)
    full = measured("original", seed=0, worst=0.5, dataset="skin", size="full")
    quick = measured("original", seed=0, worst=0.5, size="quick")
    page = about("terms", "methods")
    assert render(page, [reduced])[0].startswith("# Title of terms, reduced size\n")
    assert render(page, [full])[0].startswith("# Title of terms\n")
    assert render(page, [reduced, full])[0].startswith("# Title of terms (Knee, reduced size; Skin)\n")
    assert "numbers mean nothing" in render(page, [quick])[0]
    assert "Knee, reduced size: data.size=112" in render(page, [reduced])[0]
    for text in (render(page, [reduced])[0], "\n".join(headline(page, [reduced]))):
        for line in text.splitlines():
            if line.startswith(("#", "**Knee")):
                assert "reduced size" in line


# Curves


def swept(**more):
    lines = [*original()]
    for seed in range(3):
        lines.append(measured("counterfactual", source="ground-truth-masks", seed=seed, worst=0.9))
        for J in (12, 2, 5):
            at = {"seed": seed, "setting": {"explain.segments": J}, "verdicts": judged(0.75, 0.5), **more}
            lines.append(measured("counterfactual", source="builtin", worst=0.5 + J / 100, **at))
    return about("clusters", "curve", varies="explain.segments", axis="J"), lines


def test_a_curve_ascends_beside_its_bounds():
    text, files = render(*swept())
    found = rows(text, "## Knee, reduced size: every value")
    assert [row["J"] for row in found] == ["–", "–", "2", "5", "12"]
    assert [row["WGA"] for row in found][2:] == ["0.520 ± 0.000", "0.550 ± 0.000", "0.620 ± 0.000"]
    assert found[2]["ΔWGA"] == "-0.080 ± 0.100"
    assert found[2]["verdict accuracy"] == "0.750 ± 0.000"
    told = words(files["clusters.svg"])
    assert {"original model", "counterfactual, ground-truth masks (oracle)", "J", "12"} <= set(told)
    short = "\n".join(headline(*swept()))
    assert "original model: 0.600 ± 0.100 (n = 3)" in short
    assert [row["J"] for row in rows(short, "**Knee, reduced size**")] == ["2", "5", "12"]


def test_the_best_lambda_is_chosen_for_each_seed_and_of_equals_the_smaller():
    lines = [ungrouped("original", seed=seed, accuracy=0.5, clean=0.5, validation=None) for seed in (0, 1)]
    for seed, lam, validation, accuracy in (
        (0, 0.01, 0.8, 0.1),
        (0, 0.1, 0.9, 0.2),
        (1, 1, 0.9, 0.7),
        (1, 0.1, 0.9, 0.4),
        (1, 10, 0.7, 1.0),
    ):
        lines.append(
            ungrouped(
                "right reasons",
                source="builtin",
                seed=seed,
                accuracy=accuracy,
                clean=0.5,
                validation=validation,
                setting={"align.lambda": [lam]},
            )
        )
    page = about("fig5", "curve", varies="align.lambda", axis="λ")
    text, files = render(page, lines)
    best = rows(text, "## DecoyMNIST: at the λ that the validation set chooses")[1]
    assert best["λ chosen"] == "0.1, 0.1"
    assert best["accuracy, DecoyMNIST test"] == f"0.300 ± {stdev((0.2, 0.4)):.3f}"
    assert best in rows("\n".join(headline(page, lines)), "**DecoyMNIST**")
    assert "μ_align" in words(files["fig5.svg"])


def test_words_are_bars_in_the_order_of_the_file():
    lines = [*original()]
    for share, sampling in ((0.5, "lowest"), (0.25, "balanced")):
        lines += [
            measured(
                "counterfactual",
                source="oracle-verdicts",
                seed=seed,
                worst=0.9,
                setting={"explain.sampling": sampling},
                record={"selection_spurious_share": share},
            )
            for seed in range(3)
        ]
    values = ["lowest", "balanced", "random"]
    page = about("sampling", "curve", varies="explain.sampling", values=values, axis="sampling")
    text, files = render(page, lines)
    found = rows(text, "## Knee, reduced size: every value")
    assert [row["sampling"] for row in found] == ["–", "lowest", "balanced"]
    assert found[1]["share with the planted feature"] == "0.500 ± 0.000"
    told = words(files["sampling.svg"])
    assert told.index("lowest") < told.index("balanced")
    assert {"0.500", "0.250", "+0.300"} <= set(told)


# Critics and segmentations


def test_critics_side_by_side():
    lines = [*original()]
    for seed in range(3):
        lines += [
            measured(
                method,
                source=source,
                seed=seed,
                worst=worst,
                verdicts=judged(quality, 0.5),
                usd=usd if usd is None else usd + seed,
            )
            for method, source, worst, quality, usd in (
                ("counterfactual", "oracle-verdicts", 0.9, 1.0, None),
                ("counterfactual", "openai:gpt-4o", 0.8, 0.75, 4.0),
                ("right reasons", "builtin", 0.7, 0.5, 0.0),
                ("counterfactual", "builtin", 0.8, 0.5, 0.0),
            )
        ]
    lines.append(failed("counterfactual", "no key", source="openai:other", seed=0))
    text, files = render(about("table1", "judged"), lines)
    found = rows(text, "## Knee, reduced size")
    names = [row["verdicts or masks by"] for row in found]
    assert names == ["built-in critic", "openai:gpt-4o", "openai:other", "oracle verdicts"]
    builtin, gpt, other, oracle = found
    assert gpt["USD"] == "5.00 ± 1.00"
    assert oracle["USD"] == "–"
    assert (builtin["segments"], builtin["condemned"], builtin["unscored"]) == ("30", "12", "3")
    assert builtin["verdict accuracy"] == "0.500 ± 0.000"
    assert builtin["ΔWGA, right reasons"] == "+0.100 ± 0.100"
    assert builtin["ΔWGA, counterfactual"] == "+0.200 ± 0.100"
    assert gpt["ΔWGA, right reasons"] == "–"
    assert other["failed"] == "counterfactual failed: seed 0"
    assert {"0.750", "+0.300"} <= set(words(files["table1.svg"]))


def test_segmentations_side_by_side():
    lines = [*original()]
    for name, iou in (("sam", 0.25), ("ppeps-wgm", 0.75)):
        lines += [
            measured(
                "counterfactual",
                source=source,
                seed=seed,
                worst=0.9,
                setting={"explain.segmentation": name},
                verdicts=judged(1.0, 1.0),
                record={"masks": {"iou": iou}, "segment_seconds": 20.0},
            )
            for source in ("oracle-verdicts", "builtin")
            for seed in range(3)
        ]
    values = ["ppeps-wgm", "sam", "slic"]
    page = about("table2", "judged", varies="explain.segmentation", values=values)
    text, files = render(page, lines)
    found = rows(text, "## Knee, reduced size")
    assert [row["segments by"] for row in found] == ["PPEPS-WGM", "PPEPS-WGM", "SAM", "SAM"]
    assert [row["IoU"] for row in found] == ["0.750 ± 0.000"] * 2 + ["0.250 ± 0.000"] * 2
    assert found[0]["seconds to segment"] == "20 ± 0"
    assert found[0]["ΔWGA, counterfactual"] == "+0.300 ± 0.100"
    assert "SAM, oracle verdicts" in words(files["table2.svg"])


# Whatever is there

PAGES = {
    "methods": about("x", "methods"),
    "curve": about("x", "curve", varies="explain.segments", axis="J"),
    "critics": about("x", "judged"),
    "segmentations": about("x", "judged", varies="explain.segments"),
}
HOUSE = swept()[1]
SUBSETS = {
    "nothing": [],
    "the original alone": original(),
    "no original": [line for line in HOUSE if line["method"] != "original"],
    "one seed": [line for line in HOUSE if line["seed"] == 0],
    "bounds alone": [line for line in HOUSE if not line["setting"]],
    "failures alone": [failed("jtt", "why not", seed=0), failed("both", "why so", source="builtin", seed=1)],
    "both data sets": [*HOUSE, ungrouped("original", seed=0, accuracy=0.5, clean=0.5)],
    "an unknown method": [*original(), measured("sorcery", seed=0, worst=0.5)],
}


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("subset", SUBSETS)
def test_every_page_takes_every_subset(kind, subset):
    lines = SUBSETS[subset]
    text, files = render(PAGES[kind], lines)
    headline(PAGES[kind], lines)
    assert set(files) <= {"x.svg"}
    for name, svg in files.items():
        assert f"]({name})" in text
        assert ElementTree.fromstring(svg).tag == f"{SVG}svg"
    for line in lines:
        if "failed" in line:
            assert {"trial": line["trial"], "reason": line["failed"]} in rows(text, "## Failed trials")


@pytest.mark.parametrize("kind", PAGES)
def test_the_same_cells_give_the_same_bytes(kind):
    assert render(PAGES[kind], HOUSE) == render(PAGES[kind], HOUSE[::-1])


def test_an_unknown_page_or_column_is_refused():
    with pytest.raises(ValidationError, match="curve"):
        about("x", "curves")
    with pytest.raises(ValidationError, match="did you mean 'validation'"):
        about("x", "curve", columns=["validatoin"])


@pytest.mark.parametrize(("kind", "heading"), [("methods", ""), ("curve", ": every value")])
def test_an_experiment_names_further_columns(kind, heading):
    lines = [
        measured(
            "right reasons",
            source="builtin",
            seed=seed,
            worst=0.5,
            more={"lambda": 0.25},
            record={"per_class": [3, 0, 2], "questions": {"calls": 10 + seed, "usd": 0.5, "same": None}},
            setting={"critique.fraction": 0.5},
        )
        for seed in range(2)
    ]
    page = about("x", kind, varies="critique.fraction", columns=["λ", "classes", "calls", "USD", "same"])
    (row,) = rows(render(page, lines)[0], f"## Knee, reduced size{heading}")
    assert (row["λ"], row["classes"], row["USD"]) == ("0.250 ± 0.000", "2 ± 0", "0.50 ± 0.00")
    assert row["calls"] == "10 ± 1"
    assert "same" not in row, "what no row says is left out"


def test_a_page_says_what_measured_it_and_which_fingerprints_were_carried_over():
    lines = [measured("original", seed=seed, worst=0.5) for seed in range(3)]
    lines[0]["carried_over"] = lines[1]["carried_over"] = "keys were renamed"
    lines.append(measured("control", seed=0, worst=0.5, source="") | {"versions": {"lvlm_va": "1"}})
    text, _ = render(about("terms", "methods"), lines)
    assert "Measured by: lvlm_va 0 on a machine; lvlm_va 1 on a machine" in text
    assert "Carried over: keys were renamed (2 trials)" in text
    critic = measured("both", seed=0, worst=0.5, source="openai:gpt-4o")
    text, _ = render(about("table1", "judged"), [critic])
    assert "`python -m experiments table1 --critic=openai:gpt-4o`" in text
