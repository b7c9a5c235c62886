"""What a run measured: the one typed record behind report, model card, study and experiments.

Written as metrics.json; its JSON schema stands in docs/metrics.schema.json. A number that is undefined, such
as the accuracy of a group without an image, is null, never NaN.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lvlm_va.critique.person.judging import Judged
from lvlm_va.critique.propagation import Propagation
from lvlm_va.critique.store import Cost
from lvlm_va.data.leaks import Leak
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import METRICS

__all__ = [
    "METRICS_FORMAT",
    "AttributionMetrics",
    "CompletenessError",
    "Costs",
    "DataMetrics",
    "Defined",
    "FlipMetrics",
    "GroupMetrics",
    "LambdaChoice",
    "Measured",
    "ModelMetrics",
    "MuAlignMetrics",
    "OriginalModel",
    "Overruling",
    "PartMetrics",
    "Quality",
    "Record",
    "RunMetrics",
    "SelectionMetrics",
    "SensitivityMetrics",
    "StageCosts",
    "ValidationMetrics",
    "VerdictCounts",
    "VerdictMetrics",
    "VerdictScoreMetrics",
    "write_metrics",
]

METRICS_FORMAT: Literal[2] = 2
"""Raised when a field changes its name or meaning."""

Kind = Literal["lvlm", "person", "measurement", "oracle"]


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


Defined = Annotated[float | None, BeforeValidator(_none_for_nan)]
"""A number, or None where it is undefined."""


class Record(BaseModel):
    """Frozen; unknown fields are refused; can be made from any object that has the fields as attributes."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        from_attributes=True,
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        protected_namespaces=(),
    )


class DataMetrics(Record):
    """The images."""

    name: str
    source: str = Field(description="where they came from, in words")
    planted: str | None = Field(description="the planted feature, in words; null where unknown")
    classes: tuple[str, ...] = Field(description="in the order of the model's outputs")
    input: tuple[int, int, int] = Field(description="(C, H, W) of one image")
    train: int
    validation: int
    tests: Mapping[str, int] = Field(description="test set → images; the first is the main one")
    several_labels: bool = Field(
        False, description="whether an image may have several labels or none; `classes` then names the labels"
    )
    set_aside: Mapping[str, str] = Field({}, description="file that could not be used → why")
    leaks: tuple[Leak, ...] = ()


class OriginalModel(Record):
    """The classifier before alignment."""

    name: str = Field(description="`model.name`, or the class of the module given")
    initial_weights: str = Field(description="where the weights came from, in words")
    trained_here: bool
    normalise: Mapping[str, Sequence[float]] | None = Field(description="mean and std per channel")
    head: str = Field("", description="what its outputs are, in words; empty in older runs")


class SelectionMetrics(Record):
    """Which training images were critiqued (Sec. 4.1)."""

    strategy: str
    images: int = Field(description="N")
    per_class: tuple[int, ...]
    spurious_share: Defined = Field(description="share with the planted feature; null where unknown")
    set_aside: Mapping[str, str] = Field(description="image id → why it could not be segmented")


class CompletenessError(Record):
    """Relative error of ΣΦ = f(x) − E f(b) over the critiqued images."""

    largest: float
    median: float


class AttributionMetrics(Record):
    """How Φ was computed (Sec. 4.1)."""

    method: str
    completeness_error: CompletenessError | None = Field(
        description="null for somebody else's method that does not claim to be complete"
    )


class Quality(Record):
    """Verdicts against the ground truth (an oracle), counted over segments (Table 1)."""

    flagged: int
    flagged_right: int
    spurious: int
    scored: int
    unscored: int
    accuracy: Defined = Field(description="flagged_right / flagged")
    recall: Defined = Field(description="flagged_right / spurious")


class Overruling(Record):
    """A verdict that a person changed."""

    image_id: str
    segment: int
    critic: bool | None = Field(description="what the critic said: spurious, valid, unscored")
    person: bool | None
    author: str
    reason: str


class VerdictCounts(Record):
    """What was condemned, and how often rightly."""

    segments: int
    spurious: int
    valid: int
    unscored: int
    images: int
    images_with_condemned_segment: int
    quality: Quality | None = Field(
        description="against segments with the planted feature; null where unknown"
    )
    quality_either: Quality | None = Field(
        None, description="against segments with the planted feature or beside what is relevant"
    )


class VerdictMetrics(VerdictCounts):
    """What was condemned, by whom, and how often rightly."""

    critic: str
    critic_kind: Kind
    judge: str
    judge_kind: Kind
    intervene: Literal["spurious", "core"] = Field(
        "spurious",
        description="how much the critic was to condemn: what clearly must not matter, or all but the core",
    )
    split: int = Field(
        0, description="how often, at most, a segment that the critic called mixed was divided in two"
    )
    propagation: Propagation | Judged | None = Field(
        None, description="of verdicts that were not asked for: by images, or of a person by segments"
    )
    overruled: tuple[Overruling, ...] = ()


class GroupMetrics(Record):
    """Accuracy by group (Sec. 5.2); of several labels a group is of images with, or without, one of them."""

    accuracy: Mapping[str, float] = Field(description="groups without an image are left out")
    images: Mapping[str, int]
    average: float = Field(description="AGA: mean over groups")
    worst: float = Field(description="WGA: the worst group")


class VerdictScoreMetrics(Record):
    """Validation accuracies by class, as the images are and with condemned segments pasted in."""

    as_is: Mapping[str, float]
    pasted: Mapping[str, float]
    worst: float
    overall: float
    score: float


class ValidationMetrics(Record):
    """How a model does on the validation set; null is what cannot be said."""

    accuracy: float | None = None
    verdicts: VerdictScoreMetrics | None = None
    groups: GroupMetrics | None = None


class MuAlignMetrics(Record):
    """μ_align on the main test set (Sec. 5.1)."""

    mean: Defined
    std: Defined
    n: int
    undefined: int = Field(description="images without any attribution, left out")


class FlipMetrics(Record):
    """What putting in, or taking out, the planted feature changed about the predictions."""

    images: int
    flipped: int
    rate: float
    probability: float = Field(description="mean change of the true class's probability")
    absolute: float = Field(description="mean of its absolute value")
    classes: Mapping[str, "FlipMetrics"] = {}


class SensitivityMetrics(Record):
    """Confounder sensitivity: images that differ in the planted feature alone."""

    rate: Defined
    added: FlipMetrics | None
    removed: FlipMetrics | None
    cannot_add: int
    cannot_remove: int


class PartMetrics(Record):
    """Accuracy of a model on one part of the data."""

    images: int
    accuracy: float = Field(description="plain average over the images; of several labels their mean")
    groups: GroupMetrics | None = Field(description="null where groups are unknown")


class ModelMetrics(Record):
    """One model, measured; test sets by name. For several labels a class is a label."""

    lam: float = Field(alias="lambda", description="0 for the original model")
    validation: ValidationMetrics = ValidationMetrics()
    epochs: tuple[tuple[float, ...], ...] = Field((), description="validation score after each epoch")
    accuracy: Mapping[str, float] = Field(
        description="plain average over the images; of several labels the mean of `accuracy_by_label`"
    )
    accuracy_by_label: Mapping[str, Mapping[str, Defined]] = Field(
        {},
        description="of several labels: test set → label → share told rightly at p = ½ where it is known",
    )
    groups: Mapping[str, GroupMetrics] = Field({}, description="of test sets whose groups are known")
    training_weighted: Mapping[str, Defined] = {}
    ece: Mapping[str, Defined] = {}
    auroc: Mapping[str, Mapping[str, Defined]] = Field(
        {}, description="test set → class → area under the ROC curve, against the other classes"
    )
    average_precision: Mapping[str, Mapping[str, Defined]] = Field({}, description="likewise")
    mu_align: MuAlignMetrics | None
    sensitivity: SensitivityMetrics | None = Field(None, description="null for several labels, too")


class LambdaChoice(Record):
    """Which λ is in use, and what decided."""

    chosen: float
    how: str
    original_stays: bool = False
    curves: Mapping[str, tuple[ModelMetrics, ...]] = Field(description="source of the masks → one per λ")


class StageCosts(Record):
    """Wall clock and memory of one stage when it was computed."""

    stage: str
    seconds: float
    peak_gib: float | None


class Costs(Record):
    """What the run cost."""

    questions: tuple[Cost, ...]
    stages: tuple[StageCosts, ...]


class Measured(Record):
    """What diagnosis and alignment both measure."""

    format: Literal[2] = METRICS_FORMAT
    data: DataMetrics
    model: OriginalModel
    selection: SelectionMetrics
    attribution: AttributionMetrics
    verdicts: VerdictMetrics
    models: Mapping[str, ModelMetrics] = Field(description="original, aligned, ... → what it does")
    costs: Costs

    @property
    def main_test(self) -> str | None:
        """The name of the main test set, the first; None where there is none."""
        return next(iter(self.data.tests), None)


class RunMetrics(Measured):
    """metrics.json."""

    lam: LambdaChoice = Field(alias="lambda")


def write_metrics(run: RunDirectory, metrics: RunMetrics) -> None:
    """Write metrics.json."""
    run.write(METRICS, (metrics.model_dump_json(indent=2) + "\n").encode())
