"""What the methods of `Project` return."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lvlm_va.critique.estimate import Estimate
from lvlm_va.critique.person.judging import Judged
from lvlm_va.critique.propagation import Propagation
from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.gate import Gate, gate
from lvlm_va.report.summary import diagnosis_table, summary_table
from lvlm_va.run.diagnosed import Diagnosed
from lvlm_va.run.files import VERDICTS
from lvlm_va.run.metrics import PartMetrics, RunMetrics
from lvlm_va.run.verdict_table import read_verdicts

__all__ = ["AlignmentResult", "CostEstimate", "CritiqueResult", "Diagnosis", "TrainingResult"]


@dataclass(frozen=True, eq=False)
class AlignmentResult:
    """A finished run.

    Attributes:
        path: its directory.
        metrics: what was measured, as metrics.json says it.
        model: the aligned model, in evaluation mode: the caller's own kind of module, which wants what that
            wanted (float32 where that was in half precision).
        report: the HTML page.
    """

    path: Path
    metrics: RunMetrics
    model: nn.Module
    report: Path

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts in force."""
        return read_verdicts(self.path / VERDICTS)

    def __str__(self) -> str:
        return summary_table(self.metrics)


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What a classifier relies on.

    Attributes:
        path: the directory of the run.
        findings: what diagnosis.json says: `grounds`, ranked, and how sure one can be of them.
        page: the HTML page.
    """

    path: Path
    findings: Diagnosed
    page: Path

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts in force."""
        return read_verdicts(self.path / VERDICTS)

    def gate(self, fail_above: float, *, allow_unscored: float = 0.1) -> Gate:
        """Decide whether the model passes; see `report.gate` for the rule.

        Args:
            fail_above: the largest share of the evidence, in (0, 1], that may lie on condemned segments; the
                upper end of its 95 % interval decides.
            allow_unscored: the largest share, in [0, 1], that may have no verdict.

        Raises:
            ConfigError: if a limit cannot be used.
        """
        return gate(self.findings, fail_above=fail_above, allow_unscored=allow_unscored)

    def __str__(self) -> str:
        return diagnosis_table(self.findings)


@dataclass(frozen=True)
class CritiqueResult:
    """The verdicts, before anything is aligned.

    Attributes:
        path: verdicts.csv, which an expert may edit.
        verdicts: in force.
        critic: its name, with what must stand beside it.
        propagation: how many verdicts were asked for and how many propagated; None where all images were
            asked about.
    """

    path: Path
    verdicts: tuple[Verdict, ...]
    critic: str
    propagation: Propagation | Judged | None

    def __str__(self) -> str:
        counts = {value: sum(v.spurious is value for v in self.verdicts) for value in (True, False, None)}
        lines = [
            f"{len(self.verdicts)} segments: {counts[True]} spurious, {counts[False]} valid, {counts[None]} "
            f"unscored, by {self.critic}."
        ]
        if self.propagation is not None:
            lines.append(str(self.propagation))
        return "\n".join([*lines, f"To overrule a verdict, edit {self.path}; then align."])


@dataclass(frozen=True)
class CostEstimate:
    """What the open questions would cost.

    Attributes:
        expected: calls, tokens and US dollars.
        text: the same in words.
    """

    expected: Estimate
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained classifier.

    Attributes:
        model: the module that was given, or named, in evaluation mode; images are normalised outside it.
        weights: its safetensors file.
        accuracy: "validation" and the name of each test set → how often it is right.
        training: how the training went: the epochs, which was kept and why, device and number format; only
            that nothing was trained where the weights were given.
    """

    model: nn.Module
    weights: Path
    accuracy: Mapping[str, PartMetrics]
    training: Mapping[str, Any]

    def __str__(self) -> str:
        went = self.training
        lines = [f"{went['model']}: the weights were given, nothing was trained."]
        if went["trained_here"]:
            lines = [
                f"{went['model']}: {len(went['epochs'])} epochs on {went['compute']}; epoch "
                f"{went['epoch_kept']} kept ({went['how_kept']})."
            ]
        width = max((len(name) for name in self.accuracy), default=0)
        for name, measured in self.accuracy.items():
            line = f"  {name:<{width}}  accuracy {measured.accuracy:.4f}"
            if (groups := measured.groups) is not None:
                line += f"  AGA {groups.average:.4f}  WGA {groups.worst:.4f}"
            lines.append(f"{line}  ({measured.images:,} images)")
        return "\n".join([*lines, f"Weights: {self.weights}"])
