"""From settings to what a run works on: pictures, model, specifications."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch
from torch import nn

from lvlm_va.config import Config
from lvlm_va.console import QuietConsole
from lvlm_va.critique.review import Panel
from lvlm_va.critique.specification import (
    ClassSpecification,
    load_specifications,
    specification_template,
)
from lvlm_va.data.sources import SOURCES, load
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, SpecificationError
from lvlm_va.models.checkpoint import load_checkpoint
from lvlm_va.models.factory import make_model
from lvlm_va.run import RunDirectory
from lvlm_va.stages.context import Context, Project
from lvlm_va.stages.verdicts import make_panel

__all__ = [
    "build_model",
    "choose_device",
    "load_project",
    "load_splits",
    "open_project",
    "read_specifications",
]


def load_project(config: Config, *, log: Callable[[str], None] = lambda _: None) -> Project:
    """Read the data, build the model, read the specifications.

    Args:
        config: the settings.
        log: told where the data came from.

    Raises:
        ConfigError, DataError, ModelError, SpecificationError: what is wrong, where, and what to do.
    """
    device = choose_device(config.device)
    splits = load_splits(config, log=log)
    return Project(
        config=config,
        splits=splits,
        model=build_model(config, splits, device),
        trained=config.model.weights is not None,
        specifications=read_specifications(config, splits.class_names),
    )


def build_model(config: Config, splits: Splits, device: torch.device) -> nn.Module:
    """The model that `model` names, for these pictures and classes, on its device.

    Raises:
        ConfigError, ModelError: what is wrong, where, and what to do.
    """
    first = splits.train.images(torch.tensor([0]))
    channels, height, width = first.shape[1:]
    torch.manual_seed(config.model.seed)
    model: nn.Module = make_model(config.model.name, (channels, height, width), len(splits.class_names))
    if config.model.weights is not None:
        load_checkpoint(model, config.model.weights)
    return model.to(device)


@contextmanager
def open_project(
    config: Config, console: QuietConsole | None = None, *, by_file: bool = False
) -> Iterator[tuple[Context, Panel]]:
    """Load a project, engage its critics and open its run for this process alone.

    Args:
        config: the settings; the run is `config.run` or runs/<project>.
        console: told about progress.
        by_file: models behind an endpoint are not asked but exported for; needs no key.

    Raises:
        LvlmVaError: what is wrong and what to do. A critic that cannot be asked is told first, before data
            are fetched.
    """
    say = console or QuietConsole()
    panel = make_panel(config.critique, {}, by_file=by_file)
    project = load_project(config, log=say.note)
    path = config.run or Path("runs") / config.project
    with RunDirectory.open(path, config.model_dump(mode="json", by_alias=True)) as run:
        yield Context(project, run, say), replace(panel, specifications=project.specifications)


def load_splits(config: Config, *, log: Callable[[str], None] = lambda _: None) -> Splits:
    """The pictures that `data` names.

    Raises:
        ConfigError, DataError: what is wrong with them, where, and what to do.
    """
    return load(config.data, log)


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one.

    Raises:
        ConfigError: if there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here ({reason}); try auto or cpu") from None
    return device


def read_specifications(config: Config, class_names: Sequence[str]) -> dict[str, ClassSpecification]:
    """The file that `specifications` names, or the one that comes with an experiment of the paper.

    Raises:
        SpecificationError: if it cannot be used, or there is none; then with a template to fill in.
    """
    if config.specifications is not None:
        return load_specifications(config.specifications, class_names)
    packaged = SOURCES[config.data.name].specifications
    if packaged is None:
        raise SpecificationError(
            "specifications: name a file with one paragraph per class, for example\n\n"
            + specification_template(class_names)
        )
    return load_specifications(Path(str(files("lvlm_va.experiments") / packaged)), class_names)
