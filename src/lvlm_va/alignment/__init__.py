"""From verdicts to an aligned model (Sec. 4.2): masks, right reasons, fine-tuning, the choice of λ; baselines."""
