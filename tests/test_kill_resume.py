"""Killed at twenty random points and resumed: the same verdicts, and no recorded question asked again."""

import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from starlette.responses import Response

import kill_worker
from lvlm_va.critique.store import Store
from patience import PATIENCE
from servers import Asked, chat_server

IMAGES, KILLS = 100, 20


class Executioner:
    """Kills the process after it has sent so many more requests, at a random moment around it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.left = 0
        self.process: int | None = None

    def __call__(self, asked: Asked) -> Response | None:
        self.left -= 1
        if self.process is not None and self.left == 0:
            delay = self.random.uniform(0, 0.03)
            threading.Timer(delay, os.kill, (self.process, signal.SIGKILL)).start()
            self.process = None
        return None


@pytest.mark.slow
def test_killed_twenty_times_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kill_worker"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # else every child would import pytest
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    executioner = Executioner(11)
    path = tmp_path / "critiques.sqlite"

    def live(url: str, store: Path, result: Path, requests: int) -> int:
        executioner.left = requests
        process = context.Process(target=kill_worker.run, args=(url, str(store), IMAGES, str(result)))
        process.start()
        executioner.process = process.pid if requests else None
        process.join(PATIENCE)
        assert process.exitcode is not None
        return process.exitcode

    with chat_server(executioner) as server:
        assert live(server.url, tmp_path / "calm.sqlite", tmp_path / "calm.json", 0) == 0
        server.requests.clear()

        recorded: set[str] = set()
        for _ in range(KILLS):
            before = server.requests.copy()
            exit_code = live(server.url, path, tmp_path / "none.json", executioner.random.randint(1, 14))
            time.sleep(0.01)
            asked = server.requests - before
            assert exit_code == -signal.SIGKILL
            assert not recorded & set(asked), "a recorded question was asked again"
            with Store.open(path) as store:
                now = {e.prompt for e in store.exchanges() if e.reply}
            assert recorded <= now, "a recorded answer was lost"
            recorded = now
        assert 20 < len(recorded) < 2 * IMAGES
        before = server.requests.copy()
        assert live(server.url, path, tmp_path / "killed.json", 0) == 0
        assert not recorded & set(server.requests - before)

    assert not (tmp_path / "none.json").exists()
    calm = json.loads((tmp_path / "calm.json").read_text())
    assert len(calm) == 3 * IMAGES
    assert json.loads((tmp_path / "killed.json").read_text()) == calm
