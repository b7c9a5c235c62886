"""Curve, critiques, images and the terminal's view of one image."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from critique_helpers import Scripted
from lvlm_va.critique import review
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.pricing import price_usd
from lvlm_va.critique.question import ExplainedImage, Reply
from lvlm_va.critique.rendering import render
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import RunError
from lvlm_va.report.critiques import critique_of, split_steps
from lvlm_va.report.curve import lambda_figure
from lvlm_va.report.curves import Band, Curve, Panel
from lvlm_va.report.explained import changes
from lvlm_va.report.figures import gallery, telling
from lvlm_va.report.images import figure, outline
from lvlm_va.report.instead import offers
from lvlm_va.report.record import read_explanations
from lvlm_va.report.show import show_image
from lvlm_va.report.steps import Use, draw_steps, for_steps
from lvlm_va.run import artefacts
from report_run import (
    ANSI,
    CLASSES,
    IDS,
    SCRIPT,
    SPECIFICATION,
    explained,
    explained_images,
    judge_reply,
    make_run,
    older_question,
)
from report_run import verdicts as table


class Gpt(Scripted):
    """A backend that knows what gpt-4o charges, and is never asked."""

    model = "gpt-4o"

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        return price_usd(self.model, input_tokens, output_tokens, prices={})


def line_of(svg: str, colour: str) -> np.ndarray:
    """(n, 2) points of the curve drawn in a colour; the legend's sample of it comes later."""
    drawn = [
        re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)
        for path, style in re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', svg)
        if f"stroke: {colour}" in style.lower()
    ]
    return np.array(drawn[0], dtype=float)


def panel(label, lam, values, unaligned=0.0, name="x"):
    points = [(x, [y]) for x, y in zip(lam, values, strict=True)]
    return Panel("", label, [Curve(name, "#0072B2", points)], [Band("unaligned", "#555555", [unaligned])])


def test_the_curve_is_where_its_numbers_are():
    lam, values = (0.001, 0.01, 0.03, 1.0), (57.0, 93.0, 95.5, 20.0)
    svg = lambda_figure([panel("accuracy", lam, values, 56.0)], chosen=0.03, description="d")
    points = line_of(svg, "#0072b2")
    x, y = np.polyfit(np.log10(lam), points[:, 0], 1), np.polyfit(values, points[:, 1], 1)
    assert x[0] > 0 > y[0]  # y grows downwards in SVG
    np.testing.assert_allclose(np.polyval(x, np.log10(lam)), points[:, 0], atol=1e-3)
    np.testing.assert_allclose(np.polyval(y, values), points[:, 1], atol=1e-3)
    unaligned = line_of(svg, "#555555")
    np.testing.assert_allclose(unaligned[:2, 1], np.polyval(y, 56.0), atol=1e-3)
    assert "chosen: λ = 0.03" in svg


def test_zero_stands_left_of_all_others_and_one_point_is_enough():
    figure = lambda_figure([panel("y", (0.0, 0.1, 1.0), (1.0, 2.0, 3.0))], chosen=0.1, description="d")
    points = line_of(figure, "#0072b2")
    assert np.all(np.diff(points[:, 0]) > 0)
    np.testing.assert_allclose(np.diff(points[:, 0], 2), 0, atol=1e-3)  # 0 is one decade below 0.1
    for lam in (0.0, 0.01, 0.1):
        single = lambda_figure([panel("y", (lam,), (1.0,))], chosen=lam, description="d")
        assert f">{lam:g}</text>" in single


def test_the_curve_is_inert_and_repeatable():
    panels = [panel(f"$x^2$ {SCRIPT}", (0.1, 1.0), (1.0, 2.0), 0.5, "a & b")]
    svg = lambda_figure(panels, chosen=1.0, description=f'"{SCRIPT}')
    assert svg == lambda_figure(panels, chosen=1.0, description=f'"{SCRIPT}')
    assert svg.startswith("<svg")
    assert "<script" not in svg
    assert "$x^2$ &lt;script" in svg
    assert not re.findall(r'(?:href|src)="(?!#)', svg)


def test_an_outline_surrounds_the_mask_and_spares_its_inside():
    pixels = np.full((40, 40, 3), 200, np.uint8)
    mask = np.zeros((4, 4), bool)
    mask[1, 1] = True
    drawn = outline(pixels, mask)
    black = (drawn == 0).all(axis=2)
    assert not black[10:20, 10:20].any()
    assert black[8:22, 8:22].sum() == black.sum() == 14**2 - 10**2


def test_photographs_are_kept_small_and_drawings_exact():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (336, 336, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(noise[:12, :12]).resize((336, 336), Image.Resampling.BICUBIC))
    assert figure(smooth, "x").uri.startswith("data:image/jpeg;base64,")
    assert len(figure(noise, "x").uri) * 24 < 4_000_000
    flat = figure(noise[:28, :28], "x")
    assert flat.uri.startswith("data:image/png;base64,")
    assert (flat.width, flat.height) == (28, 28)


def test_shares_on_the_planted_feature(tmp_path):
    explanations = read_explanations(make_run(tmp_path))
    assert explanations is not None
    first, second = changes(explanations)
    values = explanations.before[0]
    share = np.abs(values[:2, :2]).sum() / np.abs(values).sum()
    assert first.before.on_planted == f"{100 * share:.1f}\u202f%"
    assert first.after.on_planted == "0.0\u202f%"
    assert (first.label, first.before.right, first.after.right) == (CLASSES[1], False, True)
    assert (second.before.right, second.after.right) == (True, True)
    assert f"predicted {CLASSES[0]}, which is wrong" in first.before.heatmap.alt


def test_the_critique_is_the_one_that_was_judged(tmp_path):
    images, attribution, segmentation = explained_images()
    it = explained(0, images, segmentation, attribution)
    said = [v for v in table()[0] if v.image_id == IDS[0]]
    with Store.open(tmp_path / "store.sqlite") as store:
        question = critic_question(it, SPECIFICATION, ())
        other = older_question(question)
        store.record(question, "x", Reply("the judged one", "x"))
        store.record(judge_question(question, "the judged one", ()), "x", judge_reply(said, IDS[0]))
        store.record(other, "x", Reply("asked later, with another specification", "x"))
        store.record(
            judge_question(other, "asked later, with another specification", ()), "x", Reply("{}", "x")
        )
        exchanges = store.exchanges(IDS[0])
    found = critique_of(exchanges, said)
    assert found is not None
    assert found.text == "the judged one"
    assert found.version == SPECIFICATION.version
    assert found.specification == SPECIFICATION.text
    nothing = [Verdict(IDS[0], 1, None, "no judgement", "x")]
    latest = critique_of(exchanges, nothing)
    assert latest is not None
    assert latest.text.startswith("asked later")
    assert critique_of((), said) is None


@pytest.mark.parametrize("head", ["Step {}. ", "**Step {}:** ", "## Step {} — ", "STEP {})\n"])
def test_six_steps_however_they_are_marked(head):
    text = "Before.\n\n" + "\n".join(head.format(i) + f"text {i}, no step 7 here" for i in range(1, 7))
    preamble, steps = split_steps(text)
    assert preamble == "Before."
    assert steps == tuple(f"text {i}, no step 7 here" for i in range(1, 7))


def test_other_than_six_steps_is_left_as_it_is():
    for text in ("no steps", "Step 1. a\nStep 3. c", "\n".join(f"Step {i}. x" for i in (2, 1, 3, 4, 5, 6))):
        assert split_steps(text) == (text, ())


def test_the_most_telling_image():
    images, attribution, segmentation = explained_images()
    a, b, c = (explained(n, images, segmentation, attribution) for n in range(3))
    valid = [Verdict(s.image_id, 1, False, "", "x") for s in (a, b, c)]
    strongest = max(a.segment_ids, key=lambda j: a.shares[j - 1])
    condemned = [*valid, Verdict(c.image_id, strongest, True, "", "x")]
    everyone = {s.image_id for s in (a, b, c)}
    assert telling([a, b, c], condemned, everyone) is c
    assert telling([a, b, c], condemned, {b.image_id}) is b
    assert telling([a, b, c], condemned, set()) is None


def test_the_gallery_takes_turns():
    images, attribution, segmentation = explained_images()
    one = explained(0, images, segmentation, attribution)
    some = [replace(one, class_name=name) for name in ("x", "x", "y")]
    aside = explained(3, images, segmentation, attribution)
    assert [s.class_name for s in gallery([*some, aside])] == ["x", "y", "x"]
    assert len(gallery(some, count=2)) == 2


def test_steps_prefer_what_was_condemned_one_class_after_the_other():
    images, attribution, segmentation = explained_images()
    one = explained(0, images, segmentation, attribution)
    names = {"a": "x", "b": "x", "c": "y", "d": "y", "e": "z"}
    some = [replace(one, image_id=i, class_name=name, shares=(0.7, 0.3)) for i, name in names.items()]
    strong, weak = [Verdict("b", 1, True, "", "x")], [Verdict("a", 2, True, "", "x")]
    of_y = [Verdict("d", 2, True, "", "x")]
    assert [s.image_id for s in for_steps(some, strong + weak + of_y)] == ["b", "d", "a"]
    assert [s.image_id for s in for_steps(some, weak)] == ["a", "b", "c"], "others follow, to three"
    assert [s.image_id for s in for_steps(some, [])] == ["a", "c", "e"]
    everything = [Verdict(f"{n}", 1, True, "", "x") for n in range(9)]
    assert len(for_steps([replace(one, image_id=f"{n}") for n in range(9)], everything)) == 6


@pytest.mark.parametrize("side", [28, 112])
def test_the_steps_of_one_image(side):
    orange = np.array([213, 94, 0])
    image = np.full((side, side, 3), 90, np.uint8)
    segments = np.ones((side, side), np.int16)
    segments[:, side // 2 :] = 2
    values = np.zeros((side, side), np.float32)
    values[side // 4 : side // 2, side // 8 : side // 4] = 1.0
    values[side // 4 : side // 2, -side // 4 : -side // 8] = 1.0
    it = ExplainedImage("a", image, segments, values, (0.5, 0.5), "x", "x")
    mask = np.zeros((side, side), bool)
    mask[side // 2 :, : side // 2] = True
    said = {1: Verdict("a", 1, True, "", "x"), 2: Verdict("a", 2, False, "", "x")}
    original, positive, _, judged, masked = draw_steps(it, said, mask)
    half = original.shape[0] // 2
    assert {step.shape for step in (original, positive, judged, masked)} == {original.shape}
    assert (original == 90).all()
    red = positive[..., 0].astype(int) - positive[..., 2] > 60
    assert red[: half + 4].any()
    assert not red[half + 12 :].any()
    is_orange = (judged == orange).all(axis=2)
    assert is_orange[:, : half - 10].sum() > 400, "condemned: outlined and hatched"
    assert not is_orange[:, half + 10 :].any()
    tinted = np.any(masked != 90, axis=2)
    assert tinted[half + 1 :, : half - 1].all()
    assert not tinted[: half - 5].any(), "the line lies just outside"
    assert not tinted[:, half + 5 :].any()


def test_what_a_mask_is_used_for():
    assert (
        Use(penalised=True, replaced=True).words == "penalised, and taken away and pasted into other images"
    )
    assert Use(penalised=False, replaced=False).words == ""
    assert Use(penalised=True, replaced=True).of(0.3).endswith("too large to be taken away or pasted")
    assert "large" not in Use(penalised=True, replaced=False).of(0.3)


def test_what_an_lvlm_would_have_cost_equals_the_estimate_before_a_run(tmp_path):
    images, attribution, segmentation = explained_images()
    first = explained(0, images, segmentation, attribution)
    varied = []
    for n in range(5):  # each image is another: what a model is told twice, it is asked once
        image = first.image.copy()
        image.flat[0] = n
        varied.append(replace(first, image_id=str(n), image=image))
    specification = ClassSpecification(CLASSES[0], SPECIFICATION.text)
    critic_judge = review.CriticJudge(
        Gpt(str, kind="lvlm"), Gpt(str, kind="lvlm"), {CLASSES[0]: specification}, render
    )
    with Store.open(tmp_path / "store.sqlite") as store:
        expected = estimate(varied, critic_judge, store)
    offer, _ = offers(varied[0], SPECIFICATION.text, 5)
    assert offer.estimate.usd == pytest.approx(expected.usd)
    assert replace(offer.estimate, usd=None) == replace(expected, usd=None)


def test_one_image_for_the_terminal(tmp_path):
    run = make_run(tmp_path)
    shown = show_image(run, IDS[2])
    assert f"class {CLASSES[0]!r}" in shown.text
    assert re.search(r"segment 2 .*valid .*that is the digit .*\(Dr\. <u>Who</u>\)", shown.text)
    assert re.search(
        r"overrules openai:gpt-4o judged by builtin: spurious, it covers the strokes", shown.text
    )
    assert "What I see in c" in shown.text
    assert ANSI not in shown.text
    assert "\x1b" not in shown.text
    drawn = Image.open(io.BytesIO(shown.path.read_bytes()))
    assert drawn.width == 3 * 448 + 2 * 16
    assert drawn.height > 448


def test_odd_names_stay_in_the_folder(tmp_path):
    run = make_run(tmp_path)
    paths = [show_image(run, image_id).path for image_id in IDS]
    assert {path.parent for path in paths} == {run.file("images")}
    assert len(set(paths)) == len(IDS)
    assert paths[0].name == "a.png"


def test_an_image_set_aside_says_why(tmp_path):
    assert (
        "Set aside, not critiqued: no pixel has positive attribution"
        in show_image(make_run(tmp_path), IDS[3]).text
    )


def test_an_unknown_image_is_told_the_nearest(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(RunError, match=r"no image 'aa' was critiqued; the nearest are a, "):
        show_image(run, "aa")
    assert not run.file("images").exists()


def test_images_of_another_run_are_refused(tmp_path):
    run = make_run(tmp_path)
    content = artefacts.tensors_file(
        {"images": torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "labels": torch.zeros(1, dtype=torch.int64)},
        ids=["a"],
        class_names=CLASSES,
    )
    run.write("segments/images.safetensors", content)
    with pytest.raises(RunError, match="of different runs"):
        show_image(run, "a")
