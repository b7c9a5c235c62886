"""From runs to a study: draw the questions, draw the images, write the page and its key."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lvlm_va.errors import ConfigError, DataError
from lvlm_va.io.files import write_atomically
from lvlm_va.report.critiques import split_steps
from lvlm_va.report.figures import say_verdict
from lvlm_va.report.images import Figure
from lvlm_va.run.directory import disk_error, fingerprint
from lvlm_va.study.draw import Candidate, draw
from lvlm_va.study.images import comparison_images, segment_images
from lvlm_va.study.key import Asked, Study, StudyRun, read_study
from lvlm_va.study.kinds import AFTER, BEFORE, EXPLANATIONS, KINDS, REASONING, RELEVANCE
from lvlm_va.study.material import Material, compared, judged, read_material
from lvlm_va.study.page import render_study_page

__all__ = ["KEY", "PAGE", "BuiltStudy", "about_segment", "build_study"]

PAGE, KEY = "study.html", "study.json"
_STEP = re.compile(r"^step\s+\d+[\s.:*_)–—-]*", re.IGNORECASE)


@dataclass(frozen=True)
class BuiltStudy:
    """A study that was written.

    Attributes:
        study: what it asks.
        page: for the participants.
        key: for the analyst.
    """

    study: Study
    page: Path
    key: Path

    def __str__(self) -> str:
        about = [q for q in self.study.questions if q.spurious is not None]
        condemned = sum(q.spurious is True for q in about)
        lines = [
            f"{len(self.study.questions)} questions: "
            + ", ".join(
                f"{sum(q.kind == kind for q in self.study.questions)} on {what}"
                for kind, what in (
                    (RELEVANCE, "relevance"),
                    (REASONING, "reasoning"),
                    (EXPLANATIONS, "explanations"),
                )
            )
            + f"; {condemned} of {len(about)} segments were condemned.",
            f"Page, for the participants: {self.page}",
            f"Key, for the analyst alone: {self.key}",
        ]
        return "\n".join(lines)


def build_study(
    runs: Sequence[Path],
    out: Path = Path("study"),
    *,
    relevance: int = 10,
    reasoning: int = 10,
    explanations: int = 6,
    seed: int = 0,
) -> BuiltStudy:
    """Make a study of finished runs: study.html for the participants, study.json for the analyst.

    Half of the questions on segments are about condemned ones, where there are enough; runs and classes come
    equally often. No segment is asked about twice. The same runs and arguments give the same bytes.

    Args:
        runs: directories of runs; of diagnoses no explanations can be compared.
        out: folder to write to, made if need be.
        relevance: how many questions on whether a segment is relevant.
        reasoning: how many on whether the critic reasoned well.
        explanations: how many on which of two explanations is better.
        seed: of the draw.

    Raises:
        ConfigError: if a number is negative or larger than the runs can serve, or `out` holds another study.
        RunError: if a run cannot be read.
    """
    wanted = {RELEVANCE: relevance, REASONING: reasoning, EXPLANATIONS: explanations}
    if min(wanted.values()) < 0 or not sum(wanted.values()):
        raise ConfigError("a study needs at least one question, and no negative number of them")
    if not runs:
        raise ConfigError("a study needs at least one run")
    if len({path.resolve() for path in runs}) < len(runs):
        raise ConfigError("the same run is given twice")
    material = [read_material(path) for path in runs]
    drawn = _draw(material, wanted, seed)
    asked, shown = [], []
    for kind, candidates in drawn.items():
        for number, candidate in enumerate(candidates, 1):
            make = _comparison if kind == EXPLANATIONS else _about_segment
            question, seen = make(f"{kind}-{number}", kind, candidate, material[candidate.run])
            asked.append(question)
            shown.append(seen)
    study = Study(
        fingerprint=fingerprint("study", [asdict(KINDS[kind]) for kind in drawn], shown),
        seed=seed,
        runs=tuple(StudyRun(path=str(one.path), project=one.project, critic=one.critic) for one in material),
        questions=tuple(asked),
    )
    return _write(study, render_study_page(study.fingerprint, shown), out)


def _draw(material: Sequence[Material], wanted: dict[str, int], seed: int) -> dict[str, list[Candidate]]:
    generator = np.random.default_rng(seed)
    segments, pairs = judged(material), compared(material)
    both = wanted[RELEVANCE] + wanted[REASONING]
    if both > len(segments):
        raise ConfigError(
            f"the runs hold {len(segments)} segments with a verdict and a critique, but {both} are asked "
            "for; give more runs, or lower --relevance and --reasoning"
        )
    if wanted[EXPLANATIONS] > len(pairs):
        raise ConfigError(
            f"the runs hold {len(pairs)} test images whose explanations before and after differ, but "
            f"{wanted[EXPLANATIONS]} are asked for; give more runs, or --explanations {len(pairs)}"
        )
    relevance = draw(segments, wanted[RELEVANCE], generator)
    chosen = set(relevance)
    # Whoever has read the critic's verdict on a segment can no longer judge it unmoved, so never the same.
    others = [one for one in segments if one not in chosen]
    reasoning = draw(others, wanted[REASONING], generator, seen=relevance)
    return {
        RELEVANCE: relevance,
        REASONING: reasoning,
        EXPLANATIONS: draw(pairs, wanted[EXPLANATIONS], generator),
    }


def _about_segment(
    name: str, kind: str, candidate: Candidate, material: Material
) -> tuple[Asked, dict[str, Any]]:
    """A question on a segment, and what is shown: the critic's words only where they are in question."""
    explained, segment = material.explained_images[candidate.image_id], candidate.part
    verdict = material.verdicts[candidate.image_id, segment]
    shown = {
        "id": name,
        "kind": kind,
        "class_name": candidate.class_name,
        "specification": material.specifications[candidate.class_name],
        "segment": segment,
        "figures": [asdict(figure) for figure in segment_images(explained, segment)],
    }
    if kind == REASONING:
        critique = material.critiques[candidate.image_id].text
        shown |= {
            "verdict": say_verdict(verdict.spurious),
            "reason": verdict.reason,
            # The verdict's own line is shown as verdict and reason.
            "said": [line for line in about_segment(critique, segment) if verdict.reason not in line],
            "critique": [step for step in split_steps(critique)[1] if step] or [critique],
        }
    asked = Asked(
        id=name,
        kind="reasoning" if kind == REASONING else "relevance",
        run=candidate.run,
        image_id=candidate.image_id,
        class_name=candidate.class_name,
        segment=segment,
        spurious=verdict.spurious,
        reason=verdict.reason,
    )
    return asked, shown


def _comparison(
    name: str, kind: str, candidate: Candidate, material: Material
) -> tuple[Asked, dict[str, Any]]:
    """A question on two explanations, and what is shown: they are called by tokens that tell nothing."""
    assert material.explanations is not None
    original, before, after = comparison_images(material.explanations, candidate.part)
    pair = {_token(name, before): (BEFORE, before), _token(name, after): (AFTER, after)}
    asked = Asked(
        id=name,
        kind="explanations",
        run=candidate.run,
        image_id=candidate.image_id,
        class_name=candidate.class_name,
        tokens={token: "before" if which == BEFORE else "after" for token, (which, _) in pair.items()},
    )
    shown = {
        "id": name,
        "kind": kind,
        "class_name": candidate.class_name,
        "specification": material.specifications[candidate.class_name],
        "segment": None,
        "figures": [asdict(original)],
        # In the order of the tokens, which is no order.
        "pair": [asdict(figure) | {"token": token} for token, (_, figure) in sorted(pair.items())],
    }
    return asked, shown


def _token(question: str, figure: Figure) -> str:
    return hashlib.sha256(f"{question} {figure.uri}".encode()).hexdigest()[:12]


def about_segment(critique: str, segment: int) -> list[str]:
    """The lines of a critique that name a segment, without numbers of steps and marks of emphasis.

    "Segments 1, 2 and 3 …" names all three.
    """
    names = re.compile(rf"\bsegments?\W*(?:\d+\W+(?:and\W+|or\W+)?)*{segment}\b", re.IGNORECASE)
    lines = (_STEP.sub("", line.strip(" \t*#-•")) for line in critique.splitlines())
    return [line for line in lines if names.search(line)]


def _write(study: Study, page: str, out: Path) -> BuiltStudy:
    built = BuiltStudy(study, out / PAGE, out / KEY)
    if built.key.exists():
        try:
            same = read_study(built.key).fingerprint == study.fingerprint
        except DataError:
            same = False
        if not same:
            raise ConfigError(
                f"{built.key}: is the key of another study, whose answers could not be read without it; "
                "choose another --out"
            )
    try:
        write_atomically(built.key, (study.model_dump_json(indent=2) + "\n").encode())
        write_atomically(built.page, page.encode())
    except OSError as error:
        raise disk_error(out, error) from None
    return built
