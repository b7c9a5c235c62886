"""The story of a run in one sentence, true whichever way it went."""

from collections.abc import Sequence

from lvlm_va.critique.question import KINDS
from lvlm_va.report.reliance import Reliance
from lvlm_va.report.words import count, lambda_text, mean_defined, percent, points, quote
from lvlm_va.run.diagnosed import Diagnosed, Ground
from lvlm_va.run.files import ALIGNED, ORIGINAL
from lvlm_va.run.metrics import GroupMetrics, Measured, ModelMetrics, RunMetrics, VerdictMetrics

__all__ = [
    "critic_name",
    "relied_on",
    "tell_choice",
    "tell_data",
    "tell_diagnosis",
    "tell_groups",
    "tell_intervention",
    "tell_labels",
    "tell_story",
]

_NOTICEABLE = 0.005  # half a percentage point: less is called no change


def tell_story(metrics: RunMetrics) -> str:
    """What was condemned, and what became of the classifier, in one sentence."""
    verdicts, models = metrics.verdicts, metrics.models
    who, segments = critic_name(verdicts), verdicts.segments
    name, before = _accuracy(metrics, models["original"])
    if not verdicts.spurious:
        if segments and verdicts.unscored == segments:
            cause = f"None of {count(segments, 'segment')} got a verdict from the critic {who}"
        else:
            cause = (
                f"The critic {who} condemned none of {count(segments, 'segment')} in "
                f"{count(verdicts.images, 'image')}"
            )
        still = "" if before is None else f"; it gets {percent(before)} of {name} right"
        return f"{cause}, so there was nothing to align and the classifier stays as it was{still}."

    _, after = _accuracy(metrics, models[ALIGNED])
    cause = f"The critic {who} condemned {verdicts.spurious:,} of {count(segments, 'segment')}"
    if metrics.lam.original_stays:
        still = "" if before is None else f"; it gets {percent(before)} of {name} right"
        return f"{cause}, but fine-tuning made nothing better, so the classifier stays as it was{still}."
    groups = _main_groups(metrics)
    if groups is not None:
        text, gain = _group_effect(metrics, *groups)
        return f"{cause}; fine-tuned not to rely on them, the classifier {text}{_on_planted(metrics, gain)}."
    if before is None or after is None:
        return (
            f"{cause}, and the classifier was fine-tuned not to rely on them; no test set says how it does."
        )
    gain = after - before
    if abs(gain) < _NOTICEABLE:
        effect = f"gets as much of {name} right as before ({percent(after)}, was {percent(before)})"
    else:
        effect = f"gets {percent(after)} of {name} right instead of {percent(before)}"
    if gain <= -_NOTICEABLE:
        effect += ", so the alignment did harm"
    return f"{cause}; fine-tuned not to rely on them, the classifier {effect}{_on_planted(metrics, gain)}."


def _group_effect(metrics: Measured, before: GroupMetrics, after: GroupMetrics) -> tuple[str, float]:
    """What became of the worst group and of all of them, and by how much the worst one changed."""
    worst, mean = after.worst - before.worst, after.average - before.average
    group = f"the worst group of {metrics.main_test}"
    if abs(worst) < _NOTICEABLE:
        text = f"gets as much of {group} right as before ({percent(after.worst)}, was "
        text += f"{percent(before.worst)})"
    else:
        text = f"gets {percent(after.worst)} of {group} right instead of {percent(before.worst)}"
    joint = "but" if worst * mean < 0 and min(abs(worst), abs(mean)) >= _NOTICEABLE else "and"
    text += f", {joint} {percent(after.average)} on average over groups instead of "
    text += percent(before.average)
    harm = worst <= -_NOTICEABLE or (mean <= -_NOTICEABLE and worst < _NOTICEABLE)
    return text + (", so the alignment did harm" if harm else ""), worst


def tell_groups(metrics: RunMetrics) -> list[str]:
    """WGA and AGA before and after, a sentence for every test set whose groups are known."""
    told = []
    for test in metrics.data.tests:
        before, after = (_groups(metrics.models[name], test) for name in (ORIGINAL, ALIGNED))
        if before is None or after is None:
            continue
        changes = [
            f"{percent(was)} → {percent(now)} ({points(now - was)} points)"
            for was, now in ((before.worst, after.worst), (before.average, after.average))
        ]
        told.append(f"{test}: worst group (WGA) {changes[0]}, mean over groups (AGA) {changes[1]}.")
    return told


def tell_labels(metrics: RunMetrics) -> list[str]:
    """Of several labels mean AUROC and average precision before and after, a sentence for every test set."""
    told = []
    for test in metrics.data.tests if metrics.data.several_labels else ():
        changes = []
        for measure, name in (("auroc", "AUROC"), ("average_precision", "average precision")):
            was, now = (
                mean_defined(getattr(metrics.models[model], measure)[test].values())
                for model in (ORIGINAL, ALIGNED)
            )
            if was is not None and now is not None:
                changes.append(f"{name} {percent(was)} → {percent(now)} ({points(now - was)} points)")
        if changes:
            told.append(f"{test}: mean over labels of {', '.join(changes)}.")
    return told


def tell_choice(metrics: RunMetrics) -> str:
    """How λ and the epoch were decided; "" where nothing was condemned, so nothing was fitted."""
    lam, aligned = metrics.lam, metrics.models[ALIGNED]
    if not metrics.verdicts.spurious:
        return ""
    decided = lam.how.partition("; nothing was better")[0]
    tried = [lambda_text(fit.lam) for fit in lam.curves[ALIGNED]]
    if lam.original_stays:
        text = f"The original model stays: no fine-tuned one (λ = {', '.join(tried)}) was better."
    elif len(tried) > 1:
        text = f"λ = {lambda_text(lam.chosen)} was chosen of {', '.join(tried)}."
    else:
        text = f"λ = {lambda_text(lam.chosen)} is in use."
    text += " It was given, not chosen." if lam.how == "given" else f" What decided: {decided}."
    scores = [tuple(score) for score in aligned.epochs]
    if scores:
        kept = max(range(len(scores)), key=lambda epoch: scores[epoch])
        text += f" Kept is epoch {kept + 1} of {len(scores)}, by the same score."
    return text


def tell_data(metrics: Measured) -> list[str]:
    """What a reader must know of the images before any number: files set aside, and leaks."""
    data = metrics.data
    told = []
    if aside := data.set_aside:
        were = "was" if len(aside) == 1 else "were"
        told.append(f"{count(len(aside), 'file')} could not be used and {were} set aside.")
    for leak in data.leaks:
        first, second = leak.parts
        are = "is" if leak.count == 1 else "are"
        told.append(f"{count(leak.count, 'image')} of {second} {are} also in {first}.")
    return told


def tell_diagnosis(findings: Diagnosed) -> str:
    """What the classifier relies on, in one or two sentences."""
    verdicts, grounds = findings.verdicts, findings.grounds
    who, segments = critic_name(verdicts), count(verdicts.segments, "segment")
    if not verdicts.segments:
        return "No image could be segmented, so nothing can be said about what the classifier relies on."
    if not grounds:
        return f"None of {segments} got a verdict from the critic {who}, so nothing can be said yet."
    condemned, accepted = (_first(grounds, verdict) for verdict in ("spurious", "valid"))
    if condemned is None:
        text = (
            f"The critic {who} condemned none of {segments} in {count(verdicts.images, 'image')}: "
            f"as far as it can tell, the classifier relies on what it should; it accepted segments above all "
            f"as {accepted}."
        )
    else:
        text = (
            f"{percent(findings.evidence.condemned, 0)} of the evidence for the classifier's decisions "
            f"lies in segments that the critic {who} condemned, above all as {condemned}"
        )
        text += f"; it accepted others above all as {accepted}." if accepted else "; it accepted nothing."
    if verdicts.unscored:
        text += f" {percent(findings.evidence.unscored, 0)} of the evidence got no verdict."
    return text


def _first(grounds: Sequence[Ground], verdict: str) -> str | None:
    """The first ground with this verdict, quoted, with what lies in its segments and what on the thing."""
    first = next((g for g in grounds if g.verdict == verdict), None)
    if first is None:
        return None
    on_thing = "" if first.on_thing is None else f", {percent(first.on_thing, 0)} on the thing itself"
    return f"{quote(first.reason)} ({percent(first.evidence, 0)}{on_thing})"


def relied_on(reliance: Reliance, explained: str = "predicted class") -> str:
    """What the strongest segments are, in one or two sentences.

    Args:
        reliance: over the critiqued images.
        explained: which class they are explained for, see `explained_class`.
    """
    if not reliance.images:
        return "No image could be segmented, so nothing can be said about what the model relied on."
    held = f"the segment that holds most of the evidence for the {explained}"
    condemned = percent(reliance.condemned / reliance.images, 0)
    grounds = [g for g in reliance.grounds if g.spurious and g.strongest]
    if not grounds:
        return f"In {condemned} of the critiqued images the strongest segment, {held}, was condemned."
    first = grounds[0]
    share = percent(first.strongest / reliance.images, 0)
    text = (
        f"In {share} of the critiqued images the strongest segment, {held}, was condemned as "
        f"{quote(first.reason)}"
    )
    if first.strongest == reliance.condemned:
        return f"{text}."
    return f"{text}; in {condemned} it was condemned for one reason or another."


def critic_name(verdicts: VerdictMetrics) -> str:
    """Critic and judge, each with what must stand beside its name wherever its numbers are shown."""
    critic = f"“{verdicts.critic}”{KINDS[verdicts.critic_kind]}"
    if verdicts.judge == verdicts.critic:
        return critic
    return f"{critic}, judged by “{verdicts.judge}”{KINDS[verdicts.judge_kind]}"


def tell_intervention(verdicts: VerdictMetrics) -> str:
    """How much the critic was to condemn (`critique.intervene`), and whether it could call segments mixed."""
    said = {
        "spurious": "It was to condemn only what clearly must not matter",
        "core": "It was to condemn everything but the clear core",
    }
    text = f"{said[verdicts.intervene]} (critique.intervene: {verdicts.intervene})."
    if verdicts.split:
        text += (
            " A segment that it called mixed was divided and its parts asked about "
            f"(critique.split: {verdicts.split})."
        )
    return text


def _main_groups(metrics: RunMetrics) -> tuple[GroupMetrics, GroupMetrics] | None:
    """Accuracy by group on the main test set before and after; None where its groups are unknown."""
    name = metrics.main_test
    before, after = (_groups(metrics.models[model], name) for model in (ORIGINAL, ALIGNED))
    return None if before is None or after is None else (before, after)


def _groups(model: ModelMetrics, test: str | None) -> GroupMetrics | None:
    """Accuracy by group; None where groups are unknown, or none has an image."""
    known = None if test is None else model.groups.get(test)
    return known if known and known.accuracy else None


def _accuracy(metrics: Measured, model: ModelMetrics) -> tuple[str, float | None]:
    name, what = metrics.main_test, "labels" if metrics.data.several_labels else "images"
    if name is None:
        labels = "the labels of " if metrics.data.several_labels else ""
        return f"{labels}the validation set", model.validation.accuracy
    return f"the {what} of {name}", model.accuracy[name]


def _on_planted(metrics: RunMetrics, gain: float) -> str:
    """The clause about μ_align, where the planted feature is known; 1 − μ_align lies on it."""
    before, after = (metrics.models[name].mu_align for name in ("original", ALIGNED))
    if before is None or after is None or before.mean is None or after.mean is None:
        return ""
    was, now = 1 - before.mean, 1 - after.mean
    planted = metrics.data.planted
    feature = f"the planted feature ({planted})" if planted else "the planted feature"
    better = now - was <= -_NOTICEABLE
    joint = "and" if better == (gain >= _NOTICEABLE) else "but"
    if abs(now - was) < _NOTICEABLE:
        return f", {joint} {percent(now)} of its explanation still lies on {feature}"
    return f", {joint} {percent(now)} of its explanation lies on {feature} instead of {percent(was)}"
