"""Judging again what a critic said before: the second half of a review, its critique given."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.review import CriticJudge, Review

__all__ = ["Rereading"]


@dataclass(frozen=True)
class Rereading(CriticJudge):
    """A judge that is asked about critiques that are there; the critic is not asked.

    Attributes:
        critiques: image id → the critic's text.
    """

    critiques: Mapping[str, str] = field(default_factory=dict)

    def review(self, explained: ExplainedImage) -> Review:
        """The judgement of the image's critique, as `CriticJudge.review` has it."""
        question = self.critic_question(explained, images=())
        judgement = yield from self.judge_critique(question, self.critiques[explained.image_id])
        return self._verdicts(explained, judgement)
