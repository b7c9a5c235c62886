"""The store: every question and every answer in one SQLite file, committed before it counts as done.

An answer is on the disk (WAL, synchronous=FULL) before `record` or `keep` returns, so a process that is
killed at any moment has lost nothing it was told is kept. Answers that arrive together are committed
together: a commit waits for the disk, and while it waits, more arrive. One process at a time: the file is
locked while it is open.
"""

import json
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from lvlm_va.critique.commits import Commits
from lvlm_va.critique.database import Database
from lvlm_va.critique.exchange import Cost, Exchange
from lvlm_va.critique.judge import allows_mixed, read_judgement
from lvlm_va.critique.prompts import enclosed
from lvlm_va.critique.question import Question, Reply, as_text
from lvlm_va.io.redaction import redact, redact_all

__all__ = ["Cost", "Exchange", "Store"]

_VERSION = 1
# Beside the tables of version 1, whose readers it does not disturb: which questions are equal but for the
# image they are about, and which of their answers are copies that cost nothing.
_CONTENTS = (
    "CREATE TABLE IF NOT EXISTS contents "
    "(key TEXT PRIMARY KEY REFERENCES questions (key), content TEXT NOT NULL, copied INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS questions_of_a_content ON contents (content)",
)
_MERGE = (
    "INSERT OR IGNORE INTO questions SELECT * FROM other.questions ORDER BY rowid",
    "INSERT OR IGNORE INTO contents SELECT * FROM other.contents ORDER BY rowid",
    "INSERT OR IGNORE INTO answers SELECT * FROM other.answers ORDER BY rowid",
    "INSERT INTO failures SELECT * FROM other.failures EXCEPT SELECT * FROM failures",
)
_ANSWER = "SELECT text, model, input_tokens, output_tokens, usd, seconds, problem, note FROM answers"
_EQUAL = """
    SELECT text, model, input_tokens, output_tokens, usd, seconds, problem, note, image_id
    FROM contents JOIN answers USING (key) JOIN questions USING (key)
"""
_EXCHANGES = """
    SELECT key, stage, backend, image_id, class_name, specification, system, prompt, images, segment_ids,
           parameters, verdicts, text, model, input_tokens, output_tokens, usd, seconds, problem, note
    FROM questions LEFT JOIN answers USING (key)
"""


T = TypeVar("T")

_COMMITTED = 1_000  # items whose records go to the disk together


class Store:
    """Questions and answers of one run. Create with `Store.open`; use as a context manager.

    All methods raise `RunError`, saying what to do, when the file is damaged, the disk is full or the
    file cannot be written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits = Commits(database)
        self._answered: set[int] | None = None  # beginnings of the keys and contents with an answer

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open or create the store at `path`.

        Raises:
            RunError: if the file is not a store, was written in another version of its format, is
                damaged, is in use by another process, or cannot be created.
        """
        schema = files("lvlm_va.critique").joinpath("schema.sql").read_text("utf-8")
        store = cls(Database.open(Path(path), schema, _VERSION))
        try:
            with store._database.transaction() as db:
                for statement in _CONTENTS:
                    db.execute(statement)
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; what was recorded is on the disk already."""
        try:
            self._commits.finish()
        finally:
            self._database.close()

    def copy(self, path: Path) -> None:
        """Write all of it to another file, which must not exist."""
        self._database.rows("VACUUM INTO ?", (str(path),))

    def merge(self, path: Path) -> None:
        """Take what another store knows and this one does not; the first answer to a question stays.

        Raises:
            RunError: as `open` says of the other file.
        """
        Store.open(path).close()  # is it one, and free? What its owner left in its log is in the file then
        self._database.rows("ATTACH DATABASE ? AS other", (str(path),))
        try:
            with self._database.transaction() as db:
                for statement in _MERGE:
                    db.execute(statement)
        finally:
            self._database.rows("DETACH DATABASE other")
        self._answered = None

    def has_answers(self, backend: str) -> bool:
        """Whether any question to this backend was answered."""
        sql = "SELECT 1 FROM questions JOIN answers USING (key) WHERE backend = ? LIMIT 1"
        return bool(self._database.rows(sql, (backend,)))

    def may_know(self, question: Question, backend: str) -> bool:
        """Whether the file is worth asking; False is certain, and costs no look at the disk."""
        answered = self._index()
        return _beginning(question.key(backend)) in answered or (
            _beginning(question.content_key(backend)) in answered
        )

    def lookup(self, key: str) -> Reply | None:
        """The answer to the question with this key, or None."""
        rows = self._database.rows(f"{_ANSWER} WHERE key = ?", (key,))
        return Reply(*rows[0]) if rows else None

    def find(self, question: Question, backend: str) -> Reply | None:
        """The answer to a question, or to an equal one about another image, or None.

        Equal questions show the same images and say the same. An answer to one is recorded for the other
        too, as a copy that cost nothing. So is a whole answer under another limit of tokens; one that was cut
        off counts under its own limit alone.
        """
        if not self.may_know(question, backend):
            return None
        reply = self.lookup(question.key(backend))
        if reply is not None:
            return reply
        rows = self._database.rows(
            f"{_EQUAL} WHERE content = ? AND (problem = '' OR parameters = ?) ORDER BY answers.rowid LIMIT 1",
            (question.content_key(backend), _parameters(question)),
        )
        if not rows:
            return None
        *values, image_id = rows[0]
        equal = Reply(*values)
        same = image_id == question.explained.image_id
        said = "asked before with another limit" if same else f"the same question was asked about {image_id}"
        note = "; ".join(filter(None, (equal.note, said)))
        reply = replace(equal, input_tokens=0, output_tokens=0, usd=0.0, seconds=0.0, note=note)
        with self._database.transaction() as db:
            key = _insert_question(db, question, backend)
            _insert_answer(db, key, reply)
            db.execute("UPDATE contents SET copied = 1 WHERE key = ?", (key,))
        self._note(question, backend)
        return reply

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is recorded meanwhile is on the disk at the end, or nothing is: one commit for all."""
        with self._database.transaction():
            yield

    def committed_together(self, items: Iterable[T]) -> Generator[T, None, None]:
        """The items, one by one; what is recorded of them goes to the disk in larger pieces.

        To be closed, as `contextlib.closing` does: what was recorded before an interruption is then kept.
        """
        left, some = iter(items), True
        while some:
            some = False
            with self.together():
                for item in islice(left, _COMMITTED):
                    some = True
                    yield item

    def record_question(self, question: Question, backend: str) -> str:
        """Record a question that will be asked elsewhere (a batch file); returns its key."""
        with self._database.transaction() as db:
            return _insert_question(db, question, backend)

    def record(self, question: Question, backend: str, reply: Reply) -> None:
        """Record a question with its answer; the first answer to a question stays."""
        with self._database.transaction() as db:
            _insert_answer(db, _insert_question(db, question, backend), reply)
        self._note(question, backend)

    async def keep(self, question: Question, backend: str, reply: Reply) -> None:
        """`record`, on the disk together with what else has just arrived."""
        await self._commits.soon(
            lambda db: _insert_answer(db, _insert_question(db, question, backend), reply)
        )
        self._note(question, backend)

    async def keep_failure(self, question: Question, backend: str, error: str) -> None:
        """Record an attempt that brought no answer, likewise; the question stays open."""
        await self._commits.soon(
            lambda db: _insert_failure(db, _insert_question(db, question, backend), error)
        )

    def record_reply(self, key: str, reply: Reply) -> None:
        """Record the answer to a question recorded before; the first answer stays."""
        with self._database.transaction() as db:
            _insert_answer(db, key, reply)
        self._answered = None

    def record_failed_reply(self, key: str, error: str) -> None:
        """Record an attempt at a question recorded before that brought no answer."""
        with self._database.transaction() as db:
            _insert_failure(db, key, error)

    def _index(self) -> set[int]:
        if self._answered is None:
            rows = self._database.rows("SELECT key, content FROM answers LEFT JOIN contents USING (key)")
            self._answered = {_beginning(text) for row in rows for text in row if text is not None}
        return self._answered

    def _note(self, question: Question, backend: str) -> None:
        if self._answered is not None:
            self._answered |= {
                _beginning(question.key(backend)),
                _beginning(question.content_key(backend)),
            }

    def costs(self) -> list[Cost]:
        """Costs per stage, backend and model, all runs with this store together."""
        rows = self._database.rows(
            """
            SELECT stage, backend, model, count(*), 0, coalesce(sum(input_tokens), 0),
                   coalesce(sum(output_tokens), 0), total(usd), sum(usd IS NULL), total(seconds)
            FROM answers JOIN questions USING (key)
            WHERE key NOT IN (SELECT key FROM contents WHERE copied) GROUP BY stage, backend, model
            UNION ALL
            SELECT stage, backend, '', 0, count(*), 0, 0, 0.0, 0, 0.0
            FROM failures JOIN questions USING (key) GROUP BY stage, backend
            ORDER BY stage, backend, model
            """
        )
        return [Cost(*row) for row in rows]

    def spent(self) -> float:
        """US dollars over all answers with a known price."""
        return sum(cost.usd for cost in self.costs())

    def unpriced(self) -> int:
        """How many answers of vision-language models have no known price; `spent` is then a lower bound."""
        return sum(cost.unpriced for cost in self.costs() if cost.usd or cost.input_tokens)

    def exchange(self, key: str) -> Exchange | None:
        """The question with this key and its answer, or None if it was never recorded."""
        rows = self._database.rows(f"{_EXCHANGES} WHERE key = ?", (key,))
        return _exchange(rows[0]) if rows else None

    def exchange_beginning_with(self, beginning: str) -> Exchange | None:
        """The question whose key begins so, answered or not; None if there is none, or more than one."""
        rows = self._database.rows(
            f"{_EXCHANGES} WHERE substr(key, 1, ?) = ? LIMIT 2", (len(beginning), beginning)
        )
        return _exchange(rows[0]) if len(rows) == 1 else None

    def exchanges(self, image_id: str | None = None) -> list[Exchange]:
        """The questions about one image, or all, oldest first, with what was answered."""
        if image_id is None:
            rows = self._database.rows(f"{_EXCHANGES} ORDER BY questions.rowid")
        else:  # a condition of its own, so that the index of images serves
            rows = self._database.rows(
                f"{_EXCHANGES} WHERE image_id = ? ORDER BY questions.rowid", (image_id,)
            )
        return [_exchange(row) for row in rows]

    def criticised(self) -> set[str]:
        """The images about which a critic answered; their texts are not read."""
        sql = "SELECT DISTINCT image_id FROM questions JOIN answers USING (key) WHERE stage = 'critic'"
        return {image_id for (image_id,) in self._database.rows(sql)}


def _beginning(key: str) -> int:
    """The first 64 bits of a key."""
    return int(key[:16], 16)


def _exchange(row: tuple[Any, ...]) -> Exchange:
    (key, stage, backend, image_id, class_name, version, system, prompt, images, segment_ids) = row[:10]
    parameters, verdicts = row[10:12]
    return Exchange(
        key=key,
        stage=stage,
        backend=backend,
        image_id=image_id,
        class_name=class_name,
        specification=version,
        system=system,
        prompt=prompt,
        images=tuple((caption, sha256) for caption, sha256 in json.loads(images)),
        segment_ids=tuple(json.loads(segment_ids)),
        parameters=json.loads(parameters),
        reply=Reply(*row[12:]) if row[12] is not None else None,
        verdicts=None
        if verdicts is None
        else {int(j): (r, why) for j, (r, why) in json.loads(verdicts).items()},
    )


def _insert_question(db: sqlite3.Connection, question: Question, backend: str) -> str:
    key = question.key(backend)
    values = (
        key,
        question.stage,
        backend,
        question.explained.image_id,
        question.explained.class_name,
        question.specification.version,
        question.system,
        question.prompt,
        json.dumps([[p.caption, p.sha256] for p in question.images]),
        json.dumps(question.segment_ids),
        json.dumps(question.schema),
        _parameters(question),
        _now(),
    )
    db.execute(
        "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        values,
    )
    db.execute(
        "INSERT INTO contents VALUES (?, ?, 0) ON CONFLICT (key) DO NOTHING",
        (key, question.content_key(backend)),
    )
    return key


def _parameters(question: Question) -> str:
    return json.dumps(dict(question.parameters), default=str)


def _insert_answer(db: sqlite3.Connection, key: str, reply: Reply) -> None:
    text, model, problem, note = redact_all(
        *map(as_text, (reply.text, reply.model, reply.problem, reply.note))
    )
    sql = "SELECT stage, segment_ids, prompt, schema FROM questions WHERE key = ?"
    stage, segment_ids, prompt, schema = db.execute(sql, (key,)).fetchone()
    verdicts = None
    if stage == "judge":
        readable = "" if reply.problem else text
        verdicts = read_judgement(
            readable,
            tuple(json.loads(segment_ids)),
            enclosed("critique", prompt) or "",
            mixed=allows_mixed(json.loads(schema)),
        ).verdicts
    db.execute(
        "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (
            key,
            text,
            model,
            reply.input_tokens,
            reply.output_tokens,
            reply.usd,
            reply.seconds,
            problem,
            note,
            None if verdicts is None else json.dumps(verdicts),
            _now(),
        ),
    )


def _insert_failure(db: sqlite3.Connection, key: str, error: str) -> None:
    db.execute("INSERT INTO failures VALUES (?, ?, ?)", (key, redact(as_text(error)), _now()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
