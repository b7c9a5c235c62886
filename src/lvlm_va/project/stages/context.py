"""What every stage works with."""

from dataclasses import dataclass

from lvlm_va.config.schema import Config
from lvlm_va.data.splits import Splits
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.inputs import Inputs
from lvlm_va.run.directory import RunDirectory

__all__ = ["Context"]


@dataclass(frozen=True)
class Context:
    """What a run works on, its directory, and who is told about progress."""

    inputs: Inputs
    run: RunDirectory
    console: QuietConsole

    @property
    def config(self) -> Config:
        """The settings."""
        return self.inputs.config

    @property
    def splits(self) -> Splits:
        """The pictures."""
        return self.inputs.splits
