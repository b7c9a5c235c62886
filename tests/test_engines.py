"""Tasks in this process, in others and on a Dask cluster of two workers; failures, deaths, circles."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine_tasks
from experiments.engines import engine
from experiments.tasks import Outcome, Task, run_tasks
from lvlm_va.errors import ConfigError, Interrupted
from patience import PATIENCE, wait_until


def run(tasks: list[Task], name: str = "processes", workers: int = 1) -> dict[str, Outcome]:
    with engine(name, workers) as start:
        return {outcome.task.key: outcome for outcome in run_tasks(tasks, start, workers)}


def task(key: str, function=engine_tasks.product, arguments=(2, 3), needs=()) -> Task:
    return Task(key, key, function, arguments, tuple(needs))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=10))
def test_every_task_runs_once_and_after_what_it_needs(links: list[set[int]]) -> None:
    tasks = [
        task(str(n), needs=[str(m) for m in sorted(needs) if m < n], arguments=(n, 1))
        for n, needs in enumerate(links)
    ]
    with engine("processes", 1) as start:
        outcomes = list(run_tasks(tasks[::-1], start, 1))
    order = [outcome.task.key for outcome in outcomes]
    assert sorted(order) == sorted(t.key for t in tasks)
    for outcome in outcomes:
        assert outcome.value == int(outcome.task.key)
        assert all(order.index(need) < order.index(outcome.task.key) for need in outcome.task.needs)


def test_a_failure_stops_only_what_needs_it() -> None:
    found = run(
        [
            task("gone", engine_tasks.refused, ()),
            task("needs it", needs=["gone"]),
            task("needs that", needs=["needs it"]),
            task("defect", engine_tasks.defect, ()),
            task("fine"),
        ]
    )
    assert found["fine"].value == 6
    for key in ("gone", "needs it", "needs that"):
        assert found[key].failed == "the images are gone"
    assert found["gone"].details is None, "the person's mistake has no traceback"
    assert found["defect"].failed == "unexpected ZeroDivisionError: a defect"
    assert "engine_tasks.py" in str(found["defect"].details)


def test_tasks_that_cannot_be_ordered_are_refused() -> None:
    with pytest.raises(ValueError, match="need nowhere, which are not among them"):
        run([task("a", needs=["nowhere"])])
    with pytest.raises(ValueError, match="in a circle: a, b"):
        run([task("a", needs=["b"]), task("b", needs=["a"])])


@pytest.mark.parametrize("name", ["processes", "dask"])
@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_two_workers_share_the_tasks(name: str) -> None:
    found = run([task(str(n), engine_tasks.where, (n,)) for n in range(6)], name, 2)
    processes = {outcome.value for outcome in found.values()}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_a_worker_that_dies_fails_its_task_alone() -> None:
    others = [task(f"other {n}") for n in range(5)]
    found = run([task("killed", engine_tasks.killed, ()), *others], workers=2)
    assert "its process died" in str(found["killed"].failed)
    # Of two workers, one other task may have run beside it and died with the pool; the rest ran in a new one.
    beside = [found[one.key] for one in others if found[one.key].failed is not None]
    assert len(beside) <= 1
    assert all("its process died" in str(outcome.failed) for outcome in beside)
    assert [found[one.key].value for one in others].count(6) == len(others) - len(beside)


def test_an_interruption_is_no_failure() -> None:
    with pytest.raises(Interrupted):
        run([task("a", engine_tasks.interrupted, ())])
    with pytest.raises(KeyboardInterrupt):
        run([task("a", engine_tasks.interrupted, (KeyboardInterrupt,))])


HERE = Path(__file__).parent
_INTERRUPTED = """
import sys
sys.path[:0] = {paths!r}
import engine_tasks
from experiments.engines import engine
from experiments.tasks import Task, run_tasks

if __name__ == "__main__":
    tasks = [Task(n, n, engine_tasks.slow, ({folder!r}, n)) for n in ("a", "b", "c")]
    with engine("processes", 2) as start:
        list(run_tasks(tasks, start, 2))
"""


def test_an_interruption_ends_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    marks = tmp_path / "marks"
    marks.mkdir()
    script.write_text(_INTERRUPTED.format(paths=[str(HERE), str(HERE.parent)], folder=str(marks)))
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: len(list(marks.iterdir())) >= 2, process)
    assert {mark.name for mark in marks.iterdir()} == {"a", "b"}, "two at once, the third waits"
    os.killpg(process.pid, signal.SIGINT)
    _, words = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in words
    assert _ends(process.pid), "nobody of the group is left"
    assert {mark.name for mark in marks.iterdir()} == {"a", "b"}


def _ends(group: int) -> bool:
    for _ in range(10 * PATIENCE):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_names_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dask'"), engine("dusk", 2):
        pass
    with (
        pytest.raises(ConfigError, match="--scheduler is for --engine dask"),
        engine("processes", 2, "tcp://a:1"),
    ):
        pass
    with (
        pytest.raises(ConfigError, match=r"127\.0\.0\.1:1: cannot be reached"),
        engine("dask", 2, "tcp://127.0.0.1:1"),
    ):
        pass
