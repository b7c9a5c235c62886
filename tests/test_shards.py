"""Shared out over processes or Dask's workers, everything is to the bit what one process computes."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import shards_worker
import small
from lvlm_va.errors import AttributionError, ConfigError
from lvlm_va.explain import segmentation
from lvlm_va.explain.attribution import Explainer, attribute
from lvlm_va.explain.segmentation import joined, parts_to_segment, ppeps_wgm
from patience import output_of

HERE = Path(__file__).parent
FILES = ("selection.csv", "segments/attribution.safetensors", "segments/segments.safetensors")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    output_of([sys.executable, HERE / "shards_worker.py", folder])
    return folder


def same_files(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(other.glob("segments/unfinished*"))


def test_two_processes_share_the_parts_and_find_what_one_finds(runs: Path) -> None:
    same_files(runs / "one", runs / "two")
    shared = (runs / "two.log").read_text().split("\n")[:-1]
    assert sorted(shared) == sorted(f"{first} by {first // 100 % 2}" for first in range(0, 400, 100))


def test_what_was_finished_when_one_was_killed_is_not_computed_again(runs: Path) -> None:
    assert sorted((runs / "kept").read_text().split()) == ["0", "1"]
    again = (runs / "resumed.log").read_text().split("\n")[:2]
    assert again == ["200 by 0", "300 by 0"]
    same_files(runs / "one", runs / "killed")


@pytest.mark.parametrize("method", ["deeplift-shap", "integrated-gradients", "gradient-shap"])
def test_an_explanation_in_parts_is_that_of_all_images(method: str) -> None:
    images = small.shapes(50, seed=1, betrayed=True)
    x, model = images.pixels, small.trained()
    baselines, y = x[:5], images.labels
    whole = attribute(model, x, y, baselines, method=method, batch_size=8, steps=8, tolerance=math.inf)
    explainer = Explainer(model, baselines, 50, method=method, batch_size=8, steps=8, tolerance=math.inf)
    for part in (slice(0, 24), slice(32, 50)):
        found = explainer.explain(x[part], y[part], first=part.start)
        assert torch.equal(found.values, whole.values[part])
        assert torch.equal(found.completeness_error, whole.completeness_error[part])


def test_a_part_names_its_images_by_their_number_among_all() -> None:
    images = small.shapes(20, seed=1, betrayed=True)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3), torch.nn.Softplus())
    explainer = Explainer(
        model, images.pixels[:1], 20, method="integrated-gradients", steps=1, tolerance=1e-9
    )
    with pytest.raises(AttributionError, match=r"the attribution of image 1\d "):
        explainer.explain(images.pixels[10:], images.labels[10:], first=10)


def test_segments_in_parts_are_those_of_all_images() -> None:
    torch.manual_seed(0)
    attribution = torch.randn(40, 16, 16) * torch.rand(40, 1, 1)
    attribution[5] = attribution[39] = -1.0  # to be set aside
    attribution[8, 0, 0] = torch.nan
    whole = ppeps_wgm(attribution, 3, n_init=2)
    parts = parts_to_segment(attribution, 3)
    assert sorted(torch.cat(parts).tolist()) == [n for n in range(40) if n not in (5, 8, 39)]
    segmentations = [ppeps_wgm(attribution[part], 3, n_init=2) for part in parts]
    found = joined(attribution, 3, parts, segmentations)
    assert found.set_aside == whole.set_aside
    for name in ("labels", "pi", "mu", "sigma", "log_likelihood", "iterations", "converged"):
        torch.testing.assert_close(
            getattr(found, name), getattr(whole, name), rtol=0, atol=0, equal_nan=True, msg=name
        )


def test_parts_are_made_of_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """On images so large that a batch is two of them: parts end where batches do."""
    monkeypatch.setitem(segmentation._WORKING_SET, "cpu", 60_000)
    torch.manual_seed(0)
    attribution = torch.randn(45, 40, 40)
    parts = parts_to_segment(attribution, 3)
    assert len(parts) > 1
    whole = ppeps_wgm(attribution, 3, n_init=1, max_iterations=5)
    segmentations = [ppeps_wgm(attribution[part], 3, n_init=1, max_iterations=5) for part in parts]
    assert torch.equal(joined(attribution, 3, parts, segmentations).mu, whole.mu)


@pytest.fixture
def scheduler(request: pytest.FixtureRequest) -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50, processes=request.param
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.filterwarnings("ignore")  # Dask's own
@pytest.mark.parametrize(
    "scheduler",
    [False, pytest.param(True, marks=pytest.mark.slow)],
    indirect=True,
    ids=["threads", "processes"],
)
def test_two_dask_workers_find_what_one_process_finds(scheduler: str, runs: Path, tmp_path: Path) -> None:
    shards_worker.explained(shards_worker.project(tmp_path / "dask", scheduler=scheduler))
    same_files(runs / "one", tmp_path / "dask")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Dask's own
@pytest.mark.parametrize("scheduler", [True], indirect=True, ids=["processes"])
def test_a_part_whose_worker_is_killed_is_done_by_another(scheduler: str, runs: Path, tmp_path: Path) -> None:
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        process = min(client.run(os.getpid).values())
    run = tmp_path / "dask"

    def kill() -> None:
        while not list(run.glob("segments/unfinished-explain/*/*")):
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    shards_worker.explained(shards_worker.project(run, scheduler=scheduler))
    killer.join(1)
    assert not killer.is_alive(), "a worker was killed amid its work"
    same_files(runs / "one", run)


def test_a_scheduler_that_is_not_there_is_named(tmp_path: Path) -> None:
    project = shards_worker.project(tmp_path / "run", scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"scheduler: tcp://127\.0\.0\.1:1 cannot be reached"):
        shards_worker.explained(project)
