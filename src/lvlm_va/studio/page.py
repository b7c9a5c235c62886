"""How pages are made: templates in which every text is a text, and the address of everything."""

import urllib.parse
from email.parser import BytesParser
from email.policy import HTTP
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from lvlm_va.errors import ConfigError
from lvlm_va.io.screen import printable
from lvlm_va.report import words
from lvlm_va.studio.subject import Subject

__all__ = ["AUTHOR", "address", "author_of", "back", "form_of", "is_fragment", "moment", "page"]

AUTHOR = "lvlm_va_author"
"""The cookie that remembers who reviews; it opens nothing."""

_LARGEST_FORM = 1 << 20  # bytes
_LARGEST_FILE = 1 << 24  # of a form with a file


def address(request: Request, subject: Subject | None = None, *parts: object, **query: object) -> str:
    """The path of a page of this studio."""
    path = str(request.scope["root_path"]) + "/"
    if subject is not None:
        path += "/".join(["run", str(subject.number), *map(str, parts)])
    else:
        path += "/".join(map(str, parts))
    given = {key: value for key, value in query.items() if value not in ("", None)}
    return path + (f"?{urllib.parse.urlencode(given)}" if given else "")


def page(
    request: Request, template: str, subject: Subject | None = None, *, status: int = 200, **contents: Any
) -> HTMLResponse:
    """A page from a template in templates/."""
    text = (
        _environment()
        .get_template(template)
        .render(
            subject=subject,
            to=lambda *parts, **query: address(request, subject, *parts, **query),
            home=address(request),
            static=lambda name: address(request, None, "static", name),
            author=author_of(request),
            **contents,
        )
    )
    return HTMLResponse(text, status_code=status)


def moment(request: Request, subject: Subject, here: str) -> HTMLResponse:
    """A page that asks again by itself: what reasons mean is still being loaded."""
    answer = page(request, "moment.html", subject, here=here)
    answer.headers["refresh"] = "1"
    return answer


def author_of(request: Request) -> str:
    """Who reviews in this browser; "" where nobody said."""
    return urllib.parse.unquote(request.cookies.get(AUTHOR, ""))


def is_fragment(request: Request) -> bool:
    """Whether the page's script asks, which puts the answer into the page itself."""
    return request.headers.get("x-studio") == "fragment"


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form; of several values the last. A file's content is a text.

    Raises:
        ConfigError: if it is no form, or larger than anybody types.
    """
    kind = request.headers.get("content-type", "")
    with_file = kind.startswith("multipart/form-data")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > (_LARGEST_FILE if with_file else _LARGEST_FORM):
            raise ConfigError("that is too much for one form")
    if with_file:
        return _parts(kind, bytes(content))
    fields = urllib.parse.parse_qsl(
        content.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20_000
    )
    form: dict[str, str] = {}
    for key, sent in fields:
        value = sent.replace("\r\n", "\n")  # which is how forms send a line break
        # A list of boxes that are ticked has one name; their values do not hold line breaks.
        form[key] = f"{form[key]}\n{value}" if key == "tick" and key in form else value
    return form


def _parts(kind: str, content: bytes) -> dict[str, str]:
    """The fields of a form with a file; the form's encoding is that of mail."""
    head = f"content-type: {kind}\r\n\r\n".encode("latin-1", "replace")
    found: dict[str, str] = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + content).iter_parts():
        name, payload = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            found[name] = payload.decode("utf-8", "replace")
            if (file := part.get_filename()) is not None:
                found[f"{name} file"] = file
    return found


def back(request: Request, subject: Subject, form: dict[str, str]) -> RedirectResponse:
    """To the page that a form stood on; only ever a page of the same run."""
    root = address(request, subject)
    wanted = form.get("back", "")
    return RedirectResponse(wanted if wanted.startswith(f"{root}/") else root, status_code=303)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lvlm_va.studio"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Control characters and those that swap the order of what is read stay out of every page.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {name: getattr(words, name) for name in words.__all__}
    environment.globals["bar"] = _bar
    return environment


def _bar(share: float, kind: str) -> Markup:
    """A bar as long as a share of its place; drawn, since the page's policy lets no style through."""
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    return Markup(
        '<svg class="bar" aria-hidden="true" focusable="false"><rect class="bar-ground" width="100%" '
        'height="100%" rx="3"/><rect class="fill-{}" width="{}" height="100%" rx="3"/></svg>'
    ).format(kind, width)
