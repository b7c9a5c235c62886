"""The second room: a critic describes each segment, a judge turns its words into verdicts.

    question       what is asked and what comes back: the protocol of every backend
    specification  what the expert knows about each class
    rendering      the three images that the critic sees
    critic, judge  g and h: their questions, and how the judge's answer is read
    review         one image's course: critique, judgement, at most one repair
    driver         many reviews at once, within a budget, interruptible
    likeness, representatives, propagation
                   fewer questions: segments that look and lie alike share a verdict
    person/        a person judges single segments, and the others take their verdicts
    store          every question and answer, in SQLite
    estimate       calls, tokens and dollars before the first call
    batch_export, batch_import
                   the same questions and answers as files
    canary         how well a critic names marks, before it is trusted
    backends/      who answers

The usual way through it: make a `CriticJudge` (review), open a `Store`, call `critique` (driver).
"""
