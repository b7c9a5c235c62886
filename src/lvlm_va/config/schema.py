"""What a project file may say: every key, its meaning, its default; `config` reads one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from lvlm_va.config.inputs import DataConfig, ModelConfig
from lvlm_va.config.names import ATTRIBUTIONS, SEGMENTATIONS
from lvlm_va.config.section import MAX_BATCH, MAX_EPOCHS, MAX_SEED, MAX_STEP, MAX_WEIGHT, Section, known

__all__ = [
    "FORMAT",
    "AlignConfig",
    "Config",
    "CritiqueConfig",
    "DataConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "ModelConfig",
    "Section",
]


class ExplainConfig(Section):
    """Which images are explained, and how (Sec. 4.1)."""

    num_images: int = Field(256, ge=1, le=10**7, description="N, images to critique")
    sampling: Literal["lowest", "balanced", "random", "highest"] = Field(
        "random",
        description="lowest output entropy (the paper), lowest balanced over classes, random, highest",
    )
    attribution: str = Field(
        "deeplift-shap",
        examples=list(ATTRIBUTIONS.ours),
        description="how Φ is computed; also a method of another package, or module:Class",
    )
    target: Literal["predicted", "label"] = Field(
        "predicted",
        description="the class that Φ explains: the model's answer, or the true one, which μ_align takes",
    )
    label: str | None = Field(
        None,
        description="where images have several labels: explain this one alone; when not given, of those that "
        "an image has the one of which the model is surest",
    )
    baseline: Literal["training", "black"] = Field(
        "training", description="what Φ compares with: random training images, or a black image"
    )
    baselines: int = Field(20, ge=1, le=10_000, description="how many training images")
    steps: int = Field(
        64,
        ge=1,
        le=100_000,
        description="gradients per baseline (integrated gradients) or per image (gradient SHAP); more are "
        "slower and more exact",
    )
    tolerance: float | None = Field(
        None,
        gt=0,
        le=1,
        description="largest relative completeness error accepted; 1e-4 for DeepLIFT-SHAP, 1e-3 on a GPU",
    )
    segments: int = Field(3, ge=1, le=1000, description="J, segments per image")
    segmentation: str = Field(
        "ppeps-wgm",
        examples=list(SEGMENTATIONS.ours),
        description="how they are found: ppeps-wgm (the paper) from the attribution; sam (SAM, "
        "SAM 2) or slic (superpixels) from the image, of whose regions the J − 1 with the largest "
        "shares are taken, and the rest as one more; also one of another package, or module:Class",
    )
    n_init: int = Field(
        3, ge=1, le=1000, description="initialisations of the mixture; the best likelihood wins"
    )
    sam: str | None = Field(
        None,
        description="weights of SAM or SAM 2: a folder, or an id on the hub; LVLM_VA_SAM when not given",
    )
    points_per_side: int = Field(16, ge=1, le=256, description="of sam: prompts along each side of an image")
    superpixels: int = Field(50, ge=1, le=100_000, description="of slic: superpixels to begin with")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of sampling, baselines and initialisations")

    @field_validator("attribution")
    @classmethod
    def _attribution_isknown(cls, name: str, info: ValidationInfo) -> str:
        return known(ATTRIBUTIONS, name, info)

    @field_validator("segmentation")
    @classmethod
    def _segmentation_isknown(cls, name: str, info: ValidationInfo) -> str:
        return known(SEGMENTATIONS, name, info)

    @model_serializer(mode="wrap")
    def _only_what_is_read(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of other segmentations where the paper's is in force, or a `label` that is none.

        They change nothing then, and what was computed before there were such keys is still found.
        """
        document: dict[str, Any] = serialize(self)
        if self.label is None:
            document.pop("label", None)
        if self.segmentation != "ppeps-wgm":
            return document
        unread = ("segmentation", "sam", "points_per_side", "superpixels")
        return {key: value for key, value in document.items() if key not in unread}


class CritiqueConfig(Section):
    """Who judges the segments (Sec. 4.1)."""

    critic: str = Field(
        "builtin",
        description="builtin, openai:<model>, hf:<folder or id of a model>, file (whoever answers exported "
        "questions), person (judges some segments), ground-truth (an oracle), a critic of another package, "
        "or module:Class",
    )
    judge: str | None = Field(
        None,
        description="who reads the critiques: the critic itself when not given, lines (the critic's verdict "
        "lines, and the critic as judge where they leave doubt), or another critic's name",
    )
    intervene: Literal["spurious", "core"] = Field(
        "spurious",
        description="how much is condemned: what clearly must not matter (the paper on the knee), or all but "
        "the clear core (the paper on skin)",
    )
    background: Literal["valid", "spurious"] = Field(
        "valid",
        description="what a vision-language model is to call empty background of which the specification "
        "says nothing; spurious is the prompt that our experiments were made with",
    )
    split: Literal[0, 1, 2] = Field(
        0,
        description="how often a segment that the critic calls mixed is divided in two and its parts asked "
        "about; 0 (the paper) gives it no such word",
    )
    fraction: float = Field(
        1.0,
        gt=0,
        le=10**9,
        description="images asked about: a share up to 1 (all of them, the paper), or a number above 1; "
        "the others' segments take the verdicts of those that look and lie like them",
    )
    verify: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="share of the images, at least 8 and at most half of those asked, drawn at random to "
        "check such verdicts against asked ones; 0 checks nothing",
    )
    agreement: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="what the lower bound of that agreement must reach, else twice as many are asked; 0 "
        "never asks more",
    )
    judgements: int = Field(
        40,
        ge=1,
        le=10**7,
        description="of person: segments to judge before the others take their verdicts; more where "
        "agreement is too low",
    )
    judge_examples: Path | None = Field(None, description="your own pairs (critique, verdict) for the judge")
    max_tokens: int | None = Field(
        None,
        ge=64,
        le=1_000_000,
        description="longest answer, tokens; 4096 for critiques and 2048 for judgements when not given",
    )
    detail: Literal["high", "low", "auto", "none"] = Field(
        "high", description="how closely openai:<model> reads images; none does not say"
    )
    system_role: bool = Field(
        True, description="whether openai:<model> gets a system prompt; its words else open the user's text"
    )
    concurrency: int = Field(8, ge=1, le=256, description="questions under way at once")
    requests_per_minute: float | None = Field(None, ge=0.01, le=10**6, description="rate limit")
    timeout: float = Field(120.0, gt=0, le=86_400, description="seconds before a question is asked again")
    batch: int = Field(4, ge=1, le=256, description="questions that hf:<model> answers together")
    device: str = Field("auto", description="where hf:<model> computes: auto, cpu, cuda, cuda:<number>")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="number format of hf:<model>; auto is bfloat16 where the device computes with it"
    )
    max_usd: float | None = Field(None, ge=0, le=10**9, description="stop before more than this is spent")
    prices: dict[str, dict[Literal["input", "output"], Annotated[float, Field(ge=0, le=10**6)]]] = Field(
        default_factory=dict, description="model: {input: USD, output: USD} per million tokens"
    )

    @model_validator(mode="after")
    def _a_number_of_images_is_whole(self) -> Self:
        if self.fraction > 1 and self.fraction != int(self.fraction):
            raise ValueError(f"give a share up to 1 or a whole number of images, not {self.fraction:g}")
        return self


class AlignConfig(Section):
    """Masks and fine-tuning (Sec. 4.2)."""

    lam: tuple[float, ...] = Field(
        (0.01,), alias="lambda", description="λ, one or several; of several the validation set chooses"
    )
    gamma: float = Field(0.0, ge=0, le=MAX_WEIGHT, description="γ, weight of Σ θ²")
    counterfactual: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="κ, weight of images from which a condemned segment was taken away or into which one "
        "was put; 0 is the paper",
    )
    mask: Literal["segment", "component", "attribution", "objects"] = Field(
        "segment",
        description="what of a condemned segment is masked: all of it (the paper), its component, "
        "its positive attribution, or the objects in the image that it covers",
    )
    jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="standard deviation of noise on alignment samples, in units of the pixel range",
    )
    epochs: int = Field(10, ge=1, le=MAX_EPOCHS, description="passes over the training set")
    learning_rate: float = Field(1e-3, gt=0, le=MAX_STEP, description="Adam's step size at the start")
    decay: Literal["none", "cosine"] = Field("none", description="of the step size")
    training_batch: int = Field(64, ge=1, le=MAX_BATCH, description="I_s, training samples a batch")
    alignment_batch: int = Field(64, ge=1, le=MAX_BATCH, description="I_a, alignment samples a batch")
    statistics: Literal["batch", "frozen"] = Field(
        "batch", description="of batch normalisation while fine-tuning: of each batch, or frozen"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of fine-tuning; auto is bfloat16 for convolutions on hardware that has it"
    )
    keep: Literal["last", "best"] = Field("last", description="the last epoch, or the one that scores best")
    choose_by: Literal["verdicts", "validation", "groups"] = Field(
        "verdicts",
        description="what λ (and the epoch) is chosen by on the validation set: worst and mean accuracy of "
        "the classes, with and without condemned segments put in; plain accuracy; or the worst true group "
        "(reads group labels)",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the order of the samples")

    @model_validator(mode="before")
    @classmethod
    def _one_lambda_is_enough(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in ("lambda", "lam"):
                value = values.get(key)
                # Text, because YAML reads 1e-3 as one; what it says is checked like any number.
                if isinstance(value, int | float | str) and not isinstance(value, bool):
                    return {**values, key: (value,)}
        return values

    @model_validator(mode="after")
    def _lambdas_are_usable(self) -> Self:
        if not self.lam or not 0 <= min(self.lam) <= max(self.lam) <= MAX_WEIGHT:
            raise ValueError(
                f"lambda must be one number or several, none of them negative or above {MAX_WEIGHT:,}"
            )
        if twice := {
            f"{lam:g}" for lam in self.lam if [f"{lam:g}" for lam in self.lam].count(f"{lam:g}") > 1
        }:
            # Files and tables name a λ by six digits.
            raise ValueError(f"lambda names {', '.join(sorted(twice))} twice; give each once")
        if len(self.lam) > 100:
            raise ValueError(f"lambda has {len(self.lam)} values, each a fine-tuning; give 100 at most")
        return self


class EvaluateConfig(Section):
    """What is measured afterwards (Sec. 5.1, 5.2)."""

    num_images: int = Field(1000, ge=1, le=10**7, description="test images on which μ_align is computed")
    bounds: bool = Field(
        True, description="also align with ground-truth masks where the planted feature is known (an oracle)"
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the choice of those images")


FORMAT = 1
"""Of project files; raised when an older program would misread what a newer one is meant for."""


class Config(Section):
    """A project."""

    format: int = Field(FORMAT, ge=1, description="of this file; a newer one is refused with advice")
    project: str = Field(
        "decoy-mnist", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name, also of the run"
    )
    run: Path | None = Field(None, description="the run's directory; runs/<project> when not given")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    scheduler: str | None = Field(
        None,
        description="address of a Dask scheduler, e.g. tcp://node1:8786, whose workers explain and segment",
    )
    specifications: Path | None = Field(None, description="YAML file with one paragraph per class")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    explain: ExplainConfig = ExplainConfig()
    critique: CritiqueConfig = CritiqueConfig()
    align: AlignConfig = AlignConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _regions_have_no_component(self) -> Self:
        if self.align.mask == "component" and self.explain.segmentation != "ppeps-wgm":
            raise ValueError(
                f"align.mask: component is an ellipse of the mixture, and explain.segmentation: "
                f"{self.explain.segmentation} fits none; choose segment, attribution or objects"
            )
        return self
