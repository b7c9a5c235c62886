"""Anybody's critic as a backend."""

import inspect
import time
from collections.abc import Mapping
from typing import Literal

import numpy as np

from lvlm_va.config.names import CRITICS, Foreign
from lvlm_va.critique.backends.line_judge import judge_by_lines
from lvlm_va.critique.protocol import Critic
from lvlm_va.critique.question import KINDS, Question, Reply, as_text
from lvlm_va.critique.verdict_lines import format_line
from lvlm_va.errors import AnswerFailed, LvlmVaError
from lvlm_va.io.raised import place

__all__ = ["OwnCritic"]


class OwnCritic:
    """A `Backend` around any `Critic`. As a judge it reads the verdict lines of the critique, nothing else.

    Args:
        critic: the object, or what the name of another package's stands for.

    Raises:
        ExtensionError: if it has no method `critique`, no name, or a kind that is none.
    """

    def __init__(self, critic: Critic | Foreign) -> None:
        self._critic = critic if isinstance(critic, Foreign) else CRITICS.given(critic)
        kind = self._critic.ability("kind", "lvlm")
        if kind not in KINDS:
            raise self._critic.complaint(f"its kind is {kind!r}; known are {', '.join(KINDS)}")
        self.kind: Literal["lvlm", "person", "measurement", "oracle"] = kind
        # Part of every question's key, so that another version is asked anew.
        self.name = " ".join(filter(None, (self._critic.name, self._critic.version)))

    async def answer(self, question: Question) -> Reply:
        """Ask the object (critic), or read the lines of what it said (judge).

        Raises:
            AnswerFailed: if it raised, or returned something else than a critique.
        """
        started = time.perf_counter()
        if question.stage == "judge":
            return Reply(judge_by_lines(question), self.name, usd=0.0)
        try:
            said = self._critic.call(question)
            if inspect.isawaitable(said):
                said = await said
        except LvlmVaError:
            raise
        except Exception as error:
            raise AnswerFailed(f"{self.name} raised {type(error).__name__}: {error}{place(error)}") from error
        return Reply(self._text(said, question), self.name, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Nothing to release."""

    def reach(self) -> str:
        """Ask the object whether it can be asked, where it knows.

        Raises:
            ExtensionError: if it cannot.
        """
        reach = self._critic.ability("reach")
        if reach is None:
            return f"a {type(self._critic.thing).__name__}"
        try:
            return str(reach())
        except LvlmVaError:
            raise
        except Exception as error:
            raise self._critic.complaint(
                f"cannot be reached ({type(error).__name__}: {error}{place(error)})"
            ) from error

    def _text(self, said: object, question: Question) -> str:
        if isinstance(said, str):
            return as_text(said)
        if not isinstance(said, Mapping):
            raise AnswerFailed(
                f"{self.name} returned {type(said).__name__}, which is neither a text nor "
                "{segment: (spurious, reason)}"
            )
        lines = []
        for segment in question.segment_ids:
            match said.get(segment):
                case None | (None, _):
                    continue
                case (bool() | np.bool_() as spurious, str(reason)):
                    reason = as_text(reason).strip() or "no reason given"
                    lines.append(format_line(segment, bool(spurious), reason))
                case ("mixed", str(reason)) if question.mixed:
                    lines.append(format_line(segment, None, as_text(reason).strip() or "no reason given"))
                case other:
                    raise AnswerFailed(
                        f"{self.name} said {other!r} of segment {segment}; it must say (spurious, reason): "
                        "True, False or None, and a text"
                    )
        return "\n".join(lines)
