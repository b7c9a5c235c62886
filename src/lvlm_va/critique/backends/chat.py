"""The chat-completions format: a question as a request body, a response body as a reply.

The same bodies travel to an endpoint one by one and inside batch files.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from lvlm_va.critique.backends.rejection import said_in, status_in
from lvlm_va.critique.question import Question, Reply, as_text
from lvlm_va.critique.thinking import THOUGHT_TOO_LONG, split_thought
from lvlm_va.io.redaction import one_line, redact

__all__ = ["Completion", "NotACompletion", "UpstreamError", "encoded", "read_completion", "request_body"]

_WHOLE = frozenset(
    ["stop", "eos", "eos_token", "end", "end_turn", "stop_sequence", "stop_token", "complete", "completed"]
)
_CUT = frozenset(
    ["length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length", "token_limit"]
)
_FILTERED = frozenset(
    [
        "content_filter",
        "content_filtered",
        "safety",
        "recitation",
        "refusal",
        "blocklist",
        "prohibited_content",
        "spii",
    ]
)
_CALLED = frozenset(("tool_calls", "tool_call", "tool_use", "function_call"))
_MOST_TOKENS = 10**12  # no model reads or writes as many; a larger count is a defect, and sums must fit
_LONGEST_TEXT = 1_000_000  # characters
_MARK = secrets.token_hex(16)  # stands for an image while the rest is written as JSON; never leaves


class NotACompletion(ValueError):
    """A body that brings no answer: cut off, another format, no JSON at all, empty, not known to be whole.

    Attributes:
        usage: (input, output, cached) tokens that the server counted all the same; None where it did not.
    """

    usage: tuple[int, int, int] | None = None


class UpstreamError(NotACompletion):
    """An error in the place of an answer, under HTTP 200.

    Attributes:
        status: what the error itself says, read as an HTTP status; 502 where it says none.
        error: the error.
    """

    def __init__(self, error: object) -> None:
        super().__init__(said_in({"error": error}) or "an error")
        self.status = status_in(error)
        self.error = error


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


def request_body(question: Question, model: str, *, system_role: bool = True) -> dict[str, Any]:
    """The body of POST /v1/chat/completions for one question.

    Args:
        question: what is asked; a `detail` of "none" is not sent.
        model: the model's name.
        system_role: whether there is a system prompt; its words else open the user's text.
    """
    parameters = dict(question.parameters)
    detail = parameters.pop("detail", "auto")
    prompt = question.prompt if system_role else f"{question.system}\n\n{question.prompt}"
    content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
    for image in question.images:
        content.append({"type": "text", "text": image.caption})
        said = {} if detail == "none" else {"detail": detail}
        content.append({"type": "image_url", "image_url": {"url": image.data_uri, **said}})
    system = [{"role": "system", "content": question.system}] if system_role else []
    body: dict[str, Any] = {
        "model": model,
        "messages": [*system, {"role": "user", "content": content if question.images else prompt}],
        **parameters,
    }
    if question.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "verdicts", "strict": True, "schema": dict(question.schema)},
        }
    return body


def encoded(body: Mapping[str, Any]) -> bytes:
    """A request body as JSON. The images, nearly all of its bytes, are put in as they are: their letters
    need no escape, and looking for some takes longer than all the rest.
    """
    images = []

    def light(part: Any) -> Any:
        if not (isinstance(part, dict) and "image_url" in part):
            return part
        images.append(part["image_url"]["url"].encode("ascii"))
        return {**part, "image_url": {**part["image_url"], "url": _MARK}}

    messages = [
        {**one, "content": [light(part) for part in one["content"]]}
        if isinstance(one["content"], list)
        else one
        for one in body["messages"]
    ]
    first, *others = json.dumps({**body, "messages": messages}).encode("ascii").split(_MARK.encode())
    return b"".join([first, *(piece for pair in zip(images, others, strict=True) for piece in pair)])


class _Function(BaseModel):
    arguments: Any = None


class _ToolCall(BaseModel):
    function: _Function | None = None


class _Message(BaseModel):
    content: Any = None  # text, or a list of parts
    reasoning_content: Any = None  # what the model thought; of no use but to know that it did
    reasoning: Any = None
    thinking: Any = None
    refusal: Any = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(BaseModel):
    message: _Message | None = None
    finish_reason: Any = None
    error: Any = None


class _Body(BaseModel):
    choices: list[_Choice] | None = None
    model: Any = None
    error: Any = None
    usage: Any = None  # read apart: an answer is worth keeping even where its bill cannot be read


def read_completion(
    body: bytes | Mapping[str, Any], *, model: str, limit: object, is_most: bool = False
) -> Completion:
    """Read a response body, which is data from outside and trusted in nothing.

    The answer counts only where the server says that it is whole: of half a critique one half of the
    verdicts would be taken for all. What a judge gives as arguments of a tool call is read like its text.

    Args:
        body: the bytes of the response, or the parsed object.
        model: the model that was asked, where the response names none.
        limit: the question's max_tokens, for the message where the answer was cut off there.
        is_most: whether the server accepts no larger limit.

    Raises:
        UpstreamError: if it tells of an error instead.
        NotACompletion: if it brings no answer, or one that may not be whole; asking again may help.
    """
    try:
        document = json.loads(body) if isinstance(body, bytes) else body
    except (ValueError, RecursionError):
        said = said_in(body.decode("utf-8", "replace"))[:100] if isinstance(body, bytes) else ""
        raise NotACompletion("the answer is not JSON" + (f": {said}" if said else "")) from None
    try:
        parsed = _Body.model_validate(document)
    except (ValidationError, RecursionError):
        raise NotACompletion("the answer is not the form of a chat completion") from None
    if parsed.error and not parsed.choices:
        raise UpstreamError(parsed.error)
    if not parsed.choices:
        raise NotACompletion("the answer holds no choice")
    choice, (asked, answered, cached) = parsed.choices[0], _read_usage(parsed.usage)
    try:
        text, problem = _read_choice(choice, _Limit(limit, is_most, answered))
    except NotACompletion as error:
        if asked is not None and answered is not None:
            error.usage = asked, answered, cached
        raise
    return Completion(
        text=redact(as_text(text)),
        model=one_line(as_text(parsed.model), 100)
        if parsed.model and isinstance(parsed.model, str)
        else model,
        input_tokens=asked,
        output_tokens=answered,
        cached_tokens=cached,
        problem=problem,
    )


@dataclass(frozen=True)
class _Limit:
    """max_tokens, whether the server accepts no more, and how many tokens it counted (or None)."""

    tokens: object
    is_most: bool
    answered: int | None

    def problem(self, *, thought: bool, whole: bool) -> str:
        """Why an answer that was cut off cannot be used.

        Args:
            thought: whether the model thought before it answered.
            whole: whether thinking took all of it.
        """
        most = ", the most that this server accepts" if self.is_most else ""
        if thought and self.is_most:
            return (
                f"the answer was cut off at max_tokens = {self.tokens}{most}, while the model was thinking; "
                "use a model that thinks less, or a server with a longer context"
            )
        if thought:
            share = "all of" if whole else "so much of"
            rest = "" if whole else " that the answer was cut off"
            return (
                f"{THOUGHT_TOO_LONG} {share} max_tokens = {self.tokens}{rest}; raise critique.max_tokens, or "
                "use a model that thinks less"
            )
        if isinstance(self.tokens, int) and self.answered and self.answered < 0.8 * self.tokens:
            return (
                f"the answer was cut off after {self.answered:,} tokens, before max_tokens = {self.tokens}: "
                "the server's context is full; give it a longer one (see docs/critics.md, An endpoint)"
            )
        if self.is_most:
            return f"the answer was cut off at max_tokens = {self.tokens}{most}; use another server or model"
        return f"the answer was cut off at max_tokens = {self.tokens}; raise critique.max_tokens"


def _read_choice(choice: _Choice, limit: _Limit) -> tuple[str, str]:
    """The text, and why it cannot be used (or "")."""
    message, reason = choice.message or _Message(), choice.finish_reason
    if choice.error:
        raise UpstreamError(choice.error)
    text = _text_of(message.content)
    thought, answer = split_thought(text)
    aside = any((message.reasoning_content, message.reasoning, message.thinking)) or _has_thought(
        message.content
    )
    calls = [call.function for call in message.tool_calls or ()] + [message.function_call]
    arguments = [_arguments(call.arguments) for call in calls if call is not None]
    if message.refusal:
        return _text_of(message.refusal), "the model refused to answer"
    how = reason.strip().lower() if isinstance(reason, str) else ""
    if how in _FILTERED:
        return text, "the provider's content filter cut the answer"
    if how in _CUT:
        nothing = not (answer or "").strip()
        return text, limit.problem(thought=bool(thought or aside or nothing), whole=nothing)
    if how not in _WHOLE and not (how in _CALLED and any(arguments)):
        named = f"finish_reason is {one_line(str(reason), 40)!r}" if how else "finish_reason is missing"
        raise NotACompletion(f"the server does not say that the answer is whole ({named})")
    text = "\n".join(part for part in (text, *arguments) if part.strip())
    if not any(part.strip() for part in (answer or "", *arguments)):
        thinks = " but for what the model thought" if thought or aside else ""
        raise NotACompletion(f"the answer is empty{thinks}")
    if len(text) > _LONGEST_TEXT:
        raise NotACompletion(f"the answer is longer than {_LONGEST_TEXT:,} characters")
    return text, ""


def _has_thought(content: object) -> bool:
    """Whether a list of parts holds one that the model thought."""
    parts = content if isinstance(content, list) else []
    return any(isinstance(part, dict) and part.get("type") in ("thinking", "reasoning") for part in parts)


def _text_of(content: object) -> str:
    """Text as it is, or the text parts of a list joined; what a model thinks aloud is none of them."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"):
            text = part.get("text")
            texts.append(text if isinstance(text, str) else "")
    return "".join(texts)


def _arguments(arguments: object) -> str:
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments) if isinstance(arguments, dict | list) else ""


def _read_usage(usage: object) -> tuple[int | None, int | None, int]:
    """Tokens in, out, and from a cache; what is no sensible number is unknown."""
    counts = usage if isinstance(usage, dict) else {}
    details = counts.get("prompt_tokens_details")
    asked, answered = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return asked, answered, min(cached or 0, asked or 0)


def _count(value: object) -> int | None:
    counted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if counted and isinstance(value, int) else None
