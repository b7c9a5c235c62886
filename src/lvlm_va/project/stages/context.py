"""What every stage works with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from lvlm_va.config.names import SEGMENTATIONS, Foreign
from lvlm_va.config.schema import Config
from lvlm_va.critique.backends.person import PersonBackend
from lvlm_va.critique.person.judging import Judging
from lvlm_va.critique.question import Intervention
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.data.splits import Splits
from lvlm_va.explain.attribution import AttributionMethod, Method, find_method
from lvlm_va.explain.own_segments import SegmentationMethod
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.inputs import Inputs
from lvlm_va.run.directory import RunDirectory

__all__ = ["AskPerson", "Context"]


class AskPerson(Protocol):
    """Has a person judge segments, see `cli.judging.judge`."""

    def __call__(
        self,
        judging: Judging,
        person: PersonBackend,
        *,
        specifications: Mapping[str, ClassSpecification],
        intervene: Intervention,
        picture: Path,
    ) -> None:
        """Returns when there are enough judgements, or the person stops."""
        ...


@dataclass(frozen=True)
class Context:
    """What a run works on, its directory, who is told about progress, and what the caller brings of his own.

    Attributes:
        inputs: what it works on.
        run: its directory.
        console: who is told.
        attribution: takes the place of `explain.attribution`.
        segmentation: takes the place of `explain.segmentation`.
        ask: where there is somebody at a terminal who can be asked.
        share: whether other machines may ask some of the critic's questions.
    """

    inputs: Inputs
    run: RunDirectory
    console: QuietConsole
    attribution: AttributionMethod | None = None
    segmentation: SegmentationMethod | None = None
    ask: AskPerson | None = None
    share: bool = False

    @property
    def config(self) -> Config:
        """The settings."""
        return self.inputs.config

    @property
    def splits(self) -> Splits:
        """The images."""
        return self.inputs.splits

    @cached_property
    def method(self) -> Method:
        """How Φ is computed.

        Raises:
            ExtensionError: if somebody else's method cannot be used.
        """
        return find_method(self.attribution or self.config.explain.attribution)

    @cached_property
    def own_segmentation(self) -> Foreign | None:
        """How images are divided into segments, where not as this package does it.

        Raises:
            ExtensionError: if it cannot be used.
        """
        if self.segmentation is not None:
            return SEGMENTATIONS.given(self.segmentation)
        name = self.config.explain.segmentation
        return None if SEGMENTATIONS.is_ours(name) else SEGMENTATIONS.load(name)
