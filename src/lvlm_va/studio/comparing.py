"""Two states of runs side by side: which verdicts flipped, what was measured, which words changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.tables import Table
from lvlm_va.report.words import decimal, lambda_text, percent, points
from lvlm_va.run.files import ALIGNED, ORIGINAL
from lvlm_va.run.metrics import ModelMetrics
from lvlm_va.studio.subject import Subject
from lvlm_va.studio.versions import Version, stand_now

__all__ = ["Flipped", "compared_words", "flipped", "measured_table"]


@dataclass(frozen=True)
class Flipped:
    """A segment whose verdict is another in the second state.

    Attributes:
        position: of its image in `subject`.
        subject: the run whose image is shown.
        explained: the image.
        before, after: the verdicts.
    """

    position: int
    subject: Subject
    explained: ExplainedImage
    before: Verdict
    after: Verdict


def flipped(one: Version, other: Version) -> tuple[list[Flipped], int]:
    """The verdicts that differ, large shares of the evidence first; and how many segments both judged.

    Only what is the same in both counts: of one run all segments while these are the same, of two runs those
    of images that are equal in pixels, explanation and segments.
    """
    equal = _equal_images(one, other)
    images = other.subject.images().explained_images
    positions = {image_id: n for n, image_id in enumerate(images)}
    found, both = [], 0
    for key, before in one.verdicts.items():
        after = other.verdicts.get(key)
        if after is None or key[0] not in equal:
            continue
        both += 1
        if after.spurious is not before.spurious:
            found.append(Flipped(positions[key[0]], other.subject, images[key[0]], before, after))
    found.sort(key=lambda f: -f.explained.shares[f.after.segment - 1])
    return found, both


def measured_table(one: Version, other: Version) -> Table | None:
    """What was measured of the aligned models of both; None where one of them was not aligned."""
    if one.metrics is None or other.metrics is None:
        return None
    models = [one.metrics.models[ORIGINAL], one.metrics.models[ALIGNED], other.metrics.models[ALIGNED]]
    rows: list[tuple[str, ...]] = [("λ", "—", *(lambda_text(model.lam) for model in models[1:]), "")]
    for name, values in _measures(models).items():
        show = decimal if name.startswith("μ") else percent
        before, after = values[1:]
        change = "" if before is None or after is None or show is decimal else points(after - before)
        if show is decimal and before is not None and after is not None:
            change = f"{after - before:+.2f}"
        rows.append((name, *("—" if v is None else show(v) for v in values), change))
    return Table(
        f"What was measured: “first” is {one.title}, “second” is {other.title}. The original model is that "
        "of the first.",
        ("measure", "original model", "first, aligned", "second, aligned", "gained"),
        tuple(rows),
    )


def _measures(models: Sequence[ModelMetrics]) -> dict[str, list[float | None]]:
    """Name → its value in each model, where the last two have it."""
    tests = [test for test in models[1].accuracy if test in models[2].accuracy]
    found: dict[str, list[float | None]] = {
        "accuracy, validation": [model.validation.accuracy for model in models]
    }
    for test in tests:
        found[f"accuracy, {test}"] = [model.accuracy.get(test) for model in models]
        groups = [model.groups.get(test) for model in models]
        if groups[1] is not None and groups[2] is not None:
            found[f"{test}: worst group (WGA)"] = [None if g is None else g.worst for g in groups]
            found[f"{test}: mean over groups (AGA)"] = [None if g is None else g.average for g in groups]
    found["μ_align"] = [None if m.mu_align is None else m.mu_align.mean for m in models]
    return {name: values for name, values in found.items() if values[1] is not None or values[2] is not None}


def compared_words(one: Version, other: Version) -> list[tuple[str, str, str]]:
    """(class, words then, words now) where these differ."""
    names = sorted(one.words.keys() | other.words.keys())
    pairs = [(name, one.words.get(name, ""), other.words.get(name, "")) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _equal_images(one: Version, other: Version) -> frozenset[str]:
    """The images whose segments are the same in both, and still those of the second one's run."""
    if other.segments != stand_now(other.subject).segments:
        return frozenset()
    images = other.subject.images().explained_images
    if one.segments == other.segments and one.subject is other.subject:
        return frozenset(images)
    if one.segments != stand_now(one.subject).segments:
        return frozenset()
    others = one.subject.images().explained_images
    common = images.keys() & others.keys()
    return frozenset(i for i in common if images[i].fingerprint == others[i].fingerprint)
