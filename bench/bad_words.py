"""Mistakes in what people write and what models answer: project files, specifications, judgements."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench.bad_inputs import SPECIFICATIONS, Case, project

__all__ = ["cases"]


def cases() -> Iterator[Case]:
    """Every case of this file."""
    yield from _yaml()
    yield from _settings()
    yield from _specifications()
    yield from _answers()


def _text(name: str, content: str | bytes, folder: Path) -> None:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


_BROKEN = {
    "empty": "",
    "comments alone": "# nothing\n",
    "a list": "- a\n- b\n",
    "a word": "hello\n",
    "a number": "7\n",
    "tab indentation": "data:\n\tname: folder\n",
    "open bracket": "data: {name: folder\n",
    "open quote": 'data: {name: "folder}\n',
    "colon in a value": "project: a: b\n",
    "a key twice": "project: a\nproject: b\n",
    "a key twice below": "data: {name: folder, name: manifest}\n",
    "an impossible date": "project: 2024-13-45\n",
    "a bad int tag": "project: !!int x\n",
    "a bad float tag": "project: !!float x\n",
    "a python tag": "project: !!python/object/apply:os.system [echo]\n",
    "an unknown tag": "project: !thing x\n",
    "an alias of nothing": "project: *gone\n",
    "an alias of itself": "data: &a {x: *a}\n",
    "3000 brackets": "project: " + "[" * 3000 + "]" * 3000 + "\n",
    "5000 digits": "project: " + "9" * 5000 + "\n",
    "two documents": "project: a\n---\nproject: b\n",
    "not UTF-8": b"project: \xff\xfe\xff\n",
    "a zero byte": b"project: a\0b\n",
    "binary": bytes(range(256)),
    "JSON cut off": '{"data": {"name": ',
    "a control character": b"project: a\x07\n",
    "aliases that grow": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
}


def _yaml() -> Iterator[Case]:
    for name, content in _BROKEN.items():
        yield Case("YAML", f"project file: {name}", r"project\.yaml", partial(_text, "project.yaml", content))
    for name, content in _BROKEN.items():
        if name != "colon in a value":
            bad = content.replace("project:", "classes:") if isinstance(content, str) else content
            yield Case(
                "YAML",
                f"specifications: {name}",
                r"specifications\.yaml",
                partial(_text, "specifications.yaml", bad),
                codes=(1, 2),
            )
    yield Case("YAML", "no such project file", r"gone\.yaml", command=("check", "gone.yaml"))
    yield Case("YAML", "the project file is a folder", "images", command=("check", "images"))
    for said in (
        "data.size",
        "data.sise=3",
        "size=3",
        "=3",
        "data.size=",
        "data..size=3",
        "data.size=[",
        "x.y=1",
    ):
        yield Case(
            "YAML", f"--set {said}", r"set|data|size|x", command=("check", "project.yaml", "--set", said)
        )


_NO_BOUND = (
    "critique.fraction",
    "critique.max_usd",
    "critique.requests_per_minute",
)  # 1e30 is: all, no limit


def _settings() -> Iterator[Case]:
    from lvlm_va.config.reference import project_keys

    free = {"project", "device"}  # texts that are tried elsewhere
    for key in project_keys():
        full = f"{key.section}.{key.name}" if key.section else key.name
        change = full.replace(".", "__")
        yield Case("settings", f"{full} misspelt", rf"\b{key.name}q?\b", partial(_with, f"{change}q", 1))
        number = "number" in key.kind
        wrong: dict[str, Any] = {"a list of mappings": [{"a": [1]}], "a mapping": {"no such": {"thing": 1}}}
        if number or "true or false" in key.kind or "|" in key.kind:
            wrong["a text"] = "three or so"
        if number:
            wrong |= {"-1": -1, "not a number": float("nan"), "infinite": float("inf"), "1e30": 1e30}
            if full in _NO_BOUND:
                del wrong["1e30"]
        if "whole number" in key.kind:
            wrong |= {"one and a half": 1.5, "10**30": 10**30}
        if key.kind in ("text", "path") and full not in free:
            wrong["a number"] = 7.5
        for name, value in wrong.items():
            names = rf"\b{key.name}\b" + r"|line \d+: .*too large" * (value == 10**30)
            yield Case("settings", f"{full}: {name}", names, partial(_with, change, value))


def _with(name: str, value: Any, folder: Path) -> None:
    project(folder, **{name: value})


def _specifications() -> Iterator[Case]:
    def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            document = json.loads(json.dumps(SPECIFICATIONS))
            document = change(document) or document
            _text("specifications.yaml", yaml.safe_dump(document, allow_unicode=True), folder)

        return make

    def bolt(document: dict[str, Any], value: Any) -> None:
        document["classes"]["bolt"] = value

    def part(document: dict[str, Any], key: str, value: Any) -> None:
        document["classes"]["bolt"][key] = value

    wrong: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
        "a class missing": (lambda d: d["classes"].pop("bolt") and None, "bolt"),
        "an unknown class": (lambda d: d["classes"].update(screw="A screw."), "screw"),
        "a class misspelt": (lambda d: d["classes"].update(blot=d["classes"].pop("bolt")), "blot|bolt"),
        "no classes": (lambda d: d.pop("classes") and {"other": 1}, "classes"),
        "classes empty": (lambda d: d.update(classes={}), "bolt|classes"),
        "classes a list": (lambda d: d.update(classes=["bolt", "nut"]), "classes"),
        "classes nothing": (lambda d: d.update(classes=None), "classes"),
        "classes a text": (lambda d: d.update(classes="bolt and nut"), "classes"),
        "another key beside": (lambda d: d.update(clases={}), "clases"),
    }
    for name, value in {
        "nothing": None,
        "a number": 7,
        "empty": "",
        "blanks": "   ",
        "a list": ["A square."],
        "an empty mapping": {},
        "a mapping without a description": {"spurious": ["x"]},
        "true": True,
    }.items():
        wrong[f"a class is {name}"] = (partial(bolt, value=value), "bolt")
    for key in ("description", "relevant", "spurious"):
        for name, value in {
            "a mapping": {"a": 1},
            "a number": 7,
            "a nested list": [["x"]],
            "a list with nothing": [None],
            "a list with an empty text": [""],
            "true": True,
        }.items():
            if name != "a number" or key == "description":  # a number may be a mark in the image
                wrong[f"{key} is {name}"] = (partial(part, key=key, value=value), f"bolt|{key}")
        wrong[f"{key} misspelt"] = (partial(part, key=f"{key}s", value="x"), f"{key}s")
    wrong["description empty"] = (partial(part, key="description", value=""), "description|bolt")
    wrong["description nothing"] = (partial(part, key="description", value=None), "description|bolt")
    for name, (change, names) in wrong.items():
        yield Case("specifications", name, names, changed(change), codes=(1, 2))
    gone = Case(
        "specifications", "no such file", r"gone\.yaml", partial(_with, "specifications", "gone.yaml")
    )
    yield gone
    yield Case(
        "specifications", "a folder", "images", partial(_with, "specifications", "images"), codes=(1, 2)
    )


def _line(segment: Any, spurious: Any) -> dict[str, Any]:
    return {"segment": segment, "spurious": spurious, "reason": "x"}


def _answers() -> Iterator[Case]:
    """Answers of a judge that says nothing certain of segment 1: it must stay unscored."""
    good = {"verdicts": [_line(1, True), _line(2, False)]}
    both, other = json.dumps(good), json.dumps({"verdicts": [_line(1, False), _line(2, True)]})
    texts: dict[str, str] = {
        "nothing": "",
        "blanks": " \n\t ",
        "a refusal": "I'm sorry, but I can't help with that.",
        "a page": "<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
        "null": "null",
        "a number": "1",
        "true": "true",
        "an empty object": "{}",
        "an empty list": "[]",
        "no verdicts": '{"verdicts": []}',
        "verdicts nothing": '{"verdicts": null}',
        "verdicts a text": '{"verdicts": "1 is spurious"}',
        "an error": '{"error": {"message": "overloaded"}}',
        "another segment": json.dumps({"verdicts": [_line(7, True), _line(8, False)]}),
        "no such verdict": json.dumps({"verdicts": [_line(1, "perhaps"), _line(2, "?")]}),
        "no verdict": json.dumps({"verdicts": [{"segment": 1, "reason": "x"}]}),
        "null as verdict": json.dumps({"verdicts": [_line(1, None), _line(2, None)]}),
        "a number as verdict": json.dumps({"verdicts": [_line(1, 7), _line(2, 0.5)]}),
        "a list as verdict": json.dumps({"verdicts": [_line(1, [True]), _line(2, [])]}),
        "a segment that is no number": json.dumps({"verdicts": [_line("first", True)]}),
        "a segment of 1.5": json.dumps({"verdicts": [_line(1.5, True)]}),
        "a negative segment": json.dumps({"verdicts": [_line(-1, True)]}),
        "both verdicts on one": json.dumps({"verdicts": [_line(1, True), _line(1, False)]}),
        "two answers that contradict": both + "\n" + other,
        "cut off before the verdict": '{"verdicts": [{"segment": 1, "spurious":',
        "cut off in the key": '{"verdicts": [{"segm',
        "braces": "{" * 20_000,
        "brackets": "[" * 20_000,
        "quotes": '"' * 20_001,
        "line breaks": "\n" * 50_000,
        "zero bytes": "\0" * 100,
        "half a surrogate": "\ud800",
        "lines that contradict": "SEGMENT 1: SPURIOUS — a\nSEGMENT 1: VALID — b",
        "a line without a verdict": "SEGMENT 1: — a",
        "a line of another segment": "SEGMENT 12: SPURIOUS — a",
        "the question again": "SEGMENT 1: SPURIOUS or VALID — why",
        "in thought alone": f"<think>{both}</think>",
        "thought without an end": f"<think>{both}",
    }

    def ask(text: str) -> str | None:
        from lvlm_va.critique.verdict_answer import read_judgement

        verdicts = read_judgement(text, (1, 2)).verdicts
        found = verdicts.get(1)
        return None if found is None or found[0] is None else f"segment 1 got the verdict {found}"

    for name, text in texts.items():
        yield Case("answers", name, ask=partial(ask, text))
