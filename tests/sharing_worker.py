"""Processes to be killed: a store that takes answers as fast as it can, and machines that share a run."""

import asyncio
import os
from pathlib import Path

from critique_helpers import SEVEN, critic_judge, explained, render
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.driver import critique
from lvlm_va.critique.question import Reply
from lvlm_va.critique.sharing import Sharing
from lvlm_va.critique.store import Store

LEASE = 4.0


def fill(path: str, acknowledged: str) -> None:
    """Keep answers from many tasks, and write down the key of each that is said to be kept."""

    async def keep(store: Store, said: int, numbers: range) -> None:
        for number in numbers:
            it = explained(number)
            asked = critic_question(it, SEVEN, render(it))
            await store.keep(asked, "b", Reply(f"words about {number}", "m", 10, 5, 0.25, 1.5))
            os.write(said, f"{asked.key('b')}\n".encode())

    async def run() -> None:
        said = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with Store.open(path) as store:
            await asyncio.gather(*(keep(store, said, range(n, 10**6, 64)) for n in range(64)))

    asyncio.run(run())


def lead(url: str, folder: str, images: int, verdicts: str) -> None:
    """Offer the questions, ask what nobody takes, wait, ask what is left, as a run does."""
    os.environ["OPENAI_BASE_URL"] = url
    all_images = [explained(n) for n in range(images)]
    asks = critic_judge(make_backend("openai:m"))
    with Store.open(Path(folder, "critiques.sqlite")) as store:
        with Sharing.lead(
            Path(folder, "sharing"), store, all_images, asks.specifications, lease=LEASE
        ) as sharing:
            critique(sharing.mine(all_images), asks, store, claims=sharing)
            sharing.wait(store)
        found = critique(all_images, asks, store)
    Path(verdicts).write_text("\n".join(f"{v.image_id} {v.segment} {v.spurious}" for v in found))


def join(url: str, folder: str, images: int, name: str) -> None:
    """Take part in it."""
    os.environ["OPENAI_BASE_URL"] = url
    asks = critic_judge(make_backend("openai:m"))
    with Sharing.join(Path(folder, "sharing"), name, lease=LEASE) as (sharing, store):
        critique(sharing.mine([explained(n) for n in range(images)]), asks, store, claims=sharing)
