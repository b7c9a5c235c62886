"""How a judge's verdicts change by the expert's examples: judge_check.json, for every report on the run."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lvlm_va.evaluate.statistics import exact_interval
from lvlm_va.run.directory import RunDirectory

__all__ = ["ENOUGH", "Compared", "JudgeCheck", "ignored_examples", "keep_judge_check", "read_judge_check"]

JUDGE_CHECK = "judge_check.json"
ENOUGH = 10
"""Verdicts held back, below which an agreement with them says little."""


@dataclass(frozen=True)
class Compared:
    """Some of the expert's verdicts, and the judge's on the same segments.

    Attributes:
        verdicts: how many the expert gave.
        before, after: with how many the judge agrees, asked without and with the expert's examples. A segment
            that it leaves without a verdict is no agreement.
    """

    verdicts: int
    before: int
    after: int

    @property
    def before_interval(self) -> tuple[float, float]:
        """Of the share `before` / `verdicts`; it takes verdicts for independent, which those of one critique
        are not quite.
        """
        return exact_interval(self.before, self.verdicts)

    @property
    def after_interval(self) -> tuple[float, float]:
        """Of the share `after` / `verdicts`, likewise."""
        return exact_interval(self.after, self.verdicts)

    @property
    def unmoved(self) -> bool:
        """Whether the judge disagreed with some without examples, and with them agrees with no more."""
        return self.before < self.verdicts and self.after <= self.before

    def __str__(self) -> str:
        if not self.verdicts:
            return "none"
        said = (
            f"{hits} of {self.verdicts} ({low:.0%} to {high:.0%})"
            for hits, (low, high) in ((self.before, self.before_interval), (self.after, self.after_interval))
        )
        return " without your examples, ".join(said) + " with them"


@dataclass(frozen=True)
class JudgeCheck:
    """Whether the expert's examples move a judge.

    Attributes:
        judge: who was asked.
        examples: critiques that the judge was shown, with the expert's verdicts.
        held_back: critiques with the expert's verdicts that it was not shown.
        corrected: the expert's verdicts on critiques held back that are not what the run's judge had said.
            Asked as in the run it agrees with none of them, so chance alone moves this upwards.
        kept: the expert's other verdicts on critiques held back: what the examples might spoil.
        shown: the expert's verdicts on the examples themselves, asked with the examples in the prompt.
        clear: verdicts left out, for they were lines that no judge is asked about.
    """

    judge: str
    examples: int
    held_back: int
    corrected: Compared
    kept: Compared
    shown: Compared
    clear: int = 0

    @property
    def held_back_verdicts(self) -> Compared:
        """All of the expert's verdicts on critiques held back."""
        pairs = zip(vars(self.corrected).values(), vars(self.kept).values(), strict=True)
        return Compared(*(one + other for one, other in pairs))

    @property
    def ignores(self) -> str:
        """A warning where the judge does not heed the examples, in one sentence; "" where it does."""
        if self.shown.unmoved:
            return (
                f"The judge {self.judge} ignores your examples: even of your verdicts on the examples "
                f"themselves it gives {self.shown.after} of {self.shown.verdicts} with them in its prompt, "
                f"and {self.shown.before} without."
            )
        held_back = self.held_back_verdicts
        if held_back.unmoved:
            return (
                f"Your examples do not bring the judge {self.judge} closer to you: of your verdicts on other "
                f"critiques it gives {held_back.after} of {held_back.verdicts} with them, and "
                f"{held_back.before} without."
            )
        return ""

    @property
    def few(self) -> str:
        """A warning where the verdicts held back are too few to say much; "" otherwise."""
        number = self.held_back_verdicts.verdicts
        if number >= ENOUGH:
            return ""
        return f"{number} of your verdicts were held back: fewer than {ENOUGH} say little."

    def __str__(self) -> str:
        lines = [
            f"{self.judge}: {self.examples} of your critiques shown as examples, {self.held_back} held back. "
            "It agrees with you (exact 95 % intervals)",
            f"  where you corrected a verdict:   {self.corrected}",
            f"  where you let one stand:         {self.kept}",
            f"  on the examples themselves:      {self.shown}",
        ]
        if self.clear:
            lines.append(f"  {self.clear} verdicts are clear lines, about which no judge is asked")
        return "\n".join([*lines, *(f"WARNING: {text}" for text in (self.few, self.ignores) if text)])


_FILE = TypeAdapter(JudgeCheck)


def keep_judge_check(run: RunDirectory, check: JudgeCheck) -> Path:
    """Write it into the run, for its reports."""
    return run.write(JUDGE_CHECK, _FILE.dump_json(check, indent=2) + b"\n")


def read_judge_check(run: RunDirectory) -> JudgeCheck | None:
    """The last check of the run's judge; None where it was never checked, or by a later version."""
    try:
        return _FILE.validate_json(run.file(JUDGE_CHECK).read_bytes())
    except (OSError, ValidationError):
        return None


def ignored_examples(run: RunDirectory) -> str:
    """The warning that the last check of the run's judge gave, if the run uses examples; "" otherwise."""
    if not run.config.get("critique", {}).get("judge_examples"):
        return ""
    check = read_judge_check(run)
    return "" if check is None else check.ignores
