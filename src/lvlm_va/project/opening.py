"""From settings to what a run works on: pictures, model, specifications."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch

from lvlm_va.config.loading import Config, ModelConfig
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
from lvlm_va.models.adapter import Adapted, in_full_precision
from lvlm_va.models.checkpoint import load_checkpoint, load_pretrained
from lvlm_va.models.factory import MODELS, make_model
from lvlm_va.models.weights import find_imagenet
from lvlm_va.project.stages.context import Context, Project
from lvlm_va.project.stages.helping import led
from lvlm_va.project.stages.verdicts import make_panel
from lvlm_va.run.directory import RunDirectory
from lvlm_va.training.process_group import launched_crew

__all__ = [
    "build_model",
    "choose_device",
    "load_model",
    "load_project",
    "load_splits",
    "open_project",
    "opened_run",
    "read_specifications",
]


def load_project(
    config: Config, *, log: Callable[[str], None] = lambda _: None, specified: bool = True
) -> Project:
    """Read the data, build the model, read the specifications.

    Args:
        config: the settings.
        log: told where the data came from.
        specified: False leaves the specifications out, for training alone.

    Raises:
        ConfigError, DataError, ModelError, SpecificationError: what is wrong, where, and what to do.
    """
    device = choose_device(config.device)
    splits = load_splits(config, log=log)
    model, origin = build_model(config, splits, device, log=log)
    return Project(
        config=config,
        splits=splits,
        model=model,
        trained=config.model.weights is not None,
        specifications=read_specifications(config, splits.class_names) if specified else {},
        initial_weights=origin,
    )


def build_model(
    config: Config, splits: Splits, device: torch.device, *, log: Callable[[str], None] = lambda _: None
) -> tuple[Adapted, str]:
    """The model that `model` names, for these pictures and classes, on its device; and whence its weights.

    Raises:
        ConfigError, ModelError: what is wrong, where, and what to do.
    """
    first = splits.train.images(torch.tensor([0]))
    channels, height, width = first.shape[1:]
    model, origin = load_model(config.model, (channels, height, width), len(splits.class_names), log=log)
    return model.to(device), origin


def load_model(
    settings: ModelConfig,
    in_shape: tuple[int, int, int],
    num_classes: int,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> tuple[Adapted, str]:
    """The model that `model` describes, and where its weights came from, in words.

    Args:
        settings: name, weights, pretrained, normalise, and the seed of what stays random.
        in_shape: (C, H, W) of the pictures.
        num_classes: K.
        log: told where weights came from, and loudly where ImageNet weights could not be had.

    Raises:
        ConfigError, ModelError: what is wrong, where, and what to do.
    """
    torch.manual_seed(settings.seed)
    module = in_full_precision(make_model(settings.name, in_shape, num_classes))
    model = Adapted(module, settings.normalise, num_classes)
    if settings.weights is not None:
        load_checkpoint(model, settings.weights, note=log)
        return model, f"complete ({settings.weights.name})"
    path = settings.pretrained
    if path == "imagenet":
        path = find_imagenet(settings.name, log=log)
        if model.normalisation is None:
            log("ImageNet weights expect normalised pictures: set model.normalise to imagenet.")
    if isinstance(path, Path):
        sha256 = load_pretrained(model, path, note=log)
        what = settings.pretrained if settings.pretrained == "imagenet" else path.name
        return model, f"{what} (file sha256 {sha256})"
    if settings.pretrained is not None:
        log(
            f"NO IMAGENET WEIGHTS: {settings.name} is trained from random weights, and the results say so. "
            "Put the file where LVLM_VA_WEIGHTS says, or name it with model.pretrained."
        )
        return model, "random (imagenet was asked for but could not be had)"
    return model, "random" if settings.name in MODELS else "the factory's"


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
    with launched_crew() as crew:
        if not crew.leads:  # needs no critic, which may be a large model
            with led(load_project(config, specified=False)):
                pass
        panel = make_panel(config.critique, {}, by_file=by_file, run=_run_path(config))
        project = load_project(config, log=say.note)
        with opened_run(project, say) as context:
            yield context, replace(panel, specifications=project.specifications)


@contextmanager
def opened_run(project: Project, console: QuietConsole | None = None) -> Iterator[Context]:
    """Open the run of a project for this process alone; of several processes, for the leading one.

    Raises:
        LvlmVaError: what is wrong and what to do.
        SystemExit: in the others, when the leading one is done: they have helped to train.
    """
    config = project.config
    with (
        led(project),
        RunDirectory.open(_run_path(config), config.model_dump(mode="json", by_alias=True)) as run,
    ):
        yield Context(project, run, console or QuietConsole())


def _run_path(config: Config) -> Path:
    return config.run or Path("runs") / config.project


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
        if reason.startswith("Expected one of"):  # two dozen kinds, of which a user can have three
            reason = "known are auto, cpu, cuda, cuda:<number>, mps"
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
    return load_specifications(Path(str(files("experiments") / packaged)), class_names)
