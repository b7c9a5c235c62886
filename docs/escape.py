"""For the reference: docstrings are plain text, in which "hf:<model>" is no tag."""

import re

import griffe


class Escape(griffe.Extension):
    """Shows < as it is written, outside of code."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Escape one docstring."""
        if obj.docstring is not None:
            parts = re.split(r"(`[^`]*`)", obj.docstring.value)
            obj.docstring.value = "".join(p if p.startswith("`") else p.replace("<", "&lt;") for p in parts)
