"""Specify: a class's words, edited in place and tried on a handful of images before all are asked about."""

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.errors import ConfigError, LvlmVaError
from lvlm_va.studio import meanings
from lvlm_va.studio.jobs import job_of, start
from lvlm_va.studio.page import address, author_of, page
from lvlm_va.studio.queue import STATES, state_of
from lvlm_va.studio.reading import reading_of
from lvlm_va.studio.specifying import words_of
from lvlm_va.studio.subject import Subject
from lvlm_va.studio.trying import Trial, asking_cost, try_words, unused_words

__all__ = ["READ", "WRITE"]


def specify(request: Request, subject: Subject) -> Response:
    """The words of one class, and of the others by a click."""
    words = words_of(subject).read()
    name = request.query_params.get("class", "") or next(iter(words))
    if name not in words:
        raise ConfigError(f"there is no class {name!r}")
    return _show(request, subject, words[name], words[name].version)


def edit(request: Request, subject: Subject, form: dict[str, str]) -> Response:
    """Try, save, or save and ask about all images of the class."""
    do, seen = form.get("do", ""), form.get("seen", "")
    wanted = ClassSpecification(
        form.get("class", ""),
        form.get("description", "").strip(),
        _lines(form.get("relevant", "")),
        _lines(form.get("spurious", "")),
    )
    if do in ("try", "try all"):
        if not subject.is_critiqued:
            return _show(
                request, subject, wanted, seen, problem="There is nothing to try it on: critique first."
            )
        intervene = subject.config().critique.intervene
        trial = try_words(subject, wanted, intervene, all_images=do == "try all")
        return _show(request, subject, wanted, seen, trial=trial)
    try:
        words_of(subject).save(wanted, seen, author_of(request))
    except LvlmVaError as error:
        return _show(request, subject, wanted, seen, problem=str(error))  # what was typed stays on the page
    if do == "ask":
        start(subject, "critique", words_of(subject).settings)
        return RedirectResponse(address(request, subject, "align"), status_code=303)
    return RedirectResponse(
        address(request, subject, "specify", **{"class": wanted.name, "saved": "1"}), status_code=303
    )


def _show(
    request: Request,
    subject: Subject,
    shown: ClassSpecification,
    seen: str,
    *,
    trial: Trial | None = None,
    problem: str = "",
) -> Response:
    words = words_of(subject)
    current = words.read()
    contents: dict[str, Any] = {"reading": None, "asked_with": {}}
    if subject.is_critiqued:
        contents["reading"] = reading = reading_of(subject)
        reading.start()
    config = subject.config()
    return page(
        request,
        "specify.html",
        subject,
        here="specify",
        status=409 if problem else 200,
        classes=list(current),
        shown=shown,
        seen=seen,
        changed=shown.name in current and shown.version != current[shown.name].version,
        file=words.file,
        packaged=words.source != words.file,
        history=words.history(shown.name),
        trial=trial,
        cost=_cost(subject, shown) if trial else "",
        problem=problem,
        unused=unused_words(shown)
        if config.critique.critic == "builtin" and (trial or meanings.are_ready())
        else [],
        critic=config.critique.critic,
        states=STATES,
        state_of=state_of,
        critiqued=subject.is_critiqued,
        saved=request.query_params.get("saved", ""),
        job=job_of(subject),
        **contents,
    )


def _cost(subject: Subject, words: ClassSpecification) -> str:
    try:
        return asking_cost(subject, words)
    except LvlmVaError as error:
        return f"What asking all would cost cannot be said: {error}"


def _lines(text: str) -> tuple[str, ...]:
    """One phrase a line."""
    return tuple(filter(None, (" ".join(line.split()) for line in text.splitlines())))


READ = {"/specify": specify}
WRITE = {"/specify": edit}
