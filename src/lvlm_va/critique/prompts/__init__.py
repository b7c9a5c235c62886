"""The prompts, as text files that a person can read and compare.

Placeholders are written `$name`. Whatever comes from outside (the expert's words, the critic's) is
inserted only between delimiters that carry a fingerprint of what they enclose: text that does not know
its own SHA-256 cannot close them.
"""

import hashlib
from functools import cache
from importlib.resources import files
from string import Template

__all__ = ["delimit", "fill"]


def fill(name: str, **values: str) -> str:
    """The prompt `name` (a text file of this package) with its placeholders replaced.

    Raises:
        KeyError: if a placeholder has no value.
    """
    return _template(name).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template(files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8").strip())


def delimit(tag: str, text: str) -> str:
    """`text` as data: between <tag …> and </tag …>, both carrying a fingerprint of the text."""
    mark = f"{tag} {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return f"<{mark}>\n{text}\n</{mark}>"
