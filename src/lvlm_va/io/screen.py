"""The one place through which text reaches the screen: nothing in it can steer a terminal.

File names, servers' texts, replies and imported ids may hold anything: escape sequences that set the title
or move the cursor, bidirectional overrides that swap what is read, line breaks that look like lines of ours.
"""

import os
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from lvlm_va.errors import RunError

__all__ = ["echo", "keep_writing", "printable", "shown"]


def printable(text: str) -> str:
    r"""`text` with control and format characters and halves of characters as escapes, e.g. ESC as \x1b.

    Line breaks stay, since messages have several lines; a tab becomes a space. Text that came from outside
    and belongs on one line goes through `shown` before it becomes part of a message.
    """
    return "".join(c if c in "\n " or c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return character  # only a space of another width
    return " " if character == "\t" else character.encode("unicode_escape", "surrogatepass").decode("ascii")


def shown(text: object, most: int = 120) -> str:
    """A name or an id from outside, as a part of a message: on one line, of at most `most` characters."""
    whole = str(text)
    # Cut first: an id of megabytes is not worth escaping. An escape may be ten characters for one.
    line = printable(whole[:most]).replace("\n", "\\n")
    return line if len(line) <= most and len(whole) <= most else line[: most - 3] + "..."


def echo(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Print to standard output, or to standard error.

    A reader who has left (`lvlm-va ... | head`) does not stop the work: the rest of the output is dropped.

    Raises:
        RunError: if standard output cannot be written, e.g. because it is a file on a full disk.
    """
    stream: TextIO | None = sys.stderr if err else sys.stdout
    if stream is None:  # closed by whoever started this
        return
    try:
        stream.write(printable(str(text)) + end)
        stream.flush()
    except OSError as error:
        # Python would try it again at its end.
        with suppress(OSError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        if not isinstance(error, BrokenPipeError) and not err:
            raise RunError(f"the output cannot be written ({error.strerror})") from None


def keep_writing() -> None:
    """Let a character that the screen's encoding lacks (a Windows console, a Latin-1 locale) become "?"."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
