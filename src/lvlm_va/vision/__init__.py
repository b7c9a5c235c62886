"""What is in an image: its ground, its dominant object, blocks, writing and other things."""

from lvlm_va.vision.letters import Writing, read_letters, why_not_read
from lvlm_va.vision.regions import Region, Scene, see
from lvlm_va.vision.scenes import read_scenes, scene_of, seen

__all__ = [
    "Region",
    "Scene",
    "Writing",
    "read_letters",
    "read_scenes",
    "scene_of",
    "see",
    "seen",
    "why_not_read",
]
