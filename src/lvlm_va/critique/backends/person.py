"""The person who judges single segments; what follows for the others is carried over, not asked."""

from typing import Literal

from lvlm_va.critique.question import Question, Reply
from lvlm_va.errors import CriticError

__all__ = ["PersonBackend"]


class PersonBackend:
    """Stands for a person; needs no key.

    Args:
        who: keeps the judgements of one person apart from those of another, "person:anna", say; may be "".
    """

    kind: Literal["person"] = "person"

    def __init__(self, who: str = "") -> None:
        self.who = who
        self.name = f"person:{who}" if who else "person"

    async def answer(self, question: Question) -> Reply:  # noqa: ARG002 -- a person is asked about segments
        """Always refuses: a person judges segments, one after the other, not the questions of a model."""
        raise CriticError(
            f"{self.name} is asked about segments, by lvlm-va critique PROJECT --critic {self.name}, and "
            "answers no question that is meant for a model"
        )

    def reach(self) -> str:
        """That a person can be asked, and how."""
        return "judges segments, at a terminal or by file"

    async def close(self) -> None:
        """Nothing to release."""
