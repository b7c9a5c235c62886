"""How many tokens a server lets an answer have, read from the words in which it refuses more."""

import re

__all__ = ["context_too_short", "smaller_limit"]

_SMALLEST = 256  # tokens; with fewer there is no critique
_NUMBER = r"(\d{1,3}(?:[, ]\d{3})+|\d{1,9})"
_ABOUT_IT = re.compile(
    r"max_?\s?(?:completion_?|new_?|output_?)?\s?tokens|maxoutputtokens|n_predict|num_predict"
    r"|context[\s_]?(?:length|window|size)|max_model_len|n_ctx"
    r"|(?:completion|output|generated?|new)[ _]tokens?|token (?:limit|budget)|length of the answer",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(
    r"too (?:large|big|high|long|many|great)|at most|maximum|exceed|(?:larger|greater|more|higher|less|lower|"
    r"fewer) than|(?:less|smaller|lower) or equal|up to|range|between|limit|cannot be|must be|only|reduce"
    r"|above|[<>≤]=?\s?`?\d|<=|≤",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    rf"(?:context[\s_]?(?:length|window|size)|max_model_len|n_ctx)[^\d\n]{{0,40}}?{_NUMBER}\b"
    rf"|{_NUMBER}[- ]?tokens? context",
    re.IGNORECASE,
)
_PROMPT = re.compile(
    rf"\b{_NUMBER} (?:tokens? )?(?:in|from|of) (?:the |your |text )?(?:messages?|prompt|inputs?)\b"
    rf"|\b{_NUMBER} `?(?:input|prompt)s?`?[ _]?tokens?\b"
    rf"|\b(?:n_)?prompt_?tokens\W{{1,4}}{_NUMBER}\b"
    rf"|\b(?:prompt|input)s? (?:contains?|has|have|is|of|length)\D{{0,12}}{_NUMBER}\b"
    rf"|\b{_NUMBER} `inputs` tokens",
    re.IGNORECASE,
)


def smaller_limit(limit: int, said: str, *, blamed: bool = False) -> int | None:
    """The limit to ask with after a server refused `limit`; None if its words are about something else.

    What is left of the context beside the prompt, where it says both; else the number that it names, if it
    can be the limit; else half.

    Args:
        limit: what was asked for, tokens.
        said: the server's words.
        blamed: whether it blames the field by name.
    """
    if not _TOO_LARGE.search(said) or not (blamed or _ABOUT_IT.search(said)):
        return None
    context, prompt = _first(_CONTEXT, said), _first(_PROMPT, said)
    if context and prompt and context - prompt < limit:
        return context - prompt if context - prompt >= _SMALLEST else None
    named = [_read(number) for number in re.findall(rf"(?<![\d.,]){_NUMBER}(?![\d.]*\d)", said)]
    fitting = [number for number in named if max(limit // 8, _SMALLEST) <= number < limit]
    smaller = max((number for number in fitting if number != prompt), default=max(limit // 2, _SMALLEST))
    return smaller if _SMALLEST <= smaller < limit else None


def context_too_short(said: str) -> tuple[int, int] | None:
    """(context, prompt) in tokens, where a server says that the prompt leaves no room for an answer."""
    context, prompt = _first(_CONTEXT, said), _first(_PROMPT, said)
    if context and prompt and context - prompt < _SMALLEST:
        return context, prompt
    return None


def _first(pattern: re.Pattern[str], said: str) -> int | None:
    found = pattern.search(said)
    return None if found is None else next(_read(group) for group in found.groups() if group)


def _read(number: str) -> int:
    return int(re.sub(r"\D", "", number))
