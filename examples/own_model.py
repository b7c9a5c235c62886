"""Your own classifier and images: python examples/own_model.py IMAGES SPECIFICATIONS.yaml"""

import sys

from torch import nn

import lvlm_va

data = lvlm_va.read_folder(sys.argv[1], size=32, channels="rgb")  # train/CLASS/*.png, or just CLASS/*.png
stem = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()]
model = nn.Sequential(*stem, nn.Flatten(), nn.Linear(16 * 7 * 7, len(data.class_names)))

settings = {"model.epochs": 20, "explain.num_images": 64}
project = lvlm_va.Project(model, data, sys.argv[2], trained=False, settings=settings)
print(project.train())
print(run := project.align())  # explain, critique, align, evaluate, report
print(f"λ = {run.metrics.lam.chosen}; report: {run.report}")  # run.model is the aligned model
