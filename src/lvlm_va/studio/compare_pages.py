"""Compare any two runs, or versions of one: which verdicts flipped, and what that gained."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lvlm_va.studio.comparing import compared_words, flipped, measured_table
from lvlm_va.studio.page import address, page
from lvlm_va.studio.queue import STATES, state_of
from lvlm_va.studio.subject import Subject
from lvlm_va.studio.versions import Version, stand_now, versions_of

__all__ = ["READ"]

_SHOWN = 60


def compare(request: Request, subject: Subject) -> Response:
    """Two of what there is, the latest two unless the address says which."""
    there = _there(request, subject)
    by_key = {version.key: version for version in there}
    usual = list(by_key.values())[-2:] if len(there) > 1 else []
    one = by_key.get(request.query_params.get("first", ""), usual[0] if usual else None)
    other = by_key.get(request.query_params.get("second", ""), usual[1] if usual else None)
    contents: dict[str, Any] = {"one": one, "other": other}
    if one is not None and other is not None:
        flips, both = flipped(one, other)
        ways: dict[tuple[str, str], int] = {}
        for flip in flips:
            way = state_of(flip.before), state_of(flip.after)
            ways[way] = ways.get(way, 0) + 1
        contents |= {
            "flips": flips[:_SHOWN],
            "number": len(flips),
            "ways": sorted(ways.items(), key=lambda item: -item[1]),
            "both": both,
            "table": measured_table(one, other),
            "words": compared_words(one, other),
        }
    return page(
        request,
        "compare.html",
        subject,
        here="compare",
        versions=there,
        state_of=state_of,
        states=STATES,
        address_of=lambda of, *parts: address(request, of, *parts),
        **contents,
    )


def _there(request: Request, subject: Subject) -> Sequence[Version]:
    """The other runs of this studio, this run's versions, and how it stands now."""
    others = [s for s in request.app.state.subjects if s is not subject and s.is_critiqued]
    own = [*versions_of(subject), stand_now(subject)] if subject.is_critiqued else []
    if len(own) > 1 and _alike(own[-2], own[-1]):
        del own[-2]  # nothing was changed since: one of them says it all
    return [*(stand_now(other) for other in others), *own]


def _alike(one: Version, other: Version) -> bool:
    return one.segments == other.segments and one.verdicts == other.verdicts and one.metrics == other.metrics


READ = {"/compare": compare}
