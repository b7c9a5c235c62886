"""How many cores there are to work with."""

import os

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """Cores that this process may use: a container or a scheduler may have given it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
