"""The sentences: true whichever way a run went."""

import copy
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.reliance import summarise_reliance
from lvlm_va.report.story import relied_on, tell_story
from lvlm_va.report.words import count, decimal, duration, percent, points, quote, usd
from report_run import CLASSES, encode, metrics, record

GAP = "\u202f"
shares = st.floats(0, 1)


def outcome(before: float, after: float, mu_before: float | None = None, mu_after: float | None = None):
    """Metrics of a run with these accuracies and μ_align."""
    content = copy.deepcopy(metrics())
    for name, accuracy, mu in (("original", before, mu_before), ("aligned", after, mu_after)):
        model = content["models"][name]
        model["accuracy"] = dict.fromkeys(content["data"]["tests"], accuracy)
        model["mu_align"] = None if mu is None else {"mean": mu, "std": 0.0, "n": 1, "undefined": 0}
    content["verdicts"] |= {"critic": "builtin", "critic_kind": "measurement"}
    return content


def record_of(*numbers):
    return record(outcome(*numbers))


def test_a_story_of_success():
    assert tell_story(record_of(0.576, 0.971, 0.79, 0.98)) == (
        "The critic “builtin” (measures; not an LVLM) condemned 2 of 6 segments; fine-tuned not to rely on "
        f"them, the classifier gets 97.1{GAP}% of the images of decoy $test$ right instead of 57.6{GAP}%, "
        f"and 2.0{GAP}% of its explanation lies on the planted feature (a grey patch) instead of 21.0{GAP}%."
    )


@pytest.mark.parametrize(
    ("numbers", "says", "omits"),
    [
        ((0.9, 0.5, 0.7, 0.6), "so the alignment did harm, and 40.0", "as before"),
        ((0.9, 0.5, 0.7, 0.9), "so the alignment did harm, but 10.0", "as before"),
        ((0.9, 0.903, 0.7, 0.7), "right as before (90.3", "harm"),
        ((0.9, 0.903, 0.7, 0.7), "and 30.0\u202f% of its explanation still lies", "instead"),
        ((0.5, 0.9, 0.9, 0.7), "instead of 50.0\u202f%, but 30.0", "harm"),
        ((0.5, 0.9), "instead of 50.0\u202f%.", "explanation"),
    ],
)
def test_a_story_of_another_kind(numbers, says, omits):
    story = tell_story(record_of(*numbers))
    assert says in story
    assert omits not in story


@given(shares, shares, st.none() | shares, st.none() | shares)
def test_every_story_is_one_honest_sentence(before, after, mu_before, mu_after):
    story = tell_story(record_of(before, after, mu_before, mu_after))
    assert re.search(r"[a-z%)]\.$", story)
    assert not re.search(r"\.\s", story)
    assert "nan" not in story
    assert "None" not in story
    assert ("did harm" in story) == (after - before <= -0.005)
    assert percent(after) in story
    assert percent(before) in story


@pytest.mark.parametrize(
    ("worst", "mean", "says", "harm"),
    [
        (
            (0.4, 0.6),
            (0.8, 0.85),
            "gets 60.0 % of the worst group of decoy $test$ right instead of 40.0 %, and 85.0",
            False,
        ),
        (
            (0.4, 0.6),
            (0.8, 0.75),
            "instead of 40.0 %, but 75.0 % on average over groups instead of 80.0 %",
            False,
        ),
        ((0.4, 0.401), (0.8, 0.7), "right as before (40.1 %, was 40.0 %), and 70.0", True),
        ((0.4, 0.3), (0.8, 0.9), "instead of 40.0 %, but 90.0", True),
    ],
)
def test_a_story_of_groups(worst, mean, says, harm):
    content = outcome(0.9, 0.9)
    for model, w, m in zip(("original", "aligned"), worst, mean, strict=True):
        known = {"accuracy": {"a": w}, "images": {"a": 1}, "worst": w, "average": m}
        content["models"][model]["groups"] = {"decoy $test$": known}
    story = tell_story(record(content))
    assert says in story.replace(GAP, " ")
    assert ("did harm" in story) == harm
    assert not re.search(r"\.\s", story)


def test_nothing_condemned_nothing_judged_nothing_tested():
    content = outcome(0.5, 0.5)
    content["verdicts"] |= {"spurious": 0, "valid": 6, "unscored": 0}
    assert tell_story(record(content)).endswith(
        "condemned none of 6 segments in 3 images, so there was nothing to align and the classifier stays "
        f"as it was; it gets 50.0{GAP}% of the images of decoy $test$ right."
    )
    content["verdicts"] |= {"valid": 0, "unscored": 6}
    assert tell_story(record(content)).startswith(
        "None of 6 segments got a verdict from the critic “builtin”"
    )
    content["data"]["tests"] = {}
    for model in content["models"].values():
        model["validation"] = {}
    assert tell_story(record(content)).endswith("the classifier stays as it was.")
    content["verdicts"]["spurious"] = 1
    assert tell_story(record(content)).endswith("no test set says how it does.")


def explained(name: str, shares: tuple[float, ...], class_name: str = CLASSES[0]) -> ExplainedImage:
    segments = np.array([[j + 1 for j, share in enumerate(shares) if share > 0]], np.int16)
    blank = np.zeros((*segments.shape, 3), np.uint8)
    values = np.zeros(segments.shape, np.float32)
    return ExplainedImage(name, blank, segments, values, shares, class_name, class_name)


def test_reliance_by_hand():
    explained_images = [
        explained("a", (0.9, 0.1)),
        explained("b", (0.4, 0.6)),
        explained("c", (0.8, 0.2), CLASSES[1]),
        explained("set aside", (0.0, 0.0)),
    ]
    verdicts = [
        Verdict("a", 1, True, "it covers 85% of the grey patch", "x"),
        Verdict("a", 2, False, "the stroke", "x"),
        Verdict("b", 1, True, "It covers all of the  grey patch", "x"),
        Verdict("b", 2, False, "The stroke", "x"),
        Verdict("c", 1, None, "no answer", "x"),
        Verdict("c", 2, True, "an unrelated tag", "x"),
    ]
    result = summarise_reliance(explained_images, verdicts, CLASSES, encode)
    assert (result.images, result.condemned, result.accepted, result.unscored) == (3, 1, 1, 1)
    tag, patch, stroke = sorted(result.grounds, key=lambda g: g.reason.casefold())
    assert (stroke.strongest, stroke.present, stroke.wordings, stroke.spurious) == (1, 2, 1, False)
    assert (tag.reason, tag.strongest, tag.present) == ("an unrelated tag", 0, 1)
    assert (patch.strongest, patch.present, patch.wordings) == (1, 2, 1)  # amounts and case are left aside
    first, second = result.classes
    assert (first.name, first.images, first.condemned, first.alike) == (CLASSES[0], 2, 1, 1)
    assert (second.images, second.condemned, second.spurious, second.reason) == (1, 0, None, "")
    assert relied_on(result).startswith(f"In 33{GAP}% of the critiqued images the strongest segment")


reasons = st.sampled_from(["patch", "tag", "stroke", "loop"])
tables = st.lists(
    st.tuples(st.sampled_from([True, False, None]), reasons, st.sampled_from([True, False, None]), reasons),
    max_size=12,
)


@given(tables)
def test_reliance_equals_counting(table):
    """With words that share nothing, every reason is its own kind, and counting them is the answer."""
    explained_images = [explained(str(n), (0.7, 0.3)) for n in range(len(table))]
    verdicts = [
        Verdict(str(n), segment, spurious, reason, "x")
        for n, (r1, why1, r2, why2) in enumerate(table)
        for segment, spurious, reason in ((1, r1, why1), (2, r2, why2))
    ]
    result = summarise_reliance(explained_images, verdicts, CLASSES, encode)
    strongest = Counter((r, why) for r, why, _, _ in table if r is not None)
    present = Counter()
    for row in table:
        present.update({(r, why) for r, why in (row[:2], row[2:]) if r is not None})
    assert {(g.spurious, g.reason): g.strongest for g in result.grounds if g.strongest} == strongest
    assert {(g.spurious, g.reason): g.present for g in result.grounds} == present
    assert result.condemned + result.accepted + result.unscored == result.images == len(table)


def test_a_quoted_phrase_stands_for_the_reasons_that_quote_it():
    said = [
        'it covers 85% of the square, which matches "a flat grey patch"',
        'all of "a flat grey patch" is there',
        'it covers the writing "R" in the top right corner, which matches "a flat grey patch"',
    ]
    verdicts = [Verdict(str(n), 1, True, reason, "x") for n, reason in enumerate(said)]
    explained_images = [explained(str(n), (1.0,)) for n in range(3)]
    result = summarise_reliance(explained_images, verdicts, CLASSES, lambda texts: pytest.fail(str(texts)))
    assert [(g.reason, g.wordings, g.strongest) for g in result.grounds] == [("a flat grey patch", 1, 3)]


def test_a_thing_without_evidence_is_not_what_the_model_relied_on():
    patch = 'it covers all of the square, which matches "a flat grey patch"'
    said = [patch, patch, f"{patch}, although hardly any of the segment's evidence lies on it"]
    verdicts = [Verdict(str(n), 1, True, reason, "x") for n, reason in enumerate(said)]
    explained_images = [explained(str(n), (1.0,)) for n in range(3)]
    same = np.ones((2, 1), np.float32)
    result = summarise_reliance(explained_images, verdicts, CLASSES, lambda _: same)
    assert [(g.reason.partition(",")[0], g.strongest) for g in result.grounds] == [
        ("a flat grey patch", 2),
        ("a flat grey patch", 1),
    ]
    assert relied_on(result).startswith(f"In 67{GAP}% of the critiqued images")


def test_like_meanings_are_taken_together_by_the_real_encoder():
    from lvlm_va.vision.encoder import encode as real

    corner = "it covers all of the {} square in the {} corner"
    said = [corner.format(c, p) for c in ("grey", "white") for p in ("top left", "bottom right")]
    said += ["the hospital tag with the letter L"]
    verdicts = [Verdict(str(n), 1, True, reason, "x") for n, reason in enumerate(said)]
    result = summarise_reliance([explained(str(n), (1.0,)) for n in range(5)], verdicts, CLASSES, real)
    assert [(g.wordings, g.strongest) for g in result.grounds] == [(4, 4), (1, 1)]
    assert result.grounds[0].reason in said[:4]


def test_numbers_in_words():
    assert percent(0.8214) == f"82.1{GAP}%"
    assert percent(float("nan")) == percent(None) == decimal(None) == "—"
    assert [points(x) for x in (0.1234, -0.05, -0.0001, None)] == ["+12.3", "−5.0", "0.0", "—"]
    assert [count(n, "box", "boxes") for n in (0, 1, 1200)] == ["0 boxes", "1 box", "1,200 boxes"]
    assert [duration(s) for s in (0.04, 59.6, 61)] == [
        f"0.0{GAP}s",
        f"1{GAP}min 0{GAP}s",
        f"1{GAP}min 1{GAP}s",
    ]
    assert [usd(0.0), usd(0.0123), usd(12.3, 1)] == [
        f"0.00{GAP}USD",
        f"0.0123{GAP}USD",
        f"at least 12.30{GAP}USD",
    ]
    assert quote('the "grey"\npatch') == "“the ‘grey’ patch”"
    assert quote("  ") == "no reason given"
