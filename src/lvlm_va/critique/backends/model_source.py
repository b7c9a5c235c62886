"""Where a local model's files are, and which model exactly they hold."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvlm_va.errors import ConfigError, CriticError

__all__ = ["ModelSource", "find_model"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
_WHOLE = 1 << 24  # bytes; larger files are read at places
_PLACES, _PIECE = 256, 4096
_HOW = (
    "bring it with `hf download {model}` where there is a network, and copy the cache (HF_HOME) here or "
    "give its folder: hf:/path/to/the/folder"
)


@dataclass(frozen=True)
class ModelSource:
    """A model in a folder, or on the Hugging Face hub.

    Attributes:
        model: the folder's name or the hub's id.
        version: the hub's commit, or a fingerprint of the folder's files, 12 hexadecimal digits.
        config: what its config.json says.
        path: the folder; None for a model of the hub.
        commit: the hub's commit; None for a folder.
    """

    model: str
    version: str
    config: dict[str, Any]
    path: Path | None = None
    commit: str | None = None

    def folder(self) -> Path:
        """The folder with all files; those of the hub that are not in the cache yet are downloaded.

        Raises:
            CriticError: if they are not there and the hub cannot be reached.
        """
        if self.path is not None:
            return self.path
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.model, revision=self.commit, allow_patterns=list(_FILES)))
        except (OSError, ValueError) as error:
            raise _unavailable(self.model, error) from None


def find_model(model: str) -> ModelSource:
    """Find a model by its folder or its id on the hub; of the hub's only config.json is read now.

    What the cache holds is taken as it is, so that a run goes on with the model it began with.

    Raises:
        ConfigError: if it is neither a folder nor an id.
        CriticError: if the folder holds no model, or the hub does not know it or cannot be reached.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        config = folder / "config.json"
        if not config.is_file():
            raise CriticError(
                f"hf:{model}: the folder holds no config.json; give the folder that save_pretrained or "
                "`hf download` wrote"
            )
        if not any(folder.glob("*.safetensors")):
            raise CriticError(f"hf:{model}: the folder holds no *.safetensors; other weights are not read")
        resolved = folder.resolve()
        return ModelSource(resolved.name, _fingerprint(resolved), _read(config, model), resolved)
    if folder.is_file():
        raise ConfigError(
            f"hf:{model} is a file; give a folder with config.json and *.safetensors (a GGUF file is served "
            "by llama.cpp behind openai:<model>)"
        )
    if not _HUB_ID.fullmatch(model):
        raise ConfigError(f"hf:{model}: there is no such folder, and ids of the hub are written owner/name")
    config = _hub_config(model)
    commit = config.parent.name
    return ModelSource(model, commit[:12], _read(config, model), commit=commit)


def _hub_config(model: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        try:
            return Path(hf_hub_download(model, "config.json", local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(model, "config.json"))
    except (OSError, ValueError) as error:
        raise _unavailable(model, error) from None


def _unavailable(model: str, error: Exception) -> CriticError:
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        why = "its owner wants you to agree to a licence first: do so on its page, and set HF_TOKEN"
    elif isinstance(error, RepositoryNotFoundError):
        why = "the hub knows no such model, or it is private: check the name, or set HF_TOKEN"
    elif isinstance(error, LocalEntryNotFoundError):
        why = f"it is not in the local cache, and the hub cannot be reached; {_HOW.format(model=model)}"
    else:
        why = f"its files cannot be had ({_line(error)}); {_HOW.format(model=model)}"
    return CriticError(f"hf:{model}: {why}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _read(config: Path, model: str) -> dict[str, Any]:
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        read = None
    if not isinstance(read, dict):
        raise CriticError(f"hf:{model}: config.json cannot be read; fetch the model again")
    return read


def _fingerprint(folder: Path) -> str:
    """Of all files that make the model answer as it does; large ones by their size and 256 samples."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _FILES for file in folder.glob(pattern)}):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE:
                digest.update(stream.read())
                continue
            for place in range(_PLACES):
                stream.seek((size - _PIECE) * place // (_PLACES - 1))
                digest.update(stream.read(_PIECE))
    return digest.hexdigest()[:12]
