"""The course of one image's review: critique, judgement, at most one repair.

A model whose thinking left too few tokens for its answer is asked again with more, twice at most: each is a
question of its own, so that a budget, a batch file and the store know of it.

It is written once, as a generator that yields questions and is sent replies, and knows nothing of
networks: the driver answers it from an endpoint, a batch file or a test answers it just as well.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lvlm_va.critique.clear_lines import clear_lines
from lvlm_va.critique.critic import CRITIC_PARAMETERS, critic_question
from lvlm_va.critique.examples import Example, load_examples
from lvlm_va.critique.judge import (
    JUDGE_PARAMETERS,
    Judgement,
    judge_question,
    read_judgement,
    repair_question,
)
from lvlm_va.critique.parts import divide_segments, only
from lvlm_va.critique.question import (
    Backend,
    Background,
    CaptionedImage,
    ExplainedImage,
    Intervention,
    Question,
    Reply,
    Stage,
)
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.thinking import THOUGHT_TOO_LONG, split_thought
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import AnswerFailed, SpecificationError

__all__ = ["LINES", "CriticJudge", "Render", "Review", "limited"]

LINES = "lines"
"""The judge's name where the critic's lines come first."""

LONGEST_CRITIQUE = 100_000
"""Characters; a judge is not asked to read more."""

_MORE, _MOST_TOKENS = 4, 32_768  # times the tokens, after thinking took them; at most

Render = Callable[[ExplainedImage], tuple[CaptionedImage, ...]]
"""Draws what the critic sees of an explained image: original, segment map, overlay."""

Review = Generator[Question, Reply, tuple[Verdict, ...]]
"""Yields questions, wants their replies (or `AnswerFailed` thrown in), returns one verdict per mark."""


def limited(parameters: Mapping[str, Any], max_tokens: int | None) -> Mapping[str, Any]:
    """Sampling parameters with another limit for the answer; unchanged if None."""
    return parameters if max_tokens is None else {**parameters, "max_tokens": max_tokens}


@dataclass(frozen=True)
class CriticJudge:
    """Who asks what: everything that is the same for all images of a run.

    Attributes:
        critic: answers the critic's questions.
        judge: answers the judge's questions; usually the same backend.
        specifications: class name → V_k.
        render: draws what is shown of an explained image. Not called for a critic that measures it
            instead.
        examples: example pairs for the judge.
        critic_parameters, judge_parameters: sampling parameters.
        intervene: how much the critic is to condemn. The judge is not told: it records what it reads.
        background: what empty background is of which a specification says nothing.
        lines_first: verdict lines that leave no doubt are taken as they are, and the judge is asked only
            where some do; about half the calls.
        split: how often a segment that the critic calls mixed is divided and its parts asked about.
    """

    critic: Backend
    judge: Backend
    specifications: Mapping[str, ClassSpecification]
    render: Render
    examples: Sequence[Example] = field(default_factory=load_examples)
    critic_parameters: Mapping[str, Any] = field(default_factory=lambda: CRITIC_PARAMETERS)
    judge_parameters: Mapping[str, Any] = field(default_factory=lambda: JUDGE_PARAMETERS)
    intervene: Intervention = "spurious"
    background: Background = "valid"
    lines_first: bool = False
    split: int = 0

    @property
    def author(self) -> str:
        """Who signs the verdicts."""
        return " judged by ".join(dict.fromkeys((self.critic.name, self.judge_name)))

    @property
    def judge_name(self) -> str:
        """As the user names it: "lines", or the judge."""
        return LINES if self.lines_first else self.judge.name

    def backend(self, stage: Stage) -> Backend:
        """Who answers the questions of a stage."""
        return self.critic if stage == "critic" else self.judge

    def critic_question(
        self,
        explained: ExplainedImage,
        *,
        images: tuple[CaptionedImage, ...] | None = None,
        mixed: bool = False,
    ) -> Question:
        """What the critic is asked about an image, whose class must have a specification.

        Args:
            explained: the image.
            images: what it is shown; drawn where not given, and the critic looks at images.
            mixed: whether it may call a segment mixed.
        """
        if images is None:
            images = self.render(explained) if self.critic.kind == "lvlm" else ()
        return critic_question(
            explained,
            self.specifications[explained.class_name],
            images,
            self.critic_parameters,
            self.intervene,
            self.background,
            mixed,
        )

    def judge_question(self, asked: Question, critique: str) -> Question:
        """What the judge is asked about the critique that answers the critic's question `asked`."""
        return judge_question(
            asked,
            critique,
            self.examples,
            self.judge_parameters,
            self.background,
            mixed=self.split > 0,
        )

    def review(self, explained: ExplainedImage) -> Review:
        """The review of one image.

        A segment ends up unscored, with the reason, where the critique or the judgement is missing, cut
        off or refused, or where even the repaired judgement has no unambiguous verdict about it. A
        repaired judgement that is complete stands; else the more complete of the two, without what they
        contradict each other about.

        A segment that is called mixed is divided in place, and a new critique asked for of all parts, and of
        nothing else; after `split` times the critic must decide, and is asked as if it never had the
        choice. A mixed segment that is not divided is unscored.

        Raises:
            SpecificationError: if the image's class has no specification.
        """
        if explained.class_name not in self.specifications:
            raise SpecificationError(
                f"image {explained.image_id}: class {explained.class_name!r} has no specification"
            )
        if not explained.segment_ids:
            return ()
        verdicts: list[Verdict] = []
        asked = explained
        for more in range(self.split, -1, -1):
            judgement = yield from self._judgement(asked, more > 0)
            mixed = [j for j, (spurious, _) in judgement.verdicts.items() if spurious is None] if more else []
            explained, divided, parts = divide_segments(explained, mixed)
            verdicts += [v for v in self._verdicts(asked, judgement) if v.segment not in divided]
            if not parts:
                break
            asked = only(explained, parts)
        return tuple(sorted(verdicts, key=lambda verdict: verdict.segment))

    def _judgement(self, explained: ExplainedImage, mixed: bool) -> Generator[Question, Reply, Judgement]:
        """One round: a critique of an image's segments, and what it says of each."""
        question = self.critic_question(explained, mixed=mixed)
        try:
            critique = yield from _ask(question)
        except AnswerFailed as error:
            return _none(explained, f"no critique: {error}")
        if critique.problem:
            return _none(explained, f"no usable critique: {critique.problem}")
        thought, spoken = split_thought(critique.text)
        if spoken is None or (thought and not spoken.strip()):
            return _none(explained, "no usable critique: it ends before the model's thinking does")
        if len(spoken) > LONGEST_CRITIQUE:
            return _none(explained, f"no usable critique: it is longer than {LONGEST_CRITIQUE:,} characters")
        return (yield from self.judge_critique(question, spoken))

    def judge_critique(self, question: Question, critique: str) -> Generator[Question, Reply, Judgement]:
        """The second half of a round: what a critique says of each segment.

        Args:
            question: the critic's.
            critique: its answer, without what the model thought before it.
        """
        segment_ids = question.explained.segment_ids
        clear: Mapping[int, tuple[bool | None, str]] = {}
        if self.lines_first:
            clear = clear_lines(critique, segment_ids, mixed=self.split > 0)
        if len(clear) == len(segment_ids):
            return Judgement(clear)
        judgement = yield from self._judge(question, critique)
        problems = {mark: why for mark, why in judgement.problems.items() if mark not in clear}
        return Judgement({**judgement.verdicts, **clear}, problems)

    def _judge(self, asked: Question, critique: str) -> Generator[Question, Reply, Judgement]:
        """What the judge reads in a critique, after at most one repair."""
        explained = asked.explained
        question = self.judge_question(asked, critique)
        try:
            reply = yield from _ask(question)
        except AnswerFailed as error:
            return _none(explained, f"no judgement: {error}")
        judgement = _read(reply, question, critique)
        if judgement.problems:
            problem = "; ".join(dict.fromkeys(judgement.problems.values()))
            question = repair_question(question, critique, reply.text, problem)
            try:
                reply = yield from _ask(question)
            except AnswerFailed as error:
                repaired = _none(explained, f"no repaired judgement: {error}")
            else:
                repaired = _read(reply, question, critique)
            judgement = _repaired(judgement, repaired)
        return judgement

    def _verdicts(self, explained: ExplainedImage, judgement: Judgement) -> tuple[Verdict, ...]:
        verdicts = []
        for mark in explained.segment_ids:
            spurious, reason = judgement.verdicts.get(mark, (None, judgement.problems.get(mark, "")))
            if spurious is None and mark in judgement.verdicts:
                reason = f"mixed: {reason}"
            verdicts.append(Verdict(explained.image_id, mark, spurious, reason, self.author))
        return tuple(verdicts)


def _ask(question: Question) -> Generator[Question, Reply, Reply]:
    """The reply to a question, asked again with more tokens where thinking took them."""
    reply = yield question
    while reply.problem.startswith(THOUGHT_TOO_LONG):
        limit = question.parameters.get("max_tokens")
        more = min(_MORE * limit, _MOST_TOKENS) if isinstance(limit, int) else 0
        if not isinstance(limit, int) or more <= limit:
            break
        question = replace(question, parameters={**question.parameters, "max_tokens": more})
        reply = yield question
    return reply


def _read(reply: Reply, question: Question, critique: str) -> Judgement:
    if reply.problem:
        return _none(question.explained, f"no usable judgement: {reply.problem}")
    return read_judgement(reply.text, question.segment_ids, critique, mixed=question.mixed)


def _repaired(first: Judgement, second: Judgement) -> Judgement:
    """The second if it is complete; else the more complete one, without what the two contradict."""
    if not second.problems:
        return second
    chosen = first if len(first.verdicts) > len(second.verdicts) else second
    verdicts, problems = dict(chosen.verdicts), dict(chosen.problems)
    for mark in first.verdicts.keys() & second.verdicts.keys():
        if first.verdicts[mark][0] != second.verdicts[mark][0]:
            del verdicts[mark]
            problems[mark] = f"the judge took back what it first said of segment {mark}"
    return Judgement(verdicts, problems)


def _none(explained: ExplainedImage, problem: str) -> Judgement:
    return Judgement(problems=dict.fromkeys(explained.segment_ids, problem))
