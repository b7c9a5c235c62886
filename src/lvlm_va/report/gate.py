"""A gate for continuous integration: is a model let pass, given what it relies on?

It passes only where both hold:

    the upper end of the interval of the evidence on condemned segments   ≤ fail_above
    the evidence on segments without a verdict                            ≤ allow_unscored

The upper end decides, not the mean: few images prove little, and a model passes on what was shown.
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Literal
from xml.etree import ElementTree

from lvlm_va.errors import ConfigError, GateRefused
from lvlm_va.evaluate.statistics import exact_interval
from lvlm_va.run.diagnosed import Diagnosed

__all__ = ["GATE_FORMAT", "Gate", "check_limits", "gate", "gate_json", "gate_junit"]

GATE_FORMAT = 1
"""Of the JSON file; raised when a field changes its name or meaning."""

_GROUNDS = 5  # condemned ones, named in what is written
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class CondemnedGround:
    """One thing that was condemned, with the share of the evidence in its segments."""

    reason: str
    evidence: float


@dataclass(frozen=True)
class Gate:
    """What the gate decides, and from what.

    Attributes:
        project: its name.
        outcome: "passed"; "above", where the share is or may be above `fail_above`; or "unscored", where too
            little of the evidence got a verdict to tell.
        why: the same in words.
        share: of the evidence, on condemned segments, in [0, 1]: mean over the critiqued images.
        interval: its 95 % interval over the draw of the images. Mistakes of the critic are not in it.
        unscored: share of the evidence on segments without a verdict, in [0, 1].
        fail_above: the largest upper end of the interval that passes.
        allow_unscored: the largest unscored share that passes.
        images: critiqued images.
        critic: who condemned.
        critic_kind: "lvlm", "person", "measurement" or "oracle".
        grounds: what was condemned, the largest share first.
    """

    project: str
    outcome: Literal["passed", "above", "unscored"]
    why: str
    share: float
    interval: tuple[float, float]
    unscored: float
    fail_above: float
    allow_unscored: float
    images: int
    critic: str
    critic_kind: str
    grounds: tuple[CondemnedGround, ...]

    @property
    def passed(self) -> bool:
        """Whether the model is let pass."""
        return self.outcome == "passed"

    def require(self) -> None:
        """Raise unless the model passes.

        Raises:
            GateRefused: saying why, if it does not.
        """
        if not self.passed:
            raise GateRefused(self.why)

    def __str__(self) -> str:
        return f"Gate: {self.outcome}. {self.why}"


def check_limits(fail_above: float, allow_unscored: float) -> None:
    """Refuse limits that mean nothing.

    Raises:
        ConfigError: if a limit is no share, or `fail_above` is 0, which no number of images can show.
    """
    for name, limit in (("fail-above", fail_above), ("allow-unscored", allow_unscored)):
        if not (math.isfinite(limit) and 0 <= limit <= 1):
            raise ConfigError(f"--{name} is {limit:g}; give a share of the evidence from 0 to 1, e.g. 0.1")
    if fail_above == 0:
        raise ConfigError(
            "--fail-above is 0, which no number of images can show; give a small share, e.g. 0.05"
        )


def gate(findings: Diagnosed, *, fail_above: float, allow_unscored: float = 0.1) -> Gate:
    """Decide whether a diagnosed model passes; see the rule at the head of this file.

    Args:
        findings: of `diagnose`.
        fail_above: share of the evidence, in (0, 1].
        allow_unscored: share of the evidence, in [0, 1]. What has no verdict may be anything.

    Raises:
        ConfigError: if a limit cannot be used.
    """
    check_limits(fail_above, allow_unscored)
    evidence, images = findings.evidence, findings.strongest_segment.images
    share, (low, high) = evidence.condemned, evidence.condemned_interval or (0.0, 1.0)
    above = high > fail_above
    too_little = images == 0 or evidence.unscored > allow_unscored
    sentences = [
        f"{share:.1%} of the evidence lies on condemned segments (95 % interval {low:.1%} to {high:.1%}, "
        f"{images} images); the upper end may be {fail_above:.1%} at most."
    ]
    if too_little:
        sentences.append(
            f"{evidence.unscored:.1%} of the evidence got no verdict and may be anything; "
            f"{allow_unscored:.1%} may have none (--allow-unscored). Ask again, or ask another critic."
        )
    if above and share <= fail_above and not too_little:
        sentences.append("That it is less is not shown: critique more images (explain.num_images).")
        if (best := exact_interval(0, images)[1]) > fail_above:
            sentences.append(f"{images} images can show no less than {best:.1%}.")
    outcome: Literal["passed", "above", "unscored"] = "passed"
    if above or too_little:
        # What is above with the verdicts that there are, no further verdict brings down.
        outcome = "unscored" if too_little and share <= fail_above else "above"
    condemned = [g for g in findings.grounds if g.verdict == "spurious"]
    largest = sorted(condemned, key=lambda g: (-g.evidence, g.rank))[:_GROUNDS]
    return Gate(
        project=findings.project,
        outcome=outcome,
        why=" ".join(sentences),
        share=share,
        interval=(low, high),
        unscored=evidence.unscored,
        fail_above=fail_above,
        allow_unscored=allow_unscored,
        images=images,
        critic=findings.verdicts.critic,
        critic_kind=findings.verdicts.critic_kind,
        grounds=tuple(CondemnedGround(g.reason, g.evidence) for g in largest),
    )


def gate_json(decided: Gate) -> bytes:
    """The decision as JSON: the fields of `Gate`, and `passed`."""
    document = {"format": GATE_FORMAT, "passed": decided.passed, **asdict(decided)}
    return (json.dumps(document, indent=2) + "\n").encode()


def gate_junit(decided: Gate) -> bytes:
    """The decision as JUnit XML: one test for what was condemned, one for what got no verdict."""
    name = f"lvlm-va diagnose {decided.project}"
    above = decided.interval[1] > decided.fail_above
    unscored = decided.images == 0 or decided.unscored > decided.allow_unscored
    count = {"tests": "2", "failures": str(above + unscored), "errors": "0", "skipped": "0"}
    suites = ElementTree.Element("testsuites", {"name": "lvlm-va", **count})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(name), **count})
    properties = ElementTree.SubElement(suite, "properties")
    for key in ("share", "interval", "unscored", "fail_above", "allow_unscored", "images", "critic"):
        value = getattr(decided, key)
        text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        ElementTree.SubElement(properties, "property", {"name": key, "value": _xml(text)})
    grounds = "\n".join(f"{g.evidence:.1%}: {g.reason}" for g in decided.grounds)
    tests = {"evidence on condemned segments": above, "evidence without a verdict": unscored}
    for title, failed in tests.items():
        case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(name), "name": title})
        if failed:
            message = {"message": _xml(decided.why), "type": "refused"}
            failure = ElementTree.SubElement(case, "failure", message)
            failure.text = _xml(f"{decided.why}\n\nCondemned:\n{grounds}" if grounds else decided.why)
    ElementTree.indent(suites)
    content: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold; a critic's words may have them."""
    return _NOT_IN_XML.sub("\ufffd", text)
