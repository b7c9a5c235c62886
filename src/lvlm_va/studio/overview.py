"""What of a run is done, and what comes next."""

from collections.abc import Sequence
from dataclasses import dataclass

from lvlm_va.report.words import count
from lvlm_va.run.files import CRITIQUES, METRICS, ORIGINAL_WEIGHTS
from lvlm_va.studio.jobs import job_of
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import Subject

__all__ = ["Step", "next_step", "steps"]


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        where: the page.
        title: what.
        state: "done", "now" (under way), "next", or "later".
        told: how it stands, in a sentence.
    """

    where: str
    title: str
    state: str
    told: str


def steps(subject: Subject) -> list[Step]:
    """All steps, in order."""
    job = job_of(subject)
    running = job.verb if job is not None and job.running else ""
    critiqued, aligned = subject.is_critiqued, subject.has(METRICS)
    found = [
        ("specify", "Specify", subject.has(CRITIQUES), "Say in words what defines each class, and what must not count."),
        ("align", "Explain and critique", critiqued, _critiqued(subject)),
        ("understand", "Understand", critiqued and bool(_looked(subject)), "See what the classifier relies on, ranked."),
        ("review", "Review", critiqued and bool(_looked(subject)), _reviewed(subject)),
        ("align", "Align", aligned, _aligned(subject)),
        ("handover", "Hand over", subject.has("export"), "Take the model, its card, the report and the verdicts."),
    ]
    told: list[Step] = []
    waiting = True
    for where, title, done, text in found:
        now = (running in ("critique", "diagnose") and title == "Explain and critique") or (
            running == "align" and title == "Align"
        )
        state = "now" if now else "done" if done else "next" if waiting else "later"
        waiting = waiting and (done and not now)
        told.append(Step(where, title, state, text))
    return told


def next_step(subject: Subject) -> Step | None:
    """The first that is not done; None where all are."""
    return next((step for step in steps(subject) if step.state in ("now", "next")), None)


def _looked(subject: Subject) -> int:
    return len(Review(subject).standing().looked_at) if subject.is_critiqued else 0


def _critiqued(subject: Subject) -> str:
    if not subject.is_critiqued:
        if subject.has(ORIGINAL_WEIGHTS):
            return "The classifier is there; its images are still to be explained and asked about."
        return "The classifier is trained or loaded, images are explained, and the critic is asked about them."
    standing = Review(subject).standing()
    counted = {value: sum(v.spurious is value for v in standing.in_force.values()) for value in (True, False, None)}
    return (
        f"{count(len(standing.of_image), 'image')}, {count(len(standing.in_force), 'segment')}: {counted[True]:,} "
        f"spurious, {counted[False]:,} valid, {counted[None]:,} unscored."
    )


def _reviewed(subject: Subject) -> str:
    if not subject.is_critiqued:
        return "Look at the critic’s verdicts, the most doubtful first, and overrule what is wrong."
    standing = Review(subject).standing()
    return (
        f"{len(standing.looked_at):,} of {count(len(standing.of_image), 'image')} looked at, "
        f"{count(len(standing.overruled), 'verdict')} overruled."
    )


def _aligned(subject: Subject) -> str:
    metrics = subject.metrics()
    if metrics is None:
        return "The classifier is fine-tuned not to rely on what is condemned; it stays as it is if that makes nothing better."
    if metrics.lam.original_stays:
        return "Nothing was better than the original model, so the original model stays."
    return f"Aligned with λ = {metrics.lam.chosen:g}."


