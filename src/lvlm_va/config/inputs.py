"""The sections `data` and `model` of a project file: which images, and which classifier."""

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

from lvlm_va.config.names import DATA_SETS, MAX_PIXELS
from lvlm_va.config.normalise import read_normalise
from lvlm_va.config.section import MAX_BATCH, MAX_EPOCHS, MAX_SEED, MAX_STEP, MAX_WEIGHT, Section, known
from lvlm_va.errors import ConfigError

__all__ = ["DataConfig", "ModelConfig"]

_Side = Annotated[int, Field(ge=1, le=16_384)]


class DataConfig(Section):
    """Which images, and how they are prepared: once, for training, explanation and critic alike."""

    name: str = Field(
        "decoy-mnist",
        examples=list(DATA_SETS.ours),
        description="folder (class folders), manifest (CSV, Parquet), the paper's decoy-mnist, knee, skin, "
        "a data set of another package, or module:function",
    )
    path: Path | None = Field(
        None,
        description="the folder or manifest; of the paper's data LVLM_VA_DATA, cache, download if not given",
    )
    size: _Side | tuple[_Side, _Side] = Field(
        224, description="side of the square that the model is given, or [height, width], pixels"
    )
    resize: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="how an image comes to that size: its middle, black bars, or other proportions"
    )
    channels: Literal["auto", "grey", "rgb"] = Field(
        "auto", description="grey, rgb, or auto: rgb if any image has colour channels"
    )
    bits: int = Field(
        16, ge=9, le=32, description="of images deeper than 8 bits (not DICOM): how many are in use"
    )
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, le=10**11, description="an image with more pixels is set aside before it is decoded"
    )
    frame: int | None = Field(
        None,
        ge=0,
        le=100_000,
        description="which image of files that hold several (DICOM, TIFF, GIF), from 0; such files are set "
        "aside when not given",
    )
    classes: tuple[Annotated[str, Field(coerce_numbers_to_str=True)], ...] | None = Field(
        None, description="the classes in the order of the model's outputs; sorted when not given"
    )
    labels: Literal["auto", "one", "several"] = Field(
        "auto",
        description="of a manifest: whether an image has one class (one), or may have several labels or none "
        "(several: a column of 0 and 1 for each, or a|b in one); auto: several where a tenth of the rows or "
        "more have not exactly one",
    )
    groups: tuple[str, ...] = Field(
        (), description="columns of the manifest that, with the class, make the groups of AGA and WGA"
    )
    columns: dict[Literal["file", "label", "split", "mask", "id"], str | tuple[str, ...] | None] = Field(
        default_factory=dict,
        description="what the manifest's columns are called, where not file, label, split, mask; null for one"
        " that is not to be used; several for label where each class has its column of 0 and 1",
    )
    splits: dict[Annotated[str, Field(coerce_numbers_to_str=True)], str] = Field(
        default_factory=dict,
        description="what the values of the manifest's split column mean, e.g. "
        "{0: train, 1: validation, 2: test}",
    )
    root: Path | None = Field(
        None, description="the folder that the manifest's files start from; its own when not given"
    )
    validation: float | None = Field(
        None,
        ge=0,
        le=10**9,
        description="training images held out, on which λ is chosen, where there is no validation part: a "
        "share below 1 or a number; 0.15, of decoy-mnist 5000, when not given",
    )
    parts: tuple[Literal["core", "ham"], ...] = Field(
        ("core", "ham"),
        min_length=1,
        description="of skin: core (ISIC 2018), a fifth of it, and ham (HAM10000)",
    )
    test: float | None = Field(
        None,
        ge=0,
        le=10**9,
        description="test fraction (or number) if the data has no test split; 0.2 when not given",
    )
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="of what is held out, and of what the data set draws at random"
    )

    @field_validator("name")
    @classmethod
    def _isknown(cls, name: str, info: ValidationInfo) -> str:
        return known(DATA_SETS, name, info)

    @property
    def side(self) -> int:
        """Of the square; for data that come in no other shape.

        Raises:
            ConfigError: if height and width are given.
        """
        if not isinstance(self.size, int):
            raise ConfigError(f"data.size: the images of {self.name} are squares; give one number")
        return self.size

    @model_serializer(mode="wrap")
    def _only_what_is_said(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `labels` that are not said: what was computed before there was this key is still found."""
        document: dict[str, Any] = serialize(self)
        if self.labels == "auto":
            document.pop("labels", None)
        return document

    @field_validator("classes", "groups")
    @classmethod
    def _each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            twice = next(name for n, name in enumerate(names) if name in names[:n])
            raise ValueError(f"names {twice} twice; give each once")
        return names

    @field_validator("validation", "test")
    @classmethod
    def _share_or_number(cls, amount: float | None) -> float | None:
        if amount is not None and amount >= 1 and amount != int(amount):
            raise ValueError("give a share below 1 or a whole number of images")
        return amount


class ModelConfig(Section):
    """Which classifier, and how it is trained where no weights are given."""

    name: str = Field("mlp", description="mlp, resnet18, resnet50, or a factory package.module:function")
    weights: Path | None = Field(
        None, description="a complete checkpoint (safetensors or state_dict); without it the model is trained"
    )
    pretrained: Literal["imagenet"] | Path | None = Field(
        None,
        description="where training starts: a checkpoint from which all but the classification head is "
        "taken, or imagenet (resnet18, resnet50)",
    )
    normalise: str | dict[str, tuple[float, ...]] = Field(
        "none",
        description="what the model does to images in [0, 1] first: none, imagenet, or "
        "{mean: [...], std: [...]} with one number per channel",
    )
    head: Literal["auto", "softmax", "single-logit", "sigmoid"] = Field(
        "auto",
        description="what the model's outputs are: one logit per class (softmax), one for two classes "
        "(single-logit: the log-odds of the second), one for each of several labels (sigmoid), or auto: told "
        "from labels and outputs; a softmax or sigmoid at their end is taken off",
    )
    outputs: tuple[Annotated[int, Field(ge=0)], ...] | tuple[str, ...] | None = Field(
        None,
        description="where the model has more outputs than classes: the place of each class among them, "
        "from 0; or the names of all of them, among which the classes are found",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the initial weights and the order of the images")
    epochs: int = Field(10, ge=1, le=MAX_EPOCHS, description="passes over the training set")
    batch: int = Field(128, ge=1, le=MAX_BATCH, description="images an iteration")
    learning_rate: float = Field(
        1e-3, gt=0, le=MAX_STEP, description="step size at the start; falls as a half cosine"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        "adam", description="adam, adamw (for pretrained networks), or sgd with a momentum of 0.9"
    )
    weight_decay: float = Field(0.0, ge=0, le=MAX_WEIGHT, description="of all trainable parameters")
    flip: bool = Field(False, description="mirror images left to right at random while training")
    patience: int | None = Field(
        None,
        ge=1,
        le=MAX_EPOCHS,
        description="stop after so many epochs without a better validation accuracy and keep the best; "
        "without it the last is kept",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of training; auto is bfloat16 for convolutions on hardware that has it"
    )

    @field_validator("normalise", mode="before")
    @classmethod
    def _normalise_is_usable(cls, value: Any) -> Any:
        try:
            read_normalise(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return "none" if value is None else value

    @field_validator("outputs")
    @classmethod
    def _outputs_differ(cls, outputs: tuple[int | str, ...] | None) -> tuple[int | str, ...] | None:
        if outputs is not None and len(set(outputs)) < max(len(outputs), 1):
            raise ValueError("name each class's output once")
        return outputs

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.weights is not None and self.pretrained is not None:
            raise ValueError(
                "weights is a complete model and pretrained is where training starts: give one of them"
            )
        return self
