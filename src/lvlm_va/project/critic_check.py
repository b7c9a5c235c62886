"""`lvlm-va critic check`: whether this critic will do, what it costs, and what to change, on one screen."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from lvlm_va.config.loading import CritiqueConfig
from lvlm_va.critique import canary
from lvlm_va.critique.backends.model_list import ListedModel, find_model
from lvlm_va.critique.budget import Priced, usd_of
from lvlm_va.critique.question import KINDS, Backend
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Store
from lvlm_va.critique.thinking import split_thought
from lvlm_va.critique.tokens import input_tokens
from lvlm_va.errors import CriticError
from lvlm_va.io.hints import did_you_mean
from lvlm_va.io.redaction import one_line
from lvlm_va.project.check import Finding, findings_table
from lvlm_va.project.critic_costs import Asked, priced_question, say_costs
from lvlm_va.project.critics import make_critic_judge

__all__ = ["Check", "check_critic"]

_SHOWN = 3  # mistakes


@dataclass(frozen=True)
class Check:
    """Outcome of a check.

    Attributes:
        text: for the person, one screen.
        right_share: share of marks that were judged rightly, in [0, 1]; None if nothing was asked.
    """

    text: str
    right_share: float | None


@runtime_checkable
class _Listing(Protocol):
    """A critic behind an address that may list its models."""

    model: str

    @property
    def address(self) -> str: ...

    async def list_models(self) -> list[ListedModel] | str: ...


def check_critic(
    settings: CritiqueConfig, *, images: int = 256, threshold: float = 0.9, dry_run: bool = False
) -> Check:
    """Look for an endpoint and its model, ask about images whose answers are known, and price a critique.

    Args:
        settings: critic, judge and how they are asked.
        images: of how many the critique is priced.
        threshold: share of right marks below which a critic will not do.
        dry_run: ask nothing.

    Raises:
        ConfigError, CriticError: if the critic cannot be asked, or answers nothing; the message says what to
            change.
    """
    if dry_run:
        number = len(canary.canary_images())
        return Check(f"This asks about {number} images: {2 * number} questions.", None)
    critic_judge = make_critic_judge(settings, canary.SPECIFICATIONS)
    with Store.open(":memory:") as store:
        looked, result = asyncio.run(_ask(settings, critic_judge, store))
        exchanges = store.exchanges()
    asked = Asked(critic_judge, exchanges)
    listed = looked.model
    findings = [
        *looked.findings,
        *_images(asked, listed),
        *_context(asked, listed, settings),
        *_format(asked, result),
        _right(result, threshold),
        _time(asked, result),
        _price(critic_judge.critic, listed),
    ]
    where = f" at {looked.address}" if looked.address else ""
    lines = [f"{critic_judge.critic.name}{KINDS[critic_judge.critic.kind]}{where}", findings_table(findings)]
    failures = result.failures[:_SHOWN]
    lines += [f"  {failure}" for failure in map(one_line, failures)]
    if more := len(result.failures) - len(failures):
        lines.append(f"  ... and {more} more")
    lines += ["", *say_costs(asked, listed, images, settings.concurrency)]
    problems = [finding.subject for finding in findings if finding.outcome == "problem"]
    warned = any(finding.outcome == "warning" for finding in findings)
    lines += [
        "",
        f"It will not do: see {', '.join(problems)}."
        if problems
        else f"It will do{', but see the warnings' if warned else ''}.",
    ]
    return Check("\n".join(lines), result.right_share)


@dataclass(frozen=True)
class _Looked:
    """What could be seen without a question: findings, and the model's entry in the endpoint's list."""

    findings: Sequence[Finding] = ()
    model: ListedModel | None = None
    address: str = ""


async def _ask(
    settings: CritiqueConfig, critic_judge: CriticJudge, store: Store
) -> tuple[_Looked, canary.CanaryResult]:
    critic, judge = critic_judge.critic, critic_judge.judge

    async def check(images: Sequence[canary.CanaryImage]) -> canary.CanaryResult:
        return await canary.check(
            critic,
            judge,
            images=images,
            concurrency=settings.concurrency,
            max_tokens=settings.max_tokens,
            intervene=settings.intervene,
            background=settings.background,
            detail=settings.detail,
            lines_first=critic_judge.lines_first,
            store=store,
        )

    try:
        looked = await _look(critic) if isinstance(critic, _Listing) else _Looked()
        shown = canary.canary_images()
        if critic.kind == "lvlm":
            # One question first: where it is refused, eleven more would be.
            try:
                await check(shown[:1])
            except CriticError:
                if not any(one.reply is not None and not one.reply.problem for one in store.exchanges()):
                    raise
        return looked, await check(shown)
    finally:
        await critic.close()
        await judge.close()


async def _look(critic: _Listing) -> _Looked:
    """Whether the endpoint answers and knows the model."""
    started = time.perf_counter()
    try:
        models = await critic.list_models()
    except CriticError as error:
        if "not with a list of models" not in str(error):
            raise
        models = "what it answers there is no list of models"  # it may answer questions all the same
    seconds = time.perf_counter() - started
    reached = Finding("reached", "ok", f"answers in {seconds:.1f} s")
    if isinstance(models, str):
        unlisted = Finding("model", "ok", f"taken as it is: the endpoint lists no models ({models})")
        return _Looked([reached, unlisted], None, critic.address)
    found = find_model(models, critic.model)
    if found is not None:
        finding = Finding("model", "ok", f"known there, one of {len(models)}")
    else:
        hint = did_you_mean(critic.model, [one_line(one.name, 100) for one in models[:10]])
        finding = Finding("model", "warning", f"{critic.model!r} is not among those listed there; {hint}")
    return _Looked([reached, finding], found, critic.address)


def _images(asked: Asked, listed: ListedModel | None) -> list[Finding]:
    """Whether the images arrive."""
    if asked.critic_judge.critic.kind != "lvlm":
        return []
    if listed is not None and listed.images is False:
        return [Finding("images", "warning", "the endpoint's list says that the model takes none; see right")]
    counted = asked.tokens_of_images()
    if counted is not None and counted < 30:  # no model reads three images with fewer
        text = (
            "the server counts no tokens for them: it may drop them, or cut a prompt that is longer than its "
            "context; choose a vision-language model, and a context of 16,384 tokens"
        )
        return [Finding("images", "warning", text)]
    about = "" if counted is None else f", about {counted:,.0f} tokens"
    return [Finding("images", "ok", f"three a question are taken{about}")]


def _context(asked: Asked, listed: ListedModel | None, settings: CritiqueConfig) -> list[Finding]:
    """Whether prompt and answer fit."""
    if asked.critic_judge.critic.kind != "lvlm":
        return []
    question = priced_question(asked.critic_judge)
    prompt = round(asked.scale("critic")[0] * input_tokens(question, asked.model))
    limit = int(question.parameters["max_tokens"])
    needed = f"a question takes about {prompt:,} tokens and its answer up to {limit:,}"
    findings = []
    if listed is None or listed.context is None:
        findings.append(Finding("context", "ok", f"not told; {needed}: it must hold {prompt + limit:,}"))
    elif listed.context < prompt + limit:
        text = (
            f"{listed.context:,} tokens, and {needed}: give the server a longer one, or set "
            f"critique.max_tokens to {max(listed.context - prompt, 64):,}"
        )
        findings.append(Finding("context", "warning", text))
    else:
        findings.append(Finding("context", "ok", f"{listed.context:,} tokens; {needed}"))
    if asked.thinks_too_long:
        text = (
            f"the model's thinking took all of max_tokens = {limit}, and it was asked again with more; set "
            f"critique.max_tokens to {min(4 * limit, 32_768)}, which spares the first try"
        )
        findings.append(Finding("thinking", "warning", text))
    elif settings.max_tokens is None and any(split_thought(reply.text)[0] for reply in asked.replies):
        findings.append(Finding("thinking", "ok", "the model thinks aloud; what it thinks is left aside"))
    return findings


def _format(asked: Asked, result: canary.CanaryResult) -> list[Finding]:
    """Whether the answers can be read."""
    read = result.segments - result.unscored
    outcome: Literal["ok", "warning", "problem"] = (
        "ok" if read == result.segments else "warning" if read else "problem"
    )
    text = f"{read} of {result.segments} segments read"
    if asked.critic_judge.critic.kind == "lvlm":
        text += f"; {asked.clear_share():.0%} of the critiques end in clear lines"
    return [Finding("answer", outcome, "\n".join([text, *asked.notes]))]


def _right(result: canary.CanaryResult, threshold: float) -> Finding:
    text = (
        f"{result.right} of {result.segments} segments judged rightly ({result.right_share:.0%}), "
        f"{result.unscored} unscored; {result.images_right} of {result.images} images without a mistake"
    )
    if result.right_share < threshold:
        return Finding("right", "problem", f"{text}: below {threshold:.0%}; choose another model")
    return Finding("right", "ok", text)


def _time(asked: Asked, result: canary.CanaryResult) -> Finding:
    price = "unknown price" if result.usd is None else f"{result.usd:.4f} USD"
    return Finding(
        "time",
        "ok",
        f"{asked.seconds():.1f} s a question; {len(asked.replies)} answered here, {price}",
    )


def _price(critic: Backend, listed: ListedModel | None) -> Finding:
    """What tokens cost, and what to set where that is not known."""
    if critic.kind != "lvlm":
        return Finding("price", "ok", "none: no model is asked")
    prices = [usd_of(critic, 10**6, 0), usd_of(critic, 0, 10**6)]
    if None not in prices:
        return Finding("price", "ok", f"{prices[0]:g} USD per million tokens in, {prices[1]:g} out")
    if not isinstance(critic, Priced):
        return Finding("price", "ok", "unknown")
    known = ""
    if listed is not None and listed.prices is not None:
        known = f"; the endpoint's list says {listed.prices[0]:g} in and {listed.prices[1]:g} out"
    return Finding(
        "price",
        "ok",
        f"unknown{known}; to hold --max-usd, set critique.prices="
        f"{{{critic.model!r}: {{input: USD, output: USD}}}} (per million tokens)",
    )
