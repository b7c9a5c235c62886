"""Critic and judge, as the section `critique` of a project file describes them."""

from collections.abc import Mapping
from pathlib import Path

from lvlm_va.config.loading import CritiqueConfig
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.backends.openai import NoKeyError
from lvlm_va.critique.backends.own import OwnCritic
from lvlm_va.critique.backends.person import PersonBackend
from lvlm_va.critique.critic import CRITIC_PARAMETERS
from lvlm_va.critique.drawn import DrawnOnce
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.judge import JUDGE_PARAMETERS
from lvlm_va.critique.protocol import Critic
from lvlm_va.critique.question import Backend
from lvlm_va.critique.rendering import render
from lvlm_va.critique.review import LINES, CriticJudge, limited
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.errors import ConfigError
from lvlm_va.run.files import CRITIQUES

__all__ = ["make_critic_judge"]


def make_critic_judge(
    settings: CritiqueConfig,
    specifications: Mapping[str, ClassSpecification] | None = None,
    *,
    critic: Critic | None = None,
    by_file: bool = False,
    run: Path | None = None,
) -> CriticJudge:
    """Critic and judge, ready to be asked.

    Args:
        settings: who they are.
        specifications: class name → V_k; none yet where they are not loaded.
        critic: an object that takes the place of `settings.critic`.
        by_file: models behind an endpoint are not asked but exported for; needs no key.
        run: the run's directory, if it may exist. Without a key, a model that answered there before (by
            file, say) is not asked again but read from its answers.

    Raises:
        ConfigError, CriticError: before any work, if a name is unknown, a key is missing, or an oracle, which
            knows what was planted and nothing else, is to condemn all but the core.
    """
    first = _backend(settings.critic, settings, by_file, run) if critic is None else OwnCritic(critic)
    _check_person(settings, first)
    if first.kind == "oracle" and settings.intervene != "spurious":
        raise ConfigError(
            f"critique.intervene: {first.name} is an oracle: it knows what was planted, and no core; "
            "write spurious, or ask another critic"
        )
    same = settings.judge in (None, LINES, settings.critic) or isinstance(first, PersonBackend)
    return CriticJudge(
        critic=first,
        judge=first if same else _backend(str(settings.judge), settings, by_file, run),
        specifications=specifications or {},
        render=DrawnOnce(render),
        examples=load_examples(settings.judge_examples),
        critic_parameters=limited({**CRITIC_PARAMETERS, "detail": settings.detail}, settings.max_tokens),
        judge_parameters=limited(JUDGE_PARAMETERS, settings.max_tokens),
        intervene=settings.intervene,
        background=settings.background,
        lines_first=settings.judge == LINES and not isinstance(first, PersonBackend),
        split=settings.split,
    )


def _check_person(settings: CritiqueConfig, critic: Backend) -> None:
    """A person judges segments: there is no critique to read, and a person reads none."""
    judge = settings.judge or ""
    if isinstance(critic, PersonBackend) and judge not in ("", LINES, "builtin", settings.critic):
        raise ConfigError(f"critique.judge: {critic.name} judges segments, and needs no judge; leave it out")
    if not isinstance(critic, PersonBackend) and judge.partition(":")[0] == "person":
        raise ConfigError(
            "critique.judge: a person judges segments, not critiques; write critique.critic: person, or "
            "overrule verdicts in verdicts.csv"
        )


def _backend(name: str, settings: CritiqueConfig, by_file: bool, run: Path | None) -> Backend:
    kind, _, model = name.partition(":")
    if kind == "hf" and model:
        return make_backend(name, batch=settings.batch, device=settings.device, dtype=settings.dtype)
    if kind != "openai" or not model:
        return make_backend(name)
    by_batch = BatchBackend(model, prices=settings.prices or None, system_role=settings.system_role)
    if by_file:
        return by_batch
    try:
        return make_backend(
            name,
            timeout=settings.timeout,
            concurrency=settings.concurrency,
            requests_per_minute=settings.requests_per_minute,
            prices=settings.prices or None,
            system_role=settings.system_role,
        )
    except NoKeyError:
        if run is None or not _has_answered(run, name):
            raise
        return by_batch


def _has_answered(run: Path, backend: str) -> bool:
    path = run / CRITIQUES
    if not path.is_file():
        return False
    with Store.open(path) as store:
        return store.has_answers(backend)
