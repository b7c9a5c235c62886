"""What a trial measured, typed: the fields of a line of trials.jsonl that pages read.

Whatever a run measures under another name is read here and nowhere else.
"""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from experiments.store import read_lines

__all__ = ["Result", "read_results"]


def _number(value: object) -> float | None:
    """None for what was not measured, NaN (e.g. the accuracy of no verdicts) included."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _plain(value: object) -> object:
    """Plain accuracy alone, also where the record says what else is known on the validation set."""
    return value.get("accuracy") if isinstance(value, Mapping) else value


def _known(value: object) -> object:
    """An empty record for one that is null."""
    return {} if value is None else value


Number = Annotated[float | None, BeforeValidator(_number)]
Numbers = Annotated[Mapping[str, Number], BeforeValidator(_known)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, protected_namespaces=())


class Groups(_Record):
    """Accuracy by group of one test set; AGA is `average`, WGA is `worst`."""

    accuracy: Numbers = {}
    sizes: Mapping[str, int] = Field({}, alias="images")
    average: Number = None
    worst: Number = None


class Rate(_Record):
    """A mean, as of μ_align, or a share, as of flipped predictions."""

    mean: Number = None
    rate: Number = None


class Sensitivity(Rate):
    """Share of predictions that flip, and the same for what is added or removed alone."""

    added: Annotated[Rate, BeforeValidator(_known)] = Rate()
    removed: Annotated[Rate, BeforeValidator(_known)] = Rate()


class Measures(_Record):
    """A model on the validation set and on every test set, the main one first."""

    lam: Number = Field(None, alias="lambda")
    validation: Annotated[Number, BeforeValidator(_plain)] = None
    accuracy: Numbers = {}
    groups: Mapping[str, Groups] = {}
    training_weighted: Numbers = {}
    ece: Numbers = {}
    mu_align: Annotated[Rate, BeforeValidator(_known)] = Rate()
    sensitivity: Annotated[Sensitivity, BeforeValidator(_known)] = Sensitivity()


class Quality(_Record):
    """Of verdicts, against the ground truth."""

    accuracy: Number = None
    recall: Number = None


class Verdicts(_Record):
    """How many segments there were, how many were condemned or left unscored, and how often rightly."""

    segments: int | None = None
    spurious: int | None = None
    unscored: int | None = None
    quality: Annotated[Quality, BeforeValidator(_known)] = Quality()
    quality_either: Annotated[Quality, BeforeValidator(_known)] = Quality()


class Questions(_Record):
    """What was asked, what that would have cost, and what propagated verdicts are worth; see `questions`."""

    asked: Number = None
    calls: Number = None
    usd: Number = None
    unscored: Number = None
    same: Number = None
    found: Number = None


class Overlap(_Record):
    """Of masks and planted feature."""

    iou: Number = None


class Original(_Record):
    """The very model that a trial changed, measured as the trial was; None in rows of before 2026-11-30."""

    weights: str = ""
    measures: Measures | None = None


class Record(_Record):
    """What is told about a fit beside its measures."""

    original: Annotated[Original, BeforeValidator(_known)] = Original()
    masks: Annotated[Overlap, BeforeValidator(_known)] = Overlap()
    selection_spurious_share: Number = None
    segment_seconds: Number = None
    per_class: tuple[int, ...] | None = None
    questions: Annotated[Questions, BeforeValidator(_known)] = Questions()


class Result(_Record):
    """A trial, measured or failed.

    Attributes:
        trial: its name, unique in an experiment.
        setting: what the experiment varies → its value here.
        settings: "key=value" of what else differs from the project file.
        inputs: fingerprint of everything that decides the result.
        failed: why; None where it was measured.
        carried_over: why the fingerprint is not the one under which it was measured; "" where it is.
    """

    trial: str
    dataset: str
    size: str = "full"
    seed: int
    method: str
    source: str = ""
    setting: Mapping[str, Any] = {}
    settings: tuple[str, ...] = ()
    inputs: str = ""
    failed: str | None = None
    measures: Measures = Measures()
    seconds: Number = None
    reads: str = ""
    record: Annotated[Record, BeforeValidator(_known)] = Record()
    verdicts: Annotated[Verdicts, BeforeValidator(_known)] = Verdicts()
    usd: Number = None
    machine: str = ""
    versions: Mapping[str, str] = {}
    carried_over: str = ""

    @property
    def before(self) -> "Result | None":
        """The original model that it changed, in the same form; None where the row does not carry it."""
        measures = self.record.original.measures
        return None if measures is None else self.model_copy(update={"measures": measures})

    @property
    def main_test(self) -> str:
        """The first test set: AGA, WGA, ECE and sensitivity are of this one; "" where there is none."""
        return next(iter(self.measures.accuracy), "")

    @property
    def groups(self) -> Groups:
        """Of the main test set; empty where groups are not known."""
        return self.measures.groups.get(self.main_test, Groups())


def read_results(folder: Path) -> list[Result]:
    """All results of an experiment's folder, by name.

    Raises:
        RunError: if the file cannot be read.
    """
    return [Result.model_validate(line) for line in read_lines(folder)]
