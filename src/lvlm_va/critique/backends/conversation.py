"""A question as a chat for a model on this machine, and what the model's chat template makes of it."""

import io
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from lvlm_va.critique.question import Question
from lvlm_va.errors import CriticError

__all__ = ["Message", "conversation", "disarm", "knows_system_role"]

Message = dict[str, Any]

_SYSTEM, _USER, _CAPTION = "system-words-4711", "user-words-4712", "caption-words-4713"


def conversation(
    question: Question, *, system_role: bool, control_tokens: Collection[str] = ()
) -> list[Message]:
    """The messages of a question: the prompt, then every image after its caption, in their order.

    Args:
        question: what is asked.
        system_role: False where the model's template knows no system prompt; its words then open the
            user's text.
        control_tokens: see `disarm`.
    """
    images = [(p.caption, Image.open(io.BytesIO(p.png)).convert("RGB")) for p in question.images]
    system, prompt = (disarm(text, control_tokens) for text in (question.system, question.prompt))
    return _messages(system, prompt, images, system_role=system_role)


def disarm(text: str, control_tokens: Collection[str]) -> str:
    """`text` with a space inside whatever the model would read as a control token.

    What a prompt quotes is data: it must neither end a turn nor stand for an image.
    """
    if not control_tokens:
        return text
    longest_first = sorted(control_tokens, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    return re.sub(pattern, lambda found: f"{found[0][0]} {found[0][1:]}", text)


def knows_system_role(render: Callable[[Sequence[Message]], str]) -> bool:
    """Whether a chat template passes on a system prompt. Tried out, because templates do not say.

    Args:
        render: messages → the text that the model reads.

    Raises:
        CriticError: if the template passes on no text or no image of the user's.
    """
    image = Image.new("RGB", (32, 32))
    for system_role in (True, False):
        with_one, with_none = (
            _try(render, _messages(_SYSTEM, _USER, images, system_role=system_role))
            for images in ([(_CAPTION, image)], [])
        )
        without = _try(render, _messages(_SYSTEM, _USER, [(_CAPTION, None)], system_role=system_role))
        if not all(word in with_one for word in (_SYSTEM, _USER, _CAPTION)) or _SYSTEM not in with_none:
            continue
        if with_one == without:
            raise CriticError("the model's chat template takes no images; choose a vision-language model")
        return system_role
    raise CriticError(
        "the model's chat template loses the words it is given, so the model cannot be asked; choose an "
        "instruction-tuned vision-language model"
    )


def _try(render: Callable[[Sequence[Message]], str], messages: Sequence[Message]) -> str:
    """What a template makes of messages; nothing where it rejects them."""
    try:
        return render(messages)
    except (TemplateError, TypeError):  # a template raises the one, one that joins plain strings the other
        return ""


def _messages(
    system: str, prompt: str, images: Sequence[tuple[str, Image.Image | None]], *, system_role: bool
) -> list[Message]:
    content: list[dict[str, Any]] = [_text(prompt if system_role else f"{system}\n\n{prompt}")]
    for caption, image in images:
        content.append(_text(caption))
        if image is not None:
            content.append({"type": "image", "image": image})
    user = {"role": "user", "content": content}
    return [{"role": "system", "content": [_text(system)]}, user] if system_role else [user]


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}
