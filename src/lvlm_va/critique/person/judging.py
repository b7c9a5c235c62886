"""Asking a person about segments: which next, what was said, and what follows for the others.

    with project.judging() as judging:
        for segment in judging.next(5):
            show(segment.picture())
            judging.submit(segment, "spurious", author="Anna", reason="the hospital's tag")
        verdicts, judged = judging.carried_over()
        print(judged)                       # how many, how sure

A judgement is on the disk when `submit` returns. Nothing here asks, prints or draws on a screen.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from lvlm_va.critique.person.carrying import Field
from lvlm_va.critique.person.judgements import ANSWERS, Answer, Judgement, Judgements
from lvlm_va.critique.person.picture import draw_segment, where
from lvlm_va.critique.person.similarity import FEATURES, vectors
from lvlm_va.critique.propagation import Agreement
from lvlm_va.critique.question import ExplainedImage, Intervention
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean

__all__ = ["Judged", "Judging", "Segment"]

_TAUGHT = 8
"""Judgements before the first of a segment drawn at random; from then on every second one is. Of 40 these are
16, and where all 16 agree the lower bound is above 0.8."""


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment to judge.

    Attributes:
        explained: its image, segments and explanation.
        number: j.
        seen: SHA-256 of what is judged; a judgement belongs to it.
    """

    explained: ExplainedImage
    number: int
    seen: str

    @property
    def image_id(self) -> str:
        """Of its image."""
        return self.explained.image_id

    @property
    def share(self) -> float:
        """S_j, its share of the explanation."""
        return self.explained.shares[self.number - 1]

    @property
    def where(self) -> str:
        """Where it lies, in words."""
        return where(self.explained, self.number)

    def picture(self) -> bytes:
        """A PNG: the image, and beside it the same with the segment marked."""
        return draw_segment(self.explained, self.number)


@dataclass(frozen=True)
class Judged:
    """How many segments a person judged, how many took a verdict from these, and how far that can be trusted.

    Attributes:
        segments: all.
        judged: by a person: spurious or relevant.
        undecided: of which the person could not say which.
        authors: who judged, by the number of judgements.
        propagated: other segments that took a verdict.
        unscored: other segments that took none.
        verified: propagated against judged verdicts, on segments drawn at random.
        required: what the lower bound of that agreement must reach, in [0, 1].
    """

    segments: int
    judged: int
    undecided: int
    authors: tuple[str, ...]
    propagated: int
    unscored: int
    verified: Agreement
    required: float

    @property
    def sure(self) -> bool:
        """Whether propagated verdicts agree with judged ones as often as required."""
        return self.propagated == 0 or self.verified.low >= self.required

    def __str__(self) -> str:
        who = " and ".join(self.authors) or "Nobody"
        text = f"{who} judged {self.judged:,} of {self.segments:,} segments"
        if self.undecided:
            text += f" and could not say of {self.undecided:,}"
        text += (
            f"; {self.propagated:,} took the verdict of judged ones that are like them, {self.unscored:,} "
            "are unscored because those disagree or there are none. "
        )
        checked = self.verified
        compared = checked.segments - checked.unscored
        if checked.share is None:
            return f"{text}NOT VERIFIED: no propagated verdict was compared with a judged one."
        text += (
            f"Of {checked.segments} segments drawn at random and judged, {compared} would have taken a "
            f"verdict from the others, and {checked.agreed} of these the judged one ({checked.share:.1%}; "
            f"95 % interval {checked.low:.1%} to {checked.high:.1%})"
        )
        return (
            f"{text}." if self.sure else f"{text}: LESS SURE THAN REQUIRED ({self.required:.0%}); judge more."
        )


class Judging:
    """A person's judgements of a run's segments; see the top of this file.

    Args:
        explained_images: the explained images, in any order.
        measured: (n, ·) float64, the rows of `measure_segments` of each image below one another.
        activations: (n, ·) float64, what the classifier's last layer is given of each segment.
        judgements: where they are kept.
        wanted: how many are asked for; more where verdicts agree less than required.
        required: what the lower bound of the agreement must reach, in [0, 1]; 0 asks for no more.
        verify: whether some segments are drawn at random, to tell how often that is.
        intervene: how much is to be condemned. It is a part of what is asked.
        seed: of the random draw.
        features: by which of `similarity.FEATURES` segments are compared.
    """

    def __init__(
        self,
        explained_images: Sequence[ExplainedImage],
        measured: NDArray[np.float64],
        activations: NDArray[np.float64],
        judgements: Judgements,
        *,
        wanted: int = 40,
        required: float = 0.8,
        verify: bool = True,
        intervene: Intervention = "spurious",
        seed: int = 0,
        features: Sequence[str] = FEATURES,
    ) -> None:
        found = [
            Segment(explained, j, _seen(explained.image_id, fingerprint, j, intervene))
            for explained, fingerprint in ((one, one.fingerprint) for one in explained_images)
            for j in explained.segment_ids
        ]
        # In an order of their own, so that that of the images decides nothing, not even a rounding.
        order = sorted(range(len(found)), key=lambda i: found[i].seen)
        self.segments: tuple[Segment, ...] = tuple(found[i] for i in order)
        self._at = {(s.image_id, s.number): i for i, s in enumerate(self.segments)}
        self._positions = np.argsort(order, kind="stable")
        owners = {name: i for i, name in enumerate(dict.fromkeys(s.image_id for s in self.segments))}
        shares = np.array([s.share for s in self.segments])
        drawn = sorted(
            range(len(found)),
            key=lambda i: hashlib.sha256(f"{seed} {self.segments[i].seen}".encode()).digest(),
        )
        self._drawn: list[int] = drawn
        self._field = Field(
            vectors(measured[order], activations[order], features),
            np.array([owners[s.image_id] for s in self.segments], np.int64),
            shares,
            drawn,
        )
        self._judgements = judgements
        self._wanted, self._required, self._verify = min(wanted, len(found)), required, verify
        self._said = self._read()

    @property
    def judged(self) -> int:
        """How many segments were judged, "cannot say" included."""
        return len(self._said)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all judgements in force."""
        told = [(self.segments[i].seen, one) for i, one in sorted(self._said.items())]
        return hashlib.sha256(repr((told, self._required, self._verify)).encode()).hexdigest()

    @property
    def wanted(self) -> int:
        """How many judgements are asked for at least."""
        return self._wanted

    @property
    def due(self) -> int:
        """How many segments are still to be judged; 0 where enough were."""
        if self.judged < self._wanted:
            return self._wanted - self.judged
        if self.judged == len(self.segments) or not self._verify or self.carried_over()[1].sure:
            return 0
        step = max(1, self._wanted // 2)
        more = step - (self.judged - self._wanted) % step
        return min(more, len(self.segments) - self.judged)

    def judgement(self, segment: Segment) -> Judgement | None:
        """What was said of a segment."""
        return self._said.get(self._at[segment.image_id, segment.number])

    def next(self, number: int = 1) -> list[Segment]:
        """The segments to judge next: those that say most about others still unsure, some at random.

        Several at once are chosen as if those before them had been judged, whatever the answers.
        """
        said, chosen = self._answers, list[int]()
        while len(chosen) < min(number, len(self.segments) - len(said)):
            asked = {*said, *chosen}
            at_random = self._verify and len(asked) > _TAUGHT and (len(asked) - _TAUGHT) % 2 == 1
            best = None if at_random else self._field.teaches_most(said, chosen)
            chosen.append(next(i for i in self._drawn if i not in asked) if best is None else best)
        return [self.segments[i] for i in chosen]

    def submit(
        self, segment: Segment, answer: Answer, *, author: str, reason: str = "", how: str = ""
    ) -> None:
        """Record a judgement, on the disk when this returns; it takes the place of an earlier one.

        Args:
            segment: of `next` or `segments`.
            answer: "spurious", "relevant", or "cannot say".
            author: who judged.
            reason: why.
            how: e.g. "terminal".

        Raises:
            ConfigError: if the answer is none of these, nobody is named, or the segment is not of this run.
            RunError: if the file cannot be written.
        """
        if answer not in ANSWERS:
            raise ConfigError(f"judgement {answer!r}; {did_you_mean(answer, ANSWERS)}")
        if not author.strip():
            raise ConfigError("a judgement needs an author: say who judged")
        self._judgements.add(self._of(segment).seen, answer, author=author, reason=reason, how=how)
        self._said = self._read()

    def take_back(self, *, author: str, how: str = "") -> Segment | None:
        """Take back the latest judgement; what was said stays in the file.

        Returns:
            Its segment, to be judged again; None where there is none.
        """
        if not self._said:
            return None
        segment = self.segments[next(reversed(self._said))]
        self._judgements.take_back(segment.seen, author=author, how=how)
        self._said = self._read()
        return segment

    def find(self, image_id: str, number: int) -> Segment:
        """A segment by its image and number.

        Raises:
            ConfigError: if there is none.
        """
        at = self._at.get((image_id, number))
        if at is None:
            raise ConfigError(f"segment {number} of {image_id!r} is not part of this run")
        return self.segments[at]

    def carried_over(self) -> tuple[list[Verdict], Judged]:
        """One verdict a segment, in the order of images and segments, and how far they can be trusted.

        A judged segment has the verdict that the person gave it, whatever the others say; the rest that of
        judged ones like it, or none.
        """
        said = self._answers
        verdicts = [self._verdict(i, spurious) for i, spurious in enumerate(self._field.verdicts(said))]
        authors = Counter(judgement.author for judgement in self._said.values())
        others = [v for i, v in enumerate(verdicts) if i not in said]
        return [verdicts[i] for i in self._positions], Judged(
            segments=len(verdicts),
            judged=sum(word is not None for word in said.values()),
            undecided=sum(word is None for word in said.values()),
            authors=tuple(name for name, _ in authors.most_common()),
            propagated=sum(v.spurious is not None for v in others),
            unscored=sum(v.spurious is None for v in others),
            verified=self._verified(said),
            required=self._required,
        )

    @property
    def _answers(self) -> dict[int, bool | None]:
        return {i: judgement.spurious for i, judgement in self._said.items()}

    def _verified(self, said: Mapping[int, bool | None]) -> Agreement:
        """What the other judgements say of those drawn at random, against what the person said of them."""
        if not self._verify:
            return Agreement(0, 0, 0, 0, None, 0.0, 1.0)
        # As far as all of the random order was judged, whatever for, it is a random sample.
        drawn = list(takewhile(said.__contains__, self._drawn))
        carried = self._field.verdicts({i: word for i, word in said.items() if i not in set(drawn)})
        pairs = [(carried[i], said[i]) for i in drawn if said[i] is not None]
        return Agreement.of(pairs, len({self.segments[i].image_id for i in drawn}))

    def _verdict(self, i: int, spurious: bool | None) -> Verdict:
        segment, judgement = self.segments[i], self._said.get(i)
        if judgement is not None:
            reason = judgement.reason or ("the person could not say" if spurious is None else "")
            author = f"{judgement.author}, judged {judgement.time}"
        elif spurious is None:
            reason, author = "no judged segment is like it, or those that are disagree", "not judged"
        else:
            source = self._field.likest(i, self._answers, spurious)
            origin, like = self._said[source], self.segments[source]
            reason = origin.reason
            author = f"{origin.author}, propagated from segment {like.number} of {like.image_id}"
        return Verdict(segment.image_id, segment.number, spurious, reason, author)

    def _of(self, segment: Segment) -> Segment:
        mine = self.find(segment.image_id, segment.number)
        if mine.seen != segment.seen:
            raise ConfigError(f"segment {segment.number} of {segment.image_id!r} is of another run")
        return mine

    def _read(self) -> dict[int, Judgement]:
        """Position → the judgement in force, in the order in which they were made."""
        at = {segment.seen: i for i, segment in enumerate(self.segments)}
        return {at[seen]: one for seen, one in self._judgements.in_force().items() if seen in at}


def _seen(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
