"""Review: the queue as a grid, one image at a time, and all segments like one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import RunError
from lvlm_va.report.critiques import STEPS, critique_of, split_steps
from lvlm_va.report.record import read_exchanges
from lvlm_va.run.files import CRITIQUES
from lvlm_va.studio.grounds import grounds_of
from lvlm_va.studio.history import steps_of
from lvlm_va.studio.likeness import like
from lvlm_va.studio.page import address, author_of, back, is_fragment, page
from lvlm_va.studio.queue import Entry, Filter, entries, state_of
from lvlm_va.studio.reading import reading_of
from lvlm_va.studio.reviewing import Review, Standing, turned
from lvlm_va.studio.subject import Subject

__all__ = [
    "apply_to_like",
    "change",
    "chosen_of",
    "grid",
    "like_this",
    "query_of",
    "queue_of",
    "single",
]

_PAGE = 60
_SHOWN_HISTORY = 30


@dataclass(frozen=True)
class _Line:
    """One segment of the single view."""

    segment: int
    share: float
    verdict: Verdict
    said: Verdict
    state: str
    overruled: bool


def queue_of(subject: Subject) -> list[Entry]:
    """All images, the most doubtful first."""
    review, reading = Review(subject), reading_of(subject)
    standing = review.standing()
    reading.start()

    def make() -> list[Entry]:
        images = subject.images().explained_images
        if reading.compared:  # then a verdict changes the doubt of those like it, too
            return entries(images, standing, reading.disagreement(standing))
        before = subject.remembered("queue before", id(images), dict[int, Entry])
        found = entries(images, standing, {}, before)
        before.update((entry.position, entry) for entry in found)
        return found

    return subject.remembered("queue", (review.stamp, reading.compared), make)


def filter_of(request: Request, subject: Subject) -> Filter:
    """The filter that an address names."""
    query = request.query_params
    ground = None
    if name := query.get("ground", ""):
        found = [g for g in grounds_of(subject).grounds if g.key == name]
        ground = frozenset(found[0].members) if found else frozenset()
    return Filter(
        class_name=query.get("class", ""),
        verdict=query.get("verdict", ""),
        words=query.get("words", ""),
        right=query.get("right", ""),
        looked=query.get("looked", ""),
        ground=ground,
    )


def query_of(request: Request) -> dict[str, str]:
    """The same as it stands in addresses."""
    names = ("class", "verdict", "words", "right", "looked", "ground")
    return {name: request.query_params[name] for name in names if request.query_params.get(name)}


def chosen_of(request: Request, subject: Subject) -> list[Entry]:
    """The images that the address's filter lets through, the most doubtful first."""
    standing, wanted = Review(subject).standing(), filter_of(request, subject)
    return [entry for entry in queue_of(subject) if wanted.takes(entry, standing)]


def grid(request: Request, subject: Subject) -> Response:
    """The queue, a page of it."""
    standing = Review(subject).standing()
    every, passing = queue_of(subject), chosen_of(request, subject)
    pages = max(1, -(-len(passing) // _PAGE))
    number = min(max(1, _number(request.query_params.get("page"))), pages)
    shown = passing[(number - 1) * _PAGE : number * _PAGE]
    return page(
        request,
        "grid.html",
        subject,
        here="review",
        entries=shown,
        state_of=state_of,
        standing=standing,
        total=len(every),
        passing=len(passing),
        number=number,
        pages=pages,
        query=query_of(request),
        ground_name=_ground_name(request, subject),
        classes=sorted({entry.explained.class_name for entry in every}),
        reading=reading_of(subject),
        looked=len(standing.looked_at),
        can=_steps(request, standing),
    )


def single(request: Request, subject: Subject) -> Response:
    """One image, with everything that speaks about it."""
    position = int(request.path_params["position"])
    found = [entry for entry in queue_of(subject) if entry.position == position]
    if not found:
        raise RunError(f"image {position} is not one of this run's critiqued images")
    return page(request, "single.html", subject, here="review", **_contents(request, subject, found[0]))


def _contents(request: Request, subject: Subject, entry: Entry) -> dict[str, Any]:
    standing = Review(subject).standing()
    explained = entry.explained
    order, wanted = queue_of(subject), filter_of(request, subject)
    passing = [e.position for e in order if e.position == entry.position or wanted.takes(e, standing)]
    at = passing.index(entry.position)
    lines = [
        _Line(
            segment=v.segment,
            share=explained.shares[v.segment - 1],
            verdict=v,
            said=standing.said[v.image_id, v.segment],
            state=state_of(v),
            overruled=(v.image_id, v.segment) in standing.overruled,
        )
        for v in entry.verdicts
    ]
    text, steps, backend = _critique(subject, explained.image_id, standing)
    own = [
        (action, change)
        for action in reversed(standing.history)
        for change in action.changes
        if change.after.image_id == explained.image_id
    ]
    return {
        "entry": entry,
        "explained": explained,
        "lines": lines,
        "state_of": state_of,
        "previous": passing[at - 1] if at else None,
        "next": passing[at + 1] if at + 1 < len(passing) else None,
        "at": at + 1,
        "passing": len(passing),
        "query": query_of(request),
        "preamble": text,
        "steps": list(zip(STEPS, steps, strict=False)),
        "backend": backend,
        "looked": explained.image_id in standing.looked_at,
        "revision": standing.revision,
        "changes": own[:_SHOWN_HISTORY],
        "remarks": [
            action
            for action in reversed(standing.history)
            if action.kind == "looked at" and action.reason and explained.image_id in action.images
        ],
        "can": _steps(request, standing),
        "mask": subject.config().align.mask,
    }


def change(request: Request, subject: Subject, form: dict[str, str]) -> Response:
    """Turn, set or withdraw a verdict, look at an image, undo, redo: what the form's `do` says."""
    review, do, author = Review(subject), form.get("do", ""), author_of(request)
    images = list(subject.images().explained_images.values())
    position = _number(form.get("position"), -1)
    told = ""
    if do in ("undo", "redo"):
        done = review.undo(author) if do == "undo" else review.redo(author)
        verb = "Undone" if do == "undo" else "Done again"
        told = f"{verb}: {_tell(done.changes)}" if done else f"There is nothing to {do}."
    elif not 0 <= position < len(images):
        raise RunError("that image is not one of this run's critiqued images")
    elif do == "looked":
        review.look_at(images[position].image_id, author)
        told = "Noted: looked at."
    else:
        key = images[position].image_id, _number(form.get("segment"), -1)
        standing = review.standing()
        if key not in standing.in_force:
            told = f"There is no segment {key[1]} in this image."
        else:
            wanted = {
                "spurious": True,
                "valid": False,
                "unscored": None,
                "withdraw": standing.said[key].spurious,
            }.get(do, turned(standing.in_force[key].spurious))
            done = review.set({key: wanted}, author, form.get("reason", ""))
            told = _tell(done.changes) if done else "Nothing changed."
    if is_fragment(request):
        found = [entry for entry in queue_of(subject) if entry.position == position]
        if found and form.get("view") == "single":
            return page(request, "panel.html", subject, told=told, **_contents(request, subject, found[0]))
        standing = review.standing()
        return page(
            request,
            "cell.html",
            subject,
            told=told,
            entry=found[0] if found else None,
            standing=standing,
            state_of=state_of,
            query={},
            can=_steps(request, standing),
        )
    return back(request, subject, form)


def like_this(request: Request, subject: Subject) -> Response:
    """The segments like one, to be shown before a verdict is given to all of them."""
    position, segment = int(request.path_params["position"]), int(request.path_params["segment"])
    explained = list(subject.images().explained_images.values())[position]
    standing = Review(subject).standing()
    verdict = standing.in_force.get((explained.image_id, segment))
    if verdict is None:
        raise RunError(f"there is no segment {segment} in that image")
    found = like(subject, standing, position, segment)
    return page(
        request,
        "like.html",
        subject,
        here="review",
        explained=explained,
        position=position,
        segment=segment,
        verdict=verdict,
        state_of=state_of,
        found=found,
        compared=reading_of(subject).compared,
    )


def apply_to_like(request: Request, subject: Subject, form: dict[str, str]) -> Response:
    """Give the ticked segments the verdict of the one."""
    images = list(subject.images().explained_images)
    position = int(request.path_params["position"])
    keys = []
    for tick in filter(None, form.get("tick", "").split("\n")):
        one, _, j = tick.partition(".")
        if 0 <= _number(one, -1) < len(images):
            keys.append((images[int(one)], _number(j)))
    wanted = {"spurious": True, "valid": False}.get(form.get("to", ""))
    reason = form.get("reason", "") or f"like segment {request.path_params['segment']} of {images[position]}"
    Review(subject).set(dict.fromkeys(keys, wanted), author_of(request), reason)
    return RedirectResponse(address(request, subject, "review", position), status_code=303)


def _critique(subject: Subject, image_id: str, standing: Standing) -> tuple[str, Sequence[str], str]:
    """What the critic wrote, in steps, and who it is; "" where it cannot be read just now."""

    def read() -> tuple[str, Sequence[str], str]:
        said = [standing.said[v.image_id, v.segment] for v in standing.of_image.get(image_id, ())]
        try:
            critique = critique_of(read_exchanges(subject.read(), image_id).get(image_id, ()), said)
        except RunError as error:
            return f"The critique cannot be shown: {error}", (), ""
        if critique is None:
            return (
                "No critique of this image: its verdicts were carried over, or it was not asked about.",
                (),
                "",
            )
        preamble, steps = split_steps(critique.text)
        return preamble, steps, critique.backend

    return subject.remembered("critique", (image_id, subject.stamp(CRITIQUES), Review(subject).stamp), read)


def _steps(request: Request, standing: Standing) -> Mapping[str, int]:
    """How much there is to undo and redo; whoever has not signed yet may be the last one."""
    last = standing.history[-1].author if standing.history else ""
    done, undone = steps_of(standing.history, author_of(request) or last)
    return {"undo": len(done), "redo": len(undone)}


def _tell(changes: Sequence[Any]) -> str:
    if len(changes) == 1:
        after = changes[0].after
        return f"Segment {after.segment} of {after.image_id} is now {state_of(after)}."
    return f"{len(changes)} segments changed."


def _ground_name(request: Request, subject: Subject) -> str:
    name = request.query_params.get("ground", "")
    return next((g.reason for g in grounds_of(subject).grounds if g.key == name), "") if name else ""


def _number(text: str | None, otherwise: int = 1) -> int:
    return (
        int(text)
        if text is not None and text.isascii() and text.isdecimal() and len(text) < 10
        else otherwise
    )
