"""Two real processes give the gradients and the models of one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import group_worker
import small
from lvlm_va.training.process_group import ProcessGroup, launched_group
from patience import PATIENCE, output_of

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--"]
Outcome = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    folder = tmp_path_factory.mktemp("group")
    worker = [sys.executable, str(HERE / "group_worker.py"), str(folder)]
    done = subprocess.run(worker, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))
    return one, two


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("case", group_worker.CASES)
def test_two_processes_have_the_gradient_of_one(
    case: str, normalised: bool, outcomes: tuple[Outcome, Outcome]
) -> None:
    """The oracle is the loss as it is written in the paper, on the whole batch, without any division."""
    model = group_worker.network(normalised=normalised)
    images, labels, critiqued, critiqued_labels, masks = group_worker.samples(case)
    x = critiqued.clone().requires_grad_()
    log_y = model(torch.cat([x, images])).log_softmax(1)
    loss = F.nll_loss(log_y, torch.cat([critiqued_labels, labels]))
    (slope,) = torch.autograd.grad(log_y[: len(x)].sum(), x, create_graph=True)
    if len(x):
        loss = loss + group_worker.LAM * (slope[:, 0] * masks).square().sum() / len(x)
    loss = loss + group_worker.GAMMA * sum(p.square().sum() for p in model.parameters())
    loss.backward()
    for outcome in outcomes:
        found = outcome[f"{case}, {normalised}"]
        assert found["terms"].sum().item() == pytest.approx(loss.item(), rel=1e-9)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            difference = (found[name] - parameter.grad).norm() / parameter.grad.norm()
            assert difference < 1e-6, name


def test_two_processes_train_what_one_trains(outcomes: tuple[Outcome, Outcome]) -> None:
    alone = {"trained, False": group_worker.trained(normalised=False), "aligned": group_worker.aligned()}
    for outcome in outcomes:
        for work, model in alone.items():
            for name, tensor in model.state_dict().items():
                torch.testing.assert_close(outcome[work][name], tensor, rtol=1e-3, atol=1e-4)
    one, two = (outcome["trained, True"] for outcome in outcomes)
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items()), "statistics, too"


@pytest.mark.slow
def test_the_command_under_torchrun(tmp_path: Path) -> None:
    specifications, project = tmp_path / "specifications.yaml", tmp_path / "project.yaml"
    specifications.write_text(yaml.safe_dump(small.SPECIFICATIONS), encoding="utf-8")
    document = {
        "project": "together",
        "device": "cpu",
        "specifications": specifications.name,
        "model": {"epochs": 3, "batch": 32, "learning_rate": 0.003},
    }
    project.write_text(yaml.safe_dump(document), encoding="utf-8")
    settings = [word for key, value in small.SETTINGS.items() for word in ("--set", f"{key}={value}")]
    runs = [tmp_path / name for name in ("two", "one")]
    together = [*TORCHRUN, str(HERE / "cli_worker.py"), "align", str(project), "--run", str(runs[0])]
    done = subprocess.run(
        [*together, *settings], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Report:") == 1, "one process speaks"
    alone = [sys.executable, str(HERE / "cli_worker.py"), "train", str(project), "--run", str(runs[1])]
    output_of(alone)
    two, one = (load_file(run / "model.safetensors") for run in runs)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)
    assert len(json.loads((runs[0] / "run.json").read_text())["stages"]) > 6


def test_without_a_launcher_a_process_is_alone() -> None:
    with launched_group() as group:
        assert group == ProcessGroup.here() == ProcessGroup(0, 1)
        tensors = [torch.rand(3), torch.rand(2, 2)]
        before = [tensor.clone() for tensor in tensors]
        group.all_reduce(tensors)
        assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))
        assert group.broadcast("word") == "word"
    parts = [ProcessGroup(rank, 3).shard(torch.arange(8)) for rank in range(3)]
    assert torch.equal(torch.cat(parts), torch.arange(8))
