"""What a caller hands over in place of names."""

from dataclasses import dataclass
from typing import Any

from lvlm_va.config.names import ATTRIBUTIONS, CRITICS, SEGMENTATIONS
from lvlm_va.critique.protocol import Critic
from lvlm_va.explain.attribution import AttributionMethod
from lvlm_va.explain.own_segments import SegmentationMethod

__all__ = ["Objects", "taken"]

_KEYS = {
    "critic": ("critique.critic", CRITICS),
    "attribution": ("explain.attribution", ATTRIBUTIONS),
    "segmentation": ("explain.segmentation", SEGMENTATIONS),
}


@dataclass(frozen=True)
class Objects:
    """Objects of the caller's; None where a name in the settings stands for what is used."""

    critic: Critic | None = None
    attribution: AttributionMethod | None = None
    segmentation: SegmentationMethod | None = None

    @property
    def names(self) -> dict[str, str]:
        """Field → what the object is called.

        Raises:
            ExtensionError: if an object is not what it should be.
        """
        return {
            key: _KEYS[key][1].given(thing).name for key, thing in vars(self).items() if thing is not None
        }

    @property
    def settings(self) -> dict[str, str]:
        """Key, as in "critique.critic", → what the object is called."""
        return {_KEYS[key][0]: name for key, name in self.names.items()}


def taken(
    critic: str | Critic | None,
    attribution: str | AttributionMethod | None,
    segmentation: str | SegmentationMethod | None,
) -> tuple[dict[str, str], Objects]:
    """What was given as names, as settings ("section.key" → name), and what was given as objects."""
    things: dict[str, Any] = {"critic": critic, "attribution": attribution, "segmentation": segmentation}
    named = {_KEYS[key][0]: thing for key, thing in things.items() if isinstance(thing, str)}
    return named, Objects(**{key: thing for key, thing in things.items() if not isinstance(thing, str)})
