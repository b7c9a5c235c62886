"""The pages of the studio, and what each address does."""

from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lvlm_va.errors import LvlmVaError
from lvlm_va.studio import (
    align_pages,
    compare_pages,
    handover_pages,
    meanings,
    review_pages,
    sending_pages,
    specify_pages,
    teach_pages,
    understand_pages,
)
from lvlm_va.studio.overview import next_step, steps
from lvlm_va.studio.page import AUTHOR, address, author_of, form_of, is_fragment, page
from lvlm_va.studio.pictures import LAYERS, correction, labels, layer, thumbnail
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import Subject, open_subject

__all__ = ["make_app"]

_STATIC = {"studio.css": "text/css", "studio.js": "text/javascript", "icon.svg": "image/svg+xml"}
_YEAR = "private, max-age=31536000, immutable"

Handler = Callable[[Request], Awaitable[Response]]
Read = Callable[[Request, Subject], Response]
Write = Callable[[Request, Subject, dict[str, str]], Response]


def make_app(paths: Sequence[Path]) -> ASGIApp:
    """The studio for some project files and runs' directories.

    Raises:
        LvlmVaError: if one of them is neither.
    """
    subjects = [open_subject(number, path) for number, path in enumerate(paths, start=1)]
    meanings.load()

    async def start(request: Request) -> Response:
        if len(subjects) == 1:
            return RedirectResponse(address(request, subjects[0]), status_code=307)
        found = [(subject, next_step(subject)) for subject in subjects]
        return page(request, "start.html", None, subjects=found, here="start")

    async def author(request: Request) -> Response:
        form = await form_of(request)
        name = " ".join(form.get("name", "").split())[:80]
        answer: Response = Response(status_code=204) if is_fragment(request) else _to_page(request, form)
        answer.set_cookie(AUTHOR, quote(name), max_age=365 * 86400, samesite="strict", path="/")
        return answer

    def get(path: str, read: Read) -> Route:
        return Route(f"/run/{{number:int}}{path}", _guarded(subjects, read), methods=["GET"])

    def post(path: str, write: Write, *, signed: bool = False) -> Route:
        return Route(
            f"/run/{{number:int}}{path}",
            _guarded(subjects, write, form=True, signed=signed),
            methods=["POST"],
        )

    app = Starlette(
        routes=[
            Route("/", start),
            Route("/author", author, methods=["POST"]),
            Route("/static/{name}", _static),
            get("", _overview),
            get("/review", review_pages.grid),
            get("/review/{position:int}", review_pages.single),
            get("/review/{position:int}/like/{segment:int}", review_pages.like_this),
            post("/review/{position:int}/like/{segment:int}", review_pages.apply_to_like, signed=True),
            post("/verdicts", review_pages.change, signed=True),
            *(get(path, read) for path, read in sending_pages.READ.items()),
            *(post(path, write) for path, write in sending_pages.WRITE.items()),
            get("/image/{position:int}/{layer}", _image),
            *(get(path, read) for path, read in understand_pages.READ.items()),
            *(get(path, read) for path, read in specify_pages.READ.items()),
            *(post(path, write) for path, write in specify_pages.WRITE.items()),
            *(get(path, read) for path, read in align_pages.READ.items()),
            *(post(path, write) for path, write in align_pages.WRITE.items()),
            *(get(path, read) for path, read in teach_pages.READ.items()),
            *(post(path, write) for path, write in teach_pages.WRITE.items()),
            *(get(path, read) for path, read in compare_pages.READ.items()),
            *(get(path, read) for path, read in handover_pages.READ.items()),
            *(post(path, write) for path, write in handover_pages.WRITE.items()),
        ],
        exception_handlers={404: _not_found},
    )
    app.state.subjects = subjects
    return app


def _guarded(
    subjects: Sequence[Subject], answer: Callable[..., Response], *, form: bool = False, signed: bool = False
) -> Handler:
    """A page in a thread of its own; what the person can mend is told on a page.

    Args:
        subjects: what there is.
        answer: makes the page.
        form: whether it is given what was sent.
        signed: whether the person must have said who it is.
    """

    async def handle(request: Request) -> Response:
        number = int(request.path_params["number"])
        if not 1 <= number <= len(subjects):
            return _not_found(request, KeyError(number))
        subject = subjects[number - 1]
        try:
            sent = [await form_of(request)] if form else []
            if signed and not author_of(request):
                return _who(request, subject, sent[0])
            return await run_in_threadpool(answer, request, subject, *sent)
        except LvlmVaError as error:
            name = "problem_fragment.html" if is_fragment(request) else "problem.html"
            return page(request, name, subject, status=409, problem=str(error), here="")

    return handle


def _who(request: Request, subject: Subject, form: dict[str, str]) -> Response:
    """Asks for a name, once, and goes on with what was sent."""
    if is_fragment(request):
        return Response(status_code=401)
    suggestion = ""
    if subject.is_critiqued:
        actions = Review(subject).standing().history
        suggestion = actions[-1].author if actions else ""
    return page(request, "who.html", subject, here="", form=form, suggestion=suggestion)


def _to_page(request: Request, form: dict[str, str]) -> Response:
    wanted, root = form.get("back", ""), address(request)
    return RedirectResponse(wanted if wanted.startswith(root) else root, status_code=303)


def _not_found(request: Request, _error: Exception) -> Response:
    return page(request, "problem.html", None, status=404, problem="There is no such page.", here="")


def _overview(request: Request, subject: Subject) -> Response:
    return page(
        request, "overview.html", subject, here="overview", steps=steps(subject), next=next_step(subject)
    )


def _image(request: Request, subject: Subject) -> Response:
    """A thumbnail or a layer of an image; all but the mask stay as they are for good."""
    images, position = list(subject.images().explained_images.values()), request.path_params["position"]
    name = request.path_params["layer"].removesuffix(".png")
    if not position < len(images):
        return Response(status_code=404)
    explained = images[position]
    if name == "thumbnail":
        return Response(thumbnail(explained), media_type="image/jpeg", headers={"cache-control": _YEAR})
    _, _, j = name.partition("thumbnail-")
    if j.isascii() and j.isdecimal() and int(j[:6]) in explained.segment_ids:
        drawn = thumbnail(explained, int(j[:6]))
        return Response(drawn, media_type="image/jpeg", headers={"cache-control": _YEAR})
    if name in LAYERS:
        return Response(layer(explained, name), media_type="image/png", headers={"cache-control": _YEAR})
    if name == "labels":
        return Response(labels(explained), media_type="text/plain")
    if name != "mask":
        return Response(status_code=404)
    standing = Review(subject).standing()
    condemned = {v.segment: v.spurious is True for v in standing.of_image.get(explained.image_id, ())}
    kind = subject.config().align.mask
    drawn = correction(explained, subject.images().segmentation, position, condemned, kind)
    return Response(drawn, media_type="image/png")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return Response(status_code=404)
    content = files("lvlm_va.studio").joinpath("static", name).read_bytes()
    return Response(content, media_type=_STATIC[name])
