"""Open questions as folders, one each, for whoever has a chat window and nothing else.

    DIR/README.md
    DIR/0001-1f0c2b…/prompt.txt  1.png  2.png  3.png  answer.txt

A folder's name ends in the beginning of its question's key; by that the answer is recognised, wherever the
folder went in between. Nothing in it names the image or the run.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.backends.file import FileBackend
from lvlm_va.critique.batch_export import Export
from lvlm_va.critique.estimate import open_questions
from lvlm_va.critique.prompts import fill
from lvlm_va.critique.question import ExplainedImage, Question
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Store
from lvlm_va.errors import ConfigError

__all__ = ["ANSWER", "KEY_DIGITS", "PROMPT", "export_folder", "lay_out", "prompt_text", "whole_folder"]

PROMPT, ANSWER = "prompt.txt", "answer.txt"
KEY_DIGITS = 16
"""Hexadecimal digits of a key in a folder's name, 64 bits."""


def prompt_text(system: str, prompt: str) -> str:
    """The one text that is pasted: system prompt and prompt."""
    return f"{system}\n\n{prompt}\n"


def export_folder(
    explained_images: Iterable[ExplainedImage], critic_judge: CriticJudge, store: Store, path: str | Path
) -> Export:
    """Lay each open question out as a folder; questions that another kind of backend answers are left to it.

    A model named for a batch may answer in folders, too; beside somebody who is asked by folder it does not.

    The questions are recorded in the store first, so that their answers will be recognised.

    Args:
        explained_images: the explained images.
        critic_judge: critic or judge, or both, are asked by file.
        store: where questions are recorded.
        path: a folder that does not exist or is empty; it appears when it is complete.

    Raises:
        ConfigError: if nobody is asked by file, or the folder cannot be written or holds something.
    """
    return lay_out(open_questions(explained_images, critic_judge, store), critic_judge, store, path)


def lay_out(
    questions: Iterable[Question], critic_judge: CriticJudge, store: Store, path: str | Path
) -> Export:
    """`export_folder` for these questions."""
    path = Path(path)
    by_file = [one for one in (critic_judge.critic, critic_judge.judge) if isinstance(one, FileBackend)]
    if not by_file:
        raise ConfigError(f"{critic_judge.critic.name} cannot be asked by file; name file or openai:<model>")
    by_folder = [one for one in by_file if not isinstance(one, BatchBackend)] or by_file
    others: Counter[str] = Counter()
    written = 0
    with whole_folder(path, "questions") as part:
        for question in questions:
            backend = critic_judge.backend(question.stage)
            if backend in by_folder:
                written += 1
                key = store.record_question(question, backend.name)
                _lay_out(question, part / f"{written:04d}-{key[:KEY_DIGITS]}")
            else:
                others[backend.name] += 1
        if not written:
            return Export((), 0, others)
        (part / "README.md").write_text(fill("folder_readme", number=str(written)) + "\n", "utf-8")
    return Export((path,), written, others)


@contextmanager
def whole_folder(path: Path, what: str) -> Iterator[Path]:
    """A new folder that is complete under its name or not there, whatever interrupts.

    Args:
        path: its name; an empty folder may be there.
        what: it is to hold, in words.

    Yields:
        where it is written before it takes its name; if nothing is there in the end, nothing takes it.

    Raises:
        ConfigError: if the folder cannot be written or holds something.
    """
    if path.name in ("", ".."):
        raise ConfigError(f"{path}: name a folder that is to be made for the {what}")
    part = path.with_name(f"{path.name}.partial")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path} is not empty, and may hold answers; name another folder")
        shutil.rmtree(part, ignore_errors=True)
        yield part
        if part.is_dir():
            if path.is_dir():
                path.rmdir()
            part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: the {what} cannot be written there: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _lay_out(question: Question, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / PROMPT).write_text(prompt_text(question.system, question.prompt), "utf-8")
    for number, image in enumerate(question.images, 1):
        (folder / f"{number}.png").write_bytes(image.png)
    (folder / ANSWER).touch()
