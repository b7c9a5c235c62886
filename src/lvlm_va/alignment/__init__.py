"""From verdicts to an aligned model (Sec. 4.2): masks, right reasons, the choice of λ; baselines."""
