"""The ground truth in a person's place: what could be reached if every judgement were right. An oracle."""

from collections.abc import Mapping
from pathlib import Path

from lvlm_va.critique.backends.person import PersonBackend
from lvlm_va.critique.person.judgements import Answer
from lvlm_va.critique.person.judging import Judging, Segment
from lvlm_va.critique.question import Intervention
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.errors import ConfigError

__all__ = ["AUTHOR", "ask_oracle", "judgements_of", "oracle_answer"]

AUTHOR = "an oracle"
_SOURCE = "person:oracle-"


def judgements_of(source: str) -> int | None:
    """40 for "person:oracle-40"; None for a source that is no oracle in a person's place.

    Raises:
        ConfigError: if no number of judgements is given.
    """
    if not source.startswith(_SOURCE):
        return None
    number = source.removeprefix(_SOURCE)
    if not number.isdecimal() or int(number) < 1:
        raise ConfigError(f"critic {source!r}: write {_SOURCE}<judgements>, for example {_SOURCE}40")
    return int(number)


def oracle_answer(segment: Segment) -> Answer:
    """Spurious where the segment holds at least one pixel of the planted feature (Table 1).

    Raises:
        ConfigError: if it is not known where that is.
    """
    of = segment.explained
    if of.spurious is None:
        raise ConfigError(f"image {of.image_id}: where the planted feature is, is not known")
    return "spurious" if bool((of.spurious & (of.segments == segment.number)).any()) else "relevant"


def ask_oracle(
    judging: Judging,
    person: PersonBackend,  # noqa: ARG001 -- see `AskPerson`
    *,
    specifications: Mapping[str, ClassSpecification],  # noqa: ARG001
    intervene: Intervention,  # noqa: ARG001
    picture: Path,  # noqa: ARG001
) -> None:
    """As many judgements as are wanted, no more where they agree too little."""
    while judging.judged < judging.wanted:
        (segment,) = judging.next()
        judging.submit(segment, oracle_answer(segment), author=AUTHOR, how="oracle")
