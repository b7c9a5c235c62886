"""Where SAM's weights are, and which weights exactly."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from lvlm_va.errors import ModelError
from lvlm_va.io.files import file_sha256

__all__ = ["SamSource", "find_sam", "needs_transformers"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ("config.json", "*.safetensors")
_KINDS = ("sam", "sam2", "sam2_video")
"""What config.json may call the model; SAM 2's published weights are named for its video half."""

_HOW = (
    "name a folder that `hf download facebook/sam-vit-base` wrote, or an id of the hub such as "
    "facebook/sam2.1-hiera-tiny"
)


@dataclass(frozen=True)
class SamSource:
    """SAM's weights on this machine.

    Attributes:
        name: as they were asked for.
        path: the folder, with config.json and *.safetensors.
        model_type: "sam", "sam2" or "sam2_video".
    """

    name: str
    path: Path
    model_type: str

    @cached_property
    def version(self) -> str:
        """SHA-256 of the files, 12 hexadecimal digits."""
        files = sorted({file for pattern in _FILES for file in self.path.glob(pattern)})
        told = "".join(f"{file.name} {file_sha256(file)}\n" for file in files)
        return hashlib.sha256(told.encode()).hexdigest()[:12]


def find_sam(name: str | None) -> SamSource:
    """Find the weights by folder or id on the hub; nothing is loaded yet, but an id is fetched.

    What the hub's cache holds is taken as it is, so that a run goes on with the weights it began with.

    Args:
        name: a folder or an id; when None, `LVLM_VA_SAM` says it.

    Raises:
        ModelError: if there are no such weights, or they are of another kind of model.
    """
    name = name or os.environ.get("LVLM_VA_SAM")
    if not name:
        raise ModelError(
            f"explain.segmentation: sam needs SAM's weights; with explain.sam (or LVLM_VA_SAM) {_HOW}"
        )
    path = Path(name).expanduser()
    if not path.is_dir():
        if path.exists() or not _HUB_ID.fullmatch(name):
            raise ModelError(f"explain.sam: there is no folder {name}; {_HOW}")
        path = _fetched(name)
    return SamSource(name, path, _kind(name, path))


def needs_transformers(segmentation: str = "sam") -> None:
    """Raises ModelError where transformers is not installed."""
    if find_spec("transformers") is None:
        raise ModelError(
            f"explain.segmentation: {segmentation} needs transformers: pip install 'lvlm-va[local]'"
        )


def _fetched(name: str) -> Path:
    needs_transformers()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        try:
            return Path(snapshot_download(name, allow_patterns=list(_FILES), local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise ModelError(
            f"explain.sam: there is no folder {name}, and it cannot be had from the hub ({told}); {_HOW}"
        ) from None


def _kind(name: str, folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"explain.sam: {name} holds no config.json that names a model; {_HOW}") from None
    if kind not in _KINDS:
        raise ModelError(f"explain.sam: {name} holds a model of type {kind}, not SAM or SAM 2; {_HOW}")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"explain.sam: {name} holds no *.safetensors, and other files are not read; {_HOW}")
    return str(kind)
