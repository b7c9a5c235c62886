"""Send a review to an expert elsewhere as one file, and take what comes back."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lvlm_va.errors import ConfigError
from lvlm_va.studio.page import address, page
from lvlm_va.studio.review_file import review_file, take_answers
from lvlm_va.studio.review_pages import chosen_of, query_of
from lvlm_va.studio.subject import Subject

__all__ = ["READ", "WRITE"]

_USUAL, _MOST = 50, 500


def send(request: Request, subject: Subject) -> Response:
    """How a review is sent, and where the answers go."""
    query = query_of(request)
    return page(
        request,
        "send.html",
        subject,
        here="review",
        query=query,
        passing=len(chosen_of(request, subject)),
        usual=_USUAL,
        most=_MOST,
        done=request.query_params.get("done", ""),
    )


def file(request: Request, subject: Subject) -> Response:
    """The page to send, as a download."""
    wanted = request.query_params.get("images", str(_USUAL))
    if not (wanted.isascii() and wanted.isdecimal() and 1 <= int(wanted[:6]) <= _MOST):
        raise ConfigError(f"how many images: write a number from 1 to {_MOST}")
    content = review_file(subject, chosen_of(request, subject)[: int(wanted)])
    headers = {"content-disposition": 'attachment; filename="review.html"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


def take(request: Request, subject: Subject, form: dict[str, str]) -> Response:
    """Take what came back."""
    content = form.get("answers", "")
    if not content.strip():
        raise ConfigError("choose the file that came back, or paste what is in it")
    name = form.get("answers file", "") or "the file"
    told = str(take_answers(subject, content.encode(), name[:80]))
    return RedirectResponse(address(request, subject, "send", done=told), status_code=303)


READ = {"/send": send, "/send/review.html": file}
WRITE = {"/send": take}
