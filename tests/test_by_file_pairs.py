"""Critic and judge asked in different ways: as a batch, in folders, here. Each pair comes to its verdicts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from critique_helpers import Scripted, critic_judge, explained
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.backends.file import FileBackend
from lvlm_va.critique.batch_export import export_requests
from lvlm_va.critique.batch_import import import_responses
from lvlm_va.critique.driver import critique
from lvlm_va.critique.folder_export import export_folder
from lvlm_va.critique.folder_import import import_folders
from lvlm_va.critique.question import Backend
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Store
from lvlm_va.errors import AskedByFile, ConfigError
from lvlm_va.project.questions import ExportedQuestions
from servers import Asked, answer

SUBJECTS = [explained(number) for number in range(3)]
CLEAR = "\n".join(f"SEGMENT {j}: {'VALID' if j == 2 else 'SPURIOUS'} — part {j}" for j in (1, 2, 3))
HEDGED = CLEAR.replace("part 3", "perhaps a patch")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "critiques.sqlite") as store:
        yield store


def batch_round(panel: CriticJudge, store: Store, path: Path, critique_text: str = CLEAR) -> list[str]:
    """Export, answer and import one round by batch; the stages that were asked."""
    stages = []
    for file in export_requests(SUBJECTS, panel, store, path).files:
        responses = []
        for line in file.read_text("utf-8").splitlines():
            request = json.loads(line)
            asked = Asked(request["body"], 0)
            stages.append("judge" if asked.is_judge else "critic")
            message = {"content": answer(asked) if asked.is_judge else critique_text}
            body = {"choices": [{"message": message, "finish_reason": "stop"}]}
            response = {"status_code": 200, "body": body}
            responses.append(json.dumps({"custom_id": request["custom_id"], "response": response}))
        answers = file.with_suffix(".answers.jsonl")
        answers.write_text("\n".join(responses), "utf-8")
        assert import_responses([answers], store).imported == len(responses)
    return stages


def folder_round(panel: CriticJudge, store: Store, path: Path, critique_text: str = CLEAR) -> list[str]:
    """The same by folder."""
    if not export_folder(SUBJECTS, panel, store, path).files:
        return []
    stages = []
    for folder in sorted(f for f in path.iterdir() if f.is_dir()):
        prompt = (folder / "prompt.txt").read_text("utf-8")
        asked = Asked({"messages": [{"role": "user", "content": prompt}]}, 0)
        stages.append("judge" if asked.is_judge else "critic")
        (folder / "answer.txt").write_text(answer(asked) if asked.is_judge else critique_text, "utf-8")
    assert import_folders([path], store, answered_by="A person").imported == len(stages)
    return stages


def check_verdicts(panel: CriticJudge, store: Store) -> None:
    assert [v.spurious for v in critique(SUBJECTS, panel, store)] == [True, False, True] * 3


def test_a_batch_and_the_built_in_judge(store: Store, tmp_path: Path) -> None:
    panel = critic_judge(BatchBackend("gpt-4o"), make_backend("builtin"))
    assert batch_round(panel, store, tmp_path / "1.jsonl") == ["critic"] * 3
    again = export_requests(SUBJECTS, panel, store, tmp_path / "2.jsonl")
    assert (again.requests, again.files, again.others) == (0, (), {"builtin": 3})
    check_verdicts(panel, store)


@pytest.mark.parametrize(("text", "judged"), [(CLEAR, []), (HEDGED, ["judge"])])
def test_a_batch_and_lines(store: Store, tmp_path: Path, text: str, judged: list[str]) -> None:
    panel = critic_judge(BatchBackend("gpt-4o"), lines_first=True)
    assert batch_round(panel, store, tmp_path / "1.jsonl", text) == ["critic"] * 3
    assert batch_round(panel, store, tmp_path / "2.jsonl") == judged, "of equal critiques one"
    check_verdicts(panel, store)


def test_a_batch_and_a_judge_by_folder(store: Store, tmp_path: Path) -> None:
    panel = critic_judge(BatchBackend("gpt-4o"), FileBackend("ann"))
    early = export_folder(SUBJECTS, panel, store, tmp_path / "early")
    assert (early.files, early.others) == ((), {"openai:gpt-4o": 3}), "Ann is not asked what the model is"
    assert batch_round(panel, store, tmp_path / "1.jsonl") == ["critic"] * 3
    assert export_requests(SUBJECTS, panel, store, tmp_path / "2.jsonl").others == {"file:ann": 1}
    assert folder_round(panel, store, tmp_path / "ann") == ["judge"]
    check_verdicts(panel, store)


def test_folders_and_a_judge_by_batch(store: Store, tmp_path: Path) -> None:
    panel = critic_judge(FileBackend("ann"), BatchBackend("gpt-4o"))
    assert folder_round(panel, store, tmp_path / "ann") == ["critic"] * 3
    assert batch_round(panel, store, tmp_path / "1.jsonl") == ["judge"]
    check_verdicts(panel, store)


@pytest.mark.parametrize("judge", [BatchBackend("gpt-4o"), FileBackend("ann")])
def test_a_critic_that_answers_here_answers_all_before_its_judge_is_waited_for(
    store: Store, tmp_path: Path, judge: Backend
) -> None:
    critic = Scripted(lambda _: CLEAR, kind="lvlm")
    panel = critic_judge(critic, judge)
    with pytest.raises(AskedByFile, match=f"{judge.name} has open questions and is asked by file"):
        critique(SUBJECTS, panel, store, concurrency=1)
    assert len(critic.asked) == 3
    by_batch = isinstance(judge, BatchBackend)
    one_round = batch_round if by_batch else folder_round
    assert one_round(panel, store, tmp_path / ("1.jsonl" if by_batch else "ann")) == ["judge"]
    check_verdicts(panel, store)
    assert len(critic.asked) == 3, "nothing is asked twice"


def test_what_cannot_be_asked_so_is_told_the_way_on(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(
        ConfigError, match=r"file:ann is asked by folder: --export DIR, a name without \.jsonl"
    ):
        export_requests(SUBJECTS, critic_judge(FileBackend("ann"), make_backend("builtin")), store, path)
    with pytest.raises(ConfigError, match="builtin cannot be asked by file; name openai:<model>, or file"):
        export_requests(SUBJECTS, critic_judge(make_backend("builtin")), store, path)
    said = str(ExportedQuestions(0, (), {"openai:gpt-4o": 3, "file:ann": 1, "builtin": 2}))
    assert said.split(" Open: ") == [
        "Nothing is to be asked so.",
        "3 questions to openai:gpt-4o, by --export X.jsonl; with a key, lvlm-va critique asks online.",
        "1 question to file:ann, by --export DIR.",
        "2 questions to builtin, which lvlm-va critique asks.",
    ]
