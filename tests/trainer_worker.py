"""A process that trains, is killed again and again, and resumes until it is done.

Called with a folder; prints JSON: how many lives were ended by SIGKILL. The folder then holds calm.pt and
killed.pt, the outcomes without and with kills.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import torch
from torch import nn

import small
from lvlm_va.training.resumption import Resumption
from lvlm_va.training.train import train

EPOCHS, ITERATIONS = 6, 4


def model() -> nn.Module:
    """With everything that has a state of its own: convolution, batch normalisation, dropout."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(400, 3)
    )


def life(folder: Path, name: str, last: int) -> None:
    """Train, and write the outcome; killed before iteration `last` of this life is counted, if not 0."""
    counted = 0

    def count_or_die(_done: int, _total: int) -> None:
        nonlocal counted
        counted += 1
        if counted == last:
            os.kill(os.getpid(), signal.SIGKILL)

    net = model()
    went = train(
        net,
        small.shapes(60, seed=1, betrayed=True),
        validation=small.shapes(30, seed=2, betrayed=False),
        epochs=EPOCHS,
        batch=16,
        learning_rate=0.02,
        optimizer="adamw",
        weight_decay=0.1,
        flip=True,
        patience=4,
        precision="bfloat16",
        resumption=Resumption(folder / f"{name}.unfinished", "inputs"),
        progress=count_or_die,
    )
    torch.save({"model": net.state_dict(), "went": went.to_dict()}, folder / f"{name}.pt")


def main() -> None:
    """Live until done, in forked children."""
    torch.set_num_threads(1)
    folder, chance, kills = Path(sys.argv[1]), random.Random(4), 0
    # What torch imports at its first step is imported once, not in every life.
    train(small.untrained(), small.shapes(3, seed=1, betrayed=True), epochs=1)
    for name in ("calm", "killed"):
        while not (folder / f"{name}.pt").exists():
            # More than an epoch, or it would never get on.
            last = 0 if name == "calm" or kills == 4 else chance.randint(ITERATIONS, 2 * ITERATIONS)
            child = os.fork()
            if child == 0:
                life(folder, name, last)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code not in (0, -signal.SIGKILL):
                sys.exit(f"training {name} failed")
            kills += code == -signal.SIGKILL
    print(json.dumps(kills))


if __name__ == "__main__":
    main()
