"""What computed a run: versions and hardware, and how much memory it took."""

import platform
import sys
from typing import Any

import torch

from lvlm_va._version import __version__
from lvlm_va.io.cores import usable_cores

__all__ = ["describe_machine", "peak_gib"]


def peak_gib() -> float | None:
    """Largest resident memory of this process so far, GiB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 30), 3)


def describe_machine() -> dict[str, Any]:
    """Versions, processor, cores this process may use, GPU; as run.json keeps them."""
    return {
        "lvlm_va": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
