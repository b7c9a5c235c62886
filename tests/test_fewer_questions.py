"""Fewer questions: what may share a verdict, how exactly it is carried over, how honestly it is checked."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

import small
from critique_helpers import Scripted, critic_judge, explained
from lvlm_va.config.loading import override, parse_config
from lvlm_va.critique.active_selection import choose_images
from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.batch_export import export_requests
from lvlm_va.critique.driver import critique
from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.propagation import agreement, propagate
from lvlm_va.critique.question import ExplainedImage, Question, Reply
from lvlm_va.critique.segment_similarity import BLOCKS, Likeness, likeness, measure_segments
from lvlm_va.critique.specification import load_specifications
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import BudgetReached, ConfigError
from lvlm_va.evaluate.statistics import wilson
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.inputs import Inputs
from lvlm_va.project.pipeline import run_pipeline
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.query_plan import QueryPlan
from lvlm_va.report.write import write_report
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.metrics import RunMetrics
from lvlm_va.run.verdict_table import read_verdicts, verdicts_file
from lvlm_va.vision.colours import luminance

J = 2


def drawn(number: int, *, kind: str = "seven", patch: bool = True, seed: int | None = None) -> ExplainedImage:
    """A 16×16 image: left a bright block in a corner (or none), right a noisy stroke; two segments."""
    random = np.random.default_rng(number if seed is None else seed)
    image = np.zeros((16, 16, 3), np.uint8)
    attribution = np.zeros((16, 16), np.float32)
    top = int(random.integers(2)) * 12
    if patch:
        image[top : top + 4, :4] = 120
        attribution[top : top + 4, :4] = 1
    column = int(random.integers(9, 14))
    image[2:14, column : column + 2] = random.integers(150, 255, (12, 2, 1))
    attribution[2:14, column : column + 2] = random.random((12, 2))
    image[8, 5], attribution[8, 5] = 12 + 8 * (number % 30), 0.1
    segments = np.full((16, 16), 2, np.int16)
    segments[:, :8] = 1
    spurious = np.zeros((16, 16), np.bool_)
    spurious[top : top + 4, :4] = patch
    return ExplainedImage(f"p-{number}", image, segments, attribution, (0.5, 0.5), kind, kind, spurious)


def compare(explained_images: Sequence[ExplainedImage]) -> Likeness:
    return likeness(explained_images, np.concatenate([measure_segments(s) for s in explained_images]))


def truth(explained_images: Sequence[ExplainedImage]) -> dict[tuple[str, int], Verdict]:
    return {
        (s.image_id, j): Verdict(
            s.image_id, j, bool((s.spurious & (s.segments == j)).any()), f"because {s.image_id}", "critic"
        )
        for s in explained_images
        for j in s.segment_ids
        if s.spurious is not None
    }


def made_up(
    vectors: Sequence[float], kinds: Sequence[int] | None = None
) -> tuple[Likeness, list[ExplainedImage]]:
    """One segment an image, at the given places on a line."""
    n = len(vectors)
    likes = Likeness(
        np.arange(n),
        np.ones(n, np.int64),
        np.array(vectors, float).reshape(-1, 1),
        np.array(kinds if kinds is not None else [0] * n),
    )
    return likes, [explained(i, segments=1) for i in range(n)]


def test_likely_looking_segments_share_a_verdict_and_say_from_where() -> None:
    explained_images = [drawn(i, patch=i % 3 != 0) for i in range(30)]
    right, alike = truth(explained_images), compare(explained_images)
    plan = choose_images(alike, 30, fraction=0.4, verify=0, seed=0)
    asked = plan.representatives(0)
    rest = sorted(set(range(30)) - set(asked))
    found = propagate(alike, explained_images, right, asked, rest, plan.far, "critic")
    assert [(v.image_id, v.segment) for v in found] == [(f"p-{i}", j) for i in rest for j in (1, 2)]
    scored = [v for v in found if v.spurious is not None]
    assert len(scored) >= 0.8 * len(found)
    assert sum(v.spurious == right[v.image_id, v.segment].spurious for v in scored) >= 0.95 * len(scored)
    names = {explained_images[i].image_id for i in asked}
    for v in scored:
        source = v.author.removeprefix("critic, propagated from segment ").partition(";")[0].split(" of ")
        origin = right[source[1], int(source[0])]
        assert source[1] in names, "from an image that was asked about"
        assert (origin.spurious, origin.reason) == (v.spurious, v.reason)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.booleans(), min_size=2, max_size=6), st.integers(0, 2**16))
def test_a_copy_gets_exactly_its_originals_verdicts(said: list[bool], seed: int) -> None:
    originals = [drawn(i, patch=i % 2 == 0, seed=seed + i) for i in range(len(said))]
    copies = [replace(s, image_id=f"copy of {s.image_id}") for s in originals]
    alike = compare([*originals, *copies])
    given_ = {
        (s.image_id, j): Verdict(s.image_id, j, word == (j == 1), "so said", "critic")
        for s, word in zip(originals, said, strict=True)
        for j in s.segment_ids
    }
    n = len(said)
    plan = choose_images(alike, 2 * n, fraction=n, verify=0, seed=0)
    found = propagate(alike, [*originals, *copies], given_, range(n), range(n, 2 * n), plan.far, "critic")
    for verdict in found:
        assert verdict.spurious == given_[verdict.image_id.removeprefix("copy of "), verdict.segment].spurious
    if len(said) > 1:
        chosen = set(plan.representatives(0))
        assert len({i % n for i in chosen}) == n, "a copy says nothing new, so no copy is asked about"


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab"), st.booleans()), min_size=2, max_size=10)
)
def test_another_class_or_prediction_never_lends_its_verdict(drawn_: list[tuple[str, str, bool]]) -> None:
    base = drawn(0)
    explained_images = [
        replace(base, image_id=f"p-{i}", class_name=name, predicted=predicted)
        for i, (name, predicted, _) in enumerate(drawn_)
    ]
    rows = measure_segments(base)
    alike = likeness(explained_images, np.concatenate([rows] * len(explained_images)))
    kinds = {
        i: explained_images[i].class_name + explained_images[i].predicted
        for i in range(len(explained_images))
    }
    said = {
        (f"p-{i}", j): Verdict(f"p-{i}", j, kinds[i] == "aa", kinds[i], "critic")
        for i, (_, _, ask) in enumerate(drawn_)
        if ask
        for j in (1, 2)
    }
    asked = [i for i, (_, _, ask) in enumerate(drawn_) if ask]
    rest = [i for i, (_, _, ask) in enumerate(drawn_) if not ask]
    plan = choose_images(alike, len(explained_images), fraction=1, verify=0, seed=0)
    for v in propagate(alike, explained_images, said, asked, rest, plan.far, "critic"):
        own = kinds[int(v.image_id.removeprefix("p-"))]
        if any(kinds[i] == own for i in asked):
            assert (v.spurious, v.reason) == (own == "aa", own)
        else:
            assert v.spurious is None


def test_segments_that_differ_in_their_colour_alone_are_unlike_and_grey_ones_are_not() -> None:
    """Blue and orange of one luminance on grey; the same image without its colour."""
    base = drawn(0)
    colour = {"blue": (60, 120, 255), "orange": (208, 103, 0)}

    def tinted(name: str, *, grey: bool) -> ExplainedImage:
        image = np.full((*base.segments.shape, 3), 90, np.uint8)
        image[base.segments == 1] = colour[name]
        if grey:
            image[:] = np.round(luminance(image) * 255)[..., None]
        return replace(base, image_id=name, image=image)

    for grey in (False, True):
        two = [tinted(name, grey=grey) for name in colour]
        rows = np.stack([measure_segments(one)[0] for one in two])
        place = list(BLOCKS).index("colour")
        begin = sum(list(BLOCKS.values())[:place])
        of_colour = rows[:, begin : begin + BLOCKS["colour"]]
        assert (np.abs(of_colour[0] - of_colour[1]).max() > 0.2) is not grey
        assert of_colour.any() is not np.bool_(grey)


def test_disagreement_and_strangeness_leave_a_segment_unscored() -> None:
    alike, explained_images = made_up([0, 0.2, 0.1, 50, 0.15, 0.05])
    said = {
        (explained_images[i].image_id, 1): Verdict(explained_images[i].image_id, 1, value, "why", "critic")
        for i, value in ((0, True), (1, False))
    }
    near, strange = propagate(alike, explained_images, said, [0, 1], [2, 3], {0: 1.0}, "critic")
    assert near.spurious is None
    assert "different verdicts" in near.reason
    assert strange.spurious is None
    assert "nothing that was asked about is like it" in strange.reason
    assert near.author == strange.author == "critic, not asked"
    # What the critic left unscored is no source, and takes nothing either.
    unscored = said | {
        (explained_images[0].image_id, 1): Verdict(explained_images[0].image_id, 1, None, "cut off", "critic")
    }
    (one,) = propagate(alike, explained_images, unscored, [0, 1], [2], {0: 1.0}, "critic")
    assert one.spurious is False
    nothing = {key: replace(v, spurious=None) for key, v in said.items()}
    assert all(
        v.spurious is None
        for v in propagate(alike, explained_images, nothing, [0, 1], [2, 4], {0: 1.0}, "critic")
    )


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=40),
    st.one_of(st.floats(0.01, 1), st.integers(2, 50).map(float)),
    st.floats(0, 0.9),
    st.integers(0, 3),
)
def test_never_more_is_asked_than_allowed_and_always_the_same(
    places: list[float], fraction: float, verify: float, seed: int
) -> None:
    n = len(places)
    alike, _ = made_up(places, [i % 2 for i in range(n)])
    plan = choose_images(alike, n, fraction=fraction, verify=verify, seed=seed)
    assert plan == choose_images(alike, n, fraction=fraction, verify=verify, seed=seed)
    assert sorted([*plan.order, *plan.remainder]) == list(range(n))
    budget = min(n, max(1, round(fraction * n) if fraction <= 1 else int(fraction)))
    assert plan.first + len(plan.remainder) == budget
    assert not plan.remainder or len(plan.remainder) <= plan.first
    more = choose_images(alike, n, fraction=fraction, verify=0, seed=seed).order
    assert [i for i in more if i not in plan.remainder] == list(plan.order)


def test_the_order_is_the_greedy_one() -> None:
    """Against the definition, without laziness and without kinds taken apart."""
    random = np.random.default_rng(0)
    vectors, owners = random.normal(size=(60, 3)), np.repeat(np.arange(20), 3)
    kinds = (owners % 2).astype(np.int64)
    alike = Likeness(owners, np.tile([1, 2, 3], 20), vectors, kinds)
    plan = choose_images(alike, 20, fraction=1, verify=0, seed=0)
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    distance[kinds[:, None] != kinds[None]] = np.inf
    likest = np.stack([distance[:, owners == p].min(axis=1) for p in range(20)], axis=1)
    open_ = np.array([2 * plan.far[k] for k in kinds])
    left, order = list(range(20)), []
    while left:
        gains = [np.maximum(open_ - likest[:, p], 0).sum() for p in left]
        order.append(left.pop(int(np.argmax(gains))))
        open_ = np.minimum(open_, likest[:, order[-1]])
    assert list(plan.order) == order


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (39, 39), (36, 39), (5, 8), (1, 1)])
def test_wilsons_interval_is_scipys(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert wilson(0, 0) == (0, 1)


def test_the_remainder_tells_how_often_propagated_verdicts_are_wrong() -> None:
    """A critic that says the opposite for a tenth of the segments: the interval covers the true agreement."""
    covered = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        places = [float(10 * random.integers(2) + random.normal()) for _ in range(200)]
        alike, explained_images = made_up(places)
        said = {
            (s.image_id, 1): Verdict(s.image_id, 1, (x > 5) != (random.random() < 0.1), "why", "critic")
            for s, x in zip(explained_images, places, strict=True)
        }
        plan = choose_images(alike, 200, fraction=0.3, verify=0.15, seed=seed)
        sources, rest = plan.representatives(0), plan.order[plan.first :]
        checked = agreement(
            propagate(alike, explained_images, said, sources, plan.remainder, plan.far, "critic"), said, 30
        )
        whole = agreement(
            propagate(alike, explained_images, said, sources, rest, plan.far, "critic"), said, 140
        )
        assert whole.share is not None
        covered.append(checked.low <= whole.share <= checked.high)
    assert np.mean(covered) >= 0.9


def query_plan(
    explained_images: Sequence[ExplainedImage], fraction: float, required: float = 0.8
) -> QueryPlan:
    alike = compare(explained_images)
    return QueryPlan(
        explained_images,
        alike,
        choose_images(alike, len(explained_images), fraction=fraction, verify=0.1, seed=0),
        required,
    )


def oracle(question: Question) -> str:
    """Condemns the planted block."""
    spurious = question.explained.spurious
    assert spurious is not None
    if question.stage == "critic":
        return f"about {question.explained.image_id}"
    condemned = [bool((spurious & (question.explained.segments == j)).any()) for j in question.segment_ids]
    lines = [
        {"segment": j, "spurious": r, "reason": "x"}
        for j, r in zip(question.segment_ids, condemned, strict=True)
    ]
    return json.dumps({"verdicts": lines})


def test_disagreement_asks_for_more_and_a_resumed_run_pays_nothing_twice(tmp_path: Path) -> None:
    explained_images = [drawn(i, patch=i % 3 != 0) for i in range(60)]

    def coin(question: Question) -> str:
        """Says of an image what its number says, whatever it looks like: nothing can be propagated."""
        number = int(question.explained.image_id.removeprefix("p-"))
        if question.stage == "critic":
            return f"about {number}"
        value = bool(np.random.default_rng(number).integers(2))
        lines = [{"segment": j, "spurious": value, "reason": "x"} for j in question.segment_ids]
        return json.dumps({"verdicts": lines})

    plan = query_plan(explained_images, 0.3, required=0.6)
    for script, everything in ((oracle, False), (coin, True)):
        critic = Scripted(script)
        with Store.open(tmp_path / f"{script.__name__}.sqlite") as store:
            assert len(plan.due(critic_judge(critic), store)) == 18
            said = critique(plan.first, critic_judge(critic), store, further=plan.further)
            assert len(critic.asked) == len({q.key("scripted") for q in critic.asked}), "each question once"
            paid = len(critic.asked)
            again = critique(plan.first, critic_judge(critic), store, further=plan.further)
            assert (again, len(critic.asked)) == (said, paid)
            assert len(plan.due(critic_judge(critic), store)) == paid / 2, "by file the same images are due"
        verdicts, outcome = plan.complete(said, "scripted")
        assert [(v.image_id, v.segment) for v in verdicts] == [
            (s.image_id, j) for s in explained_images for j in s.segment_ids
        ]
        assert outcome is not None
        if everything:
            assert outcome.asked == 60
            assert outcome.propagated == outcome.unscored == 0
            assert all(v.author == "scripted" for v in verdicts)
        else:
            assert outcome.asked == paid / 2 < 60
            assert outcome.verified.low is not None
            assert outcome.verified.low >= 0.6
    without = replace(plan, required=0.0)
    with Store.open(tmp_path / "coin.sqlite") as store:
        said = critique(plan.first, critic_judge(Scripted(coin)), store, further=without.further)
    assert len({v.image_id for v in said}) == 18, "agreement 0 never asks more"


def test_export_and_estimate_know_only_what_is_asked(tmp_path: Path) -> None:
    explained_images = [drawn(i, kind="seven") for i in range(40)]
    plan, by_file = query_plan(explained_images, 0.25), critic_judge(BatchBackend("gpt-4o"))
    with Store.open(tmp_path / "critiques.sqlite") as store:
        due = plan.due(by_file, store)
        assert [s.image_id for s in due] == [s.image_id for s in plan.first]
        fewer, all_ = estimate(due, by_file, store), estimate(explained_images, by_file, store)
        assert (fewer.critic_calls, all_.critic_calls) == (10, 40)
        assert fewer.usd == pytest.approx(all_.usd / 4 if all_.usd else None, rel=0.1)
        assert export_requests(due, by_file, store, tmp_path / "requests.jsonl").requests == 10


def test_a_budget_stops_between_rounds_too(tmp_path: Path) -> None:
    explained_images = [drawn(i) for i in range(40)]
    plan = replace(query_plan(explained_images, 0.25), required=0.9999)

    class Priced(Scripted):
        model = "priced"

        def usd(self, input_tokens: int, output_tokens: int) -> float:
            return 0.001

    critic = Priced(lambda q: Reply(oracle(q), "m", usd=0.001), kind="lvlm")
    with Store.open(tmp_path / "critiques.sqlite") as store:
        with pytest.raises(BudgetReached):
            critique(plan.first, critic_judge(critic), store, max_usd=0.0305, further=plan.further)
        assert store.spent() == pytest.approx(0.03)


def go(path: Path, parts: Any, model: Any, **changes: Any) -> RunMetrics:
    config = parse_config(override({"run": str(path)}, small.settings(**changes)))
    known = load_specifications(small.SPECIFICATIONS, parts.class_names)
    project = Inputs(config, parts, model, trained=True, specifications=known)
    with RunDirectory.open(path, config.model_dump(mode="json", by_alias=True)) as run:
        _, metrics = run_pipeline(
            Context(project, run, QuietConsole()), make_critic_judge(config.critique, known)
        )
        write_report(run)
    return metrics


@pytest.mark.slow
def test_a_run_that_asks_less_says_so_everywhere_and_can_be_overruled(tmp_path: Path) -> None:
    parts, model = small.splits(), small.trained()
    changes: dict[str, Any] = {
        "critique__fraction": 0.4,
        "critique__agreement": 0,
        "align__epochs": 1,
        "evaluate__num_images": 20,
    }
    metrics = go(tmp_path, parts, model, **changes)
    outcome = metrics.verdicts.propagation
    assert outcome is not None
    calls = sum(cost.calls for cost in metrics.costs.questions)
    assert calls == 2 * outcome.asked < 2 * outcome.images
    assert outcome.propagated > 0
    table = read_verdicts(tmp_path / "verdicts.csv")
    propagated = [v for v in table if ", propagated from " in v.author]
    assert len(propagated) == outcome.propagated
    report = (tmp_path / "report.html").read_text("utf-8")
    assert f"asked about {outcome.asked} of {outcome.images} images" in report
    stages = (tmp_path / "run.json").read_bytes()
    assert go(tmp_path, parts, model, **changes) == metrics
    assert (tmp_path / "run.json").read_bytes() == stages, "nothing is computed again"

    first = propagated[0]
    edited = [replace(v, spurious=not v.spurious) if v == first else v for v in table]
    (tmp_path / "verdicts.csv").write_bytes(verdicts_file(edited))
    (over,) = go(tmp_path, parts, model, **changes).verdicts.overruled
    assert (over.image_id, over.segment, over.author) == (first.image_id, first.segment, "hand")
    everything = go(tmp_path / "all", parts, model, **(changes | {"critique__fraction": 1}))
    assert everything.verdicts.propagation is None


def test_a_share_or_a_number_but_nothing_between() -> None:
    assert parse_config({"critique": {"fraction": 0.2}}).critique.fraction == 0.2
    assert parse_config({"critique": {"fraction": 40}}).critique.fraction == 40
    for wrong in (0, -1, 1.5):
        with pytest.raises(ConfigError, match=r"critique"):
            parse_config({"critique": {"fraction": wrong}})
