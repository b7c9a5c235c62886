"""What a server understands of the chat-completions format, learnt from what it rejects.

Servers differ: some know no JSON schema, some models accept no temperature, some want another name for
the limit of tokens. A rejected field is asked without from then on, and every answer says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

__all__ = ["Dialect"]

_FORMATS = ("json_schema", "json_object", "text")
_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "structured output")
_OPTIONAL = ("temperature", "seed", "top_p")


@dataclass(frozen=True)
class Dialect:
    """How to put a request body so that one server accepts it.

    Attributes:
        response_format: "json_schema", else "json_object", else "text" (the prompt alone asks for JSON).
        completion_tokens: whether `max_tokens` is called `max_completion_tokens`.
        omitted: sampling parameters that the model does not let us set.
    """

    response_format: str = _FORMATS[0]
    completion_tokens: bool = False
    omitted: frozenset[str] = frozenset()

    def speak(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The body as this server accepts it, and in words what was left out of it (or "")."""
        spoken, left_out = dict(body), []
        if "response_format" in spoken and self.response_format != _FORMATS[0]:
            left_out.append("a JSON schema")
            spoken["response_format"] = {"type": self.response_format}
            if self.response_format == "text":
                del spoken["response_format"]
        if "max_tokens" in spoken and self.completion_tokens:
            spoken["max_completion_tokens"] = spoken.pop("max_tokens")
        for name in sorted(self.omitted & spoken.keys()):
            left_out.append(f"{name} = {spoken.pop(name)}")
        return spoken, f"asked without {', '.join(left_out)}: the server rejects it" if left_out else ""

    def learn(self, body: Mapping[str, Any], parameter: str, message: str) -> Self | None:
        """A dialect without what the server just rejected; None if the rejection is about something else.

        Args:
            body: the body as it was sent.
            parameter: the field that the server blames, or "".
            message: what the server says.
        """
        said, blamed = message.lower(), parameter
        if "response_format" in body and (
            blamed.startswith("response_format") or any(word in said for word in _FORMAT_WORDS)
        ):
            return replace(self, response_format=_FORMATS[_FORMATS.index(self.response_format) + 1])
        if "max_tokens" in body and "max_completion_tokens" in said:
            return replace(self, completion_tokens=True)
        for name in _OPTIONAL:
            if name in body and (blamed == name or (name in said and "support" in said)):
                return replace(self, omitted=self.omitted | {name})
        return None
