"""Texts from outside are read in time proportional to their length, and messages about them stay short.

A text of n equal pieces that were gone through again from each of them would take n² steps: of the million
characters here, hours.
"""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from critique_helpers import Scripted, critic_judge, explained
from lvlm_va.config.loading import load_config
from lvlm_va.critique.backends.builtin.phrases import read_wishes
from lvlm_va.critique.driver import critique
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.judge import read_judgement
from lvlm_va.critique.prompts import enclosed
from lvlm_va.critique.review import LONGEST_CRITIQUE
from lvlm_va.critique.specification import ClassSpecification, load_specifications
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.critique.verdict_lines import parse_lines
from lvlm_va.errors import LvlmVaError, SpecificationError
from lvlm_va.io.hints import did_you_mean, shown
from lvlm_va.report.critiques import split_steps
from lvlm_va.report.reliance import wording
from lvlm_va.report.words import printable, quote
from lvlm_va.study.build import about_segment

N = 1_000_000
PIECES = (
    "\n",
    "* ",
    "_",
    "step ",
    "step\n",
    "Step 1.\n",
    "segment ",
    "segment 1, and ",
    "1 ",
    '"',
    "“",
    "all ",
    "less than 1% ",
    "1%   ",
    ",",
    ", ",
    "<a ",
    "<critique 0123456789ab>\n",
    "SEGMENT 1: ",
)
READERS: dict[str, Callable[[str], Any]] = {
    "split_steps": lambda text: split_steps(f"Step 1. x{text}"),
    "parse_lines": lambda text: parse_lines(text, (1,)),
    "enclosed": lambda text: enclosed("critique", text),
    "about_segment": lambda text: about_segment(f"segment {text}", 77),
    "wording": lambda text: wording(Verdict("a", 1, True, text, "x")),
    "quote": quote,
    "printable": printable,
    "wishes": lambda text: read_wishes(ClassSpecification("a", text[:20_000], (f"x{text[:20_000]}y",))),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_million_characters_are_read(reader: str) -> None:
    for piece in PIECES:
        READERS[reader]((piece * N)[:N])


@pytest.mark.parametrize(
    "piece", ["{", "[", "[{", '{"', '"', "\\", '\\"', '{"a":[', "<think>", "<a>", "`", ","]
)
def test_no_judgement_is_long_enough_to_matter(piece: str) -> None:
    for text in (piece * 99_000, f'{{"verdicts": [{{"segment": 1, "spurious": true}}]}}{piece * 99_000}'):
        judgement = read_judgement(text[:99_999], (1, 2), text)
        assert set(judgement.verdicts) <= {1}
        assert all(len(problem) < 300 for problem in judgement.problems.values())


def test_sets_of_verdicts_beyond_counting_are_no_answer() -> None:
    text = 'so {"segment": 1, "spurious": true} ' * 2_500
    assert read_judgement(text, (1,)).verdicts == {}


def test_a_judge_is_not_asked_to_read_a_library() -> None:
    critic, judge = Scripted(lambda question: "x" * (LONGEST_CRITIQUE + 1), "c"), Scripted(lambda q: "", "j")
    with Store.open(":memory:") as store:
        verdicts = critique([explained()], critic_judge(critic, judge), store)
    assert not judge.asked
    assert {v.spurious for v in verdicts} == {None}
    assert "longer than" in verdicts[0].reason


def test_steps_are_found_after_any_number_of_line_breaks() -> None:
    text = "\n" * 9_999 + "".join(f"{chr(10) * 9_999}** Step {i}: text {i}" for i in range(1, 7))
    assert split_steps(text) == ("", tuple(f"text {i}" for i in range(1, 7)))


def bomb(depth: int = 12) -> str:
    """YAML of some 500 bytes that stands for 10^depth characters."""
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    for level in range(depth):
        here, before = chr(98 + level), chr(97 + level)
        lines.append(f"{here}: &{here} [{','.join([f'*{before}'] * 10)}]")
    return "\n".join(lines)


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.splitlines())


BOMBS = {
    "a description": f"classes:\n  nut:\n    description:\n{indented(bomb(), 6)}\n  bolt: x",
    "a phrase": f"classes:\n  nut:\n    description: x\n    relevant:\n      -\n{indented(bomb(), 8)}",
    "phrases": f"classes:\n  nut:\n    description: x\n    spurious:\n{indented(bomb(), 6)}\n",
    "a class": f"classes:\n  nut:\n{indented(bomb(), 4)}\n",
    "a class as a list": f"x:\n{indented(bomb(), 2)}\nclasses:\n  nut: *m\n",
    "all classes": f"x:\n{indented(bomb(), 2)}\nclasses: *m\n",
    "the top": bomb(),
    "a long name": f"classes:\n  ? {'n' * 9_999}\n  : x\n",
    "a long key": f"classes:\n  nut:\n    ? {'n' * 9_999}\n    : x\n",
    "a key that is a list": f"classes:\n  nut:\n    description: x\n    ? [{'n, ' * 9_999}]\n    : x\n",
    "a key given twice": f"classes:\n  ? {'n' * 9_999}\n  : x\n  ? {'n' * 9_999}\n  : y\n",
    "a long description": f"classes:\n  nut: {'x ' * 10_001}\n",
    "many phrases": f"classes:\n  nut:\n    description: x\n    relevant: [{'a, ' * 999} a]\n",
    "itself": "classes:\n  nut: &nut\n    description: *nut\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_message_is_short_whatever_a_specification_stands_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(BOMBS[name], encoding="utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(SpecificationError) as caught:
            load_specifications(path, ["nut", "bolt"])
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1_000 + len(str(path))


def test_aliases_that_share_phrases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "classes:\n  nut: {description: x, spurious: &s [a, b]}\n  bolt: {description: y, spurious: *s}\n"
    )
    assert load_specifications(path, ["nut", "bolt"])["bolt"].spurious == ("a", "b")


@pytest.mark.parametrize("read", [load_examples, load_config])
def test_other_files_with_bombs_are_refused_in_short(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "x.yaml"
    for text in (f"- critique:\n{indented(bomb(), 4)}\n", f"align:\n  lambda:\n{indented(bomb(), 4)}\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(LvlmVaError) as caught:
            read(path)
        assert len(str(caught.value)) < 20_000


def test_what_is_shown_is_short() -> None:
    nested: list[Any] = []
    for _ in range(50):
        nested = [nested] * 10
    for value in (nested, "x" * N, {"x" * N: nested}, range(N), object(), [nested, nested]):
        assert len(shown(value)) <= 120
        assert len(did_you_mean(value, ["a"])) < 200
    assert shown("  ") == "'  '"
