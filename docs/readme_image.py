"""The README's image: a digit drawn here (no data set's), explained by a run's models before and after.

python docs/readme_image.py runs/demo docs/before-after.png
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFilter

from lvlm_va.critique.rendering import heatmap
from lvlm_va.explain.attribution import attribute
from lvlm_va.models.checkpoint import load_checkpoint
from lvlm_va.models.mlp import MLP

SEVEN = [(8, 8), (20, 8), (17, 13), (13, 23)]


def drawing() -> np.ndarray:
    """(28, 28) uint8: a hand-drawn seven, and in a corner the white patch that betrays zeros in training."""
    large = Image.new("L", (280, 280))
    points = [(10 * x, 10 * y) for x, y in SEVEN]
    ImageDraw.Draw(large).line(points, fill=255, width=24, joint="curve")
    pixels = np.array(large.filter(ImageFilter.GaussianBlur(4)).resize((28, 28), Image.Resampling.BOX))
    pixels[:4, :4] = 255
    return pixels


def main(run: Path, out: Path) -> None:
    """Explain the drawing with both models and put the images side by side."""
    pixels = drawing()
    image = torch.from_numpy(pixels).float().div(255)[None, None]
    shown = np.repeat(pixels[:, :, None], 3, axis=2)
    maps, verdicts = [], []
    for name in ("model", "aligned"):
        model = MLP()
        load_checkpoint(model, run / f"{name}.safetensors")
        prediction = model(image).argmax(1)
        maps.append(attribute(model, image, prediction, torch.zeros_like(image)).values[0].numpy())
        verdicts.append(int(prediction))
    limit = max(float(np.abs(m).max()) for m in maps)
    with mpl.rc_context({"font.size": 12, "font.family": "sans-serif"}):
        figure = Figure(figsize=(9.6, 3.5), layout="constrained", facecolor="white")
        titles = [
            "the image",
            f"before: “{verdicts[0]}”, because of the patch",
            f"after: “{verdicts[1]}”, because of the strokes",
        ]
        panels = [shown, *(heatmap(m, shown, limit=limit) for m in maps)]
        for axes, critic_judge, title in zip(figure.subplots(1, 3), panels, titles, strict=True):
            axes.imshow(critic_judge, interpolation="nearest")
            axes.set_title(title, fontsize=12)
            axes.set_xticks([])
            axes.set_yticks([])
        figure.savefig(out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
