"""Any torch data set as it stands, and a user's own transform instead of ours."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

import lvlm_va
from lvlm_va.config.loading import parse_config
from lvlm_va.data.imageset import lacks, shown_images
from lvlm_va.data.torch_dataset import from_torch
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.project.inputs import load_inputs
from parts import CLASSES, SIDE, class_folders, part

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalize:
    """As torchvision's: the name and the attributes are all that is looked at."""

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = mean, std

    def __call__(self, x: Tensor) -> Tensor:
        return (x - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


class Compose:
    def __init__(self, *transforms: Any) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


class ImageFolder(Dataset[Any]):
    """As torchvision's."""

    def __init__(self, root: Path, transform: Any = None) -> None:
        self.root, self.transform = str(root), transform
        self.classes = sorted(p.name for p in root.iterdir())
        self.samples = [(str(f), k) for k, c in enumerate(self.classes) for f in sorted((root / c).glob("*"))]
        self.targets = [k for _, k in self.samples]
        self.asked = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, n: int) -> tuple[Any, int]:
        self.asked += 1
        path, label = self.samples[n]
        image: Any = Image.open(path)
        return self.transform(image) if self.transform else image, label


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "set", 10)


def test_a_torchvision_like_folder(folder: Path) -> None:
    data = ImageFolder(folder, to_tensor)
    splits = from_torch(data, validation=4, test=4)
    assert lacks(splits.train) == []
    assert splits.class_names == CLASSES
    assert (len(splits.train), len(splits.validation or ()), len(splits.tests["test"])) == (12, 4, 4)
    assert data.asked < 20  # labels are not read with the images
    for images in (splits.train, *splits.tests.values()):
        for n, (name, label) in enumerate(zip(images.ids, images.labels.tolist(), strict=True)):
            of, number = name.split("/")
            assert of == CLASSES[label]
            expected = part(of, int(number[:3])) / 255
            np.testing.assert_allclose(images.images(torch.tensor([n]))[0, 0], expected, atol=1e-6)
    assert not set(splits.train.ids) & set(splits.tests["test"].ids)


PIXELS = torch.randint(0, 256, (8, 3, 12, 16), dtype=torch.uint8)


class Listed(Dataset[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, n: int) -> Any:
        return self.items[n]


@pytest.mark.parametrize(
    "make",
    [
        lambda x, k: (x, k),
        lambda x, k: (x.float() / 255, torch.tensor(k)),
        lambda x, k: (x.permute(1, 2, 0).numpy(), np.int64(k)),
        lambda x, k: [(x.permute(1, 2, 0).double() / 255).numpy(), float(k), "more"],
        lambda x, k: (Image.fromarray(x.permute(1, 2, 0).numpy()), torch.tensor([k])),
        lambda x, k: {"pixel_values": x.float() / 255, "labels": k},
        lambda x, k: {"image": Image.fromarray(x.permute(1, 2, 0).numpy()), "label": "AB"[k]},
    ],
)
def test_items_of_any_form(make: Any) -> None:
    data = Listed(*(make(x, n % 2) for n, x in enumerate(PIXELS)))
    splits = from_torch(data, validation=0, test=0)
    np.testing.assert_allclose(splits.train.images(torch.arange(8)), PIXELS / 255, atol=1e-6)
    assert splits.train.labels.tolist() == [0, 1] * 4
    assert splits.train.ids[3] == "train-3"


def test_parts_subsets_and_tensors() -> None:
    whole = TensorDataset(PIXELS, torch.arange(8) % 2)
    parts = {"train": Subset(whole, [7, 6, 5, 4]), "val": whole, "test": ConcatDataset([whole, whole])}
    splits = from_torch(parts, classes=["A", "B"])
    assert splits.train.labels.tolist() == [1, 0, 1, 0]
    assert len(splits.validation or ()) == 8
    assert len(splits.tests["test"]) == 16


def test_hugging_face_under_a_transform() -> None:
    data = datasets.Dataset.from_dict({"n": list(range(8)), "label": [0, 1] * 4})
    data.set_transform(lambda rows: {"image": [PIXELS[n] for n in rows["n"]], "label": rows["label"]})
    splits = from_torch(data, validation=0, test=0)
    np.testing.assert_allclose(splits.train.images(torch.tensor([5]))[0], PIXELS[5] / 255, atol=1e-6)


def test_normalisation_is_found_undone_and_done_again_by_the_model(folder: Path, tmp_path: Path) -> None:
    data = ImageFolder(folder, Compose(to_tensor, Normalize(MEAN, STD)))
    told: list[str] = []
    splits = from_torch(Subset(data, range(20)), validation=0, test=4, log=told.append)
    plain = from_torch(ImageFolder(folder, to_tensor), validation=0, test=4)
    n = torch.arange(len(splits.train))
    torch.testing.assert_close(splits.train.images(n), plain.train.images(n), atol=1e-6, rtol=0)
    assert any("The transform normalises" in line for line in told)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    project = lvlm_va.Project(model, splits, run=tmp_path / "run")
    assert project.config.model.normalise == {"mean": MEAN, "std": STD}
    # The model is given what it was given by the data set itself.
    assert project._given is not None
    adapted = project._given.adapted(project.config, torch.device("cpu"))
    position = data.samples.index((str(folder / splits.train.ids[2]), int(splits.train.labels[2])))
    torch.testing.assert_close(
        adapted(splits.train.images(torch.tensor([2]))), model(data[position][0][None]), atol=1e-5, rtol=1e-5
    )
    said = lvlm_va.Project(model, splits, run=tmp_path / "r", settings={"model.normalise": "imagenet"})
    assert said.config.model.normalise == "imagenet"


def test_a_project_file_is_told_what_to_write(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours.py").write_text(
        "import lvlm_va, test_torch_dataset as t, pathlib\n"
        "def load(settings, log):\n"
        "    transform = t.Compose(t.to_tensor, t.Normalize(t.MEAN, t.STD))\n"
        f"    data = t.ImageFolder(pathlib.Path({str(folder)!r}), transform)\n"
        "    return lvlm_va.from_torch(data, log=log)\n"
    )
    monkeypatch.chdir(tmp_path)
    document: dict[str, Any] = {"data": {"name": "ours:load"}, "device": "cpu"}
    with pytest.raises(ConfigError, match=r"model\.normalise: \{mean: \[0\.485, 0\.456, 0\.406\], std"):
        load_inputs(parse_config(document), specified=False)
    load_inputs(parse_config(document | {"model": {"normalise": "imagenet"}}), specified=False)


def test_what_is_shown_may_be_given(tmp_path: Path) -> None:
    """Logarithms are nothing to look at; the critic sees what they are of."""
    data = Listed(*((torch.log1p(x.float()), n % 2) for n, x in enumerate(PIXELS)))
    with pytest.raises(DataError, match=r"values from .* to 5\.5.*shown=function"):
        from_torch(data, validation=0, test=0)
    splits = from_torch(data, shown=lambda x: torch.expm1(x) / 255, validation=0, test=2)
    n = torch.arange(len(splits.train))
    assert splits.train.images(n).max() > 5
    torch.testing.assert_close(torch.log1p(shown_images(splits.train, n) * 255), splits.train.images(n))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 16, 2))
    words = {"classes": {k: {"description": "one", "spurious": ["x"]} for k in splits.class_names}}
    seen: list[np.ndarray] = []

    class Looks:
        name = "looks"

        def critique(self, question: Any) -> Any:
            seen.append(question.explained.image)
            return {j: (False, "fine") for j in question.segment_ids}

    settings = {"explain.num_images": 2, "explain.baselines": 2, "device": "cpu"}
    lvlm_va.diagnose(model, splits, words, critic=Looks(), run=tmp_path / "run", settings=settings)
    assert len(seen) == 2
    for image in seen:
        assert any(torch.equal(torch.from_numpy(image).permute(2, 0, 1), x) for x in PIXELS)


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([(PIXELS[0], 0), (PIXELS[1][:, :5], 1), (PIXELS[2], 1)], "give all of them one size"),
        ([(PIXELS[0], 0), (PIXELS[1], -1)], "neither a class index"),
        ([(PIXELS[0], 0), (PIXELS[1], 0.5)], "neither a class index"),
        ([(PIXELS[0], torch.tensor([0, 1])), (PIXELS[1], 1)], "one class is needed"),
        ([(PIXELS[0], 0), (PIXELS[1], 0)], "needs two classes"),
        ([(PIXELS[0], 0), PIXELS[1]], "not a pair of image and label"),
        ([{"picture": 1}, {"picture": 2}], "a mapping of picture"),
        ([("a.png", 0), ("b.png", 1)], "its image is a str"),
        ([(PIXELS[0][:2], 0), (PIXELS[1], 1)], "has the shape"),
        ([(PIXELS[0].long(), 0), (PIXELS[1], 1)], "holds torch.int64"),
        ([(PIXELS[0] * float("nan"), 0), (PIXELS[1], 1)], "values from nan"),
        ([], "is empty"),
    ],
)
def test_items_that_cannot_be_used(items: list[Any], told: str) -> None:
    def used() -> None:
        from_torch(Listed(*items), validation=0, test=0).train.images(torch.arange(len(items)))

    with pytest.raises(DataError, match=told):
        used()


def test_what_the_users_code_raises_is_told_with_its_line() -> None:
    class Broken(Listed):
        def __getitem__(self, n: int) -> Any:
            raise KeyError("colour")

    with pytest.raises(DataError, match=r"raised KeyError: 'colour' \(.*test_torch_dataset\.py, line \d+\)"):
        from_torch(Broken(1, 2))


def test_random_transforms_and_streams_are_refused() -> None:
    class Flips(Listed):
        def __getitem__(self, n: int) -> Any:
            return torch.rand(3, 4, 4), n % 2

    with pytest.raises(DataError, match="transform of evaluation"):
        from_torch(Flips(*range(8)))
    with pytest.raises(DataError, match="map-style"):
        from_torch(iter([(PIXELS[0], 0)]))
    with pytest.raises(DataError, match="no data set for train"):
        from_torch({"test": Listed((PIXELS[0], 0))})
    data = {k: Listed((PIXELS[0], 0), (PIXELS[1], 1)) for k in ("train", "test")}
    data["test"].transform = Normalize(MEAN, STD)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="normalised in different ways"):
        from_torch(data)
