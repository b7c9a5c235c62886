"""A process that decodes N made images: python decode_worker.py N LOG [kill]. LOG gets a line a read."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from lvlm_va.data.decoded import decode


def main() -> None:
    n, log, kill = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["kill"]

    def read(row: int) -> np.ndarray:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {row}\n")
        time.sleep(0.02)
        if kill and row == n - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full((4, 4), row, dtype=np.uint8)

    found = decode(list(range(n)), read, size=4, resize="crop", channels="grey", workers=1, log=print)
    sys.stdout.write(f"sum {int(found.pixels.sum())}\n")


if __name__ == "__main__":
    main()
