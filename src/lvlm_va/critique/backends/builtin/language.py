"""From measurements to plain sentences, along the six steps that every critic is asked to take.

The expert's words and letters found in the image are quoted inside sentences, on one line, so that no
quotation can pass for a verdict line.
"""

from collections.abc import Mapping, Sequence

from lvlm_va.critique.backends.builtin.assessment import Finding, Part
from lvlm_va.critique.backends.builtin.phrases import Wishes
from lvlm_va.critique.backends.builtin.weighing import Match
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict_lines import format_line
from lvlm_va.vision.measures import Measures

__all__ = ["HEADER", "name_of", "names_it", "write_critique"]

HEADER = (
    "Measured by the built-in critic, which is not a vision-language model: it measures what lies in each "
    "segment and weighs it against the specification with a sentence encoder."
)
"""First line of every critique."""


def write_critique(
    explained: ExplainedImage,
    measures: Sequence[Measures],
    findings: Sequence[Finding],
    wishes: Wishes,
    *,
    letters: str = "",
) -> str:
    """The whole critique, from the header to one verdict line per segment that can be judged.

    Args:
        explained: the explained image.
        measures: one per region of its scene.
        findings: one per segment.
        wishes: what the expert asks for and rules out.
        letters: one sentence on why letters were not looked for, where they were not.
    """
    matches = {part.region: part.match for finding in findings for part in finding.parts}
    steps = (
        " ".join([*_examine(explained, measures), letters]).strip(),
        _find_relevant(explained, measures, matches, wishes),
        "\n".join(_covers(finding) for finding in findings),
        "\n".join(_overlaps(finding) for finding in findings),
        "\n".join([_SCALE, *(_relevance(finding, wishes) for finding in findings)]),
        "\n".join(["One line per segment.", *(_verdict(finding) for finding in findings)]),
    )
    return "\n\n".join([HEADER, *(f"Step {i}. {step}" for i, step in enumerate(steps, start=1))])


_WHICH = ", which "
_SCALE = "The balance runs from −1 (all that is measured is asked for) to +1 (all of it is ruled out)."


def name_of(m: Measures) -> str:
    """What to call a region once it has been introduced; its reasons for a verdict name it so too."""
    if m.role == "ground":
        return f"the {m.colour} surroundings" if m.photographic else f"the empty {m.colour} background"
    if m.role == "object":
        return "the main object"
    if m.role == "writing":
        return f'the writing "{_quoted(m.letters)}" {_at(m)}'
    if m.role == "marker":
        return f"the illegible marker {_at(m)}"
    return f"the {m.colour} {_form(m)} {_at(m)}"


def _form(m: Measures) -> str:
    if m.role == "block":
        return "square" if m.elongation < 1.3 else "rectangle"
    return "line" if m.compact < 0.3 else "disc" if m.round > 0.8 else "patch"


def _at(m: Measures) -> str:
    inside = m.place.endswith(("corner", "middle of the picture"))
    return f"{'in' if inside else 'at'} {m.place}"


def _examine(explained: ExplainedImage, measures: Sequence[Measures]) -> list[str]:
    height, width = explained.image.shape[:2]
    sentences = [f"The original is {width} pixels wide and {height} high."]
    for m in measures:
        if m.role == "ground":
            kind = "shaded or textured" if m.photographic else "of one flat colour"
            sentences.append(
                f"{_capital(name_of(m))}, {kind}, fill{'' if m.photographic else 's'} {m.area:.0%} of it."
            )
    others = [m for m in measures if m.role != "ground"]
    sentences += [_introduce(m) for m in others]
    if not others:
        sentences.append("Nothing stands out.")
    return sentences


def _introduce(m: Measures) -> str:
    contrast = f"{m.contrast:.0%} {'brighter' if m.brighter else 'darker'} than what surrounds it"
    size = f"{m.pixels} pixels ({m.area:.1%} of the picture)"
    if m.role == "object":
        form = (
            f"drawn in {m.colour} lines"
            if not m.photographic and m.compact < 0.5
            else f"a {m.colour} {_form(m)}"
        )
        return f"The main object, {form}, lies {_at(m)}: {size}, {contrast}."
    if m.role == "writing":
        return f'The letters "{_quoted(m.letters)}" are written {_at(m)}: {size}.'
    if m.role == "marker":
        return f"What looks like a marker that cannot be read lies {_at(m)}: {size}, {contrast}."
    evenness = "perfectly even" if m.uniform > 0.95 else "nearly even" if m.uniform > 0.5 else "uneven"
    frame = ", touching the frame" if m.border > 0.8 else ""
    flat = "flat " if m.role == "block" else ""
    return (
        f"A {flat}{m.colour} {_form(m)} lies {_at(m)}{frame}: {size}, {evenness} in brightness, {contrast}."
    )


def _find_relevant(
    explained: ExplainedImage, measures: Sequence[Measures], matches: Mapping[int, Match], wishes: Wishes
) -> str:
    named = _enumerate([f'"{_quoted(phrase.words)}"' for phrase in wishes.relevant])
    asked = f'For the class "{_quoted(explained.class_name)}" the specification asks for {named}.'
    fitting = [name_of(measures[i]) for i in sorted(matches) if matches[i].score < 0]
    if not fitting:
        return f"{asked} Nothing in the picture fits this better than what is ruled out."
    return f"{asked} In the picture this fits {_enumerate(fitting)}."


def _covers(finding: Finding) -> str:
    lead = f"Segment {finding.segment} ({finding.share:.0%} of the evidence) lies around {finding.place}"
    if not finding.parts:
        return f"{lead} and covers nothing to speak of."
    covered = _enumerate([f"{_share(part.held)} {name_of(part.measures)}" for part in finding.parts])
    seats = sorted(finding.parts, key=lambda part: -part.attribution)
    evidence = [
        f"{part.attribution:.0%} on {name_of(part.measures)}" for part in seats if part.attribution >= 0.05
    ]
    tail = f" Its evidence lies {_enumerate(evidence)}." if evidence else ""
    return f"{lead} and covers {covered}.{tail}"


def _overlaps(finding: Finding) -> str:
    relevant = [name_of(part.measures) for part in finding.parts if part.match.score < 0]
    against = [name_of(part.measures) for part in finding.parts if part.match.score > 0]
    if not relevant:
        covers = f"; it covers {_enumerate(against)}, which is not among them" if against else ""
        return f"Segment {finding.segment} overlaps none of the regions of step 2{covers}."
    besides = f", and besides them {_enumerate(against)}, which is not among them" if against else ""
    return f"Segment {finding.segment} overlaps {_enumerate(relevant)} of step 2{besides}."


def _relevance(finding: Finding, wishes: Wishes) -> str:
    part, balance = finding.decisive, f"(balance {finding.score:+.2f})".replace("-", "−")
    if part is None or finding.spurious is None:
        return f"For what segment {finding.segment} covers, the specification tips neither way {balance}."
    if finding.spurious:
        source = "the specification" if wishes.spurious_is_stated else "a general list of suspects"
        words = f'matches "{_quoted(part.match.spurious_words)}", which {source} rules out'
        if part.match.recognised:
            words = f'is recognised as "{part.match.recognised}", which the specification does not ask for'
    else:
        words = f'matches "{_quoted(part.match.relevant_words)}", which the specification asks for'
    decisive = f"{name_of(part.measures)}{_idle(part)}"
    return f"Segment {finding.segment} is decided by {decisive}: it {words} {balance}."


def _idle(part: Part) -> str:
    """A reservation where the segment is decided by a thing that the model hardly looks at."""
    return ", although hardly any of the segment's evidence lies on it" if part.attribution < 0.05 else ""


def _verdict(finding: Finding) -> str:
    part = finding.decisive
    if part is None or finding.spurious is None:
        return f"I cannot tell about segment {finding.segment} and give no verdict on it."
    words = part.match.spurious_words if finding.spurious else part.match.relevant_words
    how = f'matches "{_quoted(words)}"'
    if finding.spurious and part.match.recognised:
        how = f'is recognised as "{part.match.recognised}" and not asked for'
    reason = f"it covers {_share(part.held)} {name_of(part.measures)}{_WHICH}{how}"
    reason += _idle(part)
    return format_line(finding.segment, finding.spurious, reason)


def names_it(reason: str, m: Measures) -> bool:
    """Whether the reason of a verdict that `write_critique` wrote is this region."""
    return f" of {name_of(m)}{_WHICH}" in reason


def _share(held: float) -> str:
    return "all of" if held > 0.995 else "less than 1% of" if held < 0.01 else f"{held:.0%} of"


def _quoted(words: str) -> str:
    return " ".join(words.replace('"', "'").split())


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _enumerate(items: Sequence[str]) -> str:
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])} and {items[-1]}"
