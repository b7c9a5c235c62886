"""A person's judgements of a run's segments: what they are compared by, and where they are kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from lvlm_va._version import __version__
from lvlm_va.critique.backends.person import PersonBackend
from lvlm_va.critique.marks import BLUR, evidence
from lvlm_va.critique.person.judgements import Judgements
from lvlm_va.critique.person.judging import Judging
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.errors import CriticError, Interrupted
from lvlm_va.models.activations import activations
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explained import Explained
from lvlm_va.project.stages.original import original_model
from lvlm_va.project.stages.query_plan import measured_segments
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint

__all__ = ["ask_person", "open_judging", "segment_activations"]

JUDGEMENTS = "judgements.sqlite"
PICTURE = "judging.png"
ACTIVATIONS = "segments/activations.safetensors"


@contextmanager
def open_judging(
    context: Context, explained: Explained, person: PersonBackend, model: nn.Module | None = None
) -> Iterator[Judging]:
    """The judgements of a run, and what follows from them.

    Args:
        context: of the run.
        explained: its images.
        person: who judges.
        model: the explained classifier; read from the run when not given.
    """
    settings, explained_images = context.config.critique, explained.explained_images(context.splits)
    found = original_model(context) if model is None else model
    measured = measured_segments(context, explained_images)
    seen = segment_activations(context, explained, explained_images, found)
    with Judgements.open(context.run.file(JUDGEMENTS), person.name) as judgements:
        yield Judging(
            explained_images,
            measured,
            seen,
            judgements,
            wanted=settings.judgements,
            required=settings.agreement,
            verify=settings.verify > 0,
            intervene=settings.intervene,
            seed=context.config.explain.seed,
        )


def ask_person(context: Context, judging: Judging, person: PersonBackend) -> None:
    """Have segments judged, at the terminal if there is one, until there are enough.

    Raises:
        CriticError: if there are too few, and nobody here who could be asked.
        Interrupted: if the person stopped before.
    """
    if judging.due and context.ask is not None:
        context.ask(
            judging,
            person,
            specifications=context.inputs.specifications,
            intervene=context.config.critique.intervene,
            picture=context.run.file(PICTURE),
        )
    if judging.judged >= judging.wanted:
        return
    done = f"{judging.judged} of {judging.wanted} segments are judged"
    enough = f"; or set critique.judgements={judging.judged}, to make do with these" if judging.judged else ""
    if context.ask is not None:
        raise Interrupted(f"{done}; they are kept, and the same command goes on{enough}")
    raise CriticError(
        f"{person.name} is a person, and {done}. Judge them at a terminal, with lvlm-va critique PROJECT "
        f"--critic {person.name}, or by file: the same with --export DIR, then with --import DIR "
        f"--answered-by NAME; in Python, with Project.judging()"
        f"{enough}"
    )


def segment_activations(
    context: Context, explained: Explained, explained_images: Sequence[ExplainedImage], model: nn.Module
) -> NDArray[np.float64]:
    """(n, ·), how the input of the classifier's last layer changes when a segment's evidence is gone."""
    owners = [(i, j) for i, one in enumerate(explained_images) for j in one.segment_ids]
    images = context.splits.train.images(explained.selection.indices)[explained.usable]

    def without(rows: slice) -> Tensor:
        return torch.stack([_removed(images[i], evidence_of(i) == j) for i, j in owners[rows]])

    def evidence_of(i: int) -> NDArray[np.int16]:
        if i not in last:
            last.clear()  # one image's segments follow one another
            last[i] = evidence(explained_images[i])
        return last[i]

    def compute() -> NDArray[np.float64]:
        with context.console.stage(f"What the classifier makes of {len(owners)} segments"):
            whole = activations(model, lambda rows: images[rows], len(images), note=context.console.note)
            part = activations(
                model,
                without,
                len(owners),
                note=context.console.note,
                progress=context.console.progress,
            )
        change: NDArray[np.float64] = (whole[[i for i, _ in owners]] - part).numpy().astype(np.float64)
        return change

    def load() -> NDArray[np.float64]:
        read = artefacts.read_tensors(context.run.file(ACTIVATIONS))[0]["activations"].numpy()
        if len(read) != len(owners):
            raise ValueError(f"{ACTIVATIONS}: is not what was written there")
        return read.astype(np.float64)

    last: dict[int, NDArray[np.int16]] = {}
    change, _ = context.run.stage(
        "activations",
        fingerprint(
            "activations",
            weights_fingerprint(model),
            [one.fingerprint for one in explained_images],
            __version__,
        ),
        compute,
        save=lambda a: context.run.write(
            ACTIVATIONS, artefacts.tensors_file({"activations": torch.from_numpy(a)})
        ),
        load=load,
        summarise=lambda a: {"segments": len(a)},
    )
    return change


def _removed(image: Tensor, inside: NDArray[np.bool_]) -> Tensor:
    """(C, H, W) with the image's mean colour where `inside`, fading as attributions do."""
    soft = ndimage.gaussian_filter(inside.astype(np.float32), BLUR * min(inside.shape))
    weight = torch.from_numpy(np.clip(soft, 0, 1)).to(image.dtype)
    return image * (1 - weight) + image.mean(dim=(1, 2), keepdim=True) * weight
