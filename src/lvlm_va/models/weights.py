"""ImageNet weights by the first route that works: a file at hand, the cache, the usual hubs."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lvlm_va.data.download import download, reachable
from lvlm_va.errors import ConfigError, DataError, ModelError
from lvlm_va.io.files import cache_directory, write_atomically

__all__ = ["HUBS", "Hosted", "find_imagenet"]

Log = Callable[[str], None]


@dataclass(frozen=True)
class Hosted:
    """A checkpoint on a hub.

    Attributes:
        url: where.
        sha256: of the file, 64 hexadecimal digits.
        max_bytes: more than the file has.
    """

    url: str
    sha256: str
    max_bytes: int

    @property
    def file(self) -> str:
        """Name in the cache."""
        return self.url.removeprefix("https://").replace("/", "-")


HUBS: Mapping[str, tuple[Hosted, ...]] = {
    "resnet18": (
        Hosted(
            "https://download.pytorch.org/models/resnet18-f37072fd.pth",
            "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
            60_000_000,
        ),
        Hosted(
            "https://huggingface.co/timm/resnet18.tv_in1k/resolve/"
            "bbd144b3e5565108aad885f145491d11bc6ce807/model.safetensors",
            "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
            60_000_000,
        ),
    ),
    "resnet50": (
        Hosted(
            "https://download.pytorch.org/models/resnet50-0676ba61.pth",
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
            130_000_000,
        ),
        Hosted(
            "https://huggingface.co/timm/resnet50.tv_in1k/resolve/"
            "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa/model.safetensors",
            "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
            130_000_000,
        ),
    ),
}
"""Weights with torchvision's names, for each model that has them."""

_SUFFIXES = (".safetensors", ".pth", ".pt")


def find_imagenet(name: str, *, log: Log) -> Path | None:
    """A file with ImageNet weights: `LVLM_VA_WEIGHTS`, the cache, torchvision's hub, Hugging Face's hub.

    `LVLM_VA_WEIGHTS` is a file, or a folder with a file whose name begins with the model's. What was
    downloaded is kept in the cache.

    Args:
        name: a key of `HUBS`.
        log: is told, a sentence at a time, where the weights come from and why a route failed.

    Returns:
        The file, not yet read; None where no route has it.

    Raises:
        ConfigError: if there are no such weights for this model.
        ModelError: if `LVLM_VA_WEIGHTS` names nothing, or a folder with several such files.
    """
    if name not in HUBS:
        raise ConfigError(
            f"model.pretrained: imagenet is known for {' and '.join(HUBS)}, not for {name}; name a file with "
            "the weights, or let the factory load its own"
        )
    if named := os.environ.get("LVLM_VA_WEIGHTS"):
        path = _named(Path(named).expanduser(), name)
        if path is not None:
            log(f"ImageNet weights: from {path} (LVLM_VA_WEIGHTS)")
            return path
        log(f"LVLM_VA_WEIGHTS: {named} holds no file {name}*; trying elsewhere")
    store = cache_directory() / "weights"
    for hosted in HUBS[name]:
        path = store / hosted.file
        if path.is_file() and _is(path.read_bytes(), hosted):
            log(f"ImageNet weights: from the cache {path}")
            return path
    answers = reachable([hosted.url for hosted in HUBS[name]])
    for hosted in HUBS[name]:
        if (why := answers[hosted.url]) is None:
            try:
                return _fetch(hosted, store, log)
            except DataError as error:
                why = str(error)
            except OSError as error:
                why = f"cannot be kept in {store} ({error.strerror})"
        log(f"ImageNet weights: {hosted.url}: {why.removeprefix(hosted.url + ': ')}")
    return None


def _named(path: Path, name: str) -> Path | None:
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelError(f"LVLM_VA_WEIGHTS: there is no file or folder {path}")
    found = sorted(p for p in path.iterdir() if p.name.startswith(name) and p.suffix in _SUFFIXES)
    if len(found) > 1:
        raise ModelError(
            f"LVLM_VA_WEIGHTS: {path} holds {', '.join(p.name for p in found)}; name one of these files"
        )
    return found[0] if found else None


def _fetch(hosted: Hosted, store: Path, log: Log) -> Path:
    log(f"ImageNet weights: fetching {hosted.url}")
    content = download(hosted.url, max_bytes=hosted.max_bytes)
    if not _is(content, hosted):
        raise DataError(f"{hosted.url}: other weights are there: the file's SHA-256 is not {hosted.sha256}")
    path = store / hosted.file
    write_atomically(path, content)
    return path


def _is(content: bytes, hosted: Hosted) -> bool:
    return hashlib.sha256(content).hexdigest() == hosted.sha256
