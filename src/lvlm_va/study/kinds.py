"""The three kinds of questions: what is asked, and what may be answered."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "AFTER",
    "BEFORE",
    "EXPLANATIONS",
    "IN_THE_PAPER",
    "KINDS",
    "NO_DIFFERENCE",
    "REASONING",
    "RELEVANCE",
    "Kind",
]

RELEVANCE, REASONING, EXPLANATIONS = "relevance", "reasoning", "explanations"
BEFORE, AFTER, NO_DIFFERENCE = "before", "after", "no difference"


@dataclass(frozen=True)
class Kind:
    """One kind of question.

    Attributes:
        title: what it is about.
        ask: the question; "{segment}" and "{class_name}" are filled in.
        help: what is seen, in a sentence or two.
        options: (value, label) of the answers, in the order of the keys 1, 2, 3. Of `EXPLANATIONS` the
            first two are the sides; which image stands there, the page decides anew for everyone.
        undecided: the values that decide nothing.
        rate: what its agreement rate is a share of, in words.
    """

    title: str
    ask: str
    help: str
    options: tuple[tuple[str, str], ...]
    undecided: tuple[str, ...]
    rate: str


KINDS: Mapping[str, Kind] = {
    RELEVANCE: Kind(
        title="Is it relevant?",
        ask="Is what segment {segment} covers relevant for the class “{class_name}”, or spurious?",
        help="Relevant: a sound decision for this class may rest on it. Spurious: it must not. The second "
        "image shows the numbered segments with their shares of a classifier's evidence for its decision, "
        "filled where most of it lies; the third outlines segment {segment}, with dots on that. The question "
        "is about all that lies within the outline.",
        options=(("relevant", "Relevant"), ("spurious", "Spurious"), ("cannot tell", "I cannot tell")),
        undecided=("cannot tell",),
        rate="the answers that are the critic's verdict (which is not shown)",
    ),
    REASONING: Kind(
        title="Is the reasoning right?",
        ask="Do you agree with what was said about segment {segment}?",
        help="A critic was asked whether the classifier may use what segment {segment} covers. Agree only if "
        "both its reasoning and its verdict are right.",
        options=(("agree", "I agree"), ("disagree", "I disagree"), ("cannot tell", "I cannot tell")),
        undecided=("cannot tell",),
        rate="the answers that agree with the critic's reasoning and verdict",
    ),
    EXPLANATIONS: Kind(
        title="Which explanation?",
        ask="Which of the two explanations agrees better with the description of “{class_name}”?",
        help="Two classifiers looked at the same image. Red spoke for what the classifier decided, blue "
        "against it, each on its own scale. Judge where the colour lies, not how strong it is.",
        options=(("left", "The left one"), ("right", "The right one"), (NO_DIFFERENCE, "No difference")),
        undecided=(NO_DIFFERENCE,),
        rate="the answers that prefer the aligned model's explanation",
    ),
}

IN_THE_PAPER: Mapping[str, float] = {RELEVANCE: 0.88, REASONING: 0.87, EXPLANATIONS: 0.86}
"""The same rates in the paper's study (Sec. 6): 18 people, 26 questions about knee and skin.

No part of `Kind`, whose fields go to the participants: they shall not know what others said.
"""
