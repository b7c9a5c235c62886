"""The prompts, as text files that a person can read and compare.

Placeholders are written `$name`. Whatever comes from outside (the expert's words, the names of classes, the
critic's words) is inserted only between delimiters that carry a fingerprint, 128 bits, keyed with the
whole of what is asked. Whoever writes one of those texts, or draws one of the images, changes the
fingerprint by writing: to close the delimiters a text would have to hold a hash of itself. The same
question still gets the same prompt, so that its answer is found in the store.
"""

import hashlib
import hmac
import re
from functools import cache
from importlib.resources import files
from string import Template

__all__ = ["delimit", "enclosed", "fill", "prompt_key"]

_DIGITS = 32  # hexadecimal, so 128 bits


def fill(name: str, **values: str) -> str:
    """The prompt `name` (a text file of this package) with its placeholders replaced.

    Raises:
        KeyError: if a placeholder has no value.
    """
    return _template(name).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template(files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8").strip())


def prompt_key(*parts: str) -> bytes:
    """A key for the delimiters of one prompt: a hash of everything in it, the images' hashes included."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(_bytes(part)).digest())
    return digest.digest()


def delimit(tag: str, text: str, key: bytes = b"") -> str:
    """`text` as data: between <tag …> and </tag …>, both carrying a fingerprint of key, tag and text.

    Args:
        tag: what the text is.
        text: from outside.
        key: `prompt_key` of all that is asked. Without it the fingerprint says no more than the text.
    """
    mark = _mark(key, tag, text)
    while mark in text:  # never seen, but then there is nothing left to believe
        mark = _mark(mark.encode(), tag, text)
    return f"<{tag} {mark}>\n{text}\n</{tag} {mark}>"


def enclosed(tag: str, prompt: str) -> str | None:
    """The text between the first delimiters with this tag in `prompt`, or None where there are none.

    In the prompts of this package nothing from outside stands before a specification or a critique, so
    the first delimiters are the true ones. Stores of older versions hold shorter fingerprints.
    """
    opening = re.search(rf"<{tag} ([0-9a-f]{{12,64}})>\n", prompt)
    if opening is None:
        return None
    end = prompt.find(f"\n</{tag} {opening.group(1)}>", opening.end() - 1)
    return prompt[opening.end() : end] if end >= 0 else None


def _mark(key: bytes, tag: str, text: str) -> str:
    return hmac.new(key, _bytes(f"{tag}\n{text}"), hashlib.sha256).hexdigest()[:_DIGITS]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
