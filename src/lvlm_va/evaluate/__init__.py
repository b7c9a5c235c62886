"""Numbers from tensors alone: accuracy by group, μ_align, calibration, verdicts, statistics."""
