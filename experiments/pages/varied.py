"""The setting that an experiment varies: its values, who was measured at them, and the bounds."""

from typing import Any

from experiments.description import Experiment
from experiments.pages.setups import Arm, Setup, unwrapped, value_words

__all__ = ["Varied"]


class Varied:
    """What is varied in a setup.

    Args:
        about: the experiment: its values are in the order in which they are shown where they are words;
            numbers ascend.
        setup: its results.

    Attributes:
        values: those of the setup's arms, in words, in order.
        numbers: the same as numbers; None where one is none.
        series: who does the same at several values: the arm without the setting → value in words → arm.
        bounds: the arms that the setting does not touch.
    """

    def __init__(self, about: Experiment, setup: Setup) -> None:
        key = str(about.varies)
        told = [value_words(unwrapped(value)) for value in about.values]
        found: dict[str, Any] = {}
        self.series: dict[Arm, dict[str, Arm]] = {}
        self.bounds: list[Arm] = []
        for arm in setup.arms:
            value = arm.at(key)
            if value is None:
                self.bounds.append(arm)
                continue
            found[value_words(value)] = value
            self.series.setdefault(arm.without(key), {})[value_words(value)] = arm
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in found.values())
        if numeric:
            self.values = sorted(found, key=lambda words: float(found[words]))
        else:
            self.values = sorted(found, key=lambda words: told.index(words) if words in told else len(told))
        self.numbers: list[float] | None = [float(found[v]) for v in self.values] if numeric else None
