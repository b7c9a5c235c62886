"""A part of the corpus of bad inputs (`python -m bench.bad_inputs`), of every kind some; slow: all of it."""

from pathlib import Path

import pytest

from bench import bad_data, bad_files, bad_words
from bench.bad_inputs import Case, judge

CASES = [case for module in (bad_words, bad_data, bad_files) for case in module.cases()]
QUICK = [case for case in CASES if case.kind != "run files"]
SOME = [case for case in CASES if case.kind == "answers"] + [
    case for n, case in enumerate(c for c in QUICK if c.kind != "answers") if n % 25 == 7
]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


def told(case: Case, folder: Path) -> None:
    outcome = judge(case, folder)
    assert outcome.outcome == "told", outcome


def test_there_are_enough() -> None:
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES) > 400
    assert {case.kind for case in SOME} == {case.kind for case in QUICK}


@pytest.mark.parametrize("case", SOME, ids=lambda case: f"{case.kind}: {case.name}")
def test_some_bad_inputs_are_told(case: Case, tmp_path: Path) -> None:
    told(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [c for c in CASES if c not in SOME], ids=lambda case: f"{case.kind}: {case.name}"
)
def test_all_bad_inputs_are_told(case: Case, tmp_path: Path) -> None:
    told(case, tmp_path)
