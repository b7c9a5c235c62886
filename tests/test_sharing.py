"""Two machines, one run's questions: none is paid twice; one that dies costs what it had under way."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

import sharing_worker
from critique_helpers import SEVEN, critic_judge, explained, render
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.driver import critique
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.sharing import Sharing
from lvlm_va.critique.store import Store
from lvlm_va.errors import CriticError, RunError
from patience import PATIENCE
from servers import Asked, ChatServer, chat_server

IMAGES = 96
AT_ONCE = 8  # calls of one machine


@pytest.fixture
def spawn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts a function of `sharing_worker` in a process of its own; what is left is killed at the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sharing_worker"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # else every child would import pytest
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    started = []

    def start(work: Any, *arguments: object) -> Any:
        process = context.Process(target=work, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_was_said_to_be_kept_is_there_after_a_kill(tmp_path: Path, spawn: Any) -> None:
    path, said = tmp_path / "s.sqlite", tmp_path / "acknowledged.txt"
    process = spawn(sharing_worker.fill, str(path), str(said))
    until(lambda: said.is_file() and said.stat().st_size > 65 * 300)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    acknowledged = said.read_text().split("\n")[:-1]
    assert len(acknowledged) >= 300
    with Store.open(path) as store:
        assert all(store.lookup(key) is not None for key in acknowledged)


def test_two_machines_one_killed_and_no_question_paid_twice(tmp_path: Path, spawn: Any) -> None:
    helpers: list[int] = []
    both = threading.Event()

    def behave(asked: Asked) -> Response | None:
        assert both.wait(PATIENCE)
        if helpers and server.requests.total() > IMAGES // 2:
            os.kill(helpers.pop(), signal.SIGKILL)
        return None

    with chat_server(behave) as server:
        verdicts = tmp_path / "verdicts.txt"
        leader = spawn(sharing_worker.lead, server.url, str(tmp_path), IMAGES, str(verdicts))
        until((tmp_path / "sharing" / "work.json").exists)
        helper = spawn(sharing_worker.join, server.url, str(tmp_path), IMAGES, "helper")
        until(lambda: (tmp_path / "sharing" / "helper.sqlite").exists() or not helper.is_alive())
        helpers.append(helper.pid)
        both.set()
        leader.join(PATIENCE)
        helper.join()
        assert leader.exitcode == 0
        assert helper.exitcode == -signal.SIGKILL
        paid = server.requests.copy()

    assert len(verdicts.read_text().splitlines()) == 3 * IMAGES
    assert "None" not in verdicts.read_text()
    assert len(paid) == 2 * IMAGES, "a critique and a judgement for each image"
    again = paid.total() - len(paid)
    assert 0 <= again <= AT_ONCE + 2, "of the dead machine at most what it had under way was asked again"
    with Store.open(tmp_path / "critiques.sqlite") as store:
        assert sum(1 for e in store.exchanges() if e.reply) == 2 * IMAGES


def test_a_helper_takes_its_share_and_nothing_twice(
    tmp_path: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, so that who asks what is certain: the leader takes a block, the helper the rest."""
    images = [explained(n) for n in range(40)]
    asks = critic_judge(make_backend("openai:m"))
    folder = tmp_path / "sharing"
    with Store.open(tmp_path / "critiques.sqlite") as store:
        critique(images[:4], asks, store)
        asked = server.requests.total()
        with Sharing.lead(folder, store, images, asks.specifications) as leading:
            taken = leading.mine(images)
            first = [next(taken) for _ in range(16)]
            with Sharing.join(folder, "helper") as (helping, own):
                assert helping.specifications == {"seven": SEVEN}
                critique(helping.mine(images), asks, own, claims=helping)
                assert not helping.take(first_key := "ab" * 32) or not leading.take(first_key)
            assert server.requests.total() == asked + 2 * 24
            critique(first, asks, store, claims=leading)
            assert list(taken) == []
            leading.wait(store)
        assert not list(folder.glob("helper*")), "its answers are in the run's store"
        before = server.requests.total()
        verdicts = critique(images, asks, store)
        assert server.requests.total() == before == 2 * 40
        assert set(server.requests.values()) == {1}
        assert [v.spurious for v in verdicts] == [True, False, True] * 40


def test_equal_questions_of_two_machines_are_one(tmp_path: Path, server: ChatServer) -> None:
    images = [explained(n, predicted="seven", image=explained().image) for n in range(32)]
    asks = critic_judge(make_backend("openai:m"))
    with Store.open(tmp_path / "critiques.sqlite") as store:
        with Sharing.lead(tmp_path / "sharing", store, images, asks.specifications) as leading:
            taken = leading.mine(images)
            first = [next(taken) for _ in range(16)]
            critique(first, asks, store, claims=leading)
            with Sharing.join(tmp_path / "sharing", "helper") as (helping, own):
                assert critique(helping.mine(images), asks, own, claims=helping) == []
            leading.wait(store)
        assert len(critique(images, asks, store)) == 3 * 32
        assert sorted(server.requests.values()) == [1, 1]


def test_who_was_taken_for_dead_asks_nothing_more(tmp_path: Path) -> None:
    folder = tmp_path / "sharing"
    with Store.open(tmp_path / "critiques.sqlite") as store:
        with Sharing.lead(folder, store, [explained()], {}, lease=0.4) as leading:
            with Sharing.join(folder, "helper", lease=1e6) as (helping, _own):
                pass
            (folder / "helper.done").unlink()
            os.utime(folder / "helper.alive", (0, 0))
            assert leading.collect(store) == []
            assert (folder / "helper.over").exists()
        (folder / "other.alive").touch()
        with (
            pytest.raises(RunError, match="still work on"),
            Sharing.lead(folder, store, [explained(1)], {}),
        ):
            pass
        (folder / "other.alive").unlink()
    helping._ended.set()
    with pytest.raises(CriticError, match="gave no sign of life"):
        helping.take("ab" * 32)


def test_nothing_is_offered(tmp_path: Path) -> None:
    with (
        pytest.raises(CriticError, match="no questions are offered"),
        Sharing.join(tmp_path / "sharing", "helper"),
    ):
        pass


def test_stores_are_merged_and_the_first_answer_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a.sqlite") as one:
        one.copy(tmp_path / "b.sqlite")
        one.record(asked(), "b", Reply("first", "m"))
        with Store.open(tmp_path / "b.sqlite") as other:
            other.record(asked(), "b", Reply("second", "m"))
            other.record(asked(1), "b", Reply("third", "m"))
            asyncio.run(other.keep_failure(asked(2), "b", "gone"))
        for _ in range(2):  # once more changes nothing
            one.merge(tmp_path / "b.sqlite")
            assert [e.reply and e.reply.text for e in one.exchanges()] == ["first", "third", None]
            assert [cost.failures for cost in one.costs()] == [1, 0]
        (tmp_path / "text").write_text("no database" * 100)
        with pytest.raises(RunError, match="not a file of lvlm-va"):
            one.merge(tmp_path / "text")
        assert one.find(asked(1), "b") is not None


def asked(number: int = 0) -> Question:
    it = explained(number)
    return critic_question(it, SEVEN, render(it))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield server
