"""What a server's refusal means for the run, and for the person who can mend it."""

import re

from lvlm_va.critique.backends.connection import proxy_variable
from lvlm_va.critique.backends.endpoint import Endpoint
from lvlm_va.critique.backends.rejection import Rejection
from lvlm_va.critique.backends.retry import retry_after
from lvlm_va.critique.backends.token_limit import context_too_short
from lvlm_va.errors import AnswerFailed, CriticError
from lvlm_va.io.redaction import one_line

__all__ = ["AskAgainError", "meaning"]

_LONGEST_WAIT = 600.0  # seconds; a server that asks for more is worth a message, not a silent run
_NO_IMAGES = re.compile(
    r"(?:not|n't|no endpoints found that) support(?:ed|s)?\b.{0,30}(?:image|vision|multi-?modal)"
    r"|(?:image|vision|multi-?modal).{0,40}(?:\bnot|n't|un)\W?(?:supported|support|allowed|available)"
    r"|not a (?:multi-?modal|vision)|unknown variant .{0,3}image_url|at most 0 image|text-only"
    r"|image_url.{0,60}(?:expected|only) .{0,20}text",
    re.IGNORECASE | re.DOTALL,
)
_FEW_IMAGES = re.compile(
    r"at most (\d+) (?:image|multi-?modal)|(?:up to|maximum(?: of)?|max) (\d+) images?|"
    r"(?:only|one|single) (?:1 |one )?image (?:is |per )",
    re.IGNORECASE,
)


class AskAgainError(Exception):
    """The server was busy or broken.

    Attributes:
        after: how long it asks us to wait, if it says.
        loading: whether it has not loaded its model yet.
        usd: what the useless answer cost, where one came; None where that is unknown.
        paid: whether one came.
    """

    def __init__(
        self,
        reason: str,
        after: float | None = None,
        *,
        loading: bool = False,
        paid: bool = False,
        usd: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.after = after
        self.loading = loading
        self.paid = paid
        self.usd = usd


def meaning(rejection: Rejection, critic: str, endpoint: Endpoint) -> Exception:
    """The error that a rejection stands for.

    Args:
        rejection: what came back.
        critic: the name of the critic.
        endpoint: who sent it.

    Returns:
        `AskAgainError` where the same question may be answered later, `AnswerFailed` where this question is
        refused and others may not be, `CriticError` where a person must mend something first.
    """
    url, said, shown = endpoint.shown, rejection.said, rejection.shown
    status = rejection.status
    if 300 <= status < 400:
        where = one_line(_without_secrets(rejection.headers.get("location", "")), 200) or "nowhere"
        return CriticError(
            f"{critic}: {url} redirects to {where} ({shown}), which is not followed: the images would go "
            "there. If they may, set OPENAI_BASE_URL to the new address"
        )
    if status == 401:
        return CriticError(f"{critic}: {url} does not accept the key ({shown}); check {endpoint.key_name}")
    if status == 407:
        proxy = proxy_variable(endpoint.url) or "the environment"
        return CriticError(
            f"{critic}: the proxy in {proxy} wants a user name and password ({shown}): write them into its "
            "address, http://name:password@host:port, or, if the server is to be reached directly, add it to "
            "NO_PROXY"
        )
    if _NO_IMAGES.search(rejection.words):
        return CriticError(
            f"{critic}: the model takes no images ({shown}: {said}); choose a vision-language model, and "
            "with llama.cpp give its projector (--mmproj)"
        )
    if few := _few_images(rejection.words):
        return CriticError(
            f"{critic}: the server takes {few} a question, and three are shown ({shown}: {said}); with vLLM: "
            "--limit-mm-per-prompt '{\"image\": 3}'"
        )
    if status in (404, 405):
        ends = "" if "/v1" in endpoint.url or endpoint.key_header == "api-key" else "; it usually ends in /v1"
        return CriticError(
            f"{critic}: {url} does not know this model or address ({shown}: {said}); check the model's name "
            f"and OPENAI_BASE_URL{ends}"
        )
    if status == 402:
        return CriticError(f"{critic}: {url} wants payment first ({shown}: {said})")
    if rejection.is_out_of_credit:
        return CriticError(f"{critic}: the account at {url} has no credit left ({shown}: {said})")
    if short := context_too_short(rejection.words):
        return AnswerFailed(
            f"{critic}: the server's context of {short[0]:,} tokens is too short for a question of "
            f"{short[1]:,} and its answer ({shown}); give it 16,384 or more (llama-server -c, vllm "
            "--max-model-len, OLLAMA_CONTEXT_LENGTH)"
        )
    if rejection.is_busy:
        after = retry_after(rejection.headers, rejection.text)
        if after is not None and after > _LONGEST_WAIT:
            return CriticError(
                f"{critic}: {url} asks to wait {after:.0f} s ({shown}: {said}); run the same command again "
                "then"
            )
        return AskAgainError(f"{shown}: {said}", after, loading=rejection.is_loading)
    hint = ""
    if status == 413:
        hint = (
            "; raise the largest request that it, or a proxy before it, takes (nginx: client_max_body_size)"
        )
    return AnswerFailed(f"{critic}: the server rejects the question ({shown}: {said}){hint}")


def _few_images(words: str) -> str:
    """How many images a question may have, where a server refuses our three."""
    found = _FEW_IMAGES.search(words)
    if found is None:
        return ""
    most = int(found[1] or found[2] or 1)
    return f"{most} image{'' if most == 1 else 's'}" if most < 3 else ""


def _without_secrets(url: str) -> str:
    """An address without user name, password and query, as far as it can be taken apart."""
    head, at, tail = url.partition("?")[0].rpartition("@")
    scheme, slashes, _ = head.partition("//")
    return f"{scheme}{slashes}{tail}" if at else tail
