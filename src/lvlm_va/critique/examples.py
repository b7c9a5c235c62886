"""Example pairs for the judge: a critique, and the verdicts that a person drew from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lvlm_va.config.yamlfile import read_yaml
from lvlm_va.critique.prompts import delimit
from lvlm_va.errors import SpecificationError

__all__ = ["Example", "ExampleVerdict", "Pair", "load_examples", "load_pairs"]


class ExampleVerdict(BaseModel):
    """What a person drew from a critique about one segment."""

    model_config = ConfigDict(extra="forbid")
    segment: int = Field(ge=1)
    spurious: bool
    reason: str = Field(min_length=1)


class Pair(BaseModel):
    """A critique, and the verdicts that a person drew from it."""

    model_config = ConfigDict(extra="forbid")
    critique: str = Field(min_length=1)
    verdicts: list[ExampleVerdict] = Field(min_length=1)

    @property
    def example(self) -> "Example":
        """As the judge reads it."""
        verdicts = ", ".join(verdict.model_dump_json() for verdict in self.verdicts)
        return Example(f'{delimit("critique", self.critique.strip())}\n{{"verdicts": [{verdicts}]}}')


_MISSING = "the judge's examples cannot be read: no such file"
_PAIRS = TypeAdapter(list[Pair])


@dataclass(frozen=True)
class Example:
    """One pair as the judge reads it: the delimited critique, then the JSON of its verdicts."""

    text: str


def load_examples(path: str | Path | None = None) -> Sequence[Example]:
    """`load_pairs`, as the judge reads them."""
    return [pair.example for pair in load_pairs(path)]


def load_pairs(path: str | Path | None = None) -> Sequence[Pair]:
    """Read example pairs from a YAML file of the form of `prompts/judge_examples.yaml`.

    Args:
        path: the expert's own file, or None for the examples of this package.

    Raises:
        SpecificationError: naming the file and the place in it.
    """
    own = files("lvlm_va.critique.prompts").joinpath("judge_examples.yaml")
    file = Path(str(own)) if path is None else Path(path)
    document = read_yaml(file, SpecificationError, missing=_MISSING)
    try:
        return _PAIRS.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part + 1 if isinstance(part, int) else part)[:40] for part in first["loc"])
        raise SpecificationError(
            f"{path}: example {place or '1'}: {first['msg']}; each example needs a `critique` and a list "
            "of `verdicts` with segment, spurious and reason"
        ) from None
