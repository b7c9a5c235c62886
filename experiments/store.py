"""Results, one JSON file a cell: kept as they come, never computed twice, shared between experiments."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lvlm_va.errors import RunError
from lvlm_va.io.files import write_atomically
from lvlm_va.run.directory import disk_error

__all__ = ["CellStore", "read_cells"]


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """All cells of an experiment's folder, in the order of their file names.

    Raises:
        RunError: if a file cannot be read.
    """
    return [_read(path) for path in sorted(folder.glob("cells/*.json"))]


class CellStore:
    """The cells of one experiment, results/EXPERIMENT/cells/*.json.

    Args:
        out: the folder of all results. A cell that another experiment has computed from the same inputs is
            taken over from there.
        experiment: its name.
    """

    def __init__(self, out: Path, experiment: str) -> None:
        self._folder = out / experiment / "cells"
        self._known = {}
        for path in sorted(out.glob("*/cells/*.json")):
            cell = _read(path)
            if "failed" not in cell:
                self._known[cell["inputs"]] = cell

    def find(self, cell: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of a cell with these inputs, if it is there; None where it failed or was never computed.

        Args:
            cell: what it is, see `Cell.to_dict`.
        """
        known = self._known.get(cell["inputs"])
        # The same work may have another name here.
        return None if known is None else {**known, **cell}

    def add(self, cell: Mapping[str, Any]) -> None:
        """Write a result, or a failure: {"cell", "inputs", …, "failed": why}.

        Raises:
            RunError: if the disk does not take it.
        """
        path = self._folder / f"{_slug(cell['cell'])}.json"
        try:
            write_atomically(path, (json.dumps(cell, indent=1, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise disk_error(path, error) from None
        if "failed" not in cell:
            self._known[cell["inputs"]] = dict(cell)


def _slug(name: str) -> str:
    """A file name from a cell's name: "knee reduced, seed 0, dfr" → knee-reduced_seed-0_dfr."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", name.replace(", ", "_"))


def _read(path: Path) -> dict[str, Any]:
    try:
        cell = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(cell, dict) or not {"cell", "inputs"} <= set(cell):
            raise ValueError("it is not a cell")
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove it to compute it again") from None
    return cell
