"""What a run will still ask, and what that will cost, before the first call."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from lvlm_va.critique.budget import Priced, usd_of
from lvlm_va.critique.question import Backend, CaptionedImage, ExplainedImage, Question, Reply
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Store
from lvlm_va.critique.tokens import expected_tokens, input_tokens
from lvlm_va.critique.verdict import Verdict

__all__ = ["Estimate", "estimate", "known_verdicts", "open_questions"]


@dataclass(frozen=True)
class Estimate:
    """What is still to be asked. Questions answered before are not in it; repairs cannot be foreseen, nor
    judgements where the critic's lines come first, nor questions about the parts of mixed segments.

    Attributes:
        critic_calls, judge_calls: how many questions of each stage.
        input_tokens, output_tokens: see `tokens` for how they are counted or assumed.
        usd: US dollars, or None where a price is not known.
    """

    critic_calls: int = 0
    judge_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0

    def plus(self, question: Question, backend: Backend) -> "Estimate":
        """This estimate and one more question."""
        asked = input_tokens(question, backend.model if isinstance(backend, Priced) else "")
        answered = expected_tokens(question)
        usd = usd_of(backend, asked, answered)
        return Estimate(
            self.critic_calls + (question.stage == "critic"),
            self.judge_calls + (question.stage == "judge"),
            self.input_tokens + asked,
            self.output_tokens + answered,
            None if usd is None or self.usd is None else self.usd + usd,
        )

    def times(self, factor: float) -> "Estimate":
        """For `factor` as many images that are like these."""
        return Estimate(
            round(factor * self.critic_calls),
            round(factor * self.judge_calls),
            round(factor * self.input_tokens),
            round(factor * self.output_tokens),
            None if self.usd is None else factor * self.usd,
        )


def open_questions(
    explained_images: Iterable[ExplainedImage], critic_judge: CriticJudge, store: Store
) -> Iterator[Question]:
    """The next unanswered question about each image: its critique, or its judgement, or the repair.

    A model that is told the same about two images is asked once.
    """
    asked = set()
    for explained in explained_images:
        question = _replay(explained, critic_judge, store)
        if isinstance(question, Question):
            backend = critic_judge.backend(question.stage)
            key = (question.content_key if backend.kind == "lvlm" else question.key)(backend.name)
            if key not in asked:
                asked.add(key)
                yield question


def _first_questions(
    explained_images: Iterable[ExplainedImage], critic_judge: CriticJudge, _store: Store
) -> Iterator[Question]:
    """The critique of every image, where none was answered yet. Only one image of each size and number of
    segments is drawn: the others' files have the same size on the model's side.
    """
    drawn: dict[object, tuple[CaptionedImage, ...]] = {}
    asked = set()

    def like(explained: ExplainedImage) -> tuple[CaptionedImage, ...]:
        kind = explained.image.shape, len(explained.segment_ids)
        if kind not in drawn:
            drawn[kind] = critic_judge.render(explained)
        return drawn[kind]

    asks = replace(critic_judge, render=like)
    for explained in explained_images:
        if explained.fingerprint in asked:
            continue
        asked.add(explained.fingerprint)
        yield from islice(asks.review(explained), 1)


def known_verdicts(
    explained: ExplainedImage, critic_judge: CriticJudge, store: Store
) -> tuple[Verdict, ...] | None:
    """The verdicts on an image whose every question is answered in the store; None if one is open."""
    end = _replay(explained, critic_judge, store)
    return None if isinstance(end, Question) else end


def _replay(
    explained: ExplainedImage, critic_judge: CriticJudge, store: Store
) -> Question | tuple[Verdict, ...]:
    """Review an image with stored answers, up to the first question without one, or to the verdicts."""
    review = critic_judge.review(explained)
    try:
        question = next(review)
        while reply := _known(question, critic_judge.backend(question.stage), store):
            question = review.send(reply)
    except StopIteration as end:
        verdicts: tuple[Verdict, ...] = end.value
        return verdicts
    return question


def _known(question: Question, backend: Backend, store: Store) -> Reply | None:
    if backend.kind == "lvlm":
        return store.find(question, backend.name)
    return store.lookup(question.key(backend.name))


def estimate(explained_images: Iterable[ExplainedImage], critic_judge: CriticJudge, store: Store) -> Estimate:
    """Estimate what reviewing the images will ask and cost beyond what the store knows."""
    total = Estimate()
    known = store.has_answers(critic_judge.critic.name)
    asked = open_questions if known or critic_judge.critic.kind != "lvlm" else _first_questions
    for question in asked(explained_images, critic_judge, store):
        total = total.plus(question, critic_judge.backend(question.stage))
        if question.stage == "critic" and not critic_judge.lines_first:
            critique = "word " * expected_tokens(question)  # stands for a text not yet written
            total = total.plus(critic_judge.judge_question(question, critique), critic_judge.judge)
    return total
