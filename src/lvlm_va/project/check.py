"""`lvlm-va check`: everything that can be proved of a project before it costs time or money."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from lvlm_va.config.loading import Config
from lvlm_va.config.names import ATTRIBUTIONS, SEGMENTATIONS, Foreign
from lvlm_va.critique.protocol import Critic
from lvlm_va.critique.question import KINDS
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.data.imageset import ImageSet, groups_of
from lvlm_va.data.splits import Splits
from lvlm_va.errors import Interrupted, LvlmVaError
from lvlm_va.explain.attribution import Method, find_method
from lvlm_va.io.console import QuietConsole
from lvlm_va.io.cores import usable_cores
from lvlm_va.io.screen import shown
from lvlm_va.models.factory import MODELS
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.duration import alignment_samples, seconds_a_sample
from lvlm_va.project.inputs import Given, build_model, choose_device, load_splits, read_specifications
from lvlm_va.project.objects import Objects
from lvlm_va.project.stages.regions import REGION_FINDERS
from lvlm_va.project.stages.selection import check_selection
from lvlm_va.project.stages.trial import try_model
from lvlm_va.project.suited import suited_to
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.judge_check import read_judge_check
from lvlm_va.training.batches import count_batches

__all__ = ["Finding", "check_project", "findings_table"]

Outcome = Literal["ok", "warning", "problem", "skipped"]
T = TypeVar("T")

_TELLING = (("align", "learning_rate"), ("align", "statistics"), ("align", "epochs"), ("explain", "segments"))
_DARK = 1 / 15  # of the range: 12 bits in 16
_MARKS = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM", "skipped": "not checked"}


@runtime_checkable
class _Reachable(Protocol):
    """A critic behind an address, which can be looked for at no cost."""

    def reach(self) -> str: ...


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what, e.g. "data".
        outcome: "ok", "warning" (the run would work), "problem" (it would not), or "skipped" (because of
            another problem).
        text: what was found.
    """

    subject: str
    outcome: Outcome
    text: str


def check_project(
    config: Config,
    console: QuietConsole | None = None,
    *,
    objects: Objects | None = None,
    given: Given | None = None,
) -> list[Finding]:
    """Look at device, critic, data, model, specifications and numbers; nothing is asked or trained.

    Args:
        config: the settings.
        console: told about progress.
        objects: the caller's own critic and methods.
        given: the caller's own model, images and specifications.

    Returns:
        What was found. Mistakes do not raise: they are all in the list.
    """
    say = console or QuietConsole()
    findings: list[Finding] = []

    def attempt(subject: str, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except Interrupted:
            raise
        except LvlmVaError as error:
            findings.append(Finding(subject, "problem", str(error)))
            return None

    device = attempt("device", lambda: choose_device(config.device))
    if device is not None:
        findings.append(Finding("device", "ok", str(device)))
    objects = objects or Objects()
    findings += _code(config)
    findings += _critic(config, objects.critic)
    place = device or torch.device("cpu")
    for subject, look in (("attribution", _attribution), ("segmentation", _segmentation)):
        text = attempt(subject, partial(look, config, objects, place))
        if text:
            findings.append(Finding(subject, "ok", text))
    splits = attempt("data", lambda: load_splits(config, log=say.note) if given is None else given.splits)
    if splits is None:
        findings += [
            Finding(subject, "skipped", "needs the data")
            for subject in ("model", "specifications", "numbers")
        ]
        return findings
    findings += _data(splits)
    if device is not None:
        tried = attempt("model", lambda: _model(config, splits, device, given))
        if tried is not None:
            findings.append(Finding("model", "ok", tried[0]))
            findings += attempt("alignment", lambda: _alignment(config, splits, tried[1])) or []
    found = attempt(
        "specifications",
        lambda: (
            read_specifications(config, splits.class_names) if given is None else given.read_specifications()
        ),
    )
    if found is not None:
        findings.append(_specifications(found))
        if objects.critic is None and config.critique.critic == "builtin":
            findings += _words(found)
    return findings + _numbers(config, splits) + _run(config)


def findings_table(findings: Sequence[Finding]) -> str:
    """One line per finding, its further lines indented below."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        first, *more = finding.text.splitlines()
        lines.append(f"{_MARKS[finding.outcome]:<11}  {finding.subject:<{width}}  {first}")
        lines += [f"{'':<{13 + width}}  {line}" for line in more]
    return "\n".join(lines)


def _code(config: Config) -> list[Finding]:
    """Whose code the project runs, if not ours alone."""
    name = config.model.name
    if name in MODELS or ":" not in name:  # a name nobody knows is told as such
        return []
    text = (
        f"model.name runs {shown(name)} with your rights: check and align only projects of people you trust"
    )
    return [Finding("code", "ok", text)]


def _critic(config: Config, critic: Critic | None) -> list[Finding]:
    try:
        critic_judge = make_critic_judge(config.critique, critic=critic)
    except Interrupted:
        raise
    except LvlmVaError as error:
        return [Finding("critic", "problem", str(error))]
    findings = []
    for role, backend in (("critic", critic_judge.critic), ("judge", critic_judge.judge)):
        if role == "judge" and backend is critic_judge.critic:
            continue
        if not isinstance(backend, _Reachable):
            findings.append(Finding(role, "ok", f"{backend.name}{KINDS[backend.kind]}"))
            continue
        try:
            findings.append(Finding(role, "ok", f"{backend.name}: {backend.reach()}; nothing was asked"))
        except LvlmVaError as error:
            findings.append(Finding(role, "problem", str(error)))
    return findings


def _attribution(config: Config, objects: Objects, _: torch.device) -> str:
    """Nothing is said of a method of this package, which needs nothing else."""
    name = config.explain.attribution
    return "" if ATTRIBUTIONS.is_ours(name) else _called(find_method(objects.attribution or name))


def _called(it: Method | Foreign) -> str:
    return it.name if it.version is None else f"{it.name} {it.version}"


def _segmentation(config: Config, objects: Objects, device: torch.device) -> str:
    """Weights are read, so that they are known to load; the paper's needs nothing else."""
    name = config.explain.segmentation
    if objects.segmentation is not None:
        return _called(SEGMENTATIONS.given(objects.segmentation))
    if not SEGMENTATIONS.is_ours(name):
        return _called(SEGMENTATIONS.load(name))
    if name not in REGION_FINDERS:
        return ""
    finder = REGION_FINDERS[name](config.explain, device)
    finder.prepare()
    return ", ".join(f"{key} {value}" for key, value in finder.recipe.items() if key != "by") + (
        "; the weights load" if config.explain.segmentation == "sam" else ""
    )


def _data(splits: Splits) -> list[Finding]:
    parts: dict[str, ImageSet] = {"train": splits.train}
    if splits.validation is not None:
        parts["validation"] = splits.validation
    parts |= splits.tests
    channels, height, width = splits.in_shape
    lines = [f"{splits.name}, {splits.source}: {width}×{height}, {'grey' if channels == 1 else 'colour'}"]
    lines += [f"{name}: {_counts(splits, part)}" for name, part in parts.items()]
    findings = [Finding("data", "ok", "\n".join(lines))]
    if splits.set_aside:
        aside = [f"{shown(name)}: {shown(reason, 300)}" for name, reason in splits.set_aside.items()]
        more = [f"... and {len(aside) - 10} more"] if len(aside) > 10 else []
        findings.append(
            Finding("data", "warning", "\n".join([f"{len(aside)} files set aside", *aside[:10], *more]))
        )
    findings += [Finding("data", "warning", remark.removeprefix("WARNING: ")) for remark in splits.remarks]
    findings += [Finding("data", "warning", f"leak: {leak}") for leak in splits.leaks]
    sample = torch.linspace(0, len(splits.train) - 1, min(64, len(splits.train))).long()
    brightest = float(splits.train.images(sample).max())
    if brightest < _DARK:
        findings.append(
            Finding(
                "data",
                "warning",
                f"the images are nearly black: the brightest of {len(sample)} reaches {brightest:.3f} "
                "of 1. If they are PNG or TIFF with 12 bits in files of 16, say data.bits: 12; DICOM files "
                "say themselves, in WindowCenter, WindowWidth and BitsStored, what is bright",
            )
        )
    if splits.validation is None:
        findings.append(Finding("data", "warning", "no validation part: λ cannot be chosen, only given"))
    if not splits.tests:
        findings.append(Finding("data", "warning", "no test part: nothing will be measured"))
    return findings


def _counts(splits: Splits, images: ImageSet) -> str:
    """E.g. "40 images (bolt 20, nut 20)", with groups where they are known."""
    groups = groups_of(images)
    names: Sequence[str] = splits.class_names if groups is None else groups.names
    if groups is not None:
        counts = groups.sizes.tolist()
    elif splits.several_labels:
        names, has = [*names, "no label"], images.labels == 1
        counts = [*has.sum(0).tolist(), int((~has.any(1)).sum())]
    else:
        counts = torch.bincount(images.labels, minlength=len(names)).tolist()
    shown = [f"{name}: {n}" for name, n in zip(names, counts, strict=True)]
    return f"{len(images)} images ({'; '.join(shown)})"


def _model(
    config: Config, splits: Splits, device: torch.device, given: Given | None
) -> tuple[str, nn.Module]:
    notes: list[str] = []
    if given is None:
        model, origin = build_model(config, splits, device, log=notes.append)
        trained = config.model.weights is not None
    else:
        model, origin, trained = given.adapted(config, device), "given", given.trained
    try_model(model, splits.train, config, to_train=not trained, to_align=True)
    parameters = sum(p.numel() for p in model.parameters())
    lines = [
        f"{config.model.name}: {parameters:,} parameters, weights: {origin}, "
        f"{'trained' if trained else 'to be trained'}",
        f"outputs fit the classes: {model.head.words(splits.class_names)}",
        "tried on a few images: alone and together, differentiated twice, copied, a step of "
        f"{'' if trained else 'training and one of '}alignment, its weights to a file and back",
    ]
    return "\n".join([*lines, *notes]), model


def _busy() -> str:
    """Said where others compute, too: threads that wait for one another are many times slower then."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], usable_cores()
    return (
        f"; it is busy (load {load:.0f} on {cores} cores), alone it takes less" if load > 1.5 * cores else ""
    )


def _alignment(config: Config, splits: Splits, model: nn.Module) -> list[Finding]:
    """How long it will take, and which settings are those of another kind of network."""
    settings = config.align
    a_sample = seconds_a_sample(model, splits, config)
    steps = settings.epochs * count_batches(len(splits.train), settings.training_batch)
    minutes = a_sample * alignment_samples(config, splits) / 60
    told = "less than a minute" if minutes < 1 else f"about {minutes:,.0f} minutes"
    findings = [
        Finding(
            "alignment",
            "ok",
            f"{told}: {len(settings.lam)} λ, {steps:,} steps each at a step size of "
            f"{settings.learning_rate:g}, {1000 * a_sample:,.0f} ms a sample on this machine{_busy()}",
        )
    ]
    found = suited_to(model, splits)
    unlike = list(_unlike(config, found.settings))
    if unlike:
        findings.append(
            Finding("alignment", "warning", f"for {found.because}, init would write {', '.join(unlike)}")
        )
    return findings


def _unlike(config: Config, suits: Mapping[str, Any]) -> Iterator[str]:
    """What is left at a small network's default and costs hours, or is refused in the end."""
    for section, key in _TELLING:
        value, default = (getattr(getattr(c, section), key) for c in (config, Config()))
        wanted = suits.get(f"{section}.{key}", default)
        if value == default != wanted:
            yield (
                f"{section}.{key}: {wanted:g}" if isinstance(wanted, float) else f"{section}.{key}: {wanted}"
            )


def _specifications(found: dict[str, ClassSpecification]) -> Finding:
    silent = [name for name, v in found.items() if not v.spurious]
    text = f"{len(found)} classes"
    if silent:
        text += f"; no `spurious` for {', '.join(silent)}: name what misleads, if you know it"
    return Finding("specifications", "ok", text)


def _words(found: dict[str, ClassSpecification]) -> list[Finding]:
    """What the experts rule out and the built-in critic can never condemn."""
    from lvlm_va.critique.backends.builtin.weighing import unrecognised  # the encoder takes a second

    lines = [
        f"{name}: {'; '.join(shown(words, 100) for words in phrases)}"
        for name, specification in found.items()
        if (phrases := unrecognised(specification))
    ]
    if not lines:
        return []
    told = (
        "the built-in critic cannot recognise some of what you rule out; a vision-language model or you can"
    )
    return [Finding("specifications", "warning", "\n".join([told, *lines]))]


def _numbers(config: Config, splits: Splits) -> list[Finding]:
    """N, J, the reference images and λ against the data."""
    explain, n = config.explain, len(splits.train)
    pixels = math.prod(splits.in_shape[1:])
    problems = []
    try:
        check_selection(explain, splits)
    except LvlmVaError as error:
        problems.append(str(error))
    if explain.segments > pixels:
        problems.append(f"explain.segments asks for {explain.segments} segments of {pixels} pixels")
    if len(config.align.lam) > 1 and splits.validation is None:
        problems.append("align.lambda has several values, but there is no validation part: give one λ")
    findings = [Finding("numbers", "problem", problem) for problem in problems]
    if explain.baseline == "training" and explain.baselines > n:
        findings.append(
            Finding("numbers", "warning", f"explain.baselines is {explain.baselines}, training has only {n}")
        )
    if not findings:
        text = f"N = {explain.num_images}, J = {explain.segments}, {len(config.align.lam)} λ"
        findings.append(Finding("numbers", "ok", text))
    return findings


def _run(config: Config) -> list[Finding]:
    """What is there already, and what its last `judge check` warned of, if examples are in use."""
    path = config.run or Path("runs") / config.project
    if not (path / "run.json").exists():
        return []
    findings = [Finding("run", "ok", f"{path} is there already: it will be resumed")]
    if config.critique.judge_examples is not None:
        with suppress(LvlmVaError):  # what cannot be read is told of by the command that goes on with it
            checked = read_judge_check(RunDirectory.read(path))
            if checked is not None and checked.ignores:
                findings.append(Finding("judge", "warning", checked.ignores))
    return findings
