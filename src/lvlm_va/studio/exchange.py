"""The verdicts in the forms of others: COCO, and Label Studio."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.record import Images

__all__ = ["COCO", "LABEL_STUDIO", "coco", "coco_runs", "label_studio", "label_studio_runs"]

COCO, LABEL_STUDIO = "verdicts.coco.json", "verdicts.label-studio.json"
_CATEGORIES = {True: (1, "spurious"), False: (2, "valid"), None: (3, "unscored")}
_SIZES = (3, 4, 8, 16)  # bits of a run's length in Label Studio's format


def coco(images: Images, verdicts: Mapping[tuple[str, int], Verdict]) -> bytes:
    """COCO: an annotation per segment, its category the verdict; reason, author and share as attributes."""
    numbers = {image_id: n for n, image_id in enumerate(images.explained_images, start=1)}
    annotations: list[dict[str, Any]] = []
    for (image_id, j), verdict in verdicts.items():
        explained = images.explained_images[image_id]
        mask = explained.segments == j
        rows, columns = np.nonzero(mask)
        box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": numbers[image_id],
                "category_id": _CATEGORIES[verdict.spurious][0],
                "segmentation": {"size": list(mask.shape), "counts": coco_runs(mask)},
                "area": int(mask.sum()),
                "bbox": box,
                "iscrowd": 1,  # COCO's word for a mask in runs
                "attributes": _attributes(verdict, explained.shares[j - 1]),
            }
        )
    document = {
        "info": {"description": "verdicts on the segments of explained images, by lvlm-va"},
        "images": [
            {
                "id": numbers[image_id],
                "file_name": image_id,
                "width": one.segments.shape[1],
                "height": one.segments.shape[0],
                "class": one.class_name,
                "predicted": one.predicted,
            }
            for image_id, one in images.explained_images.items()
        ],
        "categories": [{"id": n, "name": name} for n, name in _CATEGORIES.values()],
        "annotations": annotations,
    }
    return _json(document)


def label_studio(images: Images, verdicts: Mapping[tuple[str, int], Verdict]) -> bytes:
    """Label Studio: a task per image, a brush region per segment, labelled with the verdict."""
    results: dict[str, list[dict[str, Any]]] = {}
    for (image_id, j), verdict in verdicts.items():
        explained = images.explained_images[image_id]
        height, width = explained.segments.shape
        results.setdefault(image_id, []).append(
            {
                "id": f"segment-{j}",
                "type": "brushlabels",
                "from_name": "verdict",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": label_studio_runs(explained.segments == j),
                    "brushlabels": [_CATEGORIES[verdict.spurious][1]],
                },
                "meta": {"text": [verdict.reason, f"by {verdict.author}"]},
            }
        )
    tasks = [
        {
            "data": {
                "image": image_id,
                "class": images.explained_images[image_id].class_name,
                "predicted": images.explained_images[image_id].predicted,
            },
            "annotations": [{"result": result}],
        }
        for image_id, result in results.items()
    ]
    return _json(tasks)


def coco_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of runs down the columns, the first of what is outside: COCO's uncompressed form."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask.size]])
    counts: list[int] = np.diff(edges).tolist()
    return counts


def label_studio_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Bytes of Label Studio's form: four equal channels of 0 and 255, row by row, packed in runs."""
    flat = np.repeat(np.where(mask, 255, 0).astype(np.uint8).ravel(), 4)
    bits = [f"{len(flat):032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [len(flat)]])
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        left = end - begin
        while left:
            index = next((n for n, size in enumerate(_SIZES) if left <= 1 << size), len(_SIZES) - 1)
            length = min(left, 1 << _SIZES[index])
            bits.append(f"1{index:02b}{length - 1:0{_SIZES[index]}b}{int(flat[begin]):08b}")
            left -= length
    packed = "".join(bits)
    packed += "0" * (-len(packed) % 8)
    return [int(packed[n : n + 8], 2) for n in range(0, len(packed), 8)]


def _attributes(verdict: Verdict, share: float) -> dict[str, Any]:
    return {
        "segment": verdict.segment,
        "verdict": _CATEGORIES[verdict.spurious][1],
        "reason": verdict.reason,
        "author": verdict.author,
        "share_of_evidence": round(share, 6),
    }


def _json(document: Any) -> bytes:
    return (json.dumps(document, ensure_ascii=False) + "\n").encode("utf-8", "replace")
