"""Mistakes in files that a computer wrote: checkpoints, the factory's code, and a run's own files."""

import io
import json
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from bench.bad_inputs import Case, project, run_command

__all__ = ["cases"]


def cases() -> Iterator[Case]:
    """Every case of this file."""
    yield from _checkpoints()
    yield from _factories()
    yield from _runs()


def _put(content: bytes, name: str, settings: dict[str, Any], folder: Path) -> None:
    (folder / name).write_bytes(content)
    project(folder, **settings)


class _Runs:
    """A pickle that would run a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pickle-was-run",)


def _torch(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _checkpoints() -> Iterator[Case]:
    from lvlm_va.models.mlp import MLP

    torch.manual_seed(0)
    state = MLP((3, 12, 12), num_classes=2).state_dict()
    first = next(iter(state))
    last = list(state)[-1]

    def changed(**tensors: Any) -> dict[str, torch.Tensor]:
        return OrderedDict(state | tensors)

    good, tensors = _torch(state), save(dict(state))
    contents: dict[str, tuple[str, bytes]] = {
        "empty": ("pt", b""),
        "a text": ("pt", b"weights"),
        "zeros": ("pt", bytes(1000)),
        "an image": ("pt", b"\x89PNG\r\n\x1a\n" + bytes(64)),
        "a zip of something else": ("pt", _zip({"a.txt": b"x"})),
        "cut in half": ("pt", good[: len(good) // 2]),
        "cut at its end": ("pt", good[:-20]),
        "a pickle that runs a program": ("pt", pickle.dumps(_Runs())),
        "such a pickle in a checkpoint": ("pt", _torch({"state_dict": _Runs()})),
        "a whole module": ("pt", _torch(torch.nn.Linear(2, 2))),
        "a list": ("pt", _torch([torch.zeros(2)])),
        "a tensor": ("pt", _torch(torch.zeros(2))),
        "a number": ("pt", _torch(7)),
        "nothing": ("pt", _torch(None)),
        "an empty mapping": ("pt", _torch({})),
        "a mapping of texts": ("pt", _torch({"a": "b"})),
        "another network": ("pt", _torch(torch.nn.Conv2d(3, 8, 3).state_dict())),
        "a layer missing": ("pt", _torch({k: v for k, v in state.items() if k != first})),
        "a layer too many": ("pt", _torch(changed(more=torch.zeros(2)))),
        "a layer of another shape": ("pt", _torch(changed(**{first: torch.zeros(3, 3)}))),
        "three classes": ("pt", _torch(MLP((3, 12, 12), num_classes=3).state_dict())),
        "grey images": ("pt", _torch(MLP((1, 12, 12), num_classes=2).state_dict())),
        "larger images": ("pt", _torch(MLP((3, 24, 24), num_classes=2).state_dict())),
        "weights that are no numbers": ("pt", _torch(changed(**{first: state[first] * float("nan")}))),
        "infinite weights": ("pt", _torch(changed(**{last: state[last] + float("inf")}))),
        "complex weights": ("pt", _torch(changed(**{first: state[first].to(torch.complex64)}))),
        "empty safetensors": ("safetensors", b""),
        "a text as safetensors": ("safetensors", b"weights and more of them"),
        "safetensors cut": ("safetensors", tensors[: len(tensors) // 2]),
        "safetensors with a huge header": ("safetensors", struct.pack("<Q", 2**62) + b"{}"),
        "safetensors of another network": ("safetensors", save({"weight": torch.zeros(2, 2)})),
        "safetensors without tensors": ("safetensors", save({})),
    }
    for name, (end, content) in contents.items():
        settings = {"model__weights": f"w.{end}"}
        yield Case("model files", name, rf"w\.{end}|weights", partial(_put, content, f"w.{end}", settings))
    for name, path in {
        "no such file": "gone.pt",
        "a folder": "images",
        "a named pipe": "pipe.pt",
        "a long name": "x" * 5000,
    }.items():
        make = partial(_pipe, "pipe.pt", {"model__weights": path})
        yield Case("model files", name, path.replace(".", r"\."), make)
    yield Case(
        "model files",
        "pretrained: another network",
        r"p\.pt",
        partial(_put, contents["another network"][1], "p.pt", {"model__pretrained": "p.pt"}),
    )


def _pipe(name: str, settings: dict[str, Any], folder: Path) -> None:
    os.mkfifo(folder / name)
    project(folder, **settings)


def _zip(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


_NETWORK = """
import torch
from torch import nn
def make(num_classes=2):
    {make}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(432, 2)
    def forward(self, x):
        {forward}
"""


def _factories() -> Iterator[Case]:
    made = {
        "raises": "raise ValueError('no GPU here')",
        "ends the program": "import sys; sys.exit(3)",
        "returns nothing": "return None",
        "returns a class": "return Net",
        "returns a function": "return lambda x: x",
        "has no parameters": "return nn.Flatten()",
        "is on no device": "return Net().to('meta')",
    }
    forward = {
        "forward raises": "raise RuntimeError('odd size')",
        "forward returns nothing": "return None",
        "forward returns a text": "return 'bolt'",
        "forward returns images": "return x",
        "forward returns one number": "return x.sum()",
        "forward returns three classes": "return torch.cat([self.f(x.flatten(1))] * 2, 1)[:, :3]",
        "forward returns no numbers": "return self.f(x.flatten(1)) * float('nan')",
        "forward returns whole numbers": "return self.f(x.flatten(1)).long()",
        "forward cuts the gradient": "return self.f(x.detach().flatten(1)).detach()",
        "forward wants larger images": "return self.f(x.reshape(-1, 3 * 99 * 99))",
    }
    for n, (name, code) in enumerate((made | forward).items()):
        texts = {"make": code, "forward": "return self.f(x.flatten(1))"}
        if name in forward:
            texts = {"make": "return Net()", "forward": code}
        module = f"network_{n}"
        content = _NETWORK.format(**texts).encode()
        settings = {"model__name": f"{module}:make"}
        make = partial(_put, content, f"{module}.py", settings)
        yield Case("model code", name, rf"model|{module}", make)
    for n, (name, content) in enumerate(
        {
            "a syntax error": b"def make(:\n",
            "a zero byte": b"x = 1\0",
            "raises at import": b"1 / 0\n",
            "no such function": b"",
        }.items()
    ):
        module = f"broken_{n}"
        make = partial(_put, content, f"{module}.py", {"model__name": f"{module}:make"})
        yield Case("model code", name, rf"model|{module}", make)
    for name in ("rsenet18", "gone:make", "json", ":make", "json:", "os:path", "json:dumps"):
        yield Case("model code", f"model.name: {name}", "model", partial(_set, model__name=name))


def _set(folder: Path, **changes: Any) -> None:
    project(folder, **changes)


@cache
def _finished() -> Path:
    """A folder with the sound project and a finished run."""
    from bench.bad_inputs import _sound

    folder = Path(tempfile.mkdtemp())
    _sound(folder)
    here = Path.cwd()
    os.chdir(folder)
    try:
        code, said = run_command(("align", "project.yaml", "--run", "run"))
    finally:
        os.chdir(here)
    assert code == 0, said
    return folder


def _runs() -> Iterator[Case]:
    damage: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda _: b"",
        "cut in half": lambda content: content[: len(content) // 2],
        "a text": lambda _: b"something else",
    }
    # Each by a command that reads it. What `align` can compute anew, it may, without a word.
    read_by = {
        "metrics.json": ("report", "export"),
        "model.safetensors": ("export",),
        "aligned.safetensors": ("export",),
        "verdicts.csv": ("align",),
    }
    for file, commands in read_by.items():
        for name, change in damage.items():
            for command in commands:
                yield _damaged(f"{command}: {file} {name}", file, change, command)
    numbers = {
        "an unknown key": lambda d: d | {"more": 1},
        "a list": lambda _: [],
        "an accuracy of 7": lambda d: _deep(d, "accuracy", 7),
        "a text for a number": lambda d: _deep(d, "accuracy", "high"),
        "another format": lambda d: d | {"format": 99},
    }
    for name, edit in numbers.items():
        yield _damaged(f"report: metrics.json with {name}", "metrics.json", partial(_edited, edit), "report")
    rows = {
        "an unknown verdict": lambda text: text.replace("valid", "perhaps", 1),
        "a row missing a cell": lambda text: text.rstrip() + "\nonly\n",
        "an unknown image": lambda text: text.rstrip() + "\ngone.png,1,spurious,why\n",
        "a segment that is no number": lambda text: text.replace(",1,", ",one,", 1),
        "no header": lambda text: text.partition("\n")[2],
        "a row twice": lambda text: text + text.splitlines()[1] + "\n",
        "bytes that are not UTF-8": lambda text: text + "\udcff",
    }
    for name, change_text in rows.items():
        yield _damaged(
            f"align: verdicts.csv with {name}",
            "verdicts.csv",
            lambda content, f=change_text: f(content.decode()).encode("utf-8", "surrogateescape"),
            "align",
        )
    for command in ("report", "export", "diagnose"):
        target = ("gone",) if command != "diagnose" else ("project.yaml", "--run", "project.yaml")
        yield Case(
            "run files", f"{command}: no such run", "gone|project", command=(command, *target), codes=(1, 2)
        )


def _deep(document: Any, key: str, value: Any) -> Any:
    """The document with every value of this key replaced."""
    if isinstance(document, dict):
        return {k: value if k == key else _deep(v, key, value) for k, v in document.items()}
    return [_deep(v, key, value) for v in document] if isinstance(document, list) else document


def _edited(edit: Callable[[Any], Any], content: bytes) -> bytes:
    return json.dumps(edit(json.loads(content))).encode()


def _damaged(name: str, file: str, change: Callable[[bytes], bytes], command: str) -> Case:
    def make(folder: Path) -> None:
        shutil.copytree(_finished() / "run", folder / "run")
        found = next((folder / "run").rglob(file), None)
        assert found is not None, sorted(p.name for p in (folder / "run").rglob("*"))
        found.write_bytes(change(found.read_bytes()))

    arguments = (
        (command, "run") if command in ("report", "export") else (command, "project.yaml", "--run", "run")
    )
    if command == "export":
        arguments += ("--out", "out")
    stem = file.partition(".")[0]
    return Case("run files", name, rf"{stem}", make, arguments, codes=(0, 1, 2))
