"""The score that goes with a fit is that of the epoch that was kept."""

from pathlib import Path

import torch

import small
from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.alignment.fine_tune import AlignmentSet
from lvlm_va.alignment.selection import ValidationScore
from lvlm_va.alignment.verdict_score import score_by_verdicts
from lvlm_va.config.loading import override, parse_config
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.io.console import QuietConsole
from lvlm_va.models.predict import logits
from lvlm_va.project.inputs import Inputs
from lvlm_va.project.stages import alignment as stage
from lvlm_va.project.stages.context import Context
from lvlm_va.run.directory import RunDirectory


def test_the_kept_models_score_is_told_and_no_epoch_is_scored_twice(tmp_path: Path, monkeypatch) -> None:
    parts = small.splits()
    first = torch.arange(48)
    masks = parts.train.spurious_masks(first)
    config = parse_config(
        # So large a step that the last epoch is not the best.
        override(
            {"run": str(tmp_path)},
            small.settings(align__epochs=6, align__learning_rate=0.05, align__keep="best"),
        )
    )
    model = small.trained().eval()
    project = Inputs(config, parts, model, trained=True, specifications={})
    scored: list[ValidationScore] = []

    def counted(*arguments: object) -> ValidationScore:
        scored.append(score(*arguments))
        return scored[-1]

    score = stage._score
    monkeypatch.setattr(stage, "_score", counted)
    alignment = AlignmentSet(first, masks)
    with RunDirectory.open(tmp_path / "run", config.model_dump(mode="json", by_alias=True)) as run:
        context = Context(project, run, QuietConsole())
        original = stage.original_candidate(context, model, alignment).validation
        (fit,) = stage.align_with(context, "aligned", model, alignment, original)
    assert len(scored) == 1 + 6, "the original model, and each epoch"
    pasted = Counterfactuals.of_set(parts.train, first, masks, torch.device("cpu"))
    outputs = logits(fit.model, parts.validation)
    assert fit.validation.accuracy == accuracy(outputs, parts.validation.labels)
    assert fit.validation.verdicts == score_by_verdicts(fit.model, parts.validation, pasted, seed=0)
    assert len({one.accuracy for one in scored[1:]}) > 1, "or any epoch's score would do"
