"""Rates, intervals and agreement against published numbers, closed forms and the definition."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvlm_va.errors import ConfigError, DataError
from lvlm_va.evaluate.statistics import wilson
from lvlm_va.study.agreement import krippendorff
from lvlm_va.study.analyse import analyse_study
from lvlm_va.study.intervals import cluster_bootstrap
from lvlm_va.study.key import Asked, Study, StudyRun

# ---- Agreement between participants ------------------------------------------------------------------


def by_unit(*coders: str) -> list[list[str]]:
    """Rows of coders with "." for missing, as in the literature, to the values by unit."""
    return [[v for v in unit if v != "."] for unit in zip(*(c.split() for c in coders), strict=True)]


PUBLISHED = [
    # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), A: binary, two observers.
    (("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"), 0.095),
    # B: nominal, two observers.
    (("a a b b d c c c e d d a", "b a b b b c c c e d d d"), 0.692),
    # C: nominal, four observers, missing values.
    (
        (
            "1 2 3 3 2 1 4 1 2 . . .",
            "1 2 3 3 2 2 4 1 2 5 . 3",
            ". 3 3 3 2 3 4 2 2 5 1 .",
            "1 2 3 3 2 4 4 1 2 5 1 .",
        ),
        0.743,
    ),
    # The example of Wikipedia, Krippendorff's alpha: three coders, missing values.
    (
        (
            ". . . . . 3 4 1 2 1 1 3 3 . 3",
            "1 . 2 1 3 3 4 3 . . . . . . .",
            ". . 2 1 3 4 4 . 2 1 1 3 3 . 4",
        ),
        0.691,
    ),
]


@pytest.mark.parametrize(("coders", "alpha"), PUBLISHED)
def test_alpha_of_published_examples(coders, alpha):
    assert krippendorff(by_unit(*coders)).alpha == pytest.approx(alpha, abs=5e-4)


def test_all_agree():
    found = krippendorff([["a", "a", "a"], ["b", "b"], ["a", "a"]])
    assert (found.alpha, found.observed, found.questions, found.answers) == (1.0, 1.0, 3, 7)


def test_alpha_is_not_defined_where_chance_would_agree_as_well():
    assert krippendorff([["a", "a"], ["a", "a", "a"]]).alpha is None
    assert krippendorff([["a", "a"], ["a", "a", "a"]]).observed == 1.0
    assert krippendorff([["a"], [], ["b"]]).observed is None


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=8))
def test_alpha_is_its_definition_pair_by_pair(units):
    found = krippendorff(units)
    paired = [unit for unit in units if len(unit) > 1]
    values = [v for unit in paired for v in unit]
    n = len(values)
    assert (found.questions, found.answers) == (len(paired), n)
    if len(set(values)) < 2:
        assert found.alpha is None
        return

    def different(group):
        return sum(a != b for i, a in enumerate(group) for j, b in enumerate(group) if i != j)

    within = sum(different(unit) / (len(unit) - 1) for unit in paired) / n
    overall = different(values) / (n * (n - 1))
    assert found.observed == pytest.approx(1 - within)
    assert found.alpha == pytest.approx(1 - within / overall)


# ---- Intervals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agreeing", "answers", "low", "high"),
    # Newcombe, Two-sided confidence intervals for the single proportion (1998), Table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_of_published_examples(agreeing, answers, low, high):
    assert wilson(agreeing, answers) == pytest.approx((low, high), abs=5e-5)


def test_participants_who_are_alike_leave_no_doubt():
    assert cluster_bootstrap([3, 3, 6], [4, 4, 8]) == pytest.approx((0.75, 0.75))


def test_two_opposite_participants_leave_every_doubt():
    """Of two, a quarter of the draws has the one twice, and a quarter the other."""
    assert cluster_bootstrap([0, 10], [10, 10]) == (0.0, 1.0)


def test_one_participant_has_no_interval_over_participants():
    assert cluster_bootstrap([3, 0], [4, 0]) is None


def test_the_bootstrap_is_the_normal_interval_of_many_participants():
    agreeing = [n % 11 for n in range(110)]
    low, high = cluster_bootstrap(agreeing, [10] * 110)
    # The rates 0, 0.1 … 1 equally often: mean 1/2, variance 0.1.
    half = 1.96 * (0.1 / 110) ** 0.5
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.006)


# ---- A study whose numbers can be counted by hand ------------------------------------------------------


def study() -> Study:
    """Two questions of every kind; of the segments one is condemned and one accepted."""
    segment = {"run": 0, "class_name": "seven", "reason": "a | b"}
    pair = {"run": 1, "class_name": "seven"}
    return Study(
        fingerprint="f" * 24,
        seed=0,
        runs=(
            StudyRun(path="runs/a", project="a", critic="“builtin” (measures; not an LVLM)"),
            StudyRun(path="runs/b", project="b", critic="“openai:gpt-4o”"),
        ),
        questions=(
            Asked(id="r1", kind="relevance", image_id="p", segment=1, spurious=True, **segment),
            Asked(id="r2", kind="relevance", image_id="q", segment=2, spurious=False, **segment),
            Asked(id="c1", kind="reasoning", image_id="p", segment=2, spurious=True, **segment),
            Asked(id="c2", kind="reasoning", image_id="q", segment=1, spurious=False, **segment),
            Asked(id="e1", kind="explanations", image_id="s", tokens={"t1": "before", "t2": "after"}, **pair),
            Asked(id="e2", kind="explanations", image_id="t", tokens={"t3": "before", "t4": "after"}, **pair),
        ),
    )


ANSWERS = {
    # agrees with everything, always on the left
    "A": ("expert", ["spurious", "relevant", "agree", "agree", "t2", "t4"], ["t2 t1", "t4 t3"]),
    # agrees with half, once undecided of every kind
    "B": (
        "other",
        ["spurious", "cannot tell", "disagree", "agree", "t1", "no difference"],
        ["t2 t1", "t3 t4"],
    ),
    # leaves half open
    "C": ("other", ["relevant", None, "agree", None, "t2", None], ["t1 t2", "t3 t4"]),
}


def written(folder: Path, code: str, /, **changes) -> Path:
    role, values, sides = ANSWERS[code]
    entries = [
        {"question": q.id, "answer": value, "seconds": 2.0 + n, "comment": ""}
        for n, (q, value) in enumerate(zip(study().questions, values, strict=True))
    ]
    for entry, pair in zip(entries[4:], sides, strict=True):
        entry["sides"] = pair.split()
    entries[0]["comment"] = "<b>| unsure"
    content = {"format": 1, "study": "f" * 24, "code": code, "role": role, "answers": entries} | changes
    path = folder / f"answers-{code}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def key(tmp_path) -> Path:
    path = tmp_path / "study.json"
    path.write_text(study().model_dump_json(), encoding="utf-8")
    return path


@pytest.fixture
def findings(key, tmp_path):
    return analyse_study(key, [written(tmp_path, code) for code in "CAB"]).findings


def test_the_three_rates(findings):
    rates = findings["rates"]
    counted = {
        kind: (r["agreeing"], r["answers"], r["decided"], r["missing"], r["participants"])
        for kind, r in rates.items()
    }
    assert counted == {
        "relevance": (3, 5, 4, 1, 3),
        "reasoning": (4, 5, 5, 1, 3),
        "explanations": (3, 5, 4, 1, 3),
    }
    assert rates["relevance"]["rate"] == 3 / 5
    assert rates["relevance"]["rate_decided"] == 3 / 4
    assert rates["relevance"]["wilson"] == wilson(3, 5)
    assert rates["relevance"]["over_participants"] == cluster_bootstrap([2, 1, 0], [2, 2, 1])
    assert rates["explanations"]["values"] == {"after": 3, "before": 1, "no difference": 1}


def test_answers_are_split_by_role_verdict_and_run(findings):
    def counts(rates):
        return {kind: (r["agreeing"], r["answers"]) for kind, r in rates.items()}

    assert counts(findings["by_role"]["expert"]) == {
        "relevance": (2, 2),
        "reasoning": (2, 2),
        "explanations": (2, 2),
    }
    assert counts(findings["by_role"]["other"]) == {
        "relevance": (1, 3),
        "reasoning": (2, 3),
        "explanations": (1, 3),
    }
    assert counts(findings["by_verdict"]["spurious"]) == {"relevance": (2, 3), "reasoning": (2, 3)}
    assert counts(findings["by_verdict"]["valid"]) == {"relevance": (1, 2), "reasoning": (2, 2)}
    assert counts(findings["by_run"][1]) == {"explanations": (3, 5)}


def test_every_question_and_every_participant(findings):
    assert [(p["code"], p["answers"], p["missing"]) for p in findings["participants"]] == [
        ("A", 6, 0),
        ("B", 6, 0),
        ("C", 3, 3),
    ]
    assert findings["participants"][0]["rates"] == {"relevance": 1, "reasoning": 1, "explanations": 1}
    assert findings["participants"][0]["median_seconds"] == 4.5
    question = findings["questions"][1]
    assert (question["id"], question["agreeing"], question["answers"], question["missing"]) == ("r2", 1, 2, 1)
    assert question["values"] == {"cannot tell": 1, "relevant": 1}


def test_between_participants_undecided_is_missing_and_no_difference_an_answer(findings):
    between = findings["between_participants"]
    spurious, relevant = "spurious", "relevant"
    expected = krippendorff([[spurious, spurious, relevant], [relevant]])
    assert between["relevance"]["alpha"] == expected.alpha
    assert between["relevance"]["answers"] == 3
    pair = krippendorff([["after", "before", "after"], ["after", "no difference"]])
    assert between["explanations"]["alpha"] == pair.alpha


def test_sides_are_counted_but_do_not_count(findings):
    # Left stood: A after, after; B after (chose before), nothing; C before (chose after).
    assert findings["sides"] == {"left": 2, "decided": 4}


def test_the_page_of_results_says_what_is_missing_and_escapes_what_people_wrote(key, tmp_path):
    done = analyse_study(key, [written(tmp_path, code) for code in "ABC"])
    text = done.markdown.read_text(encoding="utf-8")
    assert text == done.text
    assert "3 of 18 answers are missing" in text
    assert "| 60.0\u202f% |" in text
    assert "- r1, A: &lt;b&gt;\\| unsure" in text
    assert "<b>" not in text
    widths = {}
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        widths |= {block: {row.replace("\\|", "").count("|") for row in rows}} if rows else {}
    assert len(widths) >= 7
    assert all(len(width) == 1 for width in widths.values())
    assert json.loads(done.json.read_text(encoding="utf-8")) == json.loads(json.dumps(done.findings))


def test_one_participant_alone(key, tmp_path):
    done = analyse_study(key, [written(tmp_path, "A")], tmp_path / "elsewhere")
    assert done.findings["rates"]["relevance"]["over_participants"] is None
    assert done.findings["between_participants"]["relevance"]["alpha"] is None
    assert "Every question was answered by everyone." in done.text
    assert done.markdown.parent == tmp_path / "elsewhere"


def test_nobody_answered_anything(key, tmp_path):
    found = analyse_study(key, [written(tmp_path, "A", answers=[])]).findings
    assert found["rates"]["relevance"]["rate"] is None
    assert found["participants"][0]["missing"] == 6


# ---- What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"study": "0" * 24}, "answers another study"),
        ({"format": 2}, r"is not a file of answers \(format"),
        ({"code": "me, myself"}, r"is not a file of answers \(code"),
        ({"age": 42}, r"is not a file of answers \(age"),
        ({"answers": [{"question": "r9", "answer": "relevant", "seconds": 1}]}, "'r9' is not part of"),
        ({"answers": 2 * [{"question": "r1", "answer": "relevant", "seconds": 1}]}, "answered twice"),
        ({"answers": [{"question": "r1", "answer": "left", "seconds": 1}]}, "which was not offered"),
        ({"answers": [{"question": "e1", "answer": "t3", "seconds": 1}]}, "which was not offered"),
        ({"answers": [{"question": "e1", "answer": "t1", "seconds": 1, "sides": ["t1", "t3"]}]}, "images"),
        ({"answers": [{"question": "r1", "answer": "relevant", "seconds": -1}]}, "seconds"),
    ],
)
def test_answers_that_cannot_be_counted(key, tmp_path, changes, told):
    with pytest.raises(DataError, match=told) as raised:
        analyse_study(key, [written(tmp_path, "A", **changes)])
    assert "answers-A.json" in str(raised.value)
    assert not (tmp_path / "analysis.json").exists()


def test_a_participant_twice(key, tmp_path):
    again = tmp_path / "answers-A (1).json"
    again.write_bytes(written(tmp_path, "A").read_bytes())
    with pytest.raises(DataError, match=r"participant 'A' is already in .*answers-A\.json"):
        analyse_study(key, [tmp_path / "answers-A.json", again])


@pytest.mark.parametrize("text", ["{", "[1, 2", "\xff", "null", "[]", '{"seconds": NaN}'])
def test_broken_files(key, tmp_path, text):
    broken = tmp_path / "answers-B.json"
    broken.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"answers-B\.json: (cannot be read|is not a file of answers)"):
        analyse_study(key, [broken])
    key.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"study\.json: (cannot be read|is not the key of a study)"):
        analyse_study(key, [broken])


def test_missing_files(key, tmp_path):
    with pytest.raises(DataError, match="no such file of answers"):
        analyse_study(key, [tmp_path / "none.json"])
    with pytest.raises(DataError, match="no such study"):
        analyse_study(tmp_path / "none.json", [tmp_path / "none.json"])
    with pytest.raises(ConfigError, match="at least one file"):
        analyse_study(key, [])
