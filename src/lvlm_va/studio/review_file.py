"""A review that is sent: one HTML file for an expert elsewhere, whose answers come back as JSON."""

import hashlib
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lvlm_va.critique.rendering import png
from lvlm_va.errors import RunError
from lvlm_va.io.data_uri import data_uri
from lvlm_va.io.screen import printable
from lvlm_va.report.critiques import STEPS, split_steps
from lvlm_va.report.one_file import one_file_page
from lvlm_va.report.record import read_critiques, read_judged
from lvlm_va.report.words import count
from lvlm_va.studio.pictures import labels, layer, marked
from lvlm_va.studio.queue import STATES, Entry, state_of
from lvlm_va.studio.reviewing import Answer, Key, Review
from lvlm_va.studio.subject import Subject
from lvlm_va.study.key import explain_invalid

__all__ = ["Taken", "review_file", "take_answers"]

_VALUES = {name: value for value, name in STATES.items()}
Word = Literal["spurious", "valid", "unscored"]


def review_file(subject: Subject, entries: Sequence[Entry]) -> bytes:
    """The page: its images, what the critic said of them, and the words of their classes.

    Args:
        subject: the run.
        entries: the images, in the order in which they are shown.

    Raises:
        RunError: if there is none, or the run cannot be read.
    """
    if not entries:
        raise RunError("there is no image to send: no critiqued image passes")
    run = subject.read()
    critiques = read_critiques(run, read_judged(run))
    standing = Review(subject).standing()
    images = []
    words: dict[str, str] = {}
    for entry in entries:
        explained, critique = entry.explained, critiques.get(entry.explained.image_id)
        if critique is not None:
            words.setdefault(explained.class_name, printable(critique.specification))
        steps = [] if critique is None else split_steps(critique.text)[1]
        images.append(
            {
                "id": explained.image_id,
                "fingerprint": explained.fingerprint,
                "class_name": explained.class_name,
                "predicted": explained.predicted,
                "why": entry.why,
                "original": data_uri(png(explained.image)),
                "coarse": max(explained.image.shape[:2]) <= 64,
                "marked": data_uri(marked(explained)),
                "evidence": data_uri(layer(explained, "evidence")),
                "labels": labels(explained),
                "steps": [[title, printable(text)] for title, text in zip(STEPS, steps, strict=False)],
                "segments": [
                    {
                        "segment": verdict.segment,
                        "share": explained.shares[verdict.segment - 1],
                        "verdict": state_of(verdict),
                        "said": state_of(standing.said[verdict.image_id, verdict.segment]),
                        "reason": printable(verdict.reason),
                        "author": printable(verdict.author),
                    }
                    for verdict in entry.verdicts
                ],
            }
        )
    digest = hashlib.sha256("\n".join(f"{i['fingerprint']} {i['segments']}" for i in images).encode())
    style = importlib.resources.files("lvlm_va.studio").joinpath("static/studio.css").read_text("utf-8")
    page = one_file_page(
        "lvlm_va.studio",
        "review_file.html",
        "templates/review_file.js",
        style=Markup(style),  # noqa: S704 -- our own file
        count=len(images),
        name=subject.name,
        contents={"review": digest.hexdigest()[:16], "words": words, "images": images},
    )
    return page.encode("utf-8", "replace")


@dataclass(frozen=True)
class Taken:
    """What came of an answered review.

    Attributes:
        author: who answered.
        changed: how many verdicts were changed.
        looked_at: how many images the person looked at.
        left: segments left as they are, since they were changed here in the meantime.
    """

    author: str
    changed: int
    looked_at: int
    left: Sequence[Key]

    def __str__(self) -> str:
        told = (
            f"{self.author}: {count(self.changed, 'verdict')} changed, "
            f"{count(self.looked_at, 'image')} looked at."
        )
        if self.left:
            named = ", ".join(f"segment {j} of {image_id}" for image_id, j in self.left[:8])
            more = f" and {len(self.left) - 8} more" if len(self.left) > 8 else ""
            told += f" Changed here since the page was made, and left as they are: {named}{more}."
        return told


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Segment(_Strict):
    segment: int
    seen: Word
    verdict: Word
    reason: Annotated[str, Field(max_length=2000)] = ""


class _Image(_Strict):
    image: str
    fingerprint: str
    segments: list[_Segment]


class _File(_Strict):
    format: Literal[1]
    review: str
    author: Annotated[str, Field(min_length=1, max_length=80)]
    images: list[_Image]


def take_answers(subject: Subject, content: bytes, where: str | Path) -> Taken:
    """Take the answers that a page of `review_file` saved; taken twice, they change nothing more.

    Args:
        subject: the run that the page was made of.
        content: the JSON file.
        where: what to call it in messages and in the history.

    Raises:
        RunError: if it is no such file, or is about other images or segments than the run's.
    """
    try:
        file = _File.model_validate_json(content)
    except ValidationError as error:
        raise RunError(
            f"{where}: is not what a page of a review saves ({explain_invalid(error)}); ask for it again"
        ) from None
    answers: dict[Key, Answer] = {}
    known = subject.images().explained_images
    for image in file.images:
        of_run = known.get(image.image)
        if of_run is None or of_run.fingerprint != image.fingerprint:
            raise RunError(
                f"{where}: image {image.image[:80]!r} was asked about with other segments than this run has, "
                "or is not of this run; nothing was taken"
            )
        for one in image.segments:
            key = image.image, one.segment
            answers[key] = Answer(_VALUES[one.verdict], one.reason, _VALUES[one.seen])
    looked_at = [image.image for image in file.images]
    action, left = Review(subject).take(answers, looked_at, file.author, f"from {Path(where).name}")
    return Taken(file.author, 0 if action is None else len(action.changes), len(looked_at), left)
