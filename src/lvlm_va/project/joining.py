"""Asking some of the questions of a run that another machine holds."""

import os
import socket
from dataclasses import replace
from pathlib import Path

from lvlm_va.critique.driver import critique
from lvlm_va.critique.sharing import Sharing
from lvlm_va.critique.verdict import Verdict
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.stages.together import SHARING
from lvlm_va.report.record import read_images
from lvlm_va.run.directory import RunDirectory

__all__ = ["join_critique"]


def join_critique(path: str | Path, *, console: QuietConsole | None = None) -> str:
    """Take part in the critique that `lvlm-va critique PROJECT --share` began, until nothing is left to take.

    Needs the run's directory, in a folder that both machines see, and a critic that this machine can ask; no
    data and no model.

    Args:
        path: the run's directory.
        console: who is told about progress.

    Returns:
        In words, what was done.

    Raises:
        CriticError: if no questions are offered there.
        Interrupted: with everything answered so far kept; the machine that holds the run takes it over.
    """
    console = console or QuietConsole()
    run = RunDirectory.read(Path(path))
    settings = run.settings.critique
    critic_judge = make_critic_judge(settings)
    name = f"{socket.gethostname()}-{os.getpid()}"
    with Sharing.join(run.file(SHARING), name) as (sharing, store):
        images = list(read_images(run).explained_images.values())
        done = 0

        def progress(_image_id: str, _verdicts: tuple[Verdict, ...]) -> None:
            nonlocal done
            done += 1
            console.progress(done, len(images))

        with console.stage(f"Critique of what is left to take, by {critic_judge.critic.name}"):
            critique(
                sharing.mine(images),
                replace(critic_judge, specifications=sharing.specifications),
                store,
                concurrency=settings.concurrency,
                progress=progress,
                claims=sharing,
            )
    return f"{done} of {len(images)} images were critiqued here; {run.path} takes the answers."
