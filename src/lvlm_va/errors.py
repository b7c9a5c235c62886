"""Errors for the person who can mend them.

Every message says what is wrong, where, and what to do. The command line prints it as it stands and
leaves with `exit_code`. Anything else that is raised is a defect of this package: one sentence, the
traceback in a file, and `DEFECT` as exit code. So the exit codes are

    0    done
    1    something in the data, the model, a critic or the run must be mended
    2    the project file, an option or an argument must be mended
    3    the limit that the user set (--max-usd) is reached; all answers are kept
    4    the gate refuses the model (--fail-above): it leans on what was condemned, or too little was judged
    70   a defect of this package, or a model's code that ended the program (EX_SOFTWARE of sysexits.h)
    130  stopped by Ctrl-C or SIGTERM; the same command resumes

    LvlmVaError
    ├── ConfigError         a project file, an option or an argument
    │   └── ExtensionError  a critic, attribution, segmentation or data set from outside
    ├── DataError           images, labels, downloads
    ├── ModelError          a checkpoint, an architecture, outputs that do not fit
    ├── AttributionError    an explanation that would not be exact
    ├── SpecificationError  the expert's class specifications
    ├── CriticError         who answers: keys, endpoints, batches
    │   ├── AnswerFailed    one question went unanswered; others may still be asked
    │   ├── AskedByFile     who is asked by file has open questions
    │   └── BudgetReached   a limit the user set; everything paid for is kept
    ├── GateRefused         the model leans on what was condemned, or too little was judged
    ├── RunError            a run's directory: locked, foreign, damaged
    └── Interrupted         stopped by the user or a signal; resume with the same command
"""

__all__ = [
    "DEFECT",
    "AnswerFailed",
    "AskedByFile",
    "AttributionError",
    "BudgetReached",
    "ConfigError",
    "CriticError",
    "DataError",
    "ExtensionError",
    "GateRefused",
    "Interrupted",
    "LvlmVaError",
    "ModelError",
    "RunError",
    "SpecificationError",
]

DEFECT = 70
"""Exit code where this package is at fault."""


class LvlmVaError(Exception):
    """Base of all errors that a user can mend."""

    exit_code = 1


class ConfigError(LvlmVaError):
    """A project file, an option or an argument that cannot be used."""

    exit_code = 2


class ExtensionError(ConfigError):
    """A critic, attribution, segmentation or data set from outside that cannot be loaded or used."""


class DataError(LvlmVaError):
    """Images or labels that are missing, damaged or contradictory."""


class ModelError(LvlmVaError):
    """A model or checkpoint that does not fit the task."""


class AttributionError(LvlmVaError):
    """An attribution that is not exact enough to be shown."""


class SpecificationError(LvlmVaError):
    """Class specifications that are missing, incomplete or misspelt."""


class CriticError(LvlmVaError):
    """A critic or judge that cannot be reached or used."""


class AnswerFailed(CriticError):
    """One question went unanswered; its segments are unscored and the next run asks again.

    Attributes:
        usd: US dollars for answers to it that came and were of no use; None where that is not known.
    """

    usd: float | None = 0.0


class AskedByFile(CriticError):
    """Open questions to somebody who is asked by file; they are to be exported."""


class BudgetReached(CriticError):
    """The limit set by the user is reached; all answers so far are kept."""

    exit_code = 3


class GateRefused(LvlmVaError):
    """A model that a gate does not let pass, see `report.gate`."""

    exit_code = 4


class RunError(LvlmVaError):
    """A run's directory that cannot be used."""


class Interrupted(LvlmVaError):
    """Stopped before the end; the same command resumes."""

    exit_code = 130
