"""The store: nothing recorded is lost, nothing foreign is touched, every failure says what to do."""

import asyncio
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from critique_helpers import SEVEN, Scripted, critic_judge, explained, render
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.store import Store
from lvlm_va.errors import RunError
from patience import PATIENCE


def question(number: int = 0) -> Question:
    it = explained(number)
    return critic_question(it, SEVEN, render(it))


def judging() -> Question:
    return judge_question(question(), "the critique", load_examples())


REPLY = Reply("words", "model-1", 10, 5, 0.25, 1.5, "", "asked without x")


def test_an_answer_comes_back_as_it_was_after_closing(tmp_path: Path) -> None:
    key = question().key("b")
    with Store.open(tmp_path / "s.sqlite") as store:
        assert store.lookup(key) is None
        store.record(question(), "b", REPLY)
    with Store.open(tmp_path / "s.sqlite") as store:
        assert store.lookup(key) == REPLY
        assert store.lookup(question().key("another")) is None
        assert store.lookup(question(1).key("b")) is None
        exchange = store.exchange(key)
    assert exchange is not None
    assert (exchange.prompt, exchange.system) == (question().prompt, question().system)
    assert exchange.images == tuple((p.caption, p.sha256) for p in question().images)
    assert (exchange.segment_ids, exchange.reply, exchange.verdicts) == ((1, 2, 3), REPLY, None)
    assert exchange.parameters["max_tokens"] == 4096


def test_an_answer_is_committed_when_record_returns(tmp_path: Path) -> None:
    """Another connection sees it once the file is free, although `close` was never called."""
    store = Store.open(tmp_path / "s.sqlite")
    store.record(question(), "b", REPLY)
    (tmp_path / "copy.sqlite").write_bytes((tmp_path / "s.sqlite").read_bytes())
    (tmp_path / "copy.sqlite-wal").write_bytes((tmp_path / "s.sqlite-wal").read_bytes())
    with Store.open(tmp_path / "copy.sqlite") as copy:  # what a crash would leave behind
        assert copy.lookup(question().key("b")) == REPLY
    store.close()


def test_the_first_answer_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        store.record(question(), "b", REPLY)
        store.record(question(), "b", Reply("other words", "model-2"))
        assert store.lookup(question().key("b")) == REPLY


def test_verdicts_are_recorded_with_the_judges_answer(tmp_path: Path) -> None:
    text = '{"verdicts": [{"segment": 2, "spurious": true, "reason": "a \\ud800"}]}'
    with Store.open(tmp_path / "s.sqlite") as store:
        store.record(judging(), "b", Reply(text, "m"))
        (exchange,) = store.exchanges("image-0")
    assert exchange.verdicts == {2: (True, "a ?")}


def test_costs_add_up_per_stage_backend_and_model(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        for number in range(3):
            store.record(question(number), "b", REPLY)
        store.record(question(3), "b", Reply("", "model-1", usd=None, seconds=0.5))
        store.record(judging(), "b", REPLY)
        asyncio.run(store.keep_failure(question(4), "b", "gone"))
        asyncio.run(store.keep_failure(question(4), "b", "gone again"))
        critic, failed, judge = sorted(store.costs(), key=lambda c: (c.stage, -c.calls))
        assert store.spent() == pytest.approx(1.0)
    assert (critic.calls, critic.input_tokens, critic.output_tokens, critic.unpriced) == (4, 30, 15, 1)
    assert (critic.usd, critic.seconds) == (pytest.approx(0.75), pytest.approx(5.0))
    assert (failed.stage, failed.calls, failed.failures) == ("critic", 0, 2)
    assert (judge.stage, judge.calls, judge.usd) == ("judge", 1, 0.25)


def test_a_failure_is_no_answer(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        asyncio.run(store.keep_failure(question(), "b", "gone"))
        assert store.lookup(question().key("b")) is None
        (exchange,) = store.exchanges()
        assert exchange.reply is None


def hold(
    path: str, ready: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event"
) -> None:
    with Store.open(path):
        ready.set()
        done.wait(PATIENCE)


def test_another_process_keeps_it_locked(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path / "s.sqlite"), ready, done))
    other.start()
    assert ready.wait(PATIENCE)
    try:
        with pytest.raises(RunError, match="in use by another process"):
            Store.open(tmp_path / "s.sqlite")
    finally:
        other.kill()  # a killed owner leaves no lock behind
        other.join()
    Store.open(tmp_path / "s.sqlite").close()


def test_foreign_newer_damaged_and_unwritable_files_are_refused_untouched(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    newer = tmp_path / "newer.sqlite"
    Store.open(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    text = tmp_path / "text.sqlite"
    text.write_text("this is not a database, it is a letter to a friend" * 100)
    for path, said in (
        (foreign, "another program"),
        (newer, "version 7"),
        (text, "not a file of lvlm-va"),
        (tmp_path / "no" / "such" / "directory.sqlite", "cannot be opened"),
        (tmp_path, "cannot be opened"),
    ):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(RunError, match=said) as caught:
            Store.open(path)
        assert str(path) in str(caught.value)
        assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store.open(path) as store:
        for number in range(50):
            store.record(question(number), "b", REPLY)
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * 8192 + whole[16384:])
    with pytest.raises(RunError, match="damaged"):
        Store.open(path)


def test_a_full_disk_says_so_and_loses_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        store.record(question(), "b", REPLY)
        (pages,) = store._database.rows("PRAGMA page_count")[0]
        store._database.rows(f"PRAGMA max_page_count = {pages + 2}")  # the disk has no room for more
        with pytest.raises(RunError, match="disk is full; make room"):
            store.record(question(1), "b", Reply("x" * 100_000, "m"))
        assert store.lookup(question().key("b")) == REPLY
        assert store.lookup(question(1).key("b")) is None
        store._database.rows("PRAGMA max_page_count = 1000000")
        store.record(question(1), "b", REPLY)
    with Store.open(tmp_path / "s.sqlite") as store:
        assert len(store.exchanges()) == 2


@pytest.mark.parametrize(
    "change", ["stage", "system", "prompt", "images", "segment_ids", "schema", "parameters"]
)
def test_whatever_could_change_the_answer_changes_the_key(change: str) -> None:
    values = {
        "stage": "judge",
        "system": "x",
        "prompt": "x",
        "images": render(explained(9)),
        "segment_ids": (1,),
        "schema": {"type": "object"},
        "parameters": {"temperature": 1},
    }
    one = question()
    fields = {name: getattr(one, name) for name in one.__dataclass_fields__}
    other = Question(**(fields | {change: values[change]}))
    assert other.key("b") != one.key("b") != one.key("c")
    assert Question(**fields).key("b") == one.key("b")


def test_the_panel_and_the_store_agree_about_the_key(tmp_path: Path) -> None:
    first = next(critic_judge(Scripted(lambda q: "")).review(explained()))
    with Store.open(tmp_path / "s.sqlite") as store:
        assert store.record_question(first, "b") == first.key("b")
        store.record_reply(first.key("b"), REPLY)
        assert store.lookup(first.key("b")) == REPLY
