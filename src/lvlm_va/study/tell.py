"""The analysis of a study as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from lvlm_va.report.page import markdown
from lvlm_va.report.words import count, decimal, percent
from lvlm_va.study.kinds import AFTER, BEFORE, EXPLANATIONS, IN_THE_PAPER, KINDS, NO_DIFFERENCE

__all__ = ["summary_lines", "tell_analysis"]

_ROLES = {"expert": "domain experts", "other": "others"}
_VERDICTS = {"spurious": "condemned segments", "valid": "accepted segments"}


def tell_analysis(findings: Mapping[str, Any]) -> str:
    """The whole analysis.

    Args:
        findings: what `analyse.analyse_answers` gives.
    """
    people, asked = findings["participants"], findings["questions_asked"]
    missing = sum(person["missing"] for person in people)
    experts = sum(person["role"] == "expert" for person in people)
    runs = [
        f"- run {n}: {markdown(run['path'])}, project {markdown(run['project'])}, "
        f"critic {markdown(run['critic'])}"
        for n, run in enumerate(findings["runs"])
    ]
    lines = [
        "# What people answered",
        "",
        f"{count(len(people), 'participant')} ({count(experts, 'domain expert')}), "
        f"{count(asked, 'question')} each; study {findings['study']}.",
        "",
        *runs,
        "",
        _missing(missing, asked * len(people)),
        "",
        "## The rates of agreement",
        "",
        *_rate_table("kind", {name: ("", rate) for name, rate in findings["rates"].items()}),
        "",
        *(f"- *{KINDS[kind].title}* The share of {KINDS[kind].rate}." for kind in findings["rates"]),
        "",
        *_beside_the_paper(findings),
        "“I cannot tell” and “no difference” count against agreement; *of decided* leaves them out. Wilson's "
        "interval takes every answer for a draw of its own. *Over participants* is a bootstrap over whole "
        "participants: what others would have made of the same questions; it needs two, and of fewer than "
        "about ten it is too narrow. Half of the segments asked about were condemned where there were enough "
        "of both, so these are not rates over all segments of a run.",
        "",
        *_preferences(findings),
        "## Do the participants agree with each other?",
        "",
        *_table(
            ["kind", "Krippendorff's α", "same answer", "questions", "answers"],
            [
                [
                    KINDS[kind].title,
                    decimal(found["alpha"]),
                    percent(found["observed"]),
                    str(found["questions"]),
                    str(found["answers"]),
                ]
                for kind, found in findings["between_participants"].items()
            ],
        ),
        "",
        "1 is agreement throughout, 0 what chance would give. Only questions that two or more answered "
        "count; “I cannot tell” is no answer here. A dash: α is not defined, because no two answered the "
        "same question, or all always gave the same answer.",
        "",
        "## By role",
        "",
        *_split_table("role", findings["by_role"], _ROLES),
        "",
        "## By the critic's verdict",
        "",
        *_split_table("verdicts", findings["by_verdict"], _VERDICTS),
        "",
    ]
    if len(findings["runs"]) > 1:
        names = {str(n): run["path"] for n, run in enumerate(findings["runs"])}
        by_run = {str(n): rates for n, rates in enumerate(findings["by_run"])}
        lines += ["## By run", "", *_split_table("run", by_run, names), ""]
    lines += [
        "## Participant by participant",
        "",
        *_table(
            [
                "code",
                "role",
                "answers",
                "missing",
                "median seconds",
                *(KINDS[k].title for k in findings["rates"]),
            ],
            [
                [
                    markdown(person["code"]),
                    person["role"],
                    str(person["answers"]),
                    str(person["missing"]),
                    decimal(person["median_seconds"], 1),
                    *(percent(person["rates"][kind]) for kind in findings["rates"]),
                ]
                for person in people
            ],
        ),
        "",
        "## Question by question",
        "",
        *_questions(findings),
    ]
    comments = [
        f"- {question['id']}, {markdown(one['code'])}: {markdown(one['comment'])}"
        for question in findings["questions"]
        for one in question["comments"]
    ]
    if comments:
        lines += ["", "## Comments", "", *comments]
    return "\n".join(lines) + "\n"


def summary_lines(findings: Mapping[str, Any]) -> list[str]:
    """The rates alone, a line for each, for the terminal."""
    people = findings["participants"]
    missing = sum(person["missing"] for person in people)
    lines = [
        f"{count(len(people), 'participant')}. {_missing(missing, findings['questions_asked'] * len(people))}"
    ]
    for kind, rate in findings["rates"].items():
        between = findings["between_participants"][kind]["alpha"]
        lines.append(
            f"{KINDS[kind].title:24} agree {percent(rate['rate']):>7} ({rate['agreeing']} of "
            f"{rate['answers']}; 95 %: {_interval(rate['over_participants'] or rate['wilson'])}), "
            f"α between participants {decimal(between)}"
        )
    return lines


def _missing(missing: int, due: int) -> str:
    if not missing:
        return "Every question was answered by everyone."
    return f"{missing} of {due} answers are missing: these questions were left open and count nowhere."


def _beside_the_paper(findings: Mapping[str, Any]) -> list[str]:
    rows = [
        [KINDS[kind].title, percent(rate["rate"]), percent(IN_THE_PAPER[kind])]
        for kind, rate in findings["rates"].items()
    ]
    return [
        *_table(["kind", "here", "the paper"], rows),
        "",
        "The paper (Sec. 6) asked 18 people, with a background in data science and familiar with medical "
        "images, 26 questions about knee and skin. It tells neither how they were split among the three "
        "kinds (10, 10 and 6 unless you say otherwise) nor how they were worded: both are ours.",
        "",
    ]


def _preferences(findings: Mapping[str, Any]) -> list[str]:
    if EXPLANATIONS not in findings["rates"]:
        return []
    values, sides = findings["rates"][EXPLANATIONS]["values"], findings["sides"]
    text = (
        f"Of the explanations, the aligned model's was preferred {values.get(AFTER, 0)} times, the original "
        f"model's {values.get(BEFORE, 0)} times, and {values.get(NO_DIFFERENCE, 0)} times there was no "
        "difference. They are those of the run's report: test images that only the aligned model gets "
        "right come first, so this is no rate over all images."
    )
    if sides["decided"]:
        text += f" The one on the left was preferred in {sides['left']} of {sides['decided']} choices."
    return [text, ""]


def _questions(findings: Mapping[str, Any]) -> list[str]:
    rows = []
    for question in findings["questions"]:
        about = f"{question['image_id']}, class {question['class_name']}"
        if question["segment"] is not None:
            said = "spurious" if question["spurious"] else "valid"
            about += f", segment {question['segment']}: {said}, {question['reason']}"
        given = ", ".join(f"{value} {n}" for value, n in question["values"].items())
        rows.append(
            [
                question["id"],
                str(question["run"]),
                markdown(about),
                given,
                str(question["missing"]),
                percent(question["rate"]),
                decimal(question["median_seconds"], 1),
            ]
        )
    return _table(
        [
            "question",
            "run",
            "about, and what the critic said",
            "answers",
            "missing",
            "agree",
            "median seconds",
        ],
        rows,
    )


def _split_table(
    what: str, split: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Mapping[str, str]
) -> list[str]:
    found = {
        f"{group} {kind}": (names[group], rate)
        for group, rates in split.items()
        for kind, rate in rates.items()
    }
    return _rate_table(what, found)


def _rate_table(what: str, rates: Mapping[str, tuple[str, Mapping[str, Any]]]) -> list[str]:
    rows = []
    for name, (group, rate) in rates.items():
        kind = KINDS[name.rpartition(" ")[2]].title
        rows.append(
            [
                *([markdown(group)] if group else []),
                kind,
                percent(rate["rate"]),
                _interval(rate["wilson"]),
                _interval(rate["over_participants"]),
                percent(rate["rate_decided"]),
                f"{rate['agreeing']} / {rate['answers']}",
                str(rate["missing"]),
            ]
        )
    grouped = ["kind"] if what != "kind" else []
    return _table(
        [
            what,
            *grouped,
            "agree",
            "95 % (Wilson)",
            "95 % (over participants)",
            "of decided",
            "answers",
            "missing",
        ],
        rows,
    )


def _interval(bounds: Sequence[float] | None) -> str:
    return "—" if bounds is None else f"{percent(bounds[0])} to {percent(bounds[1])}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]
