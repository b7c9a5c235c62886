"""One critiqued image for the terminal: what was seen, what was said, and a drawing of it."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import png, render
from lvlm_va.errors import RunError
from lvlm_va.io.cells import from_cell
from lvlm_va.report.critiques import critique_of
from lvlm_va.report.figures import lines_of, say_verdict
from lvlm_va.report.record import Judged, read_exchanges, read_images, read_judged
from lvlm_va.report.words import printable
from lvlm_va.run.directory import RunDirectory

__all__ = ["Shown", "show_image"]

_GAP = 16  # pixels between the drawings


@dataclass(frozen=True)
class Shown:
    """Text for the terminal, and the PNG file with original, segment map and overlay side by side."""

    text: str
    path: Path


def show_image(run: RunDirectory, image_id: str) -> Shown:
    """Describe one critiqued image and draw it to images/ in the run.

    Raises:
        RunError: if the run has no such image (naming the nearest), or no verdicts yet.
    """
    images, judged = read_images(run), read_judged(run)
    if image_id not in images.explained_images:
        image_id = from_cell(image_id)  # copied from selection.csv or verdicts.csv
    if image_id not in images.explained_images:
        nearest = get_close_matches(image_id, images.explained_images, n=3, cutoff=0.0)
        raise RunError(
            f"{run.path}: no image {image_id!r} was critiqued; the nearest are {', '.join(nearest)}"
        )
    explained = images.explained_images[image_id]
    said = [v for v in judged.said if v.image_id == image_id]
    critique = critique_of(read_exchanges(run, image_id).get(image_id, ()), said)

    lines = [f"Image {image_id}: class {explained.class_name!r}, predicted {explained.predicted!r}"]
    if image_id in images.set_aside:
        lines.append(f"Set aside, not critiqued: {images.set_aside[image_id]}")
    else:
        lines += _segments(explained, judged)
        lines += ["", f"Critique by {critique.backend}:", critique.text] if critique else ["", "No critique."]
    return Shown(printable("\n".join(lines)), run.write(_file_name(image_id), _draw(explained)))


def _segments(explained: ExplainedImage, judged: Judged) -> Iterable[str]:
    verdicts = {v.segment: v for v in judged.in_force if v.image_id == explained.image_id}
    overruled = {
        o.person.segment: o.critic for o in judged.overruled if o.person.image_id == explained.image_id
    }
    for line in lines_of(explained, verdicts):
        yield f"  segment {line.segment}  {line.share:>5}  {line.verdict:8}  {line.reason} ({line.author})"
        if line.segment in overruled:
            critic = overruled[line.segment]
            yield f"             overrules {critic.author}: {say_verdict(critic.spurious)}, {critic.reason}"


def _draw(explained: ExplainedImage) -> bytes:
    drawn = [np.asarray(Image.open(BytesIO(p.png)).convert("RGB")) for p in render(explained)]
    height = max(len(pixels) for pixels in drawn)
    # White below what is lower, and to the right of each.
    drawn = [np.pad(p, ((0, height - len(p)), (0, _GAP), (0, 0)), constant_values=255) for p in drawn]
    return png(np.concatenate(drawn, axis=1)[:, :-_GAP])


def _file_name(image_id: str) -> str:
    """images/<id>.png; an id that is no plain file name keeps its letters and gets a fingerprint."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", image_id)[:100]
    if plain != image_id:
        plain += f"-{hashlib.sha256(image_id.encode()).hexdigest()[:8]}"
    return f"images/{plain}.png"
