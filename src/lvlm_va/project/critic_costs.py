"""What a critique of many images will cost, from what a few questions took."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, median

import numpy as np

from lvlm_va.critique import canary
from lvlm_va.critique.backends.model_list import ListedModel
from lvlm_va.critique.budget import Priced, usd_of
from lvlm_va.critique.clear_lines import clear_lines
from lvlm_va.critique.question import ExplainedImage, Question, Reply
from lvlm_va.critique.rendering import render
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Exchange
from lvlm_va.critique.thinking import THOUGHT_TOO_LONG, split_thought
from lvlm_va.critique.tokens import expected_tokens, input_tokens

__all__ = ["Asked", "priced_question", "say_costs"]

_SIDE, _SEGMENTS = 224, 7  # of the image whose critique is priced: a photograph, and the paper's J
_MINUTE = 60.0


class Asked:
    """What was asked about the canary's images, and how the tokens counted compare with those expected.

    Attributes:
        critic_judge: who was asked, with the canary's specifications.
        exchanges: the questions and answers.
    """

    def __init__(self, critic_judge: CriticJudge, exchanges: Sequence[Exchange]) -> None:
        self.critic_judge = critic_judge
        self.replies = [one.reply for one in exchanges if one.reply is not None]
        critic = critic_judge.critic
        self.model = critic.model if isinstance(critic, Priced) else ""
        self._asked: list[_Pair] = []
        whole = [one for one in exchanges if one.reply is not None and not one.reply.problem]
        shown = canary.canary_images()
        # All are of one size, which is what their tokens depend on, so that one is drawn for all.
        drawn = render(shown[0].explained) if critic.kind == "lvlm" else ()
        for image in shown:
            explained = image.explained
            question = critic_judge.critic_question(explained, images=drawn)
            spoken = ""
            for one in whole:
                if one.image_id != explained.image_id or one.reply is None:
                    continue
                if one.stage == "critic":
                    self._asked.append((question, one.reply))
                    spoken = split_thought(one.reply.text)[1] or ""
                elif spoken:
                    self._asked.append((critic_judge.judge_question(question, spoken), one.reply))

    @property
    def notes(self) -> list[str]:
        """What the server would not accept."""
        return list(dict.fromkeys(reply.note for reply in self.replies if reply.note))

    @property
    def thinks_too_long(self) -> bool:
        """Whether thinking once took all tokens of an answer."""
        return any(reply.problem.startswith(THOUGHT_TOO_LONG) for reply in self.replies)

    def seconds(self) -> float:
        """Of the usual question, from sending to the last byte."""
        return median([reply.seconds for reply in self.replies] or [0.0])

    def scale(self, stage: str) -> tuple[float, float]:
        """How many tokens a question took for each that was expected: of prompts and of answers."""
        pairs = self._of(stage)
        asked = [r.input_tokens / input_tokens(q, self.model) for q, r in pairs if r.input_tokens]
        written = [r.output_tokens / expected_tokens(q) for q, r in pairs if r.output_tokens]
        return mean(asked) if asked else 1.0, mean(written) if written else 1.0

    def tokens_of_images(self) -> float | None:
        """Tokens that the server counted for a question's images; None where it cannot be told.

        How many characters make a token is taken from the judge's questions, which have no images.
        """
        judged = [r.input_tokens / _text_tokens(q) for q, r in self._of("judge") if r.input_tokens]
        if not judged:
            return None
        critics = [
            r.input_tokens - mean(judged) * _text_tokens(q) for q, r in self._of("critic") if r.input_tokens
        ]
        return mean(critics) if critics else None

    def clear_share(self) -> float:
        """The share of the critiques whose lines all are clear."""
        clear = [
            len(clear_lines(split_thought(reply.text)[1] or "", question.segment_ids))
            == len(question.segment_ids)
            for question, reply in self._of("critic")
        ]
        return mean(clear) if clear else 0.0

    def _of(self, stage: str) -> list["_Pair"]:
        return [pair for pair in self._asked if pair[0].stage == stage]


_Pair = tuple[Question, Reply]


def _text_tokens(question: Question) -> int:
    """Tokens of a question without its images, as estimated."""
    text = "\n".join([question.prompt, *(image.caption for image in question.images)])
    return max(1, input_tokens(replace(question, prompt=text, images=()), ""))


def priced_question(critic_judge: CriticJudge) -> Question:
    """The question about one image of the usual size."""
    side = np.arange(_SIDE) * _SEGMENTS // _SIDE + 1
    explained = ExplainedImage(
        "priced",
        np.zeros((_SIDE, _SIDE, 3), np.uint8),
        np.tile(side, (_SIDE, 1)).astype(np.int16),
        np.ones((_SIDE, _SIDE), np.float32),
        (1 / _SEGMENTS,) * _SEGMENTS,
        "disc",
        "disc",
    )
    return critic_judge.critic_question(explained, images=render(explained))


def say_costs(asked: Asked, listed: ListedModel | None, images: int, concurrency: int) -> list[str]:
    """What a critique of so many images takes, with the paper's judge and with lines."""
    critic_judge = asked.critic_judge
    if critic_judge.critic.kind != "lvlm":
        return [f"A critique of {images} images asks no model and costs nothing."]
    question = priced_question(critic_judge)
    judgement = critic_judge.judge_question(question, "word " * expected_tokens(question))
    clear = asked.clear_share()
    ways = {
        "paper": (images, ""),
        "lines": (round(images * (1 - clear)), ", if as many lines are clear as here"),
    }
    lines = [f"A critique of {images} images with {_SEGMENTS} segments each, by what was counted here:"]
    for name, (judgements, condition) in ways.items():
        rows = [(images, question, critic_judge.critic), (judgements, judgement, critic_judge.judge)]
        total_in = total_out = 0
        usd: float | None = 0.0
        for number, one, backend in rows:
            scale_in, scale_out = asked.scale(one.stage)
            tokens_in = round(number * scale_in * input_tokens(one, asked.model))
            tokens_out = round(number * scale_out * expected_tokens(one))
            price = usd_of(backend, tokens_in, tokens_out)
            if price is None and listed is not None and listed.prices is not None:
                price = (tokens_in * listed.prices[0] + tokens_out * listed.prices[1]) / 1e6
            usd = None if usd is None or price is None else usd + price
            total_in, total_out = total_in + tokens_in, total_out + tokens_out
        cost = "unknown price" if usd is None else f"{usd:.2f} USD"
        minutes = (images + judgements) * asked.seconds() / concurrency / _MINUTE
        lines.append(
            f"  judge: {name:<6} {images + judgements:>6,} questions  {total_in:>10,} tokens in  "
            f"{total_out:>9,} out  {cost:>13}  {minutes:>5.0f} min at {concurrency} at once{condition}"
        )
    return lines
