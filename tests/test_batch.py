"""Files in OpenAI's batch format: three rounds to the verdicts, and whatever may come back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from critique_helpers import critic_judge, explained
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.batch_export import export_requests
from lvlm_va.critique.batch_import import import_responses
from lvlm_va.critique.driver import critique
from lvlm_va.critique.estimate import open_questions
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Store
from lvlm_va.errors import ConfigError, CriticError
from servers import Asked, answer, chat_server

SUBJECTS = [explained(number) for number in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "critiques.sqlite") as store:
        yield store


def by_file(model: str = "gpt-4o", judge: str = "gpt-4o") -> CriticJudge:
    return critic_judge(BatchBackend(model), BatchBackend(judge))


def lines(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def respond(request: dict[str, Any], text: str | None = None, **changes: Any) -> dict[str, Any]:
    """The line that the batch interface returns for a request."""
    message = {"role": "assistant", "content": text or answer(Asked(request["body"], 0))}
    body = {
        "model": "gpt-4o-2024",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    }
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": request["custom_id"], "response": response, "error": None} | changes


def write(path: Path, responses: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in responses), "utf-8")
    return path


def test_rounds_of_export_and_import_lead_to_the_verdicts_of_an_endpoint(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = []
    for number in range(10):
        export = export_requests(SUBJECTS, by_file(), store, tmp_path / f"round-{number}.jsonl")
        if not export.requests:
            assert export.files == ()
            break
        requests = lines(*export.files)
        assert len(requests) == export.requests
        assert all((r["method"], r["url"]) == ("POST", "/v1/chat/completions") for r in requests)
        stages.append(["critique" in r["body"]["messages"][0]["content"][:20] for r in requests])
        spoilt = {requests[0]["custom_id"]: "no verdicts from me"} if number == 1 else {}
        responses = [respond(r, spoilt.get(r["custom_id"])) for r in requests]
        summary = import_responses([write(tmp_path / f"answers-{number}.jsonl", responses)], store)
        assert summary.imported == len(requests)
    # The critics, the judges, the repair of the spoilt judgement; then nothing is left.
    assert stages == [[False] * 4, [True] * 4, [True]]

    # The same backend name and the same keys: online, everything is known already.
    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        verdicts = critique(SUBJECTS, critic_judge(make_backend("openai:gpt-4o")), store)
        assert not server.bodies
    assert [v.spurious for v in verdicts] == [True, False, True] * 4
    # Half of gpt-4o's 2.50 and 10 USD per million tokens.
    assert store.spent() == pytest.approx(9 * 0.5 * (1000 * 2.5e-6 + 100 * 10e-6))


def test_a_request_is_the_very_body_that_an_endpoint_gets(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request, *_) = lines(*export_requests(SUBJECTS, by_file(), store, tmp_path / "r.jsonl").files)
    with chat_server() as server, Store.open(tmp_path / "other.sqlite") as other:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        critique(SUBJECTS[:1], critic_judge(make_backend("openai:gpt-4o")), other)
        assert server.bodies[0] == request["body"]
        assert other.exchanges()[0].key == request["custom_id"]


def test_whatever_comes_back_is_sorted_and_nothing_good_is_lost(store: Store, tmp_path: Path) -> None:
    requests = lines(*export_requests(SUBJECTS, by_file(), store, tmp_path / "r.jsonl").files)
    good, bad_status, bad_line, unanswered = requests
    error = {"error": {"message": "the image is\n too large", "code": "x"}}
    responses = [
        respond(good),
        respond(good, "a second, different answer"),
        respond({**good, "custom_id": "not ours"}),
        respond(bad_status, response={"status_code": 400, "body": error}),
        respond(bad_line, response=None, error={"code": "batch_expired", "message": "too late"}),
        respond(unanswered, response={"status_code": 200, "body": {"choices": []}}),
    ]
    path = write(tmp_path / "answers.jsonl", responses)
    whole = path.read_text() + "\n[1]\n{}\n\xff\n" + json.dumps(respond(unanswered))
    path.write_bytes(whole.encode("latin-1")[:-20])
    summary = import_responses([path], store)
    assert summary.imported == 1
    assert summary.known == 1
    assert summary.unknown == ("not ours",)
    assert summary.failed == (
        (bad_status["custom_id"], "HTTP 400: the image is too large"),
        (bad_line["custom_id"], "HTTP None: too late"),
        (unanswered["custom_id"], "the answer holds no choice"),
    )
    assert [(int(where.rpartition(" ")[2]), reason.split(";")[0]) for where, reason in summary.damaged] == [
        (8, "no custom_id"),
        (9, "no custom_id"),
        (10, "not JSON"),
        (11, "not JSON"),
    ]
    reply = store.lookup(good["custom_id"])
    assert reply is not None
    assert "SEGMENT 1: SPURIOUS" in reply.text
    assert import_responses([path], store).imported == 0
    # The next round asks the judge about the one answer, and the three others again.
    stages = [q.stage for q in open_questions(SUBJECTS, by_file(), store)]
    assert stages == ["judge", "critic", "critic", "critic"]


def test_files_are_split_at_the_limits_and_by_model(store: Store, tmp_path: Path) -> None:
    by_count = export_requests(SUBJECTS, by_file(), store, tmp_path / "n.jsonl", most_requests=3)
    assert [p.name for p in by_count.files] == ["n-0001.jsonl", "n-0002.jsonl"]
    assert [len(lines(p)) for p in by_count.files] == [3, 1]
    size = by_count.files[1].stat().st_size
    by_size = export_requests(SUBJECTS, by_file(), store, tmp_path / "s.jsonl", most_bytes=2 * size + 10)
    assert [len(lines(p)) for p in by_size.files] == [2, 2]
    assert all(p.stat().st_size <= 2 * size + 10 for p in by_size.files)
    assert lines(*by_size.files) == lines(*by_count.files)

    requests = lines(*by_count.files)
    import_responses([write(tmp_path / "a.jsonl", [respond(r) for r in requests[:2]])], store)
    mixed = export_requests(SUBJECTS, by_file(judge="o3"), store, tmp_path / "m.jsonl")
    assert [{r["body"]["model"] for r in lines(p)} for p in mixed.files] == [{"o3"}, {"gpt-4o"}]
    assert {p.name for p in tmp_path.glob("*.partial")} == set()


def test_files_that_may_have_been_sent_are_not_overwritten(store: Store, tmp_path: Path) -> None:
    export_requests(SUBJECTS, by_file(), store, tmp_path / "r.jsonl", most_requests=2)
    with pytest.raises(ConfigError, match=r"r-000\d\.jsonl exists already"):
        export_requests(SUBJECTS, by_file(), store, tmp_path / "r.jsonl")


def test_a_failed_export_leaves_no_file(store: Store, tmp_path: Path) -> None:
    def failing() -> Iterator[Any]:
        yield from SUBJECTS
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        export_requests(failing(), by_file(), store, tmp_path / "out" / "r.jsonl")
    assert list((tmp_path / "out").iterdir()) == []


async def test_who_cannot_be_asked_by_file_says_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ground-truth cannot be asked by file"):
        export_requests(SUBJECTS, critic_judge(make_backend("ground-truth")), store, tmp_path / "r.jsonl")
    with pytest.raises(ConfigError, match=r"none\.jsonl: the answers cannot be read"):
        import_responses([tmp_path / "none.jsonl"], store)
    with pytest.raises(CriticError, match="asked by file"):
        await BatchBackend("m").answer(next(by_file().review(SUBJECTS[0])))
