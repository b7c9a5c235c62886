"""`diagnose --fail-above`: its options, the files that it writes, and how it refuses."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lvlm_va.errors import ConfigError
from lvlm_va.io.screen import echo

if TYPE_CHECKING:
    from lvlm_va.project.results import Diagnosis

__all__ = ["AllowUnscored", "FailAbove", "JUnitFile", "JsonFile", "check_options", "decide"]

FailAbove = Annotated[
    float | None,
    typer.Option(
        "--fail-above",
        metavar="SHARE",
        help="Exit code 4 unless it is shown that no more of the evidence than this lies on condemned "
        "segments, e.g. 0.1: the upper end of the 95 % interval decides.",
        show_default=False,
    ),
]
AllowUnscored = Annotated[
    float,
    typer.Option(
        "--allow-unscored",
        metavar="SHARE",
        help="With --fail-above: exit code 4, too, where more of the evidence than this got no verdict.",
    ),
]
JUnitFile = Annotated[
    Path | None,
    typer.Option(
        "--junit",
        metavar="FILE",
        help="With --fail-above: write the outcome as JUnit XML.",
        show_default=False,
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="With --fail-above: write it as JSON.", show_default=False),
]


def check_options(fail_above: float | None, allow_unscored: float, *files: Path | None) -> None:
    """Refuse options that mean nothing, before anything is asked.

    Raises:
        ConfigError: what to write instead.
    """
    if fail_above is not None:
        from lvlm_va.report.gate import check_limits

        check_limits(fail_above, allow_unscored)
    elif any(file is not None for file in files):
        raise ConfigError("--junit and --json write what the gate decides: say --fail-above, too")


def decide(
    found: "Diagnosis", fail_above: float, allow_unscored: float, junit: Path | None, json_file: Path | None
) -> None:
    """Write the files, then say that the model passes, or refuse it.

    Raises:
        GateRefused: if it does not pass.
        ConfigError: if a file cannot be written.
    """
    from lvlm_va.io.files import write_atomically
    from lvlm_va.report.gate import gate_json, gate_junit

    decided = found.gate(fail_above, allow_unscored=allow_unscored)
    for path, content in ((json_file, gate_json), (junit, gate_junit)):
        if path is None:
            continue
        try:
            write_atomically(path, content(decided))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
    decided.require()
    echo(str(decided))
