"""How a command ends: one message and an exit code, whatever happens."""

import os
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import typer

from lvlm_va.errors import DEFECT, Interrupted, LvlmVaError
from lvlm_va.io.ending import STOPPED, asked_to_stop, end_by_signals, leaving, write_trace
from lvlm_va.io.screen import echo, keep_writing, shown

__all__ = ["run_app"]


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command. Whatever happens is one message and an exit code (see `errors`), never a traceback."""
    os.environ["PYTHONSAFEPATH"] = "1"  # workers and pip do not import from the working folder either
    end_by_signals()
    keep_writing()
    try:
        code = app(standalone_mode=False) or 0
    except LvlmVaError as error:
        _leave(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _leave(STOPPED, Interrupted.exit_code)
    except MemoryError:
        _leave("the memory does not suffice; use smaller images, batches or numbers of them", 1)
    except BaseException as error:  # noqa: BLE001 -- not swallowed: told and kept
        if hasattr(error, "format_message"):  # typer's errors share no base with a name that it gives away
            _usage(error)
        if asked_to_stop():
            _leave(STOPPED, Interrupted.exit_code)
        _defect(error)
    # 130 is what typer makes of KeyboardInterrupt.
    _leave(STOPPED if code == Interrupted.exit_code else "", code)


def _usage(error: Any) -> NoReturn:
    """A command line that cannot be understood."""
    if not error.message:  # the help was asked for, and is printed
        error.show()
        _leave("", error.exit_code)
    command = error.ctx.command_path if getattr(error, "ctx", None) else "lvlm-va"
    _leave(f"{error.format_message()}\nTry: {command} --help", error.exit_code)


def _defect(error: BaseException) -> NoReturn:
    """The one place where an exception ends that nobody expected."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        _leave("", 1)  # the reader of --help has left
    if isinstance(error, SystemExit):
        what = f"code that the project runs (model.name) ended the program (SystemExit: {error})"
    else:
        what = f"this is a mistake of lvlm-va, not yours ({type(error).__name__}: {shown(error)})"
    path = write_trace(error)
    if path is None:
        traceback.print_exception(error)
        told = "The trace is above, since no file can be written here"
    else:
        told = f"The trace is in {path}"
    _leave(f"{what}. {told}; please report it. What is done is kept.", DEFECT)


def _leave(message: str, code: int) -> NoReturn:
    if message:
        with suppress(OSError):
            # Indented, so that no line of a text from outside looks like one of ours.
            echo("lvlm-va: " + message.replace("\n", "\n  "), err=True)
    leaving()
    sys.exit(code)
