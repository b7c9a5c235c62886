"""What a run holds to ask people about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import RunError
from lvlm_va.report.critiques import Critique
from lvlm_va.report.record import (
    Explanations,
    read_critiques,
    read_explanations,
    read_images,
    read_judged,
    read_metrics,
)
from lvlm_va.report.story import critic_name
from lvlm_va.run.diagnosed import Diagnosed
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import DIAGNOSIS, METRICS
from lvlm_va.run.files import EXPLANATIONS as EXPLANATIONS_FILE
from lvlm_va.study.draw import Candidate

__all__ = ["Material", "compared", "judged", "read_material"]


@dataclass(frozen=True, eq=False)
class Material:
    """One run.

    Attributes:
        path: its directory, as it was given.
        project: the name of its project.
        critic: whose verdicts they are, with what must stand beside the name: an oracle, or not an LVLM.
        explained_images: id → critiqued image.
        verdicts: (id, segment) → what critic and judge said, scored ones only; what a person overruled is
            not the critic's.
        critiques: id → the critique behind these verdicts.
        explanations: the test images explained before and after; None where the run is a diagnosis, or has
            no test set.
        specifications: class name → the words of its specification, of the classes that were asked about.
    """

    path: Path
    project: str
    critic: str
    explained_images: Mapping[str, ExplainedImage]
    verdicts: Mapping[tuple[str, int], Verdict]
    critiques: Mapping[str, Critique]
    explanations: Explanations | None
    specifications: Mapping[str, str]


def read_material(path: Path) -> Material:
    """Read a run, which stays as it is.

    Raises:
        RunError: if there is no run, or it has no verdicts yet, or is damaged.
    """
    run = RunDirectory.read(path)
    images, said = read_images(run), read_judged(run)
    critiques = read_critiques(run, said)
    if _several_labels(run):
        raise RunError(
            f"{path}: its images may have several labels, and the study asks about images of one class each; "
            "give runs of one label and its absence"
        )
    # A diagnosis ends before there is an aligned model.
    aligned = run.file(METRICS).exists() or run.file(EXPLANATIONS_FILE).exists()
    return Material(
        path=path,
        project=run.settings.project,
        critic=_critic(run, said.said),
        explained_images=images.explained_images,
        verdicts={(v.image_id, v.segment): v for v in said.said if v.spurious is not None},
        critiques=critiques,
        explanations=read_explanations(run) if aligned else None,
        specifications={
            images.explained_images[image_id].class_name: critique.specification
            for image_id, critique in critiques.items()
            if critique.specification
        },
    )


def _several_labels(run: RunDirectory) -> bool:
    if run.file(METRICS).exists():
        return read_metrics(run).data.several_labels
    if run.file(DIAGNOSIS).exists():
        return _diagnosed(run.file(DIAGNOSIS)).data.several_labels
    return False


def _diagnosed(path: Path) -> Diagnosed:
    try:
        return Diagnosed.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); ask for the diagnosis again") from None


def _critic(run: RunDirectory, said: Sequence[Verdict]) -> str:
    """As the run's report or diagnosis names it; before there is either, as the verdicts do."""
    if run.file(METRICS).exists():
        return critic_name(read_metrics(run).verdicts)
    if run.file(DIAGNOSIS).exists():
        return critic_name(_diagnosed(run.file(DIAGNOSIS)).verdicts)
    return ", ".join(sorted({f"“{verdict.author}”" for verdict in said}))


def judged(material: Sequence[Material]) -> list[Candidate]:
    """Every segment with a verdict and a critique, of all runs."""
    return [
        Candidate(run, image_id, one.explained_images[image_id].class_name, segment, bool(verdict.spurious))
        for run, one in enumerate(material)
        for (image_id, segment), verdict in one.verdicts.items()
        if image_id in one.critiques and one.explained_images[image_id].class_name in one.specifications
    ]


def compared(material: Sequence[Material]) -> list[Candidate]:
    """Every test image that both models explain, and not alike, of all runs."""
    return [
        Candidate(run, image_id, label, row, None)
        for run, one in enumerate(material)
        if (found := one.explanations) is not None
        for row, (image_id, label) in enumerate(zip(found.ids, found.labels, strict=True))
        if label in one.specifications and not np.array_equal(found.before[row], found.after[row])
    ]
