"""A person as the critic: what follows from judgements, what is kept of them, and how they are asked for."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

import small
from critique_helpers import SEVEN, explained
from lvlm_va.cli.judging import judge
from lvlm_va.critique.backends.person import PersonBackend
from lvlm_va.critique.person.carrying import SURE, Field
from lvlm_va.critique.person.judgements import Answer, Judgements
from lvlm_va.critique.person.judging import Judging, Segment
from lvlm_va.critique.person.picture import where
from lvlm_va.critique.person.sheet import SHEET, export_segments, import_segments
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.segment_similarity import BLOCKS
from lvlm_va.errors import ConfigError, CriticError, Interrupted, RunError
from lvlm_va.models.activations import activations
from lvlm_va.project.project import Project
from lvlm_va.report.write import write_report
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.metrics import RunMetrics
from lvlm_va.run.verdict_table import read_verdicts
from patience import PATIENCE

WORKER = str(Path(__file__).with_name("cli_worker.py"))
J = 3


def field(places: Sequence[float]) -> Field:
    """One segment an image, at these places on a line."""
    n = len(places)
    return Field(np.array(places, float)[:, None], np.arange(n), np.full(n, 1 / n), range(n))


def images(n: int) -> list[ExplainedImage]:
    return [explained(i, segments=J, predicted="seven") for i in range(n)]


def rows(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measurements and activations of n images: segment 1 is of one kind, the others of another."""
    random = np.random.default_rng(seed)
    kind = np.tile([1.0, 0.0, 0.0], n)[:, None]
    return (
        kind + 0.2 * random.normal(size=(n * J, sum(BLOCKS.values()))),
        kind + 0.2 * random.normal(size=(n * J, 5)),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Judgements]:
    with Judgements.open(tmp_path / "judgements.sqlite", "person") as opened:
        yield opened


def right(segment: Segment) -> Answer:
    return "spurious" if segment.number == 1 else "relevant"


places = st.lists(st.floats(-5, 5), min_size=2, max_size=12)


@given(places, st.data())
def test_what_a_person_said_is_never_contradicted(line: list[float], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.integers(0, len(line) - 1), unique=True))
    said = {i: data.draw(st.sampled_from([True, False, None])) for i in asked}
    verdicts = field(line).verdicts(said)
    assert {i: verdicts[i] for i in said} == said


@given(places)
def test_where_nothing_is_judged_nothing_has_a_verdict(line: list[float]) -> None:
    assert set(field(line).verdicts({})) == {None}
    assert set(field(line).verdicts({0: None})) == {None}, "nor where the person could not say"


def test_the_belief_is_that_of_a_gaussian_process() -> None:
    line = np.array([0.0, 0.3, 1.1, 2.0, 2.2, 4.5])
    said = {0: True, 3: False, 4: False}
    h = 3 * np.median([0.3, 0.3, 0.8, 0.2, 0.2, 2.3])
    k = np.exp(-0.5 * ((line[:, None] - line) / h) ** 2)
    known = list(said)
    inverse = np.linalg.inv(k[np.ix_(known, known)] + 0.1 * np.eye(3))
    mean = k[:, known] @ inverse @ np.array([1, -1, -1])
    variance = 1 - np.diag(k[:, known] @ inverse @ k[known])
    expected = norm.cdf(mean / np.sqrt(variance + 0.3**2))
    np.testing.assert_allclose(field(list(line)).belief(said), expected, rtol=1e-9)


def test_a_difference_in_rounding_is_none() -> None:
    assert (
        field([0.0, 1.0, 2.5e-162]).belief({0: True}).tolist()
        == field([0.0, 1.0, 0.0]).belief({0: True}).tolist()
    )


@given(places, st.data())
def test_asked_next_is_what_takes_most_doubt_away(line: list[float], data: st.DataObject) -> None:
    """Against the variance that is left after every judgement that could be made."""
    n, it = len(line), field(line)
    asked = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n - 1))
    said = {i: data.draw(st.booleans()) for i in asked}
    p, variance, _ = it._posterior(said)
    doubt = np.clip((SURE - np.maximum(p, 1 - p)) / (SURE - 0.5), 0, None)
    doubt[asked] = 0
    if doubt.max() < 1e-6:
        return
    left = [np.inf if k in said else float(doubt @ it._posterior({**said, k: True})[1]) for k in range(n)]
    chosen = it.teaches_most(said)
    assert chosen not in said
    assert chosen is not None
    assert left[chosen] <= min(left) + 1e-6 * max(1.0, float(doubt @ variance))


@settings(max_examples=10)
@given(st.permutations(range(6)))
def test_the_order_of_the_images_does_not_matter(order: list[int]) -> None:
    measured, seen = rows(6)
    lines = np.arange(6 * J).reshape(6, J)[order].ravel()
    with (
        Judgements.open(Path(":memory:"), "person") as one_store,
        Judgements.open(Path(":memory:"), "person") as other_store,
    ):
        known = Judging(images(6), measured, seen, one_store, wanted=8)
        shuffled = Judging([images(6)[i] for i in order], measured[lines], seen[lines], other_store, wanted=8)
        for _ in range(8):
            (one,), (other,) = known.next(), shuffled.next()
            assert (one.image_id, one.number) == (other.image_id, other.number)
            known.submit(one, right(one), author="A")
            shuffled.submit(other, right(other), author="A")
        told = [
            {(v.image_id, v.segment): v.spurious for v in each.carried_over()[0]}
            for each in (known, shuffled)
        ]
    assert told[0] == told[1]
    assert list(told[1])[:J] == [(f"image-{order[0]}", j) for j in (1, 2, 3)], "in the order of the images"


def test_a_few_judgements_of_two_kinds_reach_all_and_say_from_where(store: Judgements) -> None:
    judging = Judging(images(20), *rows(20), store, wanted=12)
    while judging.judged < 12:
        (segment,) = judging.next()
        judging.submit(segment, right(segment), author="Anna", reason=f"of {segment.image_id}")
    verdicts, judged = judging.carried_over()
    assert all(v.spurious in (v.segment == 1, None) for v in verdicts)
    assert (judged.judged, judged.authors) == (12, ("Anna",))
    assert judged.verified.segments >= 2, "the tenth and the twelfth"
    assert judged.propagated >= 40
    said = {(v.image_id, v.segment): v for v in verdicts if ", judged 2" in v.author}
    assert len(said) == 12
    for v in verdicts:
        if v.author.startswith("Anna, propagated from segment "):
            number, image = v.author.removeprefix("Anna, propagated from segment ").split(" of ")
            assert said[image, int(number)].spurious == v.spurious
            assert v.reason == f"of {image}"


def test_where_the_random_ones_disagree_it_says_so_and_asks_more(store: Judgements) -> None:
    judging = Judging(images(20), *rows(20), store, wanted=12)
    random = np.random.default_rng(0)
    assert judging.due == 12
    while judging.judged < 12:
        judging.submit(judging.next()[0], "spurious" if random.random() < 0.5 else "relevant", author="A")
    _, judged = judging.carried_over()
    assert not judged.sure
    assert "LESS SURE THAN REQUIRED (80%)" in str(judged) or "NOT VERIFIED" in str(judged)
    assert judging.due == 6
    judging.submit(judging.next()[0], "relevant", author="A")
    assert judging.due == 5
    content = Judging(images(20), *rows(20), store, wanted=12, required=0.0)
    assert content.due == 0, "who requires nothing is asked nothing more"
    assert str(Judging(images(20), *rows(20), store, wanted=12, verify=False).carried_over()[1]).count(
        "NOT VERIFIED"
    )


def test_several_at_once_are_different_and_like_those_one_by_one_at_the_start(store: Judgements) -> None:
    judging = Judging(images(9), *rows(9), store, wanted=8)
    together = judging.next(8)
    assert len({segment.seen for segment in together}) == 8
    assert together[0] is judging.next()[0]
    assert len(judging.next(1000)) == 27, "no more than there are"
    for segment in judging.segments:
        judging.submit(segment, right(segment), author="A")
    assert (judging.next(), judging.due) == ([], 0)


def test_every_judgement_is_kept_and_the_latest_counts(tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite"
    with Judgements.open(path, "person") as store:
        judging = Judging(images(4), *rows(4), store)
        first, second = judging.next(2)
        before = judging.fingerprint
        judging.submit(first, "spurious", author="Anna", reason="a tag\nin \x1b[31mred", how="terminal")
        judging.submit(second, "cannot say", author="Ben")
        judging.submit(first, "relevant", author="Ben")
        assert judging.fingerprint != before
        judging.take_back(author="Ben")
        assert (judging.judgement(first), judging.judged) == (None, 1)
        with pytest.raises(ConfigError, match="relevant"):
            judging.submit(first, "relevent", author="A")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="author"):
            judging.submit(first, "relevant", author=" ")
        with pytest.raises(ConfigError, match="not part of this run"):
            judging.find("image-99", 1)
        with pytest.raises(RunError, match="in use"):
            Judgements.open(path, "person")
    with Judgements.open(path, "person:ben") as store:
        assert store.in_force() == {}, "another person's"
    with Judgements.open(path, "person") as store:
        (kept,) = store.in_force().values()
        assert (kept.answer, kept.author, kept.spurious) == ("cannot say", "Ben", None)
        kept_rows = store._database.rows("SELECT answer, reason FROM judgements")
        assert [answer for answer, _ in kept_rows] == ["spurious", "cannot say", "relevant", None]
        assert kept_rows[0][1] == "a tag in [31mred"
        assert Judging(images(4), *rows(4), store).judged == 1
        assert Judging(images(4), *rows(4), store, intervene="core").judged == 0, "another question"
        changed = [replace(one, segments=one.segments[::-1, ::-1].copy()) for one in images(4)]
        assert Judging(changed, *rows(4), store).judged == 0, "other segments"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(RunError, match=r"judgements\.sqlite"):
        Judgements.open(path, "person")


def test_where_it_lies_in_words() -> None:
    one = explained(segments=6)
    assert [where(one, j) for j in (1, 3, 6)] == ["left", "middle", "right"]
    attribution = np.zeros((6, 6), np.float32)
    attribution[0, 0] = 1
    assert where(replace(one, attribution=attribution), 1) == "top left"


def test_activations_are_the_input_of_the_last_layer() -> None:
    import torch
    from torch import nn

    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    some = torch.rand(5, 1, 8, 8)
    expected = net[:4](some).detach()
    torch.testing.assert_close(activations(net, lambda part: some[part], 5, batch=2), expected)
    fully = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.testing.assert_close(
        activations(fully, lambda part: some[part], 5), fully[0](some).mean((2, 3)).detach()
    )


# By file.


def sheet(folder: Path) -> list[list[str]]:
    text = (folder / SHEET).read_text("utf-8-sig")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def fill_in(folder: Path, words: Sequence[str], *, delimiter: str = ",", encoding: str = "utf-8") -> None:
    head, *lines = sheet(folder)
    for line, word in zip(lines, words, strict=False):
        line[4:6] = [word, "'=because"] if word else ["", ""]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([head, *lines])
    (folder / SHEET).write_bytes(text.getvalue().encode(encoding))


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_by_file_there_and_back(tmp_path: Path, store: Judgements, delimiter: str, encoding: str) -> None:
    judging = Judging(images(5), *rows(5), store, wanted=6)
    asked = judging.next(judging.due)
    folder = tmp_path / "segments"
    assert export_segments(asked, [SEVEN], "spurious", folder).requests == 6
    assert len(list(folder.glob("*.png"))) == 6
    assert "A horizontal bar" in (folder / "README.md").read_text("utf-8")
    assert "image-" not in (folder / SHEET).read_text("utf-8-sig"), "nothing names the image"
    fill_in(folder, ["Spurious", "r", "", "CANNOT  say", "0"], delimiter=delimiter, encoding=encoding)
    with pytest.raises(ConfigError, match="--answered-by"):
        import_segments([folder], judging, answered_by=" ")
    taken = import_segments([folder], judging, answered_by="Anna", note="at home")
    assert (taken.imported, taken.empty, taken.damaged, taken.unknown) == (4, 2, (), ())
    said = [judging.judgement(segment) for segment in asked]
    assert [j and j.answer for j in said] == ["spurious", "relevant", None, "cannot say", "relevant", None]
    assert said[0] is not None
    assert (said[0].author, said[0].reason, said[0].how) == ("Anna", "=because", "by file; at home")
    again = import_segments([folder / SHEET], judging, answered_by="Anna")
    assert (again.imported, again.known) == (0, 4)
    fill_in(folder, ["relevant"])
    assert import_segments([folder], judging, answered_by="Anna").imported == 1, "a change of mind"
    assert export_segments([], [SEVEN], "core", tmp_path / "none").requests == 0
    with pytest.raises(ConfigError, match="not empty"):
        export_segments(asked, [SEVEN], "core", folder)


def test_bad_sheets_are_told_and_the_rest_is_taken(tmp_path: Path, store: Judgements) -> None:
    judging = Judging(images(5), *rows(5), store, wanted=6)
    folder = tmp_path / "segments"
    export_segments(judging.next(6), [SEVEN], "spurious", folder)
    head, *lines = sheet(folder)
    lines[0][4], lines[1][4], lines[2][4] = "spurious", "maybe", "relevant"
    lines[3][0], lines[3][4] = "0004-0123456789abcdef.png", "relevant"
    lines[4][0], lines[4][4] = "a picture.png", "relevant"
    lines[5] = [lines[0][0], "", "", "", "relevant", ""]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([head, *lines, [], [lines[2][0]]])
    (folder / SHEET).write_text(text.getvalue(), "utf-8")
    taken = import_segments([folder], judging, answered_by="Anna")
    assert (taken.imported, taken.empty) == (2, 1)
    assert taken.unknown == ("0004-0123456789abcdef.png",)
    told = [why for _, why in taken.damaged]
    assert ["maybe" in told[0], "a picture.png" in told[1], "differently further up" in told[2]] == [True] * 3
    assert taken.damaged[0][0].endswith("line 3")
    for content, why in (
        (b"", "first line must name"),
        (b"a,b\n1,2\n", "first line must name"),
        ("picture,judgement\n1,2\n".encode("utf-16"), "no UTF-8"),
        (b'picture,judgement\n"' + b"x" * 200_000 + b'",s\n', "field larger"),
    ):
        bad = tmp_path / "bad.csv"
        bad.write_bytes(content)
        (unreadable,) = import_segments([bad], judging, answered_by="Anna").unreadable
        assert why in unreadable
    (missing,) = import_segments([tmp_path / "nowhere.csv"], judging, answered_by="Anna").unreadable
    assert "No such file" in missing


# At the terminal.


def dialogue(judging: Judging, lines: Sequence[str], tmp_path: Path, who: str = "anna") -> None:
    left = iter(lines)
    judge(
        judging,
        PersonBackend(who),
        specifications={"seven": SEVEN},
        intervene="spurious",
        picture=tmp_path / "judging.png",
        read=lambda _: next(left, None),
    )
    assert next(left, None) is None, "all lines were read"


def test_the_dialogue(tmp_path: Path, store: Judgements, capsys: pytest.CaptureFixture[str]) -> None:
    judging = Judging(images(5), *rows(5), store, wanted=4)
    dialogue(judging, ["what?", "", "b", "s the tag", "cannot say too dark", "back", "?", "stop"], tmp_path)
    out = capsys.readouterr().out
    assert "Nothing was judged yet." in out
    assert out.count("Taken back.") == 1
    assert out.count("A horizontal bar") == 1, "what is known of a class is shown once"
    assert "A judgement" not in out
    assert (tmp_path / "judging.png").read_bytes().startswith(b"\x89PNG")
    assert [(j.answer, j.reason) for j in store.in_force().values()] == [
        ("spurious", "the tag"),
        ("cannot say", ""),
    ]
    dialogue(judging, ["Ben", "r", "r"], tmp_path, who="")
    assert [j.author for j in store.in_force().values()] == ["anna", "anna", "Ben", "Ben"]


def answered_by_pty(
    arguments: Sequence[str], answers: Sequence[str], cwd: Path, *, kill: bool = False
) -> tuple[str, int]:
    """Run the command at a terminal of its own, and answer each prompt; then kill it, or let it end."""
    import pty  # which not every system has

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, WORKER, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        close_fds=True,
        env=os.environ | {"TERM": "dumb", "COLORTERM": "truecolor"},
    )
    os.close(theirs)
    seen, prompt, todo = b"", b"[stop]: ", list(answers)
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        seen += part
        if seen.endswith(prompt):
            if todo:
                os.write(ours, todo.pop(0).encode() + b"\n")
            elif kill:
                process.kill()
                break
    code = process.wait(timeout=PATIENCE)
    os.close(ours)
    text = seen.decode(errors="replace")
    return re.sub(r"(\x1b\[[\d;]+m▀)+", "<pixels>", text).replace("\r", ""), code


@pytest.fixture
def project_file(tmp_path: Path) -> Path:
    document: dict[str, Any] = {"project": "small", "run": "run", "specifications": "classes.yaml"}
    changes = {"critique__critic": "person", "critique__judgements": 6, "model__epochs": 4}
    for key, value in small.settings(explain__num_images=10, **changes).items():
        section, _, name = key.partition(".")
        document.setdefault(section, {})[name] = value
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(small.SPECIFICATIONS))
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "project.yaml"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no pseudo-terminals here")
@pytest.mark.slow
def test_killed_at_the_terminal_it_goes_on_where_it_was(project_file: Path) -> None:
    command = ["critique", "project.yaml", "--critic", "person:anna"]
    seen, code = answered_by_pty(command, ["s", "r a stroke"], project_file.parent, kill=True)
    assert code == -signal.SIGKILL, seen
    assert "6 segments to judge, 0 judged so far." in seen
    assert "<pixels>" in seen, "a terminal with colours shows the picture"
    seen, code = answered_by_pty(command, ["b", "s", "r", "s", "c", "s", "stop"], project_file.parent)
    assert "4 segments to judge, 2 judged so far." in seen
    assert code == 0, seen
    verdicts = read_verdicts(project_file.parent / "run" / "verdicts.csv")
    assert sum(v.author.startswith("anna, judged 2") for v in verdicts) == 6
    assert sum(v.reason == "the person could not say" for v in verdicts) == 1


# In a run.


def project(tmp_path: Path, **changes: Any) -> Project:
    return Project(
        small.trained(),
        small.splits(),
        small.SPECIFICATIONS,
        critic="person",
        run=tmp_path / "run",
        settings=small.settings(**({"critique__critic": "person", "explain__num_images": 24} | changes)),
    )


def test_a_run_with_a_person(tmp_path: Path) -> None:
    """The oracle answers as the person; then somebody overrules, and judges more."""
    it = project(tmp_path, critique__judgements=20, align__epochs=1, evaluate__num_images=20)
    with pytest.raises(CriticError, match="0 of 20 segments are judged"):
        it.critique()
    assert "20 segments, of 72; 0 are judged" in str(it.estimate())

    def ask(number: int) -> None:
        with it.judging() as judging:
            for _ in range(number):
                (segment,) = judging.next()
                of = segment.explained
                assert of.spurious is not None
                held = (of.spurious & (of.segments == segment.number)).any()
                judging.submit(segment, "spurious" if held else "relevant", author="an oracle")

    it._ask = lambda judging, person, **_: None  # somebody at a terminal, who leaves at once
    with pytest.raises(Interrupted, match="0 of 20 segments are judged; they are kept"):
        it.critique()
    ask(20)
    first = it.critique()
    assert "by person (a person)" in str(first)
    assert "an oracle judged 20 of 72 segments" in str(first)
    table = tmp_path / "run" / "verdicts.csv"
    overruled = next(v for v in first.verdicts if "judged 2" in v.author)
    lines = table.read_text("utf-8").splitlines(keepends=True)
    at = next(
        i for i, line in enumerate(lines) if line.startswith(f"{overruled.image_id},{overruled.segment},")
    )
    lines[at] = f"{overruled.image_id},{overruled.segment},{int(not overruled.spurious)},no,an oracle\n"
    table.write_text("".join(lines), "utf-8")
    ask(4)
    second = {(v.image_id, v.segment): v for v in it.critique().verdicts}
    kept = second[overruled.image_id, overruled.segment]
    assert (kept.spurious, kept.reason) == (not overruled.spurious, "no"), "an overrule stays"
    with it.judging() as judging:
        said = judging.judgement(judging.find(overruled.image_id, overruled.segment))
        assert said is not None
        assert said.spurious == overruled.spurious, "and the judgement, too"
    metrics = it.align().metrics.verdicts
    assert (metrics.critic, metrics.critic_kind, len(metrics.overruled)) == ("person", "person", 1)
    assert getattr(metrics.propagation, "judged", None) == 24
    text = (tmp_path / "run" / "metrics.json").read_text("utf-8")
    assert RunMetrics.model_validate_json(text).verdicts.propagation == metrics.propagation
    with RunDirectory.open(tmp_path / "run") as run:
        assert "an oracle judged 24 of 72 segments" in write_report(run).read_text("utf-8")


def test_a_person_is_no_judge_and_has_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs no judge"):
        project(tmp_path, critique__judge="openai:gpt-4o").critique()
    with pytest.raises(ConfigError, match="a person judges segments, not critiques"):
        project(tmp_path, critique__critic="builtin", critique__judge="person").critique()
    it = project(tmp_path, critique__critic="builtin")
    with pytest.raises(ConfigError, match="builtin is no person"), it.judging():
        pass
