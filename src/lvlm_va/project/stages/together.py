"""A run's questions asked by several machines: this one offers them, others join."""

from collections.abc import Sequence

from lvlm_va.critique.driver import Progress, critique
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.sharing import Sharing
from lvlm_va.critique.store import Store
from lvlm_va.errors import ConfigError
from lvlm_va.project.stages.context import Context

__all__ = ["SHARING", "ask_together"]

SHARING = "sharing"
"""The folder of a run in which machines divide its questions."""


def ask_together(
    context: Context,
    explained_images: Sequence[ExplainedImage],
    critic_judge: CriticJudge,
    store: Store,
    progress: Progress,
) -> None:
    """Ask what nobody else does, and wait for the others; all their answers are in the store then.

    What is open afterwards (questions that failed, or that a machine had asked when it died) is asked by the
    usual critique.

    Raises:
        ConfigError: if a limit in US dollars is set, which no machine could hold for all.
    """
    settings = context.config.critique
    if settings.max_usd is not None:
        raise ConfigError("critique.max_usd: no machine can hold a limit for all; leave it out, or --share")
    folder = context.run.file(SHARING)
    with Sharing.lead(folder, store, explained_images, critic_judge.specifications) as sharing:
        context.console.note(f"Other machines join with: lvlm-va critic join {context.run.path}")
        critique(
            sharing.mine(explained_images),
            critic_judge,
            store,
            concurrency=settings.concurrency,
            progress=progress,
            claims=sharing,
        )
        context.console.note("Nothing is left to take; waiting for the machines that joined.")
        sharing.wait(store)
