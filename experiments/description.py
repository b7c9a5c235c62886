"""What an experiment is: data sets × methods × seeds × values of one setting, as a committed YAML file.

The header of each file in `catalogue/` says which part of the paper it repeats, what it costs, what to expect
and the command.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from experiments.measures import COLUMNS
from experiments.methods import METHODS, SOURCES
from lvlm_va.config.loading import Config, load_config
from lvlm_va.config.schema import Section
from lvlm_va.config.yamlfile import read_yaml
from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean
from lvlm_va.project.presets import PRESETS, preset

__all__ = [
    "FLIP",
    "SIZES",
    "Compared",
    "Experiment",
    "Move",
    "PaperClaim",
    "PaperRow",
    "Scale",
    "catalogue",
    "project_config",
    "read_experiment",
    "scale",
]

FLIP = "flip"
"""The one thing that can be varied and is no key of a project file: the share of verdicts turned round."""

SIZES = ("full", "reduced", "quick")

_ROOT = Path(__file__).parent
_SEEDED = ("data", "model", "explain", "align", "evaluate")


class Compared(Section):
    """Methods that are compared, each with the masks of these sources."""

    methods: tuple[str, ...] = Field(description="keys of METHODS")
    sources: tuple[str, ...] = Field((), description="keys of SOURCES, for methods that need masks")

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, known in ((m, METHODS) for m in self.methods):
            if name not in known:
                raise ValueError(f"unknown method {name!r}; {did_you_mean(name, known)}")
        for name in self.sources:
            if name not in SOURCES:
                raise ValueError(f"unknown source {name!r}; {did_you_mean(name, SOURCES)}")
        return self


Move = Literal["up", "down", "not up", "not down"]
"""Which way a score goes, against the original model."""


class PaperRow(Section):
    """Numbers that the paper gives: a row below ours."""

    dataset: str = Field(description="of PRESETS")
    source: str = Field(description='where they stand, e.g. "Table 1"')
    cells: Mapping[str, str] = Field(description="column of our table, or one of its own → what stands there")


class PaperClaim(Section):
    """What the paper says came out, for a method on a data set."""

    dataset: str = Field(description="of PRESETS")
    source: str = Field(description='where it stands, e.g. "Fig. 8"')
    method: str = Field(description="of METHODS")
    setting: Mapping[str, Any] = Field(default_factory=dict, description="of the row that it is about")
    says: str = Field(description="in words")
    moves: Mapping[Literal["AGA", "WGA"], Move] = Field(description="the same, for the comparison with ours")
    why: str = Field("", description="what is known of why ours came out otherwise, where it did")


class Experiment(Section):
    """One experiment of the catalogue."""

    name: str = Field(description="of its file")
    title: str = Field(description="of its page")
    paper: str = Field(description="which figure or table of the paper, or how it goes beyond")
    page: Literal["methods", "curve", "judged"] = Field(description="how it is shown")
    datasets: tuple[str, ...] = Field(description="of PRESETS")
    compare: tuple[Compared, ...] = Field(description="what is fine-tuned")
    settings: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description='data set → "key=value"'
    )
    varies: str | None = Field(None, description=f"the key of a project file that is varied, or {FLIP}")
    values: tuple[Any, ...] = Field((), description="what it is set to")
    variants: tuple[Mapping[str, Any], ...] = Field(
        (), description="in place of these: key → value, several keys one variant"
    )
    axis: str = Field("", description="what is varied, in words")
    columns: tuple[str, ...] = Field((), description="further columns of its table: keys of COLUMNS")
    how_chosen: str = Field("", description="how λ and the epoch are chosen, in words")
    notes: str = Field("", description="Markdown: where ours differs from the paper, and why")
    paper_rows: tuple[PaperRow, ...] = Field((), description="the paper's own numbers")
    paper_claims: tuple[PaperClaim, ...] = Field((), description="what the paper says came out")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        told: tuple[PaperRow | PaperClaim, ...] = (*self.paper_rows, *self.paper_claims)
        for name in (*self.datasets, *(one.dataset for one in told)):
            if name not in PRESETS:
                raise ValueError(f"unknown data set {name!r}; {did_you_mean(name, PRESETS)}")
        for name in (claim.method for claim in self.paper_claims):
            if name not in METHODS:
                raise ValueError(f"unknown method {name!r}; {did_you_mean(name, METHODS)}")
        if (self.varies is None) != (not self.values):
            raise ValueError("varies and values belong together")
        if self.values and self.variants:
            raise ValueError("give values or variants")
        for name in self.columns:
            if name not in COLUMNS:
                raise ValueError(f"unknown column {name!r}; {did_you_mean(name, COLUMNS)}")
        return self

    @property
    def settings_tried(self) -> list[Mapping[str, Any]]:
        """What is set beside `settings`, key → value: one mapping a point; one empty where nothing varies."""
        points = [{str(self.varies): value} for value in self.values]
        return [*points, *self.variants] or [{}]

    @property
    def varies_words(self) -> str:
        """What is varied, for an axis."""
        return self.axis or self.varies or ""


class Scale(Section):
    """What a size means for one data set."""

    seeds: int = Field(ge=1, description="how many, from 0")
    settings: tuple[str, ...] = Field((), description='"key=value", what is smaller')
    baselines: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict, description="method → arguments of its search"
    )


def catalogue() -> tuple[str, ...]:
    """The names of all experiments."""
    return tuple(sorted(file.stem for file in (_ROOT / "catalogue").glob("*.yaml")))


@cache
def read_experiment(name: str) -> Experiment:
    """The experiment called `name`.

    Raises:
        ConfigError: if there is none.
    """
    if name not in catalogue():
        raise ConfigError(f"unknown experiment {name!r}; {did_you_mean(name, [*catalogue(), 'all'])}")
    file = _ROOT / "catalogue" / f"{name}.yaml"
    document: Any = read_yaml(file, ConfigError, missing="no such experiment")
    try:
        return Experiment.model_validate({"name": name, **document})
    except ValidationError as error:
        raise ConfigError(f"{name}.yaml: {error}") from None


@cache
def _scales() -> Mapping[str, Mapping[str, Scale]]:
    document: Any = read_yaml(_ROOT / "sizes.yaml", ConfigError, missing="no sizes")
    return {
        dataset: {size: Scale.model_validate(scale) for size, scale in sizes.items()}
        for dataset, sizes in document.items()
    }


def scale(dataset: str, size: str) -> Scale:
    """What `size` means for `dataset`."""
    return _scales()[dataset][size]


def project_config(dataset: str, seed: int, settings: Sequence[str] = ()) -> Config:
    """The project of a data set, with this seed for everything that is drawn at random."""
    seeds = (f"{section}.seed={seed}" for section in _SEEDED)
    return load_config(preset(dataset), [*seeds, *settings])
