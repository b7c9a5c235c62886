"""Small subjects, images and panels for the tests of the critique room."""

import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from lvlm_va.critique.question import Backend, CaptionedImage, ExplainedImage, Question, Reply
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.specification import ClassSpecification

SEVEN = ClassSpecification("seven", "A horizontal bar and a slanted stroke.", ("the bar",), ("a patch",))


def explained(number: int = 0, segments: int = 3, **changes: Any) -> ExplainedImage:
    """A 6×6 image whose columns are segments 1..J, J ≤ 6; the planted feature is the upper left pixel.

    `predicted` differs from subject to subject, so that every question has a prompt of its own.
    """
    image = np.zeros((6, 6, 3), np.uint8)
    image[0, 0] = number % 256, number // 256, 7
    spurious = np.zeros((6, 6), np.bool_)
    spurious[0, 0] = True
    values: dict[str, Any] = {
        "image_id": f"image-{number}",
        "image": image,
        "segments": np.tile(np.arange(6) * segments // 6 + 1, (6, 1)).astype(np.int16),
        "attribution": np.ones((6, 6), np.float32),
        "shares": (1 / segments,) * segments,
        "class_name": "seven",
        "predicted": f"seven-{number}",
        "spurious": spurious,
    }
    return ExplainedImage(**(values | changes))


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """(H, W, 3) uint8 as a PNG file."""
    height, width = pixels.shape[:2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def render(it: ExplainedImage) -> tuple[CaptionedImage, ...]:
    return tuple(CaptionedImage(caption, png(it.image)) for caption in ("original", "segment map", "overlay"))


class Scripted:
    """A backend whose answers are a function of the question; it counts what it is asked."""

    def __init__(
        self,
        script: Callable[[Question], str | Reply],
        name: str = "scripted",
        kind: Literal["lvlm", "measurement", "oracle"] = "measurement",
    ) -> None:
        self.name, self.kind, self.script = name, kind, script
        self.asked: list[Question] = []

    async def answer(self, question: Question) -> Reply:
        self.asked.append(question)
        reply = self.script(question)
        return reply if isinstance(reply, Reply) else Reply(reply, "script-1")

    async def close(self) -> None:
        pass


def critic_judge(critic: Backend, judge: Backend | None = None, **changes: Any) -> CriticJudge:
    return CriticJudge(critic, judge or critic, {"seven": SEVEN}, render, **changes)
