"""What a server understands of the chat-completions format, learnt from what it rejects.

Servers differ: some know no JSON schema, some models accept no temperature, some want another name for
the limit of tokens or a smaller one, some have no place for a system prompt. A rejected field is asked
without from then on, and every answer says so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from lvlm_va.critique.backends.token_limit import smaller_limit

__all__ = ["Dialect"]

_FORMATS = ("json_schema", "json_object", "text")
_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "structured output")
_OPTIONAL = ("temperature", "seed", "top_p")
_LIMITS = ("max_tokens", "max_completion_tokens")
_INSTEAD = re.compile(r"(?:use|using|instead)\b.{0,20}max_completion_tokens")
_UNKNOWN = re.compile(
    r"support|unknown|unrecogni|permitted|allowed|\bonly\b|must be|deprecat|unexpected|invalid|extra|default"
)
_DETAIL = re.compile(
    r"image_url\W{1,5}detail\b|\bdetail\b.{0,40}(?:unknown|not |unsupp|extra|unexpected|invalid|unrecogni)"
    r"|(?:unknown|unsupported|unexpected|extra|invalid|unrecogni[sz]ed).{0,40}\bdetail\b"
)
_SYSTEM_WORDS = re.compile(
    r"system[\s_-]*(role|message|prompt|instruction|turn)|role\W{1,4}system|[\"'`]system[\"'`]"
    r"|roles? must alternate|only user and (assistant|model)"
)


@dataclass(frozen=True)
class Dialect:
    """How to put a request body so that one server accepts it.

    Attributes:
        response_format: "json_schema", else "json_object", else "text" (the prompt alone asks for JSON).
        completion_tokens: whether `max_tokens` is called `max_completion_tokens`.
        most_tokens: the largest limit of tokens that it accepts; None where it accepts what is asked.
        omitted: sampling parameters that the model does not let us set.
        system_role: whether there is a system prompt; its words else open the user's text.
        detail: whether it may be said how closely an image is to be read.
    """

    response_format: str = _FORMATS[0]
    completion_tokens: bool = False
    most_tokens: int | None = None
    omitted: frozenset[str] = frozenset()
    system_role: bool = True
    detail: bool = True

    def speak(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The body as this server accepts it, and in words what was left out of it (or "")."""
        spoken, left_out = dict(body), []
        if "response_format" in spoken and self.response_format != _FORMATS[0]:
            left_out.append("a JSON schema")
            spoken["response_format"] = {"type": self.response_format}
            if self.response_format == "text":
                del spoken["response_format"]
        if "max_tokens" in spoken:
            if self.most_tokens is not None and spoken["max_tokens"] > self.most_tokens:
                left_out.append(f"more than {self.most_tokens} max_tokens")
                spoken["max_tokens"] = self.most_tokens
            if self.completion_tokens:
                spoken["max_completion_tokens"] = spoken.pop("max_tokens")
        for name in sorted(self.omitted & spoken.keys()):
            left_out.append(f"{name} = {spoken.pop(name)}")
        if not self.system_role and _has_system(spoken):
            left_out.append("a system role")
            spoken["messages"] = _without_system(spoken["messages"])
        if not self.detail and _has_detail(spoken):
            left_out.append("the images' detail")
            spoken["messages"] = [_without_detail(message) for message in spoken["messages"]]
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
        limit = next((body[name] for name in _LIMITS if name in body), None)
        renamed = (
            "max_tokens" in body
            and "max_completion_tokens" in said
            and (_INSTEAD.search(said) or str(limit) not in said)
        )
        if isinstance(limit, int) and not renamed:
            smaller = smaller_limit(limit, said, blamed=blamed in _LIMITS)
            if smaller is not None:
                return replace(self, most_tokens=smaller)
        if renamed:
            return replace(self, completion_tokens=True)
        for name in _OPTIONAL:
            if name in body and (blamed == name or (name in said and _UNKNOWN.search(said))):
                return replace(self, omitted=self.omitted | {name})
        if _has_detail(body) and (blamed.endswith("detail") or _DETAIL.search(said)):
            return replace(self, detail=False)
        if _has_system(body) and (blamed.endswith("role") or _SYSTEM_WORDS.search(said)):
            return replace(self, system_role=False)
        return None


def _has_system(body: Mapping[str, Any]) -> bool:
    return bool(body.get("messages")) and body["messages"][0]["role"] == "system"


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    system, user, *rest = messages
    content = user["content"]
    if isinstance(content, str):
        content = f"{system['content']}\n\n{content}"
    else:
        first, *others = content
        content = [{**first, "text": f"{system['content']}\n\n{first['text']}"}, *others]
    return [{**user, "content": content}, *rest]


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    return message["content"] if isinstance(message["content"], list) else []


def _has_detail(body: Mapping[str, Any]) -> bool:
    return any(
        "detail" in part.get("image_url", {})
        for message in body.get("messages", ())
        for part in _parts(message)
    )


def _without_detail(message: dict[str, Any]) -> dict[str, Any]:
    if not _parts(message):
        return message
    content = [
        {**part, "image_url": {"url": part["image_url"]["url"]}} if "image_url" in part else part
        for part in _parts(message)
    ]
    return {**message, "content": content}
