"""verdicts.csv: what is written can be read, what a person changed is told from what a critic said."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import RunError
from lvlm_va.run.verdict_table import UNSIGNED, read_verdicts, reconcile, verdicts_file

CRITIC = "openai:gpt-4o judged by builtin"
HEAD = "image_id,segment,spurious,reason,author\n"

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
awkward = st.sampled_from(
    [
        'say "no"',
        "a, b; c",
        "line\nline",
        "line\r\nline",
        "cr\rcr",
        "'",
        '"',
        "\t",
        "=1+1",
        "",
        " kept ",
        "é 漢 🦆",
    ]
)
verdict = st.builds(
    Verdict,
    image_id=text.filter(bool) | awkward.filter(bool),
    segment=st.integers(1, 99),
    spurious=st.sampled_from([True, False, None]),
    reason=text | awkward,
    author=st.builds(str.strip, text),
)


def said(
    image_id: str = "a", segment: int = 1, spurious: bool | None = True, reason: str = "grey"
) -> Verdict:
    return Verdict(image_id, segment, spurious, reason, CRITIC)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verdicts=st.lists(verdict, max_size=5))
def test_what_is_written_can_be_read(tmp_path: Path, verdicts: list[Verdict]) -> None:
    file = tmp_path / "verdicts.csv"
    file.write_bytes(verdicts_file(verdicts))
    assert read_verdicts(file) == verdicts


def respelt(
    content: bytes, *, delimiter: str = ",", bom: bool = False, blank: int = 0, newline: str = "\r\n"
) -> bytes:
    """The table as a spreadsheet saves it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=newline)
    writer.writerows(csv.reader(io.StringIO(content.decode(), newline="")))
    writer.writerows([[""] * 5] * blank)
    return (b"\xef\xbb\xbf" if bom else b"") + out.getvalue().encode()


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("bom", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_as_a_spreadsheet_leaves_it(tmp_path: Path, delimiter: str, bom: bool, newline: str) -> None:
    verdicts = [said(reason="one; two, three"), said("b;c", 2, None, 'a "quoted"\nsecond line')]
    file = tmp_path / "verdicts.csv"
    file.write_bytes(respelt(verdicts_file(verdicts), delimiter=delimiter, bom=bom, blank=2, newline=newline))
    assert read_verdicts(file) == verdicts


def test_columns_may_be_reordered_and_added(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.csv"
    file.write_text("note,author,spurious,segment,image_id,reason\nhm,Ann , 1 , 2 ,a,because\n")
    assert read_verdicts(file) == [Verdict("a", 2, True, "because", "Ann")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (HEAD + "a,1,1,x,me\na,2,yes,x,me\n", "line 3: spurious is 'yes'; write 1, 0, or nothing"),
        (HEAD + 'a,1,1,"two\nlines",me\na,one,1,x,me\n', "line 4: segment is 'one'; write its number"),
        (HEAD + "a,²,1,x,me\n", "line 2: segment is '²'"),
        (HEAD + "a,,1,x,me\n", "line 2: segment is ''"),
        (HEAD + "a,-1,1,x,me\n", "line 2: segment is '-1'"),
        (HEAD + "a,1,1\n", "line 2: has fewer than 5 columns"),
        ("image_id,segment,reason,author\n", "the first line must name the columns"),
        ("", "the first line must name the columns"),
        (HEAD + "a,1,1," + "x" * 200_000 + ",me\n", "after line 1: cannot be read as CSV"),
    ],
)
def test_what_cannot_be_read_names_the_line(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "verdicts.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(RunError) as caught:
        read_verdicts(file)
    assert told in str(caught.value)
    assert str(file) in str(caught.value)


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.csv"
    file.write_bytes((HEAD + "a,1,1,gräulich,me\n").encode("latin-1"))
    with pytest.raises(RunError, match="not UTF-8"):
        read_verdicts(file)


def test_an_untouched_table_overrules_nothing(tmp_path: Path) -> None:
    critic = [said(), said("a", 2, None), said("b", 1, False)]
    file = tmp_path / "verdicts.csv"
    file.write_bytes(verdicts_file(critic))
    assert reconcile(critic, read_verdicts(file), where=file) == (critic, [])
    assert reconcile(critic, [], where=file) == (critic, []), "missing rows keep the critic's verdict"


def test_who_changes_a_verdict_overrules_the_critic() -> None:
    critic = [said("a", 1, True), said("a", 2, False), said("b", 1, None), said("b", 2, True)]
    table = [
        Verdict("b", 2, True, "grey", CRITIC),
        Verdict("a", 1, False, "that is the stroke", CRITIC),  # unsigned
        Verdict("a", 2, True, "grey", "Ann"),
        Verdict("b", 1, True, "grey", ""),  # unsigned
    ]
    in_force, overruled = reconcile(critic, table, where=Path("v.csv"))
    assert in_force == [
        Verdict("a", 1, False, "that is the stroke", UNSIGNED),
        Verdict("a", 2, True, "grey", "Ann"),
        Verdict("b", 1, True, "grey", UNSIGNED),
        critic[3],
    ]
    assert [(o.critic, o.person) for o in overruled] == list(zip(critic[:3], in_force[:3], strict=True))


def test_emptying_a_verdict_overrules_too_and_a_signature_alone_counts() -> None:
    critic = [said("a", 1, True), said("a", 2, True)]
    table = [Verdict("a", 1, None, "not sure", CRITIC), Verdict("a", 2, True, "grey", "Ann")]
    in_force, overruled = reconcile(critic, table, where=Path("v.csv"))
    assert [v.spurious for v in in_force] == [None, True]
    assert [o.person.author for o in overruled] == [UNSIGNED, "Ann"]


@settings(deadline=None)
@given(
    flags=st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=6),
    edits=st.dictionaries(st.integers(0, 5), st.sampled_from([True, False, None])),
)
def test_exactly_what_differs_is_overruled(flags: list[bool | None], edits: dict[int, bool | None]) -> None:
    critic = [said("a", j, flag) for j, flag in enumerate(flags, start=1)]
    edits = {j: flag for j, flag in edits.items() if j < len(flags)}
    table = [said("a", j + 1, edits.get(j, flag)) for j, flag in enumerate(flags)]
    in_force, overruled = reconcile(critic, table, where=Path("v.csv"))
    assert [v.spurious for v in in_force] == [edits.get(j, flag) for j, flag in enumerate(flags)]
    changed = {j + 1 for j, flag in edits.items() if flag is not flags[j]}
    assert {o.person.segment for o in overruled} == changed
    assert all(v.author == (UNSIGNED if v.segment in changed else CRITIC) for v in in_force)


def test_rows_about_nothing_and_rows_that_contradict() -> None:
    critic = [said("a", 1, True)]
    for stranger in (Verdict("z", 1, True, "", "me"), Verdict("a", 2, True, "", "me")):
        with pytest.raises(
            RunError, match=rf"v.csv: segment {stranger.segment} of '{stranger.image_id}' is not"
        ):
            reconcile(critic, [stranger], where=Path("v.csv"))
    with pytest.raises(RunError, match="two different verdicts"):
        reconcile(critic, [said("a", 1, True), said("a", 1, False)], where=Path("v.csv"))
