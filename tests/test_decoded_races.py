"""The cache of decoded images between processes: several at once, killed ones, no locks."""

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from lvlm_va.data import decoded as decoded_module
from lvlm_va.data.decoded import Decoded, decode
from lvlm_va.errors import DataError
from patience import PATIENCE, output_of

N = 40
TOTAL = 16 * sum(range(N))
WORKER = [sys.executable, str(Path(__file__).with_name("decode_worker.py")), str(N)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def here(n: int = N, read: Any = None) -> Decoded:
    return decode(
        list(range(n)),
        read or (lambda row: np.full((4, 4), row, dtype=np.uint8)),
        size=4,
        resize="crop",
        channels="grey",
    )


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "images").iterdir())


def test_of_several_processes_one_decodes_and_all_have_its_images(tmp_path: Path, cache: Path) -> None:
    log = tmp_path / "log"
    processes = [subprocess.Popen([*WORKER, str(log)], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    assert all(f"sum {TOTAL}" in text for text in said)
    lines = log.read_text().splitlines()
    assert len({line.split()[0] for line in lines}) == 1, "one of them read the images"
    assert sorted(int(line.split()[1]) for line in lines) == list(range(N)), "each once"
    assert len(kept(cache)) == 1


def test_what_a_killed_process_left_is_swept(tmp_path: Path, cache: Path) -> None:
    """Also by one that decodes other images."""
    killed = subprocess.run([*WORKER, str(tmp_path / "log"), "kill"], check=False)
    assert killed.returncode == -9
    shutil.copytree(cache, tmp_path / "left")
    for n in (N, 5):
        shutil.rmtree(cache)
        shutil.copytree(tmp_path / "left", cache)
        assert [name.endswith(".part") for name in kept(cache)].count(True) == 1
        np.testing.assert_array_equal(here(n).pixels[:, 0, 0, 0], np.arange(n))
        assert not [name for name in kept(cache) if name.endswith(".part")]


def test_what_another_process_is_writing_is_left_alone(cache: Path) -> None:
    part = cache / "images" / ".0123.abcd.part"
    part.mkdir(parents=True)
    (cache / "locks").mkdir()
    with filelock.FileLock(cache / "locks" / "0123.lock"):
        here(3)
        assert part.is_dir()
    here(4)
    assert not part.exists()


def test_without_locks_the_first_that_is_done_wins(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(decoded_module.FileLock, "acquire", no_locks)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        """Another process takes the name just before."""
        if self.name.endswith(".part"):
            monkeypatch.setattr(Path, "rename", rename)
            output_of([*WORKER, tmp_path / "log"])
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    np.testing.assert_array_equal(here().pixels[:, 0, 0, 0], np.arange(N))
    assert len(kept(cache)) == 1


def test_an_interruption_does_not_wait_for_what_has_not_begun(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    ended = threading.Event()
    shut_down = ThreadPoolExecutor.shutdown

    def shutdown(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        shut_down(pool, wait=False, cancel_futures=cancel_futures)
        ended.set()
        shut_down(pool, wait=wait)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)

    class Stop(BaseException):
        pass

    def image(row: int) -> np.ndarray:
        read.append(row)
        if row == 3:
            raise Stop
        if row > 3:  # else a fast thread has read all before the interruption is seen
            ended.wait(PATIENCE)
        return np.zeros((4, 4), dtype=np.uint8)

    with pytest.raises(Stop):
        decode(list(range(200)), image, size=4, resize="crop", channels="grey", workers=1)
    assert len(read) < 200
    assert kept(cache) == []


def test_a_cache_that_may_only_be_read_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    here()

    def read_only(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decoded_module, "_alone", read_only)
    np.testing.assert_array_equal(here().pixels[:, 0, 0, 0], np.arange(N))
    with pytest.raises(DataError, match=r"Permission denied.*LVLM_VA_CACHE"):
        here(3)
