"""A person judges segments at the terminal: one after the other, every answer on the disk at once."""

import io
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from lvlm_va.critique.backends.person import PersonBackend
from lvlm_va.critique.person.judging import Judging, Segment
from lvlm_va.critique.person.sheet import read_answer, step
from lvlm_va.critique.question import Intervention
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.io.files import write_atomically
from lvlm_va.io.screen import echo, shown

__all__ = ["at_a_terminal", "judge"]

_PROMPT = "[s]purious, [r]elevant, [c]annot say, [b]ack, [stop]: "
_HELP = (
    "Write s, r or c, and why behind it if you like (s the hospital's tag); b takes the last judgement back; "
    "stop ends here, and all judgements are kept."
)
_COLUMNS = 72


def at_a_terminal() -> bool:
    """Whether somebody can be asked here."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def judge(
    judging: Judging,
    person: PersonBackend,
    *,
    specifications: Mapping[str, ClassSpecification],
    intervene: Intervention,
    picture: Path,
    read: Callable[[str], str | None] | None = None,
) -> None:
    """Ask until enough segments are judged, or the person stops.

    Args:
        judging: where judgements go.
        person: who is asked; without a name it is asked for.
        specifications: class name → what is known of it, shown when the class comes first.
        intervene: how much is to be condemned.
        picture: a PNG, overwritten with each segment.
        read: shows a prompt and returns a line, None at the end of the input; the terminal when not given.
    """
    ask = read or _read
    if read is None and isinstance(sys.stdin, io.TextIOWrapper):
        with suppress(io.UnsupportedOperation):  # it was read before, and set then
            sys.stdin.reconfigure(errors="replace")
    echo(f"{judging.due} segments to judge, {judging.judged} judged so far. {step(intervene)}\n{_HELP}")
    echo(f"Open {picture} in a viewer; it changes with each segment.")
    author = person.who or (ask("Your name, which signs the judgements: ") or "").strip()
    if not author:
        return
    told: set[str] = set()
    while (due := judging.due) and (found := judging.next()):
        if due == judging.wanted // 2 and judging.judged >= judging.wanted:
            echo(f"\n{judging.carried_over()[1]}\n{due} more, or stop.")
        if not _one(judging, found[0], author, specifications, told, picture, ask):
            break
    echo(f"\n{judging.carried_over()[1]}")


def _one(
    judging: Judging,
    segment: Segment,
    author: str,
    specifications: Mapping[str, ClassSpecification],
    told: set[str],
    picture: Path,
    ask: Callable[[str], str | None],
) -> bool:
    """Ask about a segment until it is judged, or a judgement before it is taken back; False to stop."""
    of = segment.explained
    if of.class_name not in told and of.class_name in specifications:
        told.add(of.class_name)
        echo(f"\n{specifications[of.class_name].text}")
    png = segment.picture()
    write_atomically(picture, png)
    echo(
        f"\n{judging.judged + 1} of {judging.judged + judging.due}: segment {segment.number} of "
        f"{shown(segment.image_id)}, {segment.where}, {segment.share:.0%} of the evidence for "
        f"{shown(of.explains)}. The true class is {shown(of.class_name)}, the classifier says "
        f"{shown(of.predicted)}."
    )
    _draw(png)
    while (line := ask(_PROMPT)) is not None:
        words = line.split()
        command = words[0].lower() if words else ""
        if command in ("stop", "q", "quit"):
            return False
        if command in ("b", "back"):
            back = judging.take_back(author=author, how="terminal")
            echo("Nothing was judged yet." if back is None else "Taken back.")
            if back is not None:
                return _one(judging, back, author, specifications, told, picture, ask)
            continue
        taken = 2 if [word.lower() for word in words[:2]] == ["cannot", "say"] else 1
        answer = read_answer(" ".join(words[:taken]))
        if answer is None:
            echo(_HELP)
            continue
        judging.submit(segment, answer, author=author, reason=" ".join(words[taken:]), how="terminal")
        return True
    return False


def _read(prompt: str) -> str | None:
    echo(prompt, end="")
    line = sys.stdin.readline()
    return line if line else None


def _draw(png: bytes) -> None:
    """The picture in the terminal itself, where that has 16 million colours: two pixels a character."""
    if os.environ.get("COLORTERM") not in ("truecolor", "24bit") or not sys.stdout.isatty():
        return
    with Image.open(io.BytesIO(png)) as image:
        rows = 2 * max(1, round(_COLUMNS * image.height / image.width / 2))
        small = image.convert("RGB").resize((_COLUMNS, rows), Image.Resampling.LANCZOS)
        colours = np.asarray(small).reshape(-1, 3).tolist()
    for top in range(0, rows, 2):
        cells = zip(
            colours[top * _COLUMNS : (top + 1) * _COLUMNS],
            colours[(top + 1) * _COLUMNS : (top + 2) * _COLUMNS],
            strict=True,
        )
        # Not through `echo`, which lets nothing steer the terminal: all in it is numbers of ours.
        line = "".join("\x1b[38;2;{};{};{};48;2;{};{};{}m▀".format(*upper, *lower) for upper, lower in cells)
        sys.stdout.write(f"{line}\x1b[0m\n")
    sys.stdout.flush()
