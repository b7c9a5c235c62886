"""Bad inputs of every kind against the command line: is each one told, by name, with the right exit code?

python -m bench.bad_inputs              all of them; written to results/bad-inputs/
python -m bench.bad_inputs tables       one kind, whose results take the place of those before

Each case is one mistake in a project that is sound without it. Right is: no traceback, no hang, the exit code
of `lvlm_va.errors`, and output that names what is wrong. Commands run in this process, with a time limit.
"""

import contextlib
import io
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CLASSES", "SPECIFICATIONS", "Case", "Outcome", "judge", "main", "project", "run_command"]

RESULTS = Path(__file__).parents[1] / "results" / "bad-inputs"
LIMIT = 300  # seconds for one command on a busy machine, far beyond what any of them takes
CLASSES = ("bolt", "nut")
SPECIFICATIONS = {
    "classes": {
        "bolt": {"description": "A yellow square.", "spurious": ["the blue patch in the corner"]},
        "nut": {"description": "A thin white cross.", "spurious": ["a patch in a corner"]},
    }
}
_SOUND: dict[str, Any] = {
    "project": "case",
    "specifications": "specifications.yaml",
    "device": "cpu",
    "data": {"name": "folder", "path": "images", "size": 12},
    "model": {"name": "mlp", "epochs": 1, "batch": 8},
    "explain": {"num_images": 4, "baselines": 2, "n_init": 1},
    "align": {"lambda": [0.001], "epochs": 1, "training_batch": 8, "alignment_batch": 4},
    "evaluate": {"num_images": 4},
}


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        kind: of input, e.g. "tables".
        name: what is bad, in words.
        names: a pattern that the output must hold, since it names what is wrong.
        make: makes the mistake in the folder of a sound project (project.yaml, specifications.yaml, images/).
        command: what is run there.
        codes: the exit codes that are right; 0 where the input is used without what is bad, and that is told.
        ask: in place of a command: returns what is wrong with the answer, or None.
    """

    kind: str
    name: str
    names: str = ""
    make: Callable[[Path], object] = lambda _: None
    command: tuple[str, ...] = ("check", "project.yaml")
    codes: tuple[int, ...] = (2,)
    ask: Callable[[], str | None] | None = None


@dataclass
class Outcome:
    """What came of a case: "told", "silent", "unnamed", "code", "traceback" or "hang"."""

    kind: str
    name: str
    outcome: str
    code: int | str | None
    seconds: float = field(compare=False)
    said: str = ""


def project(folder: Path, **changes: Any) -> Path:
    """Write project.yaml, the sound one with `changes` laid over it ("section.key" as section__key)."""
    import yaml

    document: dict[str, Any] = json.loads(json.dumps(_SOUND))
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            document.setdefault(section, {})[key] = value
        else:
            document[section] = value
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def _sound(folder: Path) -> None:
    import numpy as np
    import yaml
    from PIL import Image

    project(folder)
    (folder / "specifications.yaml").write_text(yaml.safe_dump(SPECIFICATIONS), encoding="utf-8")
    for k, name in enumerate(CLASSES):
        (folder / "images" / name).mkdir(parents=True)
        for n in range(8):
            random = np.random.default_rng((k, n))
            pixels = (random.random((12, 12, 3)) * 60).astype(np.uint8)
            row, column = random.integers(0, 8, 2)
            pixels[row : row + 4, column : column + 4] = (200, 180, 40) if k == 0 else 230
            Image.fromarray(pixels).save(folder / "images" / name / f"{n}.png")


class _Hang(BaseException):
    """Time is over; no `Exception`, which somebody might swallow."""


def _ring(*_: Any) -> None:
    raise _Hang


def run_command(arguments: tuple[str, ...]) -> tuple[int | str, str]:
    """Exit code and all that was printed; "hang" where it took longer than `LIMIT`."""
    from lvlm_va.cli.main import main as command

    before = sys.argv, {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    sys.argv = ["lvlm-va", *arguments]
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    code: int | str = 0
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            signal.signal(signal.SIGALRM, _ring)
            signal.alarm(LIMIT)
            try:
                command()
            finally:
                signal.alarm(0)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else str(end.code)
    except _Hang:
        code = "hang"
    finally:
        sys.argv = before[0]
        for number, handler in before[1].items():
            signal.signal(number, handler)
    buffer = printed.buffer
    assert isinstance(buffer, io.BytesIO)
    return code, buffer.getvalue().decode("utf-8", "replace")


def judge(case: Case, folder: Path) -> Outcome:
    """Run one case in `folder`, which is empty."""
    _sound(folder)
    begun = time.perf_counter()

    def outcome(what: str, code: int | str | None, said: str) -> Outcome:
        return Outcome(case.kind, case.name, what, code, round(time.perf_counter() - begun, 2), said[-600:])

    with contextlib.chdir(folder):
        if case.ask is not None:
            try:
                wrong = case.ask()
            except Exception as error:  # noqa: BLE001 -- what a user would see as a traceback
                return outcome("traceback", None, repr(error))
            return outcome("told" if wrong is None else "silent", None, wrong or "")
        case.make(folder)
        code, said = run_command(case.command)
    if code == "hang":
        return outcome("hang", code, said)
    if code == 70 or "Traceback (most recent call last)" in said:
        return outcome("traceback", code, said)
    named = re.search(case.names, said, re.IGNORECASE) is not None
    if code == 0:
        return outcome("told" if 0 in case.codes and named else "silent", code, said)
    if code not in case.codes:
        return outcome("code", code, said)
    return outcome("told" if named else "unnamed", code, said)


def _cases() -> Iterator[Case]:
    from bench import bad_data, bad_files, bad_words

    for module in (bad_words, bad_data, bad_files):
        yield from module.cases()


def main(kinds: list[str]) -> int:
    """Run the cases; the number of those that were not told rightly."""
    cases = [case for case in _cases() if not kinds or case.kind in kinds]
    doubled = [name for name, n in Counter((c.kind, c.name) for c in cases).items() if n > 1]
    if not cases or doubled:
        sys.exit(f"no such kind, or two cases of one name: {kinds} {doubled}")
    outcomes = []
    with tempfile.TemporaryDirectory() as top:
        os.environ["LVLM_VA_CACHE"] = str(Path(top) / "cache")
        for n, case in enumerate(cases):
            folder = Path(top) / f"{n}"
            folder.mkdir()
            outcomes.append(judge(case, folder))
            if outcomes[-1].outcome != "told":
                print(json.dumps(asdict(outcomes[-1]), ensure_ascii=False), flush=True)
    _write(outcomes)
    return sum(o.outcome != "told" for o in outcomes)


def _write(outcomes: list[Outcome]) -> None:
    import platform

    import PIL
    import torch

    import lvlm_va

    RESULTS.mkdir(parents=True, exist_ok=True)
    versions = {
        "lvlm-va": lvlm_va.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }
    kinds = ("told", "silent", "unnamed", "code", "traceback", "hang")
    path = RESULTS / "bad-inputs.json"
    ran = {o.kind for o in outcomes}
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"counts": {}, "not_told": []}
    counts = {kind: found for kind, found in before["counts"].items() if kind not in ran}
    counts |= {k: dict(Counter(o.outcome for o in outcomes if o.kind == k)) for k in sorted(ran)}
    wrong = [o for o in before["not_told"] if o["kind"] not in ran]
    wrong += [asdict(o) | {"said": o.said[-200:]} for o in outcomes if o.outcome != "told"]
    cases = sum(sum(found.values()) for found in counts.values())
    document = {
        "command": "python -m bench.bad_inputs",
        "versions": versions,
        "cases": cases,
        "counts": counts,
        "not_told": wrong,
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(counts, indent=1))
    lines = [
        "# Bad inputs",
        "",
        f"{cases} mistakes, each in a project that is sound without it: `{document['command']}`, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
        "Told: the right exit code, and a sentence that names what is wrong. Silent: used as if nothing were "
        "wrong. Unnamed: refused, but without the name of what is wrong. Code: another exit code than "
        "`lvlm_va.errors` says.",
        "",
        f"| inputs | cases | {' | '.join(kinds)} |",
        f"|---|{'---:|' * (len(kinds) + 1)}",
    ]
    total: Counter[str] = Counter()
    for kind, found in counts.items():
        lines.append(
            f"| {kind} | {sum(found.values())} | {' | '.join(str(found.get(k, 0)) for k in kinds)} |"
        )
        total.update(found)
    lines.append(f"| **all** | {cases} | {' | '.join(str(total[k]) for k in kinds)} |")
    if wrong:
        lines += ["", "Not told rightly:", ""]
        lines += [f"- {o['kind']}, {o['name']}: {o['outcome']} (exit code {o['code']})" for o in wrong]
    (RESULTS / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
