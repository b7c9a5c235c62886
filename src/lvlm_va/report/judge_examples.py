"""Examples for the judge out of a run's own critiques: the ones worth a person's minute, ready to be edited.

First those with a verdict that a person overruled, then the most doubtful, whose verdict lines leave most to
a judge, and the most typical, whose reasons are closest to the average.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from lvlm_va.critique.clear_lines import clear_lines
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError, RunError
from lvlm_va.io.files import write_atomically
from lvlm_va.io.redaction import one_line
from lvlm_va.report.critiques import Critique
from lvlm_va.report.record import read_critiques, read_judged
from lvlm_va.run.directory import RunDirectory
from lvlm_va.vision.encoder import encode

__all__ = ["write_judge_examples"]

_HEADER = """\
# Critiques of this run, each with the verdicts in force. Read them, correct the verdicts, give a verdict
# where none stands (the lines that begin with "# -"), delete what you do not need, and name this file in the
# project file: critique: {judge_examples: THIS FILE}
"""


class _Literal(str):
    """A text that is written line by line, for a person to read."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """SafeDumper that knows it."""


_Dumper.add_representer(
    _Literal, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)


def write_judge_examples(run: RunDirectory, path: Path, number: int = 8) -> int:
    """Write examples in the form that `critique.judge_examples` reads; returns how many.

    Args:
        run: with critiques.
        path: a file that does not exist.
        number: at most.

    Raises:
        ConfigError: if the file exists or cannot be written.
        RunError: if the run has no critique with a verdict.
    """
    if path.exists():
        raise ConfigError(f"{path} exists already, and may hold corrected verdicts; name another file")
    judged = read_judged(run)
    critiques = read_critiques(run, judged)
    verdicts: dict[str, list[Verdict]] = {}
    for verdict in judged.in_force:
        verdicts.setdefault(verdict.image_id, []).append(verdict)
    usable = {
        image_id: critique
        for image_id, critique in critiques.items()
        if any(v.spurious is not None for v in verdicts[image_id])
    }
    if not usable:
        raise RunError(f"{run.path} holds no critique with a verdict: critique its images first")
    overruled = {o.person.image_id for o in judged.overruled}
    chosen = _chosen(usable, verdicts, overruled, number)
    pairs = [_pair(image_id, why, usable[image_id], verdicts[image_id]) for image_id, why in chosen.items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "\n".join([_HEADER, *pairs]).encode())
    except OSError as error:
        raise ConfigError(f"{path}: the examples cannot be written there: {error.strerror}") from None
    return len(pairs)


def _chosen(
    critiques: Mapping[str, Critique],
    verdicts: Mapping[str, Sequence[Verdict]],
    overruled: set[str],
    number: int,
) -> dict[str, str]:
    """Image → why it was chosen, in the order of the file; doubtful and typical ones take turns."""
    doubt = {}
    for image_id, critique in critiques.items():
        segment_ids = [v.segment for v in verdicts[image_id]]
        doubt[image_id] = 1 - len(clear_lines(critique.text, segment_ids)) / len(segment_ids)
    reasons = [" ".join(v.reason for v in verdicts[image_id]) for image_id in critiques]
    vectors = encode(reasons).astype(np.float64)
    closeness = dict(zip(critiques, vectors @ vectors.mean(axis=0), strict=True))
    first = {image_id: "a person overruled a verdict" for image_id in critiques if image_id in overruled}
    doubtful = sorted((i for i in critiques if doubt[i] > 0), key=lambda i: (-doubt[i], i))
    typical = sorted(critiques, key=lambda i: (-closeness[i], i))
    found = dict(first)
    while len(found) < min(number, len(critiques)):
        for queue, why in ((doubtful, "its lines leave doubt"), (typical, "typical")):
            queue[:] = [image_id for image_id in queue if image_id not in found]
            if queue and len(found) < number:
                found[queue.pop(0)] = why
    return dict(list(found.items())[:number])


def _pair(image_id: str, why: str, critique: Critique, verdicts: Sequence[Verdict]) -> str:
    """One example as YAML; a segment without a verdict stands in a comment, for the person to fill in."""
    said = _Literal("\n".join(line.rstrip() for line in critique.text.strip().splitlines()) + "\n")
    text = yaml.dump([{"critique": said}], Dumper=_Dumper, allow_unicode=True, width=10**6)
    lines = [f"# {one_line(image_id)}: {why}", text.rstrip("\n"), "  verdicts:"]
    for verdict in verdicts:
        entry = {"segment": verdict.segment, "spurious": verdict.spurious, "reason": verdict.reason or "?"}
        flow = yaml.safe_dump(
            entry, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
        )
        mark = "  # - " if verdict.spurious is None else "    - "
        lines.append(mark + " ".join(flow.split("\n")).strip())
    return "\n".join(lines) + "\n"
