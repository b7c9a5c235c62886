"""The chat-completions format: a question as a request body, a response body as a reply.

The same bodies travel to an endpoint one by one and inside batch files.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from lvlm_va.critique.question import Picture, Question, Reply, as_text

__all__ = ["Completion", "NotACompletion", "read_completion", "request_body"]


class NotACompletion(ValueError):
    """A body that is not a chat completion: cut off, another format, no JSON at all."""


@dataclass(frozen=True)
class Completion:
    """A reply, not yet priced.

    Attributes:
        text: the answer, or the refusal.
        model: the model that says it answered.
        input_tokens, output_tokens: as the server counted, or None.
        cached_tokens: how many of the input tokens came from a cache.
        problem: why the text cannot be used, or "".
    """

    text: str
    model: str
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int
    problem: str

    def reply(self, usd: float | None, seconds: float, note: str = "") -> Reply:
        """The reply to record."""
        return Reply(
            self.text, self.model, self.input_tokens, self.output_tokens, usd, seconds, self.problem, note
        )


def request_body(question: Question, model: str) -> dict[str, Any]:
    """The body of POST /v1/chat/completions for one question."""
    parameters = dict(question.parameters)
    detail = parameters.pop("detail", "auto")
    content: list[dict[str, Any]] = [{"type": "text", "text": question.prompt}]
    for picture in question.pictures:
        content.append({"type": "text", "text": picture.caption})
        content.append({"type": "image_url", "image_url": {"url": _data_url(picture), "detail": detail}})
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": question.system},
            {"role": "user", "content": content if question.pictures else question.prompt},
        ],
        **parameters,
    }
    if question.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "verdicts", "strict": True, "schema": dict(question.schema)},
        }
    return body


def _data_url(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.png).decode("ascii")


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Details(BaseModel):
    cached_tokens: int | None = Field(None, ge=0)


class _Usage(BaseModel):
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)
    prompt_tokens_details: _Details | None = None


class _Body(BaseModel):
    choices: list[_Choice]
    model: str | None = None
    usage: Any = None  # read apart: an answer is worth keeping even where its bill cannot be read


def read_completion(body: bytes | Mapping[str, Any], *, model: str, limit: object) -> Completion:
    """Read a response body, which is data from outside and trusted in nothing.

    Args:
        body: the bytes of the response, or the parsed object.
        model: the model that was asked, where the response names none.
        limit: the question's max_tokens, for the message where the answer was cut off there.

    Raises:
        NotACompletion: if it is no chat completion with a choice in it.
    """
    try:
        parsed = _Body.model_validate(json.loads(body) if isinstance(body, bytes) else body)
    except (ValueError, RecursionError) as error:  # ValidationError, JSON and Unicode errors are ValueErrors
        what = "not the form of a chat completion" if isinstance(error, ValidationError) else "not JSON"
        raise NotACompletion(f"the answer is {what}") from None
    if not parsed.choices:
        raise NotACompletion("the answer holds no choice")
    choice, usage = parsed.choices[0], _read_usage(parsed.usage)
    text, problem = choice.message.content or "", ""
    if choice.message.refusal:
        text, problem = choice.message.refusal, "the model refused to answer"
    elif choice.finish_reason == "content_filter":
        problem = "the provider's content filter cut the answer"
    elif choice.finish_reason == "length":
        problem = f"the answer was cut off at max_tokens = {limit}; raise it"
    elif not text.strip():
        problem = "the answer is empty"
    return Completion(
        text=as_text(text),
        model=as_text(parsed.model or model),
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=(usage.prompt_tokens_details or _Details()).cached_tokens or 0,
        problem=problem,
    )


def _read_usage(usage: object) -> _Usage:
    try:
        return _Usage.model_validate(usage)
    except ValidationError:
        return _Usage()
