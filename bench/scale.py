"""From a thousand images to a million: seconds and peak memory of every stage, by size.

    make bench ARGS=scale
    make bench ARGS="scale pipeline 1000:1000 1000000:10000 critiqued 100000 manifest 1000000"

pipeline N:M    N training images drawn on the fly, of which M are explained: select to report, two critics
held M:SIDE     what is held of M explained images of SIDE × SIDE pixels
critiqued N     N critiqued images: the store, the verdicts' table, report, export, studio
manifest N      a CSV of N lines over small files

Every job runs in a process of its own, whose memory and that of its children is looked at twenty times a
second; what a job did before it was stopped is on the disk, and pipeline goes on from there. A line of
results/scale/<job>-<size>.json is written when a stage ends, and results/scale/README.md from all of them.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lvlm_va.io.cores import usable_cores

__all__ = ["main", "page"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "scale"
RUNS = ROOT / "runs" / "scale"
JOBS = {
    "pipeline": "bench.scale_job",
    "held": "bench.scale_job",
    "critiqued": "bench.scale_critiqued",
    "manifest": "bench.scale_critiqued",
}
SMALL = ["pipeline", "1000:1000", "10000:1000", "held", "1000:64", "1000:224"]
SMALL += ["critiqued", "1000", "10000", "manifest", "10000", "100000"]
_GLANCE = 0.05


def main(arguments: Sequence[str]) -> None:
    """Run the jobs and sizes named; small ones where none are."""
    job = ""
    for word in arguments or SMALL:
        if word in JOBS:
            job = word
        elif not job or not word.replace(":", "").isdecimal():
            sys.exit(f"scale: {word!r} is neither a job ({', '.join(JOBS)}) nor a size, such as 1000")
        else:
            _run(job, word)
    (RESULTS / "README.md").write_text(page(_measured()))


def _run(job: str, size: str) -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    if job == "critiqued" and not (RUNS / "base" / "metrics.json").exists():
        for _ in _child("pipeline", RUNS / "base", "1000:1000"):
            pass
    told: dict[str, Any] = {
        "job": job,
        "size": [int(number) for number in size.split(":")],
        "cores": usable_cores(),
        "stages": [],
    }
    for stage in _child(job, RUNS / f"{job}-{size.replace(':', '-')}", size):
        told["stages"].append(stage)
        (RESULTS / f"{job}-{size.replace(':', '-')}.json").write_text(json.dumps(told, indent=1) + "\n")


def _child(job: str, folder: Path, size: str) -> Iterator[dict[str, Any]]:
    """The stages of a job, as they end."""
    command = [sys.executable, "-m", JOBS[job], job, str(folder), *size.split(":")]
    before = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        memory = _Memory(process.pid)
        for line in process.stdout:
            told = json.loads(line)
            resident, own = memory.peak()
            stage = {
                "stage": told["stage"],
                "seconds": round(told["seconds"], 3),
                "processor": round(told["cpu"] - before, 3),
                "peak_gib": round(resident, 3),
                "own_gib": round(own, 3),
                "load": round(os.getloadavg()[0], 1),
                **{key: told[key] for key in told.keys() - {"stage", "seconds", "cpu"}},
            }
            before = told["cpu"]
            print(f"{job} {size}: {json.dumps(stage)}", file=sys.stderr)
            yield stage
    if process.returncode:
        sys.exit(f"scale: {job} {size} ended with {process.returncode}")


class _Memory:
    """The largest memory of a process and its children since it was last asked for, GiB.

    Resident memory counts pages of files that are mapped, which the system takes back when it needs them;
    `own` is without those.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = (0.0, 0.0)
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def peak(self) -> tuple[float, float]:
        self._look()
        with self._lock:
            found, self._peak = self._peak, (0.0, 0.0)
        return found

    def _watch(self) -> None:
        while Path(f"/proc/{self._pid}").exists():
            self._look()
            time.sleep(_GLANCE)

    def _look(self) -> None:
        resident = own = 0
        for pid in _tree(self._pid):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            kib = {
                line.partition(":")[0]: int(line.split()[1])
                for line in status.splitlines()
                if line.startswith(_KINDS)
            }
            resident += kib.get("VmRSS", 0)
            own += kib.get("RssAnon", 0) + kib.get("RssShmem", 0)
        with self._lock:
            self._peak = (max(self._peak[0], resident / 2**20), max(self._peak[1], own / 2**20))


_KINDS = ("VmRSS", "RssAnon", "RssShmem")


def _tree(pid: int) -> Iterable[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                yield from _tree(int(child))
        except OSError:
            continue


def _measured() -> list[dict[str, Any]]:
    found = [json.loads(file.read_text()) for file in RESULTS.glob("*.json")]
    found = [one for one in found if one.get("job") in JOBS]  # critic.json is of another bench
    return sorted(found, key=lambda one: (list(JOBS).index(one["job"]), one["size"]))


def page(measured: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown page: for each job a table of seconds and one of memory, stages by sizes."""
    lines = [
        "# By size",
        "",
        "Made by `make bench ARGS=scale`, see `bench/scale.py`. Seconds are those of the processor: the wall "
        "clock of a shared machine says nothing; both are in the JSON files, with the load. Peak memory is "
        "resident memory of the process and its children, in brackets without the pages of mapped files, "
        "which the system may take back.",
    ]
    for job in JOBS:
        of_job = [one for one in measured if one["job"] == job]
        if of_job:
            lines += ["", f"## {job}", "", *_table(of_job)]
    return "\n".join(lines) + "\n"


def _table(of_job: Sequence[Mapping[str, Any]]) -> list[str]:
    sizes = [" / ".join(f"{number:,}" for number in one["size"]) for one in of_job]
    stages: dict[str, list[str]] = {}
    for column, one in enumerate(of_job):
        for stage in one["stages"]:
            if stage.get("computed") is False or stage["stage"].startswith("built-in critic: trial"):
                continue  # only read again
            row = stages.setdefault(stage["stage"], [""] * len(of_job))
            seconds = stage.get("measured", stage["processor"])
            row[column] = f"{seconds:,.2f} s, {stage['peak_gib']:.2f} ({stage['own_gib']:.2f}) GiB"
            if "measured" in stage:
                row[column] = f"{seconds:,.2f} s (wall)"
    head = ["stage", *sizes]
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join(['---'] + ['--:'] * len(sizes))}|",
        *(f"| {name} | {' | '.join(row)} |" for name, row in stages.items()),
    ]
