"""Many reviews at once: within a budget, interruptible, every answer recorded before it counts."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from lvlm_va.critique.budget import Budget
from lvlm_va.critique.cached_client import AskedElsewhere, CachedClient, Claims, Halted
from lvlm_va.critique.question import ExplainedImage, Question
from lvlm_va.critique.review import CriticJudge, Review
from lvlm_va.critique.stopping import stop_by_signal
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import AnswerFailed, AskedByFile, BudgetReached, ConfigError, CriticError, Interrupted
from lvlm_va.io.cores import usable_cores

__all__ = ["MOST_AT_ONCE", "Further", "Progress", "critique", "critique_images", "critique_in_turn"]

T = TypeVar("T")

MOST_AT_ONCE = 256
"""Images under review at once, at most."""

_AHEAD = 4  # of so many images one more than may be asked about is under way
_GLANCE = 0.2  # seconds between looks whether the run is to end

Progress = Callable[[str, tuple[Verdict, ...]], None]
"""Called with an image's id and its verdicts as soon as they are complete."""

Further = Callable[[Sequence[Verdict]], Sequence[ExplainedImage]]
"""Given all verdicts so far: what else to ask about; nothing ends the critique."""


def critique(
    explained_images: Iterable[ExplainedImage],
    critic_judge: CriticJudge,
    store: Store,
    *,
    max_usd: float | None = None,
    concurrency: int = 8,
    progress: Progress | None = None,
    further: Further | None = None,
    claims: Claims | None = None,
) -> list[Verdict]:
    """`critique_images` for callers without an event loop (or with one, as in a notebook).

    Ctrl-C or SIGTERM ends the run cleanly: nothing more is asked, answers under way are awaited and kept.
    A second one ends it at once. The backends are closed at the end. `further` is called when all images
    are done, again when those are that it named, and so on until it names none.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM.
        CriticError, BudgetReached, RunError: see `critique_images`.
    """
    with stop_by_signal() as stop:

        async def ask(some: Iterable[ExplainedImage]) -> list[Verdict]:
            return await critique_images(
                some,
                critic_judge,
                store,
                max_usd=max_usd,
                concurrency=concurrency,
                progress=progress,
                stop=stop,
                claims=claims,
            )

        async def run() -> list[Verdict]:
            try:
                verdicts = await ask(explained_images)
                while further is not None and (more := further(verdicts)):
                    verdicts += await ask(more)
                return verdicts
            finally:
                await critic_judge.critic.close()
                await critic_judge.judge.close()

        gc.freeze()  # what is loaded lives on; looking through it again and again costs a seventh of the time
        try:
            return _run(run())
        except KeyboardInterrupt:
            raise Interrupted(
                "stopped at once; all recorded answers are kept, the same command resumes"
            ) from None
        except (AskedByFile, BudgetReached):
            raise
        except CriticError as error:
            if any(store.has_answers(one.name) for one in (critic_judge.critic, critic_judge.judge)):
                error.args = (f"{error}\nAll answers so far are kept.",)
            raise
        finally:
            gc.unfreeze()


class _JudgeAskedByFileError(AskedByFile):
    """Its critique is there."""


def critique_in_turn(
    explained_images: Sequence[ExplainedImage],
    critics_judges: Sequence[CriticJudge],
    store: Store,
    *,
    max_usd: float | None = None,
    concurrency: int = 8,
) -> list[list[Verdict]]:
    """`critique` of the same images by several, one after the other, who share their backends.

    Raises:
        Interrupted, CriticError, BudgetReached, RunError: as `critique`.
    """
    with stop_by_signal() as stop:

        async def run() -> list[list[Verdict]]:
            try:
                return [
                    await critique_images(
                        explained_images, one, store, max_usd=max_usd, concurrency=concurrency, stop=stop
                    )
                    for one in critics_judges
                ]
            finally:
                for backend in {id(b): b for one in critics_judges for b in (one.critic, one.judge)}.values():
                    await backend.close()

        return _run(run())


@runtime_checkable
class _Patient(Protocol):
    """A backend that may wait long before it asks again."""

    def halt(self) -> None: ...


async def critique_images(
    explained_images: Iterable[ExplainedImage],
    critic_judge: CriticJudge,
    store: Store,
    *,
    max_usd: float | None = None,
    concurrency: int = 8,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    claims: Claims | None = None,
) -> list[Verdict]:
    """Review all images, asking only what the store does not know.

    Args:
        explained_images: read one by one, as they are needed.
        critic_judge: who asks what.
        store: where every question and answer goes.
        max_usd: US dollars that may be spent with this store, earlier runs included.
        concurrency: how many images are under review at once.
        progress: called for each image.
        stop: set it, from any thread, to end the run cleanly.
        claims: of machines that share the questions; images about which another one asks are left out.

    Returns:
        One verdict per segment, in the order of `explained_images`. Questions that failed leave their
        segments unscored, with the reason, and are asked again by the next run.

    Raises:
        Interrupted: if `stop` was set before the end.
        BudgetReached: before `max_usd` would be crossed.
        CriticError: if nothing can be answered, or too many questions in a row failed.
        AskedByFile: if somebody who is asked by file has open questions; of a judge, once all critiques are
            there.
        ConfigError: if `max_usd` is given and a price is not known, or a number makes no sense.
        RunError: if the store cannot be written.
    """
    if not 1 <= concurrency <= MOST_AT_ONCE:
        raise ConfigError(f"concurrency must be at least 1 and at most {MOST_AT_ONCE}, not {concurrency}")
    stop = stop or threading.Event()
    client = CachedClient(
        store,
        Budget(max_usd, store.spent(), critic_judge.critic, critic_judge.judge),
        stop,
        concurrency,
        claims,
    )
    verdicts: dict[int, tuple[Verdict, ...]] = {}
    queue = enumerate(explained_images)
    waiting: list[AskedByFile] = []

    async def work() -> None:
        try:
            for number, explained in queue:
                try:
                    review = critic_judge.review(explained)
                    verdicts[number] = await _conduct(review, critic_judge, client, drawers)
                except AskedElsewhere:
                    continue
                except _JudgeAskedByFileError as error:  # all critiques first, so that one export is enough
                    waiting.append(error)
                    continue
                if progress is not None:
                    progress(explained.image_id, verdicts[number])
        except Halted:
            return
        except BaseException:
            client.close()
            raise

    async def watch() -> None:
        while not stop.is_set():
            await asyncio.sleep(_GLANCE)
        for backend in (critic_judge.critic, critic_judge.judge):
            if isinstance(backend, _Patient):
                backend.halt()

    watcher = asyncio.create_task(watch())
    # Some more than calls: while the others' answers are awaited, they draw and record.
    workers = [asyncio.create_task(work()) for _ in range(concurrency + max(1, concurrency // _AHEAD))]
    drawers = ThreadPoolExecutor(usable_cores(), thread_name_prefix="drawing")
    try:
        # Also after an error: calls under way are paid for, so their answers are awaited and recorded.
        results = await asyncio.gather(*workers, return_exceptions=True)
    finally:
        for task in (watcher, *workers):
            task.cancel()
        drawers.shutdown(wait=False, cancel_futures=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    if client.refused:
        raise Interrupted(
            f"stopped after {len(verdicts)} images; all answers are kept, the same command resumes"
        )
    if waiting:
        raise waiting[0]
    return [verdict for number in sorted(verdicts) for verdict in verdicts[number]]


async def _conduct(
    review: Review, critic_judge: CriticJudge, client: CachedClient, drawers: Executor
) -> tuple[Verdict, ...]:
    """Answer the questions of one review until it ends in verdicts."""
    loop = asyncio.get_running_loop()
    draws = critic_judge.critic.kind == "lvlm"

    async def step(advance: Callable[[], Question], drawn: bool) -> Question | tuple[Verdict, ...]:
        if drawn:  # images are drawn beside the loop, in which all calls are under way
            return await loop.run_in_executor(drawers, _advanced, advance)
        return _advanced(advance)

    question = await step(lambda: next(review), draws)
    while isinstance(question, Question):
        try:
            reply = await client.ask(question, critic_judge.backend(question.stage))
        except AnswerFailed as error:
            question = await step(partial(review.throw, error), False)
        except AskedByFile as error:
            if question.stage == "judge":
                raise _JudgeAskedByFileError(str(error)) from None
            raise
        else:
            question = await step(partial(review.send, reply), draws and critic_judge.split > 0)
    return question


def _advanced(advance: Callable[[], Question]) -> Question | tuple[Verdict, ...]:
    """The next question, with its images ready to be sent, or the verdicts."""
    try:
        question = advance()
    except StopIteration as end:
        verdicts: tuple[Verdict, ...] = end.value
        return verdicts
    for image in question.images:
        image.data_uri  # noqa: B018 -- kept from now on, as are the hashes below
        image.sha256  # noqa: B018
    return question


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:  # a notebook's loop is running already; use one beside it
        return pool.submit(asyncio.run, coroutine).result()
