"""The user's own images, from what the project file says about them."""

from collections.abc import Callable
from pathlib import Path

from lvlm_va.config.loading import DataConfig
from lvlm_va.data.folder import read_folder
from lvlm_va.data.listing import Options, Preparation
from lvlm_va.data.manifest import read_manifest
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError

__all__ = ["load_folder", "load_manifest"]


def load_folder(settings: DataConfig, log: Callable[[str], None]) -> Splits:
    """`data.name: folder`, see `read_folder`."""
    for key in ("groups", "columns", "splits", "root"):
        if getattr(settings, key):
            raise ConfigError(f"data.{key} is for data.name: manifest; folders have no columns")
    if settings.labels == "several":
        raise ConfigError(
            "data.labels is several, but in class folders an image has one class, that of its folder; list "
            "the images and their labels in a manifest (data.name: manifest)"
        )
    return read_folder(_path(settings), classes=settings.classes, log=log, **_options(settings))


def load_manifest(settings: DataConfig, log: Callable[[str], None]) -> Splits:
    """`data.name: manifest`, see `read_manifest`."""
    return read_manifest(
        _path(settings),
        root=settings.root,
        columns={purpose: name for purpose, name in settings.columns.items()},
        splits=settings.splits,
        groups=settings.groups,
        classes=settings.classes,
        labels=settings.labels,
        log=log,
        **_options(settings),
    )


def _path(settings: DataConfig) -> Path:
    if settings.path is None:
        raise ConfigError(f"data.name is {settings.name}, but data.path does not say where it is")
    return settings.path


def _options(settings: DataConfig) -> Options:
    default = Preparation()
    return Options(
        size=settings.size,
        resize=settings.resize,
        channels=settings.channels,
        bits=settings.bits,
        max_pixels=settings.max_pixels,
        frame=settings.frame,
        validation=default.validation if settings.validation is None else settings.validation,
        test=default.test if settings.test is None else settings.test,
        seed=settings.seed,
    )
