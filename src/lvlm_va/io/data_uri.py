"""A file as an address that holds it, for pages and requests that fetch nothing."""

import pybase64

__all__ = ["data_uri"]


def data_uri(content: bytes, kind: str = "png") -> str:
    """An image file of this kind as an address."""
    return f"data:image/{kind};base64,{pybase64.b64encode_as_string(content)}"
