-- Every question asked, every answer paid for, every attempt that failed.

CREATE TABLE questions (
    key           TEXT PRIMARY KEY,           -- Question.key: SHA-256 over all that could change the answer
    stage         TEXT NOT NULL,              -- critic | judge
    backend       TEXT NOT NULL,              -- who is asked, e.g. openai:gpt-4o
    image_id      TEXT NOT NULL,
    class_name    TEXT NOT NULL,
    specification TEXT NOT NULL,              -- ClassSpecification.version
    system        TEXT NOT NULL,
    prompt        TEXT NOT NULL,
    images        TEXT NOT NULL,              -- JSON: [[caption, sha256], ...]
    segment_ids   TEXT NOT NULL,              -- JSON: [1, 2, 3]
    schema        TEXT NOT NULL,              -- JSON schema of the reply, or null
    parameters    TEXT NOT NULL,              -- JSON
    created       TEXT NOT NULL               -- UTC, ISO 8601
);

CREATE TABLE answers (
    key           TEXT PRIMARY KEY REFERENCES questions (key),
    text          TEXT NOT NULL,              -- as it came; never executed, never trusted
    model         TEXT NOT NULL,              -- the model that says it answered
    input_tokens  INTEGER,
    output_tokens INTEGER,
    usd           REAL,                       -- null where no price is known
    seconds       REAL NOT NULL,
    problem       TEXT NOT NULL,              -- why it was paid for and yet cannot be used, or empty
    note          TEXT NOT NULL,              -- what the server had to be asked without, or empty
    verdicts      TEXT,                       -- JSON: {"1": [true, reason]}; null for critiques
    created       TEXT NOT NULL
);

CREATE TABLE failures (
    key           TEXT NOT NULL REFERENCES questions (key),
    error         TEXT NOT NULL,
    created       TEXT NOT NULL
);

CREATE INDEX questions_of_an_image ON questions (image_id);
CREATE INDEX failures_of_a_question ON failures (key);
