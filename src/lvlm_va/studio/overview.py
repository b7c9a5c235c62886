"""What of a run is done, and what comes next."""

from dataclasses import dataclass

from lvlm_va.errors import LvlmVaError
from lvlm_va.report.words import count
from lvlm_va.run.files import METRICS, ORIGINAL_WEIGHTS
from lvlm_va.studio.jobs import job_of
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.specifying import words_of
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
    critiqued, looked = subject.is_critiqued, bool(_looked(subject))
    known, told = _specified(subject)
    found = [
        ("specify", "Specify", known, told),
        ("align", "Explain and critique", critiqued, _critiqued(subject)),
        ("understand", "Understand", looked, "See what the classifier relies on, ranked."),
        ("review", "Review", looked, _reviewed(subject)),
        ("align", "Align", subject.has(METRICS), _aligned(subject)),
        (
            "handover",
            "Hand over",
            subject.has("export"),
            "Take the model, its card, the report and the verdicts.",
        ),
    ]
    work = {"critique": "Explain and critique", "align": "Align"}.get(running, "")
    listed: list[Step] = []
    waiting = True
    for where, title, done, text in found:
        state = "now" if title == work else "done" if done else "next" if waiting else "later"
        waiting = waiting and state == "done"
        listed.append(Step(where, title, state, text))
    return listed


def next_step(subject: Subject) -> Step | None:
    """The first that is not done; None where all are."""
    return next((step for step in steps(subject) if step.state in ("now", "next")), None)


def _looked(subject: Subject) -> int:
    return len(Review(subject).standing().looked_at) if subject.is_critiqued else 0


def _specified(subject: Subject) -> tuple[bool, str]:
    """Whether the words can be used, and how they stand."""
    try:
        words = words_of(subject).read()
    except LvlmVaError as error:
        return subject.is_critiqued, str(error)
    return True, f"The words of {count(len(words), 'class', 'classes')} say what matters, and what must not."


def _critiqued(subject: Subject) -> str:
    if not subject.is_critiqued:
        if subject.has(ORIGINAL_WEIGHTS):
            return "The classifier is there; its images are still to be explained and asked about."
        return (
            "The classifier is trained or loaded, images are explained, and the critic is asked about them."
        )
    standing = Review(subject).standing()
    counted = standing.counted
    return (
        f"{count(len(standing.of_image), 'image')}, {count(len(standing.in_force), 'segment')}: "
        f"{counted[True]:,} spurious, {counted[False]:,} valid, {counted[None]:,} unscored."
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
        return (
            "The classifier is fine-tuned not to rely on what is condemned; it stays as it is if that makes "
            "nothing better."
        )
    if metrics.lam.original_stays:
        return "Nothing was better than the original model, so the original model stays."
    return f"Aligned with λ = {metrics.lam.chosen:g}."
