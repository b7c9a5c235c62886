"""Questions as folders: laid out for a stranger, and whatever a stranger may send back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from critique_helpers import critic_judge, explained
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.backends.builtin import BuiltinCritic
from lvlm_va.critique.backends.file import FileBackend
from lvlm_va.critique.driver import critique
from lvlm_va.critique.folder_export import export_folder
from lvlm_va.critique.folder_import import import_folders
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Store
from lvlm_va.errors import ConfigError, CriticError
from servers import Asked, answer

SUBJECTS = [explained(number) for number in range(4)]
LINES = "\n".join(f"SEGMENT {j}: {'VALID' if j == 2 else 'SPURIOUS'} — a patch" for j in (1, 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "critiques.sqlite") as store:
        yield store


def by_file() -> CriticJudge:
    return critic_judge(FileBackend("chat"))


def folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir())


def fill_in(path: Path) -> None:
    """Answer all questions in a folder, from what stands there and nothing else."""
    for folder in folders(path):
        prompt = (folder / "prompt.txt").read_text("utf-8")
        body = {"messages": [{"role": "user", "content": prompt}]}
        is_judge = "between <critique" in prompt
        (folder / "answer.txt").write_text(answer(Asked(body, 0)) if is_judge else LINES, "utf-8")


def test_rounds_of_folders_lead_to_verdicts(store: Store, tmp_path: Path) -> None:
    rounds = []
    for number in range(9):
        export = export_folder(SUBJECTS, by_file(), store, tmp_path / f"round-{number}")
        if not export.requests:
            break
        (path,) = export.files
        assert (path / "README.md").read_text("utf-8").startswith("# Questions about images: ")
        rounds.append([sorted(file.name for file in folder.iterdir()) for folder in folders(path)])
        assert all((folder / "answer.txt").read_bytes() == b"" for folder in folders(path))
        fill_in(path)
        taken = import_folders([path], store, answered_by="A model", note="one conversation each")
        assert (taken.imported, taken.damaged, taken.unknown) == (export.requests, (), ())
        assert import_folders([path], store, answered_by="A model").known == export.requests
    assert rounds == [
        [["1.png", "2.png", "3.png", "answer.txt", "prompt.txt"]] * 4,
        [["answer.txt", "prompt.txt"]],  # four equal critiques are judged once
    ]
    verdicts = critique(SUBJECTS, by_file(), store)
    assert [v.spurious for v in verdicts] == [True, False, True] * 4
    assert {v.author for v in verdicts} == {"file:chat"}
    replies = [exchange.reply for exchange in store.exchanges()]
    assert {reply.model for reply in replies if reply} == {"A model"}
    assert all(
        reply and reply.note.startswith("answered by file; one conversation each") for reply in replies
    )


def test_what_is_laid_out_is_what_an_endpoint_is_sent(store: Store, tmp_path: Path) -> None:
    (path,) = export_folder(SUBJECTS[:1], by_file(), store, tmp_path / "out").files
    (folder,) = folders(path)
    question = next(by_file().review(SUBJECTS[0]))
    prompt = (folder / "prompt.txt").read_text("utf-8")
    assert prompt.startswith(question.system)
    assert prompt.rstrip().endswith(question.prompt)
    assert [(folder / f"{n}.png").read_bytes() for n in (1, 2, 3)] == [i.png for i in question.images]
    assert SUBJECTS[0].image_id not in prompt + folder.name, "an id may tell the label"


def test_a_judge_that_reads_lines_is_not_asked_by_file(store: Store, tmp_path: Path) -> None:
    panel = critic_judge(FileBackend(), BuiltinCritic())
    (path,) = export_folder(SUBJECTS, panel, store, tmp_path / "out").files
    fill_in(path)
    import_folders([path], store, answered_by="A person")
    assert export_folder(SUBJECTS, panel, store, tmp_path / "again").files == ()
    assert not (tmp_path / "again").exists()
    assert [v.spurious for v in critique(SUBJECTS, panel, store)] == [True, False, True] * 4


def test_a_few_answers_from_odd_editors(store: Store, tmp_path: Path) -> None:
    (path,) = export_folder(SUBJECTS, by_file(), store, tmp_path / "out").files
    first, second, third, fourth = folders(path)
    (first / "answer.txt").write_bytes(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())
    (second / "answer.txt").write_text(LINES, "utf-16")
    (third / "answer.txt").write_text(" \n", "utf-8")
    prompt = (first / "prompt.txt").read_text("utf-8")
    (first / "prompt.txt").write_bytes(b"\xef\xbb\xbf" + prompt.replace("\n", "\r\n").encode())
    # One sent back alone, after a mail program had renamed it.
    alone = fourth.rename(tmp_path / f"{fourth.name} (2)")
    (alone / "answer.txt").write_text(LINES, "utf-8")
    taken = import_folders([path, alone], store, answered_by="Nobody")
    assert (taken.imported, taken.empty, taken.damaged, taken.unreadable) == (3, 1, (), ())
    assert export_folder(SUBJECTS, critic_judge(FileBackend("chat"), BuiltinCritic()), store, tmp_path / "b")
    assert len(folders(tmp_path / "b")) == 1, "the one that was left empty"


def test_what_cannot_be_an_answer_is_named_and_nothing_else_lost(store: Store, tmp_path: Path) -> None:
    (path,) = export_folder(SUBJECTS, by_file(), store, tmp_path / "out").files
    changed, latin, missing, good = folders(path)
    fill_in(path)
    (changed / "prompt.txt").write_text("Which of them is a cat?", "utf-8")
    (latin / "answer.txt").write_bytes(LINES.encode("cp1252", "replace") + b"\xe4")
    (missing / "answer.txt").unlink()
    (path / "0009-0123456789abcdef").mkdir()
    (path / "0009-0123456789abcdef" / "answer.txt").write_text(LINES, "utf-8")
    (path / "notes").mkdir()
    taken = import_folders([path, tmp_path / "out" / "notes"], store, answered_by="A model")
    assert taken.imported == 1
    assert taken.unknown == ("0009-0123456789abcdef",)
    assert taken.unreadable == (str(path / "notes"),)
    assert {Path(where).name: why.split(";")[0] for where, why in taken.damaged} == {
        changed.name: "prompt.txt is not what was asked",
        latin.name: "answer.txt is no UTF-8 text",
        missing.name: "holds no answer.txt",
    }
    (exchange,) = [e for e in store.exchanges() if e.reply]
    assert exchange.key.startswith(good.name.rpartition("-")[2])


def test_refusals(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say who answered"):
        import_folders([tmp_path], store, answered_by=" ")
    with pytest.raises(ConfigError, match="cannot be asked by file"):
        export_folder(SUBJECTS, critic_judge(BuiltinCritic()), store, tmp_path / "out")
    (tmp_path / "full" / "answers").mkdir(parents=True)
    for nameless in (".", "..", "/"):
        with pytest.raises(ConfigError, match="name a folder that is to be made for the questions"):
            export_folder(SUBJECTS, by_file(), store, nameless)
    with pytest.raises(ConfigError, match="is not empty, and may hold answers"):
        export_folder(SUBJECTS, by_file(), store, tmp_path / "full")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written there"):
        export_folder(SUBJECTS, by_file(), store, tmp_path / "file" / "out")
    with pytest.raises(CriticError, match="take them with lvlm-va critique"):
        critique(SUBJECTS, by_file(), store)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["full"]


def test_a_model_named_for_a_batch_may_answer_in_a_folder_too(store: Store, tmp_path: Path) -> None:
    panel = critic_judge(BatchBackend("gpt-4o"), make_backend("builtin"))
    (path,) = export_folder(SUBJECTS, panel, store, tmp_path / "out").files
    fill_in(path)
    assert import_folders(folders(path), store, answered_by="gpt-4o in its chat window").imported == 4
    assert {v.author for v in critique(SUBJECTS, panel, store)} == {"openai:gpt-4o judged by builtin"}
