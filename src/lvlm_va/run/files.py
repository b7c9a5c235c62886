"""What the files of a run are called, and the names of the models that are measured."""

from lvlm_va.critique.store import Store
from lvlm_va.run.directory import RunDirectory

__all__ = [
    "ALIGNED",
    "ALIGNED_WEIGHTS",
    "CRITIC_VERDICTS",
    "CRITIQUES",
    "DIAGNOSIS",
    "EXPLANATIONS",
    "GROUND_TRUTH",
    "IMAGES",
    "MASKS",
    "METRICS",
    "ORIGINAL",
    "ORIGINAL_WEIGHTS",
    "PARTS",
    "SEGMENTS",
    "VERDICTS",
    "open_store",
]

ORIGINAL = "original"
ALIGNED = "aligned"
GROUND_TRUTH = "ground-truth masks (oracle)"

CRITIQUES = "critiques.sqlite"
METRICS = "metrics.json"
ALIGNED_WEIGHTS = "aligned.safetensors"
ORIGINAL_WEIGHTS = "model.safetensors"
DIAGNOSIS = "diagnosis.json"
VERDICTS = "verdicts.csv"
CRITIC_VERDICTS = "critic_verdicts.csv"
EXPLANATIONS = "explanations.safetensors"
IMAGES = "segments/images.safetensors"
"""The critiqued images themselves, so that a run can be read without its data set."""
SEGMENTS = "segments/segments.safetensors"
PARTS = "segments/parts.safetensors"
"""The same, where verdicts are on parts of segments; as it is with these divided."""
MASKS = "segments/masks.safetensors"
"""A of every usable critiqued image, so that a reader sees what was corrected."""


def open_store(run: RunDirectory) -> Store:
    """The store of a run's critiques."""
    return Store.open(run.file(CRITIQUES))
