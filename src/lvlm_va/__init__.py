"""LVLM-VA: align small vision classifiers with domain knowledge written in words.

The way in is `run = lvlm_va.align(model, data, specifications, critic="openai:gpt-4o")`.
"""

import sys

# `python -m lvlm_va` puts the working folder before the standard library, where a json.py of the user's would
# be taken for Python's. While a module is being located, its name stands before the arguments.
_RUN_AS_MODULE = sys.argv[:1] == ["-m"] and not sys.flags.safe_path
if _RUN_AS_MODULE and sys.orig_argv[-len(sys.argv)].partition(".")[0].endswith("lvlm_va"):
    del sys.path[0]

from lvlm_va._version import __version__
from lvlm_va.io.silence import silence

TYPE_CHECKING = (
    False  # typing is not imported for it: `lvlm_va.cli.main` must soon be able to guard against Ctrl-C
)
if TYPE_CHECKING:
    from typing import Any

    from lvlm_va.critique.protocol import Critic
    from lvlm_va.data.folder import read_folder
    from lvlm_va.data.huggingface import from_huggingface
    from lvlm_va.data.imageset import ArrayImageSet, ImageSet
    from lvlm_va.data.manifest import read_manifest
    from lvlm_va.data.sources import DataSource
    from lvlm_va.data.splits import Splits
    from lvlm_va.data.torch_dataset import from_torch
    from lvlm_va.errors import LvlmVaError
    from lvlm_va.explain.attribution.protocol import AttributionMethod
    from lvlm_va.explain.own_segments import SegmentationMethod
    from lvlm_va.project.export import ExportedModel, export
    from lvlm_va.project.functions import align, diagnose, train
    from lvlm_va.project.project import Project
    from lvlm_va.project.results import AlignmentResult, Diagnosis, TrainingResult

__all__ = [
    "AlignmentResult",
    "ArrayImageSet",
    "AttributionMethod",
    "Critic",
    "DataSource",
    "Diagnosis",
    "ExportedModel",
    "ImageSet",
    "LvlmVaError",
    "Project",
    "SegmentationMethod",
    "Splits",
    "TrainingResult",
    "__version__",
    "align",
    "diagnose",
    "export",
    "from_huggingface",
    "from_torch",
    "read_folder",
    "read_manifest",
    "train",
]

silence()

_HOMES = {
    "ArrayImageSet": "lvlm_va.data.imageset",
    "AlignmentResult": "lvlm_va.project.results",
    "AttributionMethod": "lvlm_va.explain.attribution.protocol",
    "Critic": "lvlm_va.critique.protocol",
    "DataSource": "lvlm_va.data.sources",
    "Diagnosis": "lvlm_va.project.results",
    "ExportedModel": "lvlm_va.project.export",
    "ImageSet": "lvlm_va.data.imageset",
    "LvlmVaError": "lvlm_va.errors",
    "Project": "lvlm_va.project.project",
    "SegmentationMethod": "lvlm_va.explain.own_segments",
    "Splits": "lvlm_va.data.splits",
    "TrainingResult": "lvlm_va.project.results",
    "align": "lvlm_va.project.functions",
    "diagnose": "lvlm_va.project.functions",
    "export": "lvlm_va.project.export",
    "from_huggingface": "lvlm_va.data.huggingface",
    "from_torch": "lvlm_va.data.torch_dataset",
    "read_folder": "lvlm_va.data.folder",
    "read_manifest": "lvlm_va.data.manifest",
    "train": "lvlm_va.project.functions",
}


def __getattr__(name: str) -> "Any":
    # Imported when asked for (PEP 562): `lvlm-va --help` must not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
