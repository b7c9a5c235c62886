"""Two processes that train together: each writes what it has to the folder that this is called with.

They find each other as under torchrun, by the environment, but are forked, so that torch is imported once.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import small
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.alignment.rrr import parameter_norm, right_reasons
from lvlm_va.training.micro_batching import MicroBatching, Part
from lvlm_va.training.process_group import ProcessGroup, launched_group
from lvlm_va.training.train import train
from two_processes import in_two_processes

LAM, GAMMA = 0.7, 0.01
CASES = {"uneven": (7, 3), "one alignment sample": (6, 1), "no alignment samples": (5, 0)}


def network(*, normalised: bool) -> nn.Sequential:
    """In double precision; smooth, so that second derivatives matter. Batch statistics are frozen."""
    torch.manual_seed(3)
    norm = [nn.BatchNorm2d(4)] if normalised else []
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), *norm, nn.Softplus(), nn.Flatten(), nn.Linear(400, 3))
    if normalised:
        layers(torch.rand(8, 1, 12, 12))  # statistics that are not those of a fresh layer
        layers[1].eval()
    return layers.double()


def samples(case: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels; alignment images, labels and masks."""
    n, a = CASES[case]
    generator = torch.Generator().manual_seed(5)

    def some(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return some(n, 1, 12, 12), torch.arange(n) % 3, some(a, 1, 12, 12), torch.arange(a) % 3, some(a, 12, 12)


def divided(model: nn.Module, case: str, parts: int) -> Tensor:
    """CE + λ · RRR + γ Σ θ² in this process's parts; the terms of the whole step."""

    def terms(part: Part) -> Tensor:
        images, labels, critiqued, critiqued_labels, masks = part.samples
        zero = torch.zeros((), dtype=torch.float64)
        n, a = (len(kind) for kind in (images, critiqued))
        critiqued = critiqued.requires_grad_()
        log_y = torch.cat([model(kind) for kind in (critiqued, images) if len(kind)] or [zero[None, None]])
        log_y = log_y.log_softmax(1)
        ce = F.nll_loss(log_y, torch.cat([critiqued_labels, labels])) if n + a else zero
        reasons = right_reasons(log_y[:a], critiqued, masks).mean() if a else zero
        whole_n, whole_a = CASES[case]
        return torch.stack(
            [
                ce * (n + a) / (whole_n + whole_a),
                LAM * reasons * part.shares[2],
                GAMMA * parameter_norm(model) * part.fraction,
            ]
        )

    return MicroBatching(ProcessGroup.here(), parts).backward(model, samples(case), terms)


def trained(*, normalised: bool) -> nn.Module:
    """Ordinary training, batch statistics and all."""
    torch.manual_seed(2 + 5 * ProcessGroup.here().rank)  # the leader's initial weights must win
    norm = [nn.BatchNorm2d(4)] if normalised else []
    model = nn.Sequential(nn.Conv2d(1, 4, 3), *norm, nn.Tanh(), nn.Flatten(), nn.Linear(400, 3))
    images = small.shapes(45, seed=1, betrayed=True)
    validation = small.shapes(30, seed=2, betrayed=False)
    went = train(
        model,
        images,
        validation=validation,
        epochs=3,
        batch=16,
        learning_rate=0.1,
        optimizer="sgd",
        precision="float32",
        flip=True,
        patience=2,
    )
    assert len(went.epochs) == 3
    return model


def aligned() -> nn.Module:
    """Fine-tuning with every term, batch statistics frozen; batches of 17 do not divide evenly."""
    images = small.shapes(45, seed=1, betrayed=True)
    chosen = torch.arange(12)
    masks = images.spurious_masks(chosen)
    assert masks is not None
    model = network(normalised=True).float()
    if ProcessGroup.here().rank:
        nn.init.zeros_(model[-1].weight)  # type: ignore[arg-type]
    settings = FineTuning(
        0.03,
        gamma=1e-3,
        counterfactual=0.5,
        epochs=2,
        training_batch=17,
        alignment_batch=5,
        jitter=0.1,
        statistics="frozen",
        precision="float32",
    )
    return fine_tune(model, images, AlignmentSet(chosen, masks), settings)[0]


def outcome() -> dict[str, dict[str, Tensor]]:
    """Everything this process has to show."""
    found = {}
    for normalised in (False, True):
        for case in CASES:
            model = network(normalised=normalised)
            terms = divided(model, case, 1 + normalised)
            gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            found[f"{case}, {normalised}"] = {**gradients, "terms": terms}
        found[f"trained, {normalised}"] = trained(normalised=normalised).state_dict()
    found["aligned"] = aligned().state_dict()
    return found


def main() -> None:
    """Two lives at once."""
    torch.set_num_threads(1)
    # What torch imports at its first step is imported once, too.
    train(small.untrained(), small.shapes(3, seed=1, betrayed=True), epochs=1)

    def life() -> None:
        with launched_group() as group:
            torch.save(outcome(), Path(sys.argv[1]) / f"{group.rank}.pt")

    sys.exit(any(in_two_processes(life)))


if __name__ == "__main__":
    main()
