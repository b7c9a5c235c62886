"""Give committed trials the fingerprints of today: `python -m experiments.carry_over "why"`.

A fingerprint names everything that decides a result by the keys of the project file. Where a key is renamed,
or one is added whose default changes nothing, what was measured stays true, but its fingerprint would not be
found and the trial computed again. Rename keys in `trials.jsonl`, too, then run this; each changed line keeps
the fingerprint under which it was measured, and the line and its page say why.
"""

import json
import sys
from pathlib import Path

from experiments.description import catalogue, read_experiment
from experiments.plan import trials_of
from experiments.reproduce import write_page
from experiments.store import TRIALS, read_lines
from lvlm_va.io.files import write_atomically

__all__ = ["carry_over", "stale"]


def stale(folder: Path) -> dict[str, str]:
    """Name of each committed trial that its command would not find → the fingerprint it would look for."""
    lines = read_lines(folder)
    planned = {
        trial.name: trial.inputs
        for size in {line["size"] for line in lines}
        for trial in trials_of(
            read_experiment(folder.name),
            size,
            Path("runs"),
            seeds=1 + max(line["seed"] for line in lines),
            critics=sorted({line["source"] for line in lines if ":" in line["source"]}),
        )
    }
    return {
        line["trial"]: planned.get(line["trial"], "")
        for line in lines
        if planned.get(line["trial"]) != line["inputs"]
    }


def carry_over(folder: Path, why: str) -> int:
    """Replace the fingerprints that no command would find, saying why; how many there were."""
    found = {name: inputs for name, inputs in stale(folder).items() if inputs}
    lines = [
        {
            "measured_as": line["inputs"],
            **line,
            "inputs": found[line["trial"]],
            "carried_over": "; ".join(filter(None, (line.get("carried_over"), why))),
        }
        if line["trial"] in found
        else line
        for line in read_lines(folder)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(folder / TRIALS, text.encode())
    write_page(folder)
    return len(found)


if __name__ == "__main__":
    for experiment in catalogue():
        if (results := Path("results") / experiment).is_dir():
            print(f"{experiment}: {carry_over(results, sys.argv[1])} carried over")
