"""Results in order: by dataset and size (a setup), by who did what (an arm), by seed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.measures import COLUMNS, Get, Score, accuracy_on, average, worst
from experiments.methods import METHODS, READS, SOURCES
from experiments.pages.numbers import mean_std, signed
from experiments.results import Result
from lvlm_va.evaluate.statistics import Paired, paired

__all__ = ["Arm", "Setup", "methods_of", "setups", "source_rank", "unwrapped", "value_words"]

_TERMS = [name for name, method in METHODS.items() if method.sourced]
"""The methods that need masks."""

_TRUTH = "ground-truth-masks"
_READS = READS | dict.fromkeys(("subg", "dfr"), "group labels")
_DATASETS = {"decoy-mnist": "DecoyMNIST"}


@dataclass(frozen=True)
class Arm:
    """Who did what.

    Attributes:
        method: "original", "control", "right reasons", "counterfactual", "both", "subg", "dfr", "jtt", ...
        source: of the verdicts or masks: "builtin", "oracle-verdicts", "ground-truth-masks", an endpoint such
            as "openai:gpt-4o"; "" for methods that use none.
        setting: (key, value as JSON) of what differs from the experiment's file, by key.
    """

    method: str
    source: str
    setting: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The method in words; what the paper calls LVLM-VA and RRR is called so."""
        words = METHODS[self.method].words if self.method in METHODS else self.method
        if self.method not in _TERMS:
            return words
        if self.source != _TRUTH:
            return f"LVLM-VA, {words}"
        return "RRR (right reasons)" if self.method == "right reasons" else words

    @property
    def masks(self) -> str:
        """Whose verdicts or masks, in words; "" where none are used."""
        return SOURCES.get(self.source, self.source)

    @property
    def is_ours(self) -> bool:
        """Whether this is LVLM-VA: a term with verdicts, whoever judged."""
        return self.method in _TERMS and self.source != _TRUTH

    @property
    def is_bound(self) -> bool:
        """Whether the masks are the ground truth itself."""
        return self.source == _TRUTH

    def at(self, key: str) -> Any:
        """What the setting `key` is; None where the arm does not set it. A list of one is its element."""
        text = dict(self.setting).get(key)
        return None if text is None else unwrapped(json.loads(text))

    def without(self, key: str | None) -> "Arm":
        """The same with this setting not named: the points of one curve agree in it."""
        return Arm(self.method, self.source, tuple(pair for pair in self.setting if pair[0] != key))

    @property
    def settings(self) -> str:
        """The settings in words, e.g. "explain.segments = 3"."""
        return ", ".join(f"{key} = {value_words(self.at(key))}" for key, _ in self.setting)


class Setup:
    """The results of one dataset at one size.

    Args:
        results: measured and failed ones.
        dataset: e.g. "knee".
        size: "full", "reduced", ...; anything but full is said in the title.
    """

    def __init__(self, results: Sequence[Result], dataset: str, size: str) -> None:
        self.dataset, self.size = dataset, size
        self._measured: dict[Arm, dict[int, Result]] = {}
        self._failed: dict[Arm, list[Result]] = {}
        for result in sorted(results, key=lambda result: result.seed):
            if result.failed is None:
                self._measured.setdefault(_arm(result), {})[result.seed] = result
            else:
                self._failed.setdefault(_arm(result), []).append(result)
        self.arms: list[Arm] = sorted({**self._measured, **self._failed}, key=_place)
        self.originals: list[Arm] = [arm for arm in self.arms if arm.method == "original"]

    @property
    def title(self) -> str:
        """E.g. "Knee, reduced size"."""
        name = _DATASETS.get(self.dataset, self.dataset[:1].upper() + self.dataset[1:])
        return name if self.size == "full" else f"{name}, {self.size} size"

    @property
    def about_tests(self) -> list[str]:
        """Which test set is the main one: lines of Markdown."""
        return [f"Main test set: {self.tests[0]}.", ""] if self.tests else []

    @property
    def any(self) -> Result | None:
        """A measured result: the first arm's first seed."""
        return next((result for arm in self.arms for result in self.results(arm).values()), None)

    @property
    def tests(self) -> list[str]:
        """The test sets, the main one first."""
        return [] if self.any is None else list(self.any.measures.accuracy)

    @property
    def groups(self) -> list[str]:
        """Names of the main test set's groups; empty where groups are not known."""
        return [] if self.any is None else list(self.any.groups.accuracy)

    @property
    def group_sizes(self) -> Mapping[str, int]:
        """Group → how many images of the main test set it has."""
        return {} if self.any is None else self.any.groups.sizes

    @property
    def seeds(self) -> int:
        """How many seeds the arm with the most has."""
        return max((len(self.results(arm)) for arm in self.arms), default=0)

    @property
    def heading(self) -> str:
        """The title of a figure's row: with the number of seeds."""
        return f"{self.title} ({self.seeds} seed{'s' * (self.seeds > 1)})"

    @property
    def scores(self) -> list[Score]:
        """AGA and WGA; where groups are not known, plain accuracy on each test set stands for them."""
        if self.groups or not self.tests:
            return [Score("AGA", average), Score("WGA", worst)]
        return [Score(f"accuracy, {test}", accuracy_on(test)) for test in self.tests]

    @property
    def deciding(self) -> Score:
        """WGA, or plain accuracy on the main test set: what methods are compared by."""
        return next((score for score in self.scores if score.name == "WGA"), self.scores[0])

    def results(self, arm: Arm) -> dict[int, Result]:
        """Seed → what was measured."""
        return self._measured.get(arm, {})

    def failed(self, arm: Arm) -> list[Result]:
        """What failed."""
        return self._failed.get(arm, [])

    def values(self, arm: Arm, get: Get) -> dict[int, float]:
        """Seed → what was measured, for the seeds that have it."""
        values = {seed: get(result) for seed, result in self.results(arm).items()}
        return {seed: value for seed, value in values.items() if value is not None}

    def mean(self, arm: Arm, get: Get, digits: int = 3) -> str:
        """The mean over the arm's seeds in words, with n where it is not that of the arm."""
        return mean_std(self.values(arm, get).values(), len(self.results(arm)), digits)

    def delta(self, arm: Arm, get: Get) -> str:
        """The mean of `gains` likewise; "" for the original model."""
        return "" if arm.method == "original" else signed(self.gains(arm, get), len(self.results(arm)))

    def columns(self, arm: Arm, names: Iterable[str]) -> list[str]:
        """Means in words of what an experiment asks for beside the columns of its page: keys of `COLUMNS`."""
        return [self.mean(arm, *COLUMNS[name]) for name in names]

    def before(self, arm: Arm, get: Get) -> dict[int, float]:
        """Seed → the original model's value, for the arm's seeds.

        The original model of a trial is the one it carries with it; else that of the same seed with no
        setting that the trial does not have, of several the one that shares the most.
        """
        return {
            seed: value
            for seed, result in self.results(arm).items()
            for original in ([result.before] if result.before else self._originals(arm, seed))[:1]
            if (value := get(original)) is not None
        }

    def gains(self, arm: Arm, get: Get) -> list[float]:
        """Δ: the arm less the original model, for each seed that has both."""
        before = self.before(arm, get)
        return [value - before[seed] for seed, value in self.values(arm, get).items() if seed in before]

    def gain(self, arm: Arm, get: Get) -> Paired | None:
        """The same with interval and test; None without a seed that has both."""
        return paired(self.values(arm, get), self.before(arm, get))

    def lead(self, arm: Arm, other: Arm, get: Get) -> Paired | None:
        """The arm less another, by seed, with interval and test; None without a seed that has both."""
        return paired(self.values(arm, get), self.values(other, get))

    def reads(self, arm: Arm) -> str:
        """What the arm reads beyond images, class labels and specifications, in words."""
        every = [*self.results(arm).values(), *self.failed(arm)]
        told = dict.fromkeys(result.reads for result in every if result.reads)
        return "; ".join(told) or _READS.get(arm.source, _READS.get(arm.method, ""))

    def is_oracle(self, arm: Arm) -> bool:
        """Whether it reads the ground truth: an upper bound."""
        return arm.source in _READS or "ground truth" in self.reads(arm)

    def sees_groups(self, arm: Arm) -> bool:
        """Whether it reads group labels."""
        return "group labels" in self.reads(arm).replace("no group labels", "")

    def name(self, arm: Arm, varies: str | None = None) -> str:
        """The method, with its settings where methods differ in any but `varies`."""
        own = arm.without(varies)
        fitted = {other.without(varies).setting for other in self.arms if other.method != "original"}
        return f"{arm.name}, {own.settings}" if len(fitted) > 1 and own.setting else arm.name

    def label(self, arm: Arm) -> str:
        """Name and source of masks in one, for figures."""
        return ", ".join(words for words in (self.name(arm), arm.masks) if words)

    def troubles(self, arm: Arm) -> str:
        """The seeds that failed, in words; the reasons are at the end of every page."""
        seeds = [str(result.seed) for result in self.failed(arm)]
        return f"failed: seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" if seeds else ""

    def _originals(self, arm: Arm, seed: int) -> list[Result]:
        fit = [other for other in self.originals if set(other.setting) <= set(arm.setting)]
        fit.sort(key=lambda other: -len(other.setting))
        return [self.results(other)[seed] for other in fit if seed in self.results(other)]


def setups(results: Sequence[Result]) -> list[Setup]:
    """One for each dataset and size, in the order in which the results name them."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.dataset, result.size), []).append(result)
    return [Setup(some, *key) for key, some in found.items()]


def methods_of(arms: Iterable[Arm]) -> list[str]:
    """Their methods, each once, in order."""
    known = list(METHODS)
    found = dict.fromkeys(arm.method for arm in arms)
    return sorted(found, key=lambda method: known.index(method) if method in known else len(known))


def source_rank(source: str) -> tuple[int, str]:
    """From what anyone has to what only an oracle has; critics that are asked lie between."""
    ranks = {"": 0, "builtin": 1, "oracle-verdicts": 3, _TRUTH: 4}
    return ranks.get(source, 2), source


def unwrapped(value: Any) -> Any:
    """A list of one is its element: align.lambda takes a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def value_words(value: object) -> str:
    """A setting's value as a person writes it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _arm(result: Result) -> Arm:
    return Arm(
        result.method,
        result.source if result.method in _TERMS else "",
        tuple((key, json.dumps(value, sort_keys=True)) for key, value in sorted(result.setting.items())),
    )


def _place(arm: Arm) -> tuple[Any, ...]:
    """Methods in the order of the paper and ours; sources from what anyone has to what only an oracle has."""
    methods = list(METHODS)
    return (
        methods.index(arm.method) if arm.method in methods else len(methods),
        arm.method,
        source_rank(arm.source),
        [(key, _sortable(arm.at(key))) for key, _ in arm.setting],
    )


def _sortable(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, "" if number else value_words(value))
