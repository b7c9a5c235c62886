"""Anybody's critic as a backend."""

import inspect
import json
import time
from typing import Literal, cast

from lvlm_va.critique.protocol import Critic
from lvlm_va.critique.question import Question, Reply, as_text
from lvlm_va.critique.verdict_lines import format_line, parse_lines
from lvlm_va.errors import AnswerFailed, ConfigError, LvlmVaError

__all__ = ["OwnCritic"]

Kind = Literal["lvlm", "measurement", "oracle"]
_KINDS = ("lvlm", "measurement", "oracle")


class OwnCritic:
    """A `Backend` around any `Critic`. As a judge it reads the verdict lines of the critique, nothing else.

    Args:
        critic: the object.

    Raises:
        ConfigError: if it has no method `critique`, no name, or a kind that is none.
    """

    def __init__(self, critic: Critic) -> None:
        name = getattr(critic, "name", None)
        if not callable(getattr(critic, "critique", None)):
            raise ConfigError(
                f"{type(critic).__name__} is no critic: it needs a method critique(question) that returns a "
                "text or {segment: (spurious, reason)}; see lvlm_va.Critic"
            )
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"{type(critic).__name__}.name must be a text: it signs the verdicts")
        kind = getattr(critic, "kind", "lvlm")
        if kind not in _KINDS:
            raise ConfigError(f"{type(critic).__name__}.kind is {kind!r}; known are {', '.join(_KINDS)}")
        self.name = name
        self.kind: Kind = cast(Kind, kind)
        self._critic = critic

    async def answer(self, question: Question) -> Reply:
        """Ask the object (critic), or read the lines of what it said (judge).

        Raises:
            AnswerFailed: if it raised, or returned something else than a critique.
        """
        started = time.perf_counter()
        if question.stage == "judge":
            return Reply(_judgement(question), self.name, usd=0.0)
        try:
            said = self._critic.critique(question)
            if inspect.isawaitable(said):
                said = await said
        except LvlmVaError:
            raise
        except Exception as error:
            raise AnswerFailed(f"{self.name} raised {type(error).__name__}: {error}") from error
        return Reply(self._text(said, question), self.name, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Nothing to release."""

    def reach(self) -> str:
        """Ask the object whether it can be asked, where it knows."""
        known = getattr(self._critic, "reach", None)
        return str(known()) if callable(known) else f"a {type(self._critic).__name__}"

    def _text(self, said: object, question: Question) -> str:
        if isinstance(said, str):
            return as_text(said)
        try:
            lines = dict(said)  # type: ignore[call-overload]
            return "\n".join(
                format_line(j, lines[j][0], str(lines[j][1]) or "no reason given")
                for j in question.marks
                if j in lines and isinstance(lines[j][0], bool)
            )
        except (TypeError, ValueError, LookupError):
            raise AnswerFailed(
                f"{self.name} returned {type(said).__name__}, which is neither a text nor "
                "{segment: (spurious, reason)}"
            ) from None


def _judgement(question: Question) -> str:
    found = parse_lines(question.prompt, question.marks)
    verdicts = [{"segment": j, "spurious": r, "reason": why} for j, (r, why) in found.items()]
    return json.dumps({"verdicts": verdicts}, ensure_ascii=False)
