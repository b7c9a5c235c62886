"""A process to be killed: one run of the driver; what takes long to import is imported before the fork."""

import json
import os
from pathlib import Path

from critique_helpers import critic_judge, explained
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.driver import critique
from lvlm_va.critique.store import Store


def run(url: str, store: str, images: int, result: str) -> None:
    """Review `images` subjects and write the verdicts to the file `result`."""
    os.environ["OPENAI_BASE_URL"] = url
    with Store.open(store) as opened:
        backend = make_backend("openai:gpt-4o")
        verdicts = critique([explained(n) for n in range(images)], critic_judge(backend), opened)
    Path(result).write_text(json.dumps([(v.image_id, v.segment, v.spurious, v.reason) for v in verdicts]))
