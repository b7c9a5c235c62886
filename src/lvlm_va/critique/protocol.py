"""What anybody's critic must have: a name, and one method.

    class Tags:
        name = "tags"

        def critique(self, question):
            return {j: (is_tag(question.explained, j), "writing in a corner") for j in question.segment_ids}

An object like this is taken wherever a critic's name is; it needs to import nothing of this package. Another
package offers one by name with an entry point in the group `lvlm_va.critics`.
"""

from collections.abc import Awaitable, Mapping
from typing import Protocol, runtime_checkable

from lvlm_va.critique.question import Question

__all__ = ["Critic", "Critique"]

Critique = str | Mapping[int, tuple[bool | None, str]]
"""A text that ends in one line per segment, "SEGMENT 1: SPURIOUS — why", or segment → (spurious, why).

A segment without a line, or with None, is unscored. Where `question.mixed` is true, "mixed" in place
of True or False (the line "SEGMENT 1: MIXED — what") has it divided, and its parts asked about.
"""


@runtime_checkable
class Critic(Protocol):
    """Judges the segments of an image; may be asked from several tasks of one event loop at once.

    Three attributes are optional. `kind` says what the critic is: "lvlm" (a vision-language model, the
    default), "person", "measurement" or "oracle"; it stands beside every number. `version` says which of its
    kind it is: with another one everything is asked anew. `reach()` returns a sentence if the critic can be
    asked, and raises if not; `lvlm-va check` calls it.

    Attributes:
        name: signs the verdicts, with the version if there is one.
    """

    name: str

    def critique(self, question: Question) -> Critique | Awaitable[Critique]:
        """Judge the segments of one image.

        Args:
            question: `segment_ids`, the segments to judge; `explained`, the image with its segments and
                attribution; `specification`, the expert's words on its class; `intervene`, whether to condemn
                only what clearly must not matter ("spurious") or all but the clear core ("core"); and for a
                critic that reads: `system`, `prompt` and `images`, three PNGs. The ground truth in it is for
                oracles alone.

        An exception leaves the image's segments unscored, with its text as the reason.
        """
        ...
