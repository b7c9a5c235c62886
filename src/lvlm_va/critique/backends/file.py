"""Whoever answers by file: a model in a chat window, a colleague, the expert."""

from typing import Literal

from lvlm_va.critique.question import Question, Reply
from lvlm_va.errors import AskedByFile

__all__ = ["FileBackend"]


class FileBackend:
    """Stands for somebody who is asked by file and answers by file; needs no key.

    Args:
        who: keeps the answers of one apart from those of another, "file:chat-window", say; may be "".
    """

    kind: Literal["lvlm"] = "lvlm"
    otherwise = ""
    """What else than an import would answer, for the error."""

    def __init__(self, who: str = "") -> None:
        self.name = f"file:{who}" if who else "file"

    async def answer(self, question: Question) -> Reply:  # noqa: ARG002 -- no question can be answered
        """Always refuses: answers come by import."""
        raise AskedByFile(
            f"{self.name} has open questions and is asked by file: take them with lvlm-va critique "
            f"--export, bring the answers with --import{self.otherwise}. If they are answered: was another "
            "critique.judge or another setting in force then?"
        )

    async def close(self) -> None:
        """Nothing to release."""
