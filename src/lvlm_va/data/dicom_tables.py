"""Tables in DICOM files: palettes (PS3.3, C.7.6.3.1.5, C.7.9.2), modality and VOI (C.11.1, C.11.2)."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvlm_va.errors import DataError

__all__ = ["Table", "palette_colours", "table_of"]

_MOST = 2**16  # entries


@dataclass(frozen=True, eq=False)
class Table:
    """A look-up table.

    Attributes:
        first: the stored value that the first entry is for; lower ones have it too.
        entries: (n,) int64 ≥ 0; values beyond the last have the last.
        bits: entries are said to have.
    """

    first: int
    entries: NDArray[np.int64]
    bits: int

    def __call__(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The entries for whole numbers of any shape. In pydicom's functions values beyond the table wrap."""
        index = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        found: NDArray[np.int64] = self.entries[index]
        return found


def table_of(item: Any, record: Any) -> Table:
    """The table in an item of ModalityLUTSequence or VOILUTSequence of `record`."""
    return _table(item.LUTDescriptor, item["LUTData"], record)


def palette_colours(stored: NDArray[Any], record: Any) -> NDArray[np.uint8]:
    """(H, W) stored values of a PALETTE COLOR image to (H, W, 3) uint8.

    Raises:
        DataError: if the palette is missing or damaged.
    """
    tables = [_palette(record, colour) for colour in ("Red", "Green", "Blue")]
    if any(f"{kind}AlphaPaletteColorLookupTableData" in record for kind in ("", "Segmented")):
        warnings.warn("the transparency in its palette is left out", stacklevel=2)
    # Some devices put entries of 8 bits into the lower half of 16: what they hold decides, not what they say.
    peak = max(int(table.entries.max()) for table in tables)
    said = max(table.bits for table in tables)
    depth = 8 if peak < 2**8 else said if 8 < said < 16 and peak < 2**said else 16
    return np.stack([(table(stored) >> (depth - 8)).astype(np.uint8) for table in tables], axis=-1)


def _palette(record: Any, colour: str) -> Table:
    name = f"{colour}PaletteColorLookupTable"
    if f"{name}Descriptor" not in record:
        raise DataError(f"a DICOM file in palette colours without a {colour.lower()} palette")
    descriptor = record[f"{name}Descriptor"].value
    if f"{name}Data" in record:
        return _table(descriptor, record[f"{name}Data"], record)
    if f"Segmented{name}Data" not in record:
        raise DataError(f"a DICOM file in palette colours without a {colour.lower()} palette")
    n, first, bits = _numbers(descriptor, record)
    words = _whole(record[f"Segmented{name}Data"], bits if bits <= 8 else 16, record)
    return Table(first, _expanded(words.tolist(), n), bits)


def _table(descriptor: Any, data: Any, record: Any) -> Table:
    n, first, bits = _numbers(descriptor, record)
    length = len(data.value) if isinstance(data.value, bytes) else 2 * n
    # Entries of 8 bits may have 16 allocated; the length says so (C.7.6.3.1.6).
    entries = _whole(data, 16 if length >= 2 * n else 8, record)
    if len(entries) < n:
        raise DataError(f"a DICOM file with a table of {len(entries)} entries, where {n} are announced")
    return Table(first, entries[:n], bits)


def _numbers(descriptor: Any, record: Any) -> tuple[int, int, int]:
    """Number of entries, first stored value, bits of an entry."""
    n, first, bits = (int(number) for number in descriptor)
    n = n % _MOST or _MOST  # 65,536 does not fit into the field: it is written 0
    if record.get("PixelRepresentation") == 1 and first >= _MOST // 2 and "ModalityLUTSequence" not in record:
        first -= _MOST
    if not 0 < bits <= 16:
        raise DataError(f"a DICOM file with a table of {bits} bits an entry")
    return n, first, bits


def _whole(data: Any, bits: int, record: Any) -> NDArray[np.int64]:
    """The whole numbers in an element: bytes in the file's order, or numbers already."""
    if not isinstance(data.value, bytes):
        numbers = np.atleast_1d(np.asarray(data.value, dtype=np.int64))
        return numbers % _MOST
    swapped = not record.file_meta.TransferSyntaxUID.is_little_endian and data.VR == "OW"
    content = data.value[: len(data.value) // 2 * 2] if bits > 8 or swapped else data.value
    if bits > 8:
        return np.frombuffer(content, dtype=">u2" if swapped else "<u2").astype(np.int64)
    if swapped:  # two entries in a word, the first in its lower half
        content = np.frombuffer(content, dtype=">u2").astype("<u2").tobytes()
    return np.frombuffer(content, dtype=np.uint8).astype(np.int64)


def _expanded(words: list[int], n: int) -> NDArray[np.int64]:
    """The n entries of a segmented table (C.7.9.2)."""
    entries: list[int] = []
    at = 0
    while len(entries) < n and at + 2 < len(words):
        kind, count = words[at], words[at + 1]
        if kind == 0:  # as they are
            entries += words[at + 2 : at + 2 + count]
            at += 2 + count
        elif kind == 1 and entries:  # a straight line to the last entry
            line = np.linspace(entries[-1], words[at + 2], count + 1)[1:]
            entries += np.around(line).astype(int).tolist()
            at += 3
        else:  # repeated segments: a few bytes may stand for any number of entries
            raise DataError("a DICOM file with a segmented palette that repeats itself; save it as RGB")
    if len(entries) < n:
        raise DataError(f"a DICOM file with a table of {len(entries)} entries, where {n} are announced")
    return np.array(entries[:n], dtype=np.int64)
