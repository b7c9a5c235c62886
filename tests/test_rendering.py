"""What the critic sees: right sizes, right regions, legible marks, stable bytes."""

import io
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from lvlm_va.critique import rendering
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.marks import Mark, colour, evidence, place_marks
from lvlm_va.critique.question import CaptionedImage, ExplainedImage
from lvlm_va.critique.rendering import (
    drawn_evidence,
    drawn_segments,
    enlarge,
    heatmap,
    overlay,
    png,
    render,
    segment_map,
    smoothed,
)
from lvlm_va.critique.specification import ClassSpecification


def pixels(image: CaptionedImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.png)))


def explained(
    segments: np.ndarray, attribution: np.ndarray | None = None, image: np.ndarray | None = None
) -> ExplainedImage:
    count = int(segments.max())
    return ExplainedImage(
        image_id="a",
        image=np.full((*segments.shape, 3), 90, np.uint8) if image is None else image,
        segments=segments.astype(np.int16),
        attribution=(np.ones(segments.shape) if attribution is None else attribution).astype(np.float32),
        shares=tuple([1 / count] * count) if count else (),
        class_name="7",
        predicted="7",
    )


def decoy_like() -> ExplainedImage:
    """28×28, three tiles: a stroke, a patch in the top right corner, a speck at the bottom."""
    segments = np.ones((28, 28))
    segments[:6, 20:] = 2
    segments[22:] = 3
    attribution = np.full((28, 28), -0.1)
    attribution[8:20, 12:15] = 1
    attribution[:4, 24:] = 2
    attribution[24, 5] = 1
    image = np.zeros((28, 28, 3), np.uint8)
    image[8:20, 12:15] = 255
    image[:4, 24:] = 130
    return explained(segments, attribution, image)


# --- sizes and bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 8, 28, 30, 48, 64])
def test_small_images_are_enlarged_pixel_by_pixel(side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (side, side + 2, 3), dtype=np.uint8)
    large = enlarge(image)
    factor = large.shape[0] // side
    assert large.shape == (side * factor, (side + 2) * factor, 3)
    assert 448 <= side * factor < 448 + side
    assert np.array_equal(large, np.kron(image, np.ones((factor, factor, 1), np.uint8)))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (224, 224, (448, 448)),
        (65, 65, (448, 448)),
        (112, 112, (448, 448)),
        (300, 400, (448, 597)),
        (1000, 500, (896, 448)),
        (448, 448, (448, 448)),
    ],
)
def test_larger_images_get_that_size_smoothly(height: int, width: int, expected: tuple[int, int]) -> None:
    ramp = np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], height, 0).repeat(3, 2)
    large = enlarge(ramp)
    assert large.shape[:2] == expected
    reference = np.linspace(0, 255, expected[1])
    assert np.abs(large[:, :, 0] - reference).max() < 4


def test_sizes_of_the_three_images_fit_one_tile() -> None:
    for count in (3, 7, 15):
        segments = 1 + np.arange(28 * 28).reshape(28, 28) * count // (28 * 28)
        original, segment_map, overlay = map(pixels, render(explained(segments)))
        assert original.shape == (448, 448, 3)
        assert segment_map.shape == overlay.shape
        assert 448 < overlay.shape[0] <= 512
        assert overlay.shape[1] == 448


def test_the_original_is_untouched() -> None:
    s = decoy_like()
    assert np.array_equal(pixels(render(s)[0]), np.kron(s.image, np.ones((16, 16, 1), np.uint8)))


def test_equal_subjects_give_equal_bytes_and_the_arguments_alone_count() -> None:
    before = decoy_like()
    kept = before.image.copy(), before.segments.copy(), before.attribution.copy()
    assert [p.sha256 for p in render(before)] == [p.sha256 for p in render(decoy_like())]
    for now, then in zip((before.image, before.segments, before.attribution), kept, strict=True):
        assert np.array_equal(now, then)


def test_captions_name_the_images_in_order() -> None:
    captions = [p.caption for p in render(decoy_like())]
    assert [
        word in c.lower() for word, c in zip(("original", "segment map", "overlay"), captions, strict=True)
    ]


# --- evidence ---------------------------------------------------------------------------------------------


def test_evidence_is_where_the_attribution_is() -> None:
    """Uniform blocks on a negative ground: 80 % of each lies inside the block, by any choice of pixels."""
    s = decoy_like()
    shown = evidence(s)
    assert set(np.unique(shown)) == {0, 1, 2, 3}
    for j, (rows, columns) in {1: (slice(8, 20), slice(12, 15)), 2: (slice(0, 4), slice(24, 28))}.items():
        block = np.zeros((28, 28), bool)
        block[rows, columns] = True
        overlap = ((shown == j) & block).sum() / ((shown == j) | block).sum()
        assert overlap >= 0.75
    assert shown[24, 5] == 3


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(4, 40), count=st.integers(1, 9))
def test_evidence_stays_in_its_segment_and_every_segment_has_some(seed: int, side: int, count: int) -> None:
    random = np.random.default_rng(seed)
    segments = random.integers(0, count + 1, (side, side)) if seed % 2 else tiles(random, side, count)
    attribution = random.normal(size=(side, side)) - random.uniform(0, 3)
    s = explained(segments, attribution)
    shown = evidence(s)
    assert set(np.unique(shown)) - {0} == set(s.segment_ids)
    assert ((shown == 0) | (shown == s.segments)).all()


def tiles(random: np.random.Generator, side: int, count: int) -> np.ndarray:
    centres = random.uniform(0, side, (count, 2))
    lattice = np.stack(np.mgrid[:side, :side], axis=-1)
    return 1 + np.linalg.norm(lattice[:, :, None] - centres, axis=-1).argmin(axis=-1)


def test_a_gap_is_closed_and_a_speck_dropped() -> None:
    attribution = np.zeros((100, 100))
    attribution[40:60, 20:40] = 1
    attribution[49:51, 20:40] = 0
    attribution[90, 90] = 1
    shown = evidence(explained(np.ones((100, 100)), attribution))
    assert shown[50, 30] == 1
    assert shown[90, 90] == 0


# --- marks ------------------------------------------------------------------------------------------------


def test_a_wide_segment_carries_its_mark_and_a_narrow_one_has_it_beside() -> None:
    segments = np.zeros((448, 448), np.int16)
    segments[100:300, 100:300] = 1
    segments[400:410, 50:60] = 2
    shown = np.where(segments == 2, segments, 0)
    shown[120:200, 120:280] = 1
    wide, narrow = place_marks(segments, shown, 14)
    assert (wide.segment, narrow.segment) == (1, 2)
    assert wide.tip is None
    on_it = disc(shown.shape, wide.x, wide.y, 14)
    assert (segments[on_it] == 1).all()
    assert not (shown[on_it] > 0).any(), "there is room in the segment beside its evidence"
    assert narrow.tip is not None
    assert segments[int(narrow.tip[1]), int(narrow.tip[0])] == 2
    assert not disc(shown.shape, narrow.x, narrow.y, 14)[segments == 2].any()
    assert np.hypot(narrow.x - 55, narrow.y - 405) < 60


def test_a_number_stands_on_evidence_where_that_fills_the_segment() -> None:
    everywhere = np.ones((448, 448), np.int16)
    (mark,) = place_marks(everywhere, everywhere, 14)
    assert mark.tip is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 8))
def test_marks_of_small_segments_stay_inside_the_image_apart_and_hide_none(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    shown = np.zeros((448, 448), np.int16)
    cells = random.permutation(16)[:count]
    for j, cell in enumerate(
        cells, start=1
    ):  # one small square somewhere in each of some cells of 112 pixels
        y, x = 112 * np.array(divmod(int(cell), 4)) + random.integers(0, 100, 2)
        shown[y : y + 12, x : x + 12] = j
    marks = place_marks(shown, shown, 14)
    assert [m.segment for m in marks] == list(range(1, count + 1))
    for mark in marks:
        assert 14 <= mark.x < 434
        assert 14 <= mark.y < 434
        assert mark.tip is not None
        assert shown[int(mark.tip[1]), int(mark.tip[0])] == mark.segment
        hidden = disc(shown.shape, mark.x, mark.y, 14)
        assert not hidden[shown > 0].any()
    for a, b in itertools.combinations(marks, 2):
        assert np.hypot(a.x - b.x, a.y - b.y) >= 28


def test_large_pieces_of_one_segment_are_numbered_each() -> None:
    shown = np.zeros((448, 448), np.int16)
    shown[50:150, 50:150] = 1
    shown[300:400, 300:400] = 1
    shown[200:210, 200:210] = 1
    marks = place_marks(shown, shown, 14)
    assert [m.segment for m in marks] == [1, 1]
    assert sorted((m.x > 224, m.y > 224) for m in marks) == [(False, False), (True, True)]


def disc(shape: tuple[int, ...], x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_the_colours_of_seven_segments_differ_for_colour_blind_readers() -> None:
    """Machado et al. (2009), severity 1: simulated protanopia, deuteranopia and tritanopia, and none."""
    simulations = np.array(
        [
            np.eye(3),
            [
                [0.152286, 1.052583, -0.204868],
                [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998],
            ],
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ],
            [
                [1.255528, -0.076749, -0.178779],
                [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900],
            ],
        ]
    )
    linear = (np.array([colour(j) for j in range(1, 8)]) / 255) ** 2.2
    for matrix in simulations:
        lab = to_lab(np.clip(linear @ matrix.T, 0, 1))
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(7, 1)]
        assert distances.min() > 10


def to_lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear sRGB."""
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 1e-9))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


def test_fifteen_segments_have_fifteen_colours() -> None:
    assert len({colour(j) for j in range(1, 16)}) == 15


# --- the drawings -----------------------------------------------------------------------------------------


def marks_of(s: ExplainedImage) -> list[Mark]:
    size = (448, 448)
    return place_marks(drawn_segments(s, size), drawn_evidence(s, size), 14)


def along(
    shape: tuple[int, ...], one: tuple[float, float], other: tuple[float, float], width: float
) -> np.ndarray:
    """The pixels at most `width` away from the line between two points."""
    pixel = np.stack(np.mgrid[: shape[0], : shape[1]][::-1], axis=-1) - np.array(one)
    line = np.array(other) - one
    part = np.clip(pixel @ line / max(line @ line, 1), 0, 1)
    found: np.ndarray = np.linalg.norm(pixel - part[..., None] * line, axis=-1) <= width
    return found


def depth(region: np.ndarray, most: int) -> np.ndarray:
    """How many steps of eight neighbours lead out of a region, up to `most`; beyond the image is outside."""
    height, width = region.shape
    padded = np.pad(region, most)
    found = np.zeros(region.shape, int)
    for n in range(most):
        inside = np.ones_like(region)
        for down, across in itertools.product(range(-n, n + 1), repeat=2):
            inside &= padded[most + down : most + down + height, most + across : most + across + width]
        found += inside
    return found


def radiograph_like() -> ExplainedImage:
    """112 × 112, seven cells, a grained image and attribution, and a corner that no segment claims."""
    random = np.random.default_rng(4)
    segments = tiles(random, 112, 7)
    segments[:20, 90:] = 0
    attribution = ndimage.gaussian_filter(random.normal(size=(112, 112)), 4)
    return explained(segments, attribution, random.integers(20, 120, (112, 112, 3), dtype=np.uint8))


def slivers() -> ExplainedImage:
    """Segments of one pixel's width are border throughout."""
    return explained(1 + np.arange(112)[None] % 3 * np.ones((112, 1)))


SUBJECTS = pytest.mark.parametrize("make", [decoy_like, radiograph_like, slivers])


@SUBJECTS
def test_the_map_tints_exactly_the_segment(make: Callable[[], ExplainedImage]) -> None:
    """What is judged is what is masked: the pixels in a tone of colour j are those of C = j alone."""
    s = make()
    drawn = segment_map(s)
    C = np.kron(s.segments, np.ones((448 // len(s.segments),) * 2, int))
    shown = drawn_evidence(s, (448, 448))
    for j in s.segment_ids:
        full = np.array(colour(j))
        pale = 255 - 0.25 * (255 - full)
        strong = (drawn == full).all(axis=-1)
        tinted = strong | (np.abs(drawn - pale) <= 0.5).all(axis=-1)
        assert np.array_equal(tinted, C == j)
        assert np.array_equal(strong, (C == j) & ((depth(C == j, 4) <= 3) | (shown == j)))
    assert (drawn[C == 0] == 255).all()


@SUBJECTS
def test_the_overlay_draws_the_border_of_the_segment_and_leaves_the_rest(
    make: Callable[[], ExplainedImage],
) -> None:
    s = make()
    original, drawn = enlarge(s.image), overlay(s)
    C = np.kron(s.segments, np.ones((448 // len(s.segments),) * 2, int))
    shown = drawn_evidence(s, (448, 448))
    assert ((shown == 0) | (shown == C)).all(), "evidence lies in its own segment"
    same = (drawn == original).all(axis=-1)
    assert same[C == 0].all()
    for j in s.segment_ids:
        steps = depth(C == j, 5)
        of_colour, dark = (drawn == colour(j)).all(axis=-1), (drawn == 0).all(axis=-1)
        assert of_colour[(C == j) & (steps <= 3)].all(), "all of the border"
        assert (of_colour | dark)[(C == j) & (steps == 4)].all()
        inner = (C == j) & (steps == 5)
        assert same[inner & (shown != j)].all(), "no border, no evidence"
        assert (same | of_colour | dark)[inner].all()
        if (inner & (shown == j)).sum() > 2000:
            assert 0.8 < same[inner & (shown == j)].mean() < 0.97, "dots leave what lies below to be seen"


@SUBJECTS
def test_every_piece_of_evidence_has_a_dot(make: Callable[[], ExplainedImage]) -> None:
    s = make()
    drawn, shown = overlay(s), drawn_evidence(s, (448, 448))
    for j in s.segment_ids:
        pieces, count = ndimage.label(shown == j, structure=np.ones((3, 3)))
        dotted = (drawn == colour(j)).all(axis=-1)
        assert count
        assert set(np.unique(pieces[dotted])) >= set(range(1, count + 1))


def test_one_segment_alone_is_drawn_as_among_all() -> None:
    s = radiograph_like()
    of_two = drawn_segments(s, (448, 448)) == 2
    assert np.array_equal(overlay(s, [2])[of_two], overlay(s)[of_two])
    assert np.array_equal(overlay(s, [2])[~of_two], enlarge(s.image)[~of_two])


@SUBJECTS
def test_numbers_and_legend_are_all_that_is_added(make: Callable[[], ExplainedImage]) -> None:
    s = make()
    _, mapped, overlaid = map(pixels, render(s))
    free = np.ones((448, 448), bool)
    for mark in marks_of(s):
        free &= ~disc(free.shape, mark.x, mark.y, 16)
        if mark.tip:
            free &= ~along(free.shape, (mark.x, mark.y), mark.tip, 6)
    assert np.array_equal(mapped[:448][free], segment_map(s)[free])
    assert np.array_equal(overlaid[:448][free], overlay(s)[free])


def test_captions_and_prompt_say_what_is_drawn() -> None:
    """And the verdict is one on the whole segment, of which at least a part is masked."""
    _, mapped, overlaid = (image.caption for image in render(decoy_like()))
    for word in ("tinted", "border", "filled", "evidence"):
        assert word in mapped
    for word in ("border", "original", "dots"):
        assert word in overlaid
    prompt = " ".join(fill_text().split())
    assert "A segment is all that lies within its border, with dots or without." in prompt
    assert "all of it or a part of it will be masked" in prompt
    assert "outlined part" not in prompt


def fill_text() -> str:
    s = decoy_like()
    return critic_question(s, ClassSpecification("7", "Two strokes.", ("strokes",), ()), render(s)).prompt


def test_the_numbers_can_be_read_by_a_machine() -> None:
    """The disc of every number matches the template of that number better than those of the others."""
    s = decoy_like()
    templates = {}
    for j in range(1, 8):
        only = np.zeros((28, 28))
        only[8:20, 8:20] = j
        alone = ExplainedImage(
            "t", s.image * 0, only.astype(np.int16), (only > 0).astype(np.float32), (1 / 7,) * 7, "", ""
        )
        (mark,) = marks_of(alone)
        templates[j] = window(pixels(render(alone)[2]), mark.x, mark.y)
    overlay = pixels(render(s)[2])
    for mark in marks_of(s):
        seen = window(overlay, mark.x, mark.y)
        best = min(templates, key=lambda j: float(np.abs(seen - templates[j]).sum()))
        assert best == mark.segment


def window(image: np.ndarray, x: float, y: float) -> np.ndarray:
    x, y = int(x), int(y)
    return image[y - 8 : y + 9, x - 8 : x + 9].mean(axis=-1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_no_line_crosses_out_another_number(order: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a thin segment may stand far off, its line passing another segment's disc: below it."""
    s = explained(np.tile([1, 2], (28, 14)))
    segment_ids = [Mark(1, 200.0, 220.0, None), Mark(2, 100.0, 220.0, (300.0, 220.0))]
    inside = disc((448, 448), 200, 220, 12)

    def drawn(*chosen: int) -> list[np.ndarray]:
        monkeypatch.setattr(rendering, "place_marks", lambda *_: [segment_ids[i] for i in chosen])
        return [pixels(image)[:448] for image in render(s)[1:]]

    for both, alone in zip(drawn(*order), drawn(0), strict=True):
        assert np.array_equal(both[inside], alone[inside])
        assert (both[220, 250] == 255).all(), "the line goes on behind the disc"


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (28, 28), (20, 30), (130, 140)])
@pytest.mark.parametrize("kind", ["constant", "none", "negative", "all pixels"])
def test_odd_subjects_are_drawn(shape: tuple[int, int], kind: str) -> None:
    segments = np.ones(shape)
    if kind == "none":
        segments[:] = 0
    elif kind == "all pixels":
        segments = 1 + np.arange(np.prod(shape)).reshape(shape) % 20
    attribution = -np.ones(shape) if kind == "negative" else np.zeros(shape)
    for image in render(explained(segments, attribution)):
        assert min(pixels(image).shape[:2]) >= 448


# --- explanations -----------------------------------------------------------------------------------------


def test_the_heatmap_is_red_for_and_blue_against() -> None:
    attribution = np.array([[1.0, -1.0], [0.0, 0.5]], np.float32)
    image = np.full((2, 2, 3), 255, np.uint8)
    drawn = heatmap(attribution, image, limit=1.0).astype(int)
    assert drawn[0, 0].tolist() == [178, 24, 43]
    assert drawn[0, 1].tolist() == [33, 102, 172]
    assert drawn[1, 0].tolist() == [255, 255, 255]
    assert np.abs(drawn[1, 1] - (drawn[0, 0] + 255) / 2).max() <= 0.5


def test_the_heatmap_scale_is_symmetric_shared_and_clipped() -> None:
    image = np.full((4, 4, 3), 255, np.uint8)
    attribution = np.zeros((4, 4), np.float32)
    attribution[0, 0] = 5
    one, two = heatmap(attribution, image, limit=5), heatmap(2 * attribution, image, limit=10)
    assert np.array_equal(one, two)
    assert np.array_equal(heatmap(9 * attribution, image, limit=5), one)
    assert (heatmap(np.zeros((4, 4), np.float32), image) == 255).all()


def test_the_ground_of_a_dark_image_is_light() -> None:
    dark = np.zeros((8, 8, 3), np.uint8)
    dark[3:5] = 255
    drawn = heatmap(np.zeros((8, 8), np.float32), dark)
    assert (drawn[0] == 255).all()
    assert (drawn[3] < 255).all()


def test_png_keeps_every_pixel() -> None:
    image = np.random.default_rng(1).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    assert np.array_equal(pixels(CaptionedImage("", png(image))), image)


def test_a_radiograph_stays_visible_under_its_explanation() -> None:
    dark = np.full((112, 112, 3), 40, np.uint8)
    dark[40:70] = 120
    drawn = heatmap(np.zeros((112, 112), np.float32), dark).astype(int)
    assert (drawn[50] == 255).all(), "not inverted: what is light stays light"
    assert (drawn[0] <= 120).all()


def test_speckle_is_spread_and_nothing_lost() -> None:
    attribution = np.zeros((112, 112), np.float32)
    attribution[56, 56] = 3
    blurred = smoothed(attribution)
    assert blurred.sum() == pytest.approx(3, rel=1e-5)
    assert (blurred > 0).sum() > 9
    assert smoothed(attribution[:28, :28]) is not None
    assert np.array_equal(smoothed(attribution[28:84, 28:84]), attribution[28:84, 28:84]), "a drawing stays"


def test_evidence_of_a_photograph_is_drawn_where_it_is() -> None:
    attribution = np.zeros((112, 112), np.float32)
    attribution[10:50, 10:40] = 1
    attribution[20:22, 20:22] = 0  # a small hole
    attribution[80:83, 80:110] = 1  # a thin line
    segments = np.ones((112, 112))
    segments[60:] = 2
    s = explained(segments, attribution)
    drawn = drawn_evidence(s, (448, 448))
    exact = np.kron(evidence(s), np.ones((4, 4), int))
    for j in (1, 2):
        both, either = ((drawn == j) & (exact == j)).sum(), ((drawn == j) | (exact == j)).sum()
        assert both / either > 0.8
    assert (drawn[84 : 84 + 4, 84 : 84 + 4] == 1).all()
