"""Several processes, started by torchrun: one leads, the others help it to train and do nothing else.

The leading process alone opens the run, asks critics and writes files. Where it trains, it tells the others
with what, and all call the same function: see `models.distributed`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lvlm_va.alignment.fine_tune import fine_tune
from lvlm_va.errors import Helped, Interrupted, LvlmVaError, RunError
from lvlm_va.models.copying import copied
from lvlm_va.project.stages.context import Project
from lvlm_va.training.process_group import Crew
from lvlm_va.training.train import train

__all__ = ["led"]


@contextmanager
def led(project: Project) -> Iterator[None]:
    """The block is the leading process's; the others help until it is done, and leave.

    Raises:
        Helped: in the others.
        RunError: in the others, if the leading process ended before its time.
    """
    crew = Crew.here()
    if not crew.leads:
        _help(project, crew)
        raise Helped(0)
    yield
    crew.agree(None)  # not after an error: the others may be in the middle of a training


def _help(project: Project, crew: Crew) -> None:
    while True:
        try:
            work = crew.agree(None)
            if work is None:
                return
            kind, arguments = work
            model, splits = copied(project.model), project.splits
            if kind == "train":
                train(model, splits.train, validation=splits.validation, **arguments)
            else:
                fine_tune(model, splits.train, *arguments)
        except Interrupted:
            raise
        except LvlmVaError:
            continue  # the same happened to the leading process, which decides what follows
        except RuntimeError as error:
            if "onnection" not in str(error):
                raise
            raise RunError("the leading process has ended; see what it said") from None
