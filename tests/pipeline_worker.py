"""A process that aligns the small model, is killed again and again, and resumes until it is done.

Called with a folder and a seed; runs `folder`/run in forked children and kills them with SIGKILL, before a
random write or after a random time, unless the seed is negative. Prints JSON: how many kills, and how many
questions were asked again although their answers had been recorded.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import torch

import lvlm_va
import small
from lvlm_va.critique.backends.ground_truth import GroundTruthBackend
from lvlm_va.critique.question import Question, Reply


def align(folder: Path, die_before_write: int) -> None:
    """One life: the whole run, unless it is killed."""
    writes, fsync, answer = 0, os.fsync, GroundTruthBackend.answer

    def fsync_or_die(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes == die_before_write:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    async def answer_slowly(self: GroundTruthBackend, question: Question) -> Reply:
        with (folder / "asked").open("a") as log:
            log.write(question.key(self.name) + "\n")
        await asyncio.sleep(0.002)
        return await answer(self, question)

    os.fsync = fsync_or_die
    GroundTruthBackend.answer = answer_slowly  # type: ignore[method-assign]
    settings = small.settings(align__lambda=[0.01, 0.1])
    arguments = (small.untrained(), small.splits(), small.SPECIFICATIONS)
    lvlm_va.align(
        *arguments,
        critic="ground-truth",
        run=folder / "run",
        settings=settings | {"model.epochs": 10, "model.batch": 32},
        trained=False,
        quiet=True,
    )


def recorded(folder: Path) -> set[str]:
    """Keys of the questions whose answers are in the store."""
    path = folder / "run" / "critiques.sqlite"
    if not path.exists():
        return set()
    connection = sqlite3.connect(path)
    try:
        return {key for (key,) in connection.execute("SELECT key FROM answers")}
    except sqlite3.OperationalError:  # killed before the tables were made
        return set()
    finally:
        connection.close()


def main(folder: Path, seed: int) -> None:
    """Kill and resume until a life ends by itself."""
    torch.set_num_threads(1)
    chance, kills, again = random.Random(seed), 0, 0
    while True:
        known = recorded(folder)
        (folder / "asked").write_text("")
        deadly = seed >= 0 and kills < 12
        write = chance.randint(2, 5) if deadly and kills % 2 == 0 else 0
        child = os.fork()
        if child == 0:
            align(folder, write)
            os._exit(0)
        if deadly and not write:
            time.sleep(chance.uniform(0.02, 0.5))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        again += len(known & set((folder / "asked").read_text().split()))
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
    print(json.dumps({"kills": kills, "asked_again": again}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
