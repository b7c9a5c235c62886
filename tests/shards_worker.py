"""Explains in two processes, of which one may be killed; called with a folder, see `main`.

Forked, so that torch is imported once; they find each other as under torchrun, by the environment.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import small
from lvlm_va.data.splits import Splits
from lvlm_va.explain.attribution import Attribution, Explainer, attribute
from lvlm_va.project import questions
from lvlm_va.project.project import Project
from lvlm_va.project.stages import selection
from lvlm_va.training.process_group import ProcessGroup
from two_processes import in_two_processes

COUNT = 400  # small images are explained a hundred at a time

selection._SCORED = 64


def project(run: Path, **changes: object) -> Project:
    """What is computed in parts: 7 of scores, 4 of attributions, some of segments."""
    splits = Splits(name="shapes", train=small.shapes(COUNT, seed=1, betrayed=True))
    settings = small.settings(explain__num_images=COUNT, explain__sampling="lowest", **changes)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(400, 3)
        )
    return Project(model, splits, small.SPECIFICATIONS, run=run, settings=settings)


def explained(of: Project) -> None:
    """Select, explain, segment."""
    with of._opened() as (context, _):
        questions.explained(context)


def in_two(run: Path, log: Path, killed_at: int = -1) -> list[int]:
    """Two processes work on a run; how each ended.

    Args:
        run: its directory.
        log: a file that gets a line for each part: its first image.
        killed_at: first image of the part at which the second process is killed.
    """

    def life() -> None:
        noted(log, killed_at)
        explained(project(run))

    return in_two_processes(life)


def noted(log: Path, killed_at: int = -1) -> None:
    """From now on the log tells what is explained."""
    explain = Explainer.explain

    def tell(self: Explainer, *images: torch.Tensor, **options: Any) -> Attribution:
        first = options.get("first")
        if first == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if first is not None:  # else the model is only tried
            with log.open("a") as file:
                file.write(f"{first} by {ProcessGroup.here().rank}\n")
        return explain(self, *images, **options)

    Explainer.explain = tell  # type: ignore[method-assign]


def main(folder: Path) -> None:
    """One process, two, and two of which one is killed, after which one goes on."""
    torch.set_num_threads(1)
    # What torch imports at its first gradient is imported once, too.
    attribute(
        small.trained(), torch.rand(1, 1, 12, 12), torch.zeros(1, dtype=torch.int64), torch.rand(1, 1, 12, 12)
    )
    killed = folder / "killed"
    ends = in_two(killed, folder / "killed.log", killed_at=300)
    assert all(ends), ends
    (folder / "kept").write_text(
        "\n".join(path.name for path in killed.glob("segments/unfinished-explain/*/*"))
    )
    assert in_two(folder / "two", folder / "two.log") == [0, 0]
    noted(folder / "resumed.log")
    explained(project(killed))
    explained(project(folder / "one"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
