"""Teach the judge: examples of what was corrected, and whether the judge heeds them."""

import math

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lvlm_va.critique.backends.builtin import BuiltinCritic
from lvlm_va.errors import ConfigError
from lvlm_va.project.judging import JudgeChecking, say_cost
from lvlm_va.report.judge_examples import write_judge_examples
from lvlm_va.report.tables import Table
from lvlm_va.report.words import percent
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.judge_check import ENOUGH, JudgeCheck, read_judge_check
from lvlm_va.studio.jobs import CHECK, job_of, start
from lvlm_va.studio.page import address, page
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import Subject

__all__ = ["EXAMPLES", "READ", "WRITE"]

EXAMPLES = "judge_examples.yaml"


def teach(
    request: Request, subject: Subject, *, cost: str = "", judge: str = "", limit: str = ""
) -> Response:
    """What the judge can learn from what was corrected, and whether it did."""
    standing = Review(subject).standing()
    corrected = sum(
        standing.in_force[key].spurious != standing.said[key].spurious for key in standing.overruled
    )
    settings = subject.config().critique
    usual = settings.critic if settings.judge in (None, "lines") else str(settings.judge)
    reads_lines = usual == BuiltinCritic.name
    check = read_judge_check(subject.read())
    return page(
        request,
        "teach.html",
        subject,
        here="teach",
        corrected=corrected,
        enough=ENOUGH,
        examples=(subject.path / EXAMPLES).is_file(),
        file=subject.path / EXAMPLES,
        reads_lines=reads_lines,
        critic=settings.critic,
        judge=judge or ("" if reads_lines else usual),
        limit=limit,
        cost=cost,
        check=check,
        table=None if check is None else _table(check),
        job=job_of(subject),
        done=request.query_params.get("done", ""),
    )


def write(request: Request, subject: Subject, form: dict[str, str]) -> Response:
    """Write examples, say what asking costs, or ask."""
    do, judge, limit = form.get("do", ""), form.get("judge", "").strip(), form.get("limit", "").strip()
    if do == "examples":
        with RunDirectory.open(subject.path) as run:
            number = write_judge_examples(run, run.file(EXAMPLES))
        text = f"{number} critiques are written to {EXAMPLES}."
        return RedirectResponse(address(request, subject, "teach", done=text), status_code=303)
    if do not in ("cost", "check"):
        raise ConfigError("that is nothing the studio can do with a judge")
    examples = subject.path / EXAMPLES
    arguments: dict[str, str | float | None] = {
        "judge": judge or None,
        "max_usd": _dollars(limit),
        "examples": str(examples.absolute()) if examples.is_file() else None,
    }
    # Also before asking: what cannot be asked is said here, not by a process that ends at once.
    checking = JudgeChecking(
        subject.path, judge=judge or None, examples=examples if examples.is_file() else None
    )
    cost = say_cost(checking.cost(), judge or "the judge")
    if do == "cost":
        return teach(request, subject, cost=cost, judge=judge, limit=limit)
    start(subject, CHECK, arguments=arguments)
    return RedirectResponse(address(request, subject, "teach"), status_code=303)


def _dollars(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError("the limit: write a number of US dollars, e.g. 0.50, or leave it empty")
    return value


def _table(check: JudgeCheck) -> Table:
    rows = []
    for name, compared in (
        ("that you corrected, held back", check.corrected),
        ("that you let stand, held back", check.kept),
        ("all held back", check.held_back_verdicts),
        ("on the examples themselves", check.shown),
    ):
        shares = [
            f"{hits} ({percent(low, 0)} to {percent(high, 0)})" if compared.verdicts else "—"
            for hits, (low, high) in (
                (compared.before, compared.before_interval),
                (compared.after, compared.after_interval),
            )
        ]
        rows.append((name, f"{compared.verdicts:,}", *shares))
    return Table(
        f"With how many of your verdicts {check.judge} agrees, and the exact 95 % interval of that share; "
        f"{check.examples} of your critiques were shown as examples, {check.held_back} held back",
        ("your verdicts", "how many", "before: without your examples", "after: with them"),
        tuple(rows),
    )


READ = {"/teach": teach}
WRITE = {"/teach": write}
