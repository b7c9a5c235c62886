"""The page of a study: fair, blind, self-contained; answered by mouse and by keyboard in a real browser."""

import json
import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from documented import check_command
from lvlm_va.cli import main as cli
from lvlm_va.errors import ConfigError, RunError
from lvlm_va.study.analyse import analyse_study
from lvlm_va.study.build import BuiltStudy, about_segment, build_study
from lvlm_va.study.draw import Candidate, draw
from patience import PATIENCE
from report_run import HANDLER, SCRIPT
from study_run import make_runs, write_explanations

# ---- The draw ------------------------------------------------------------------------------------------

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        run=st.integers(0, 2),
        image_id=st.sampled_from("pqrst"),
        class_name=st.sampled_from(["seven", "nine"]),
        part=st.integers(1, 4),
        spurious=st.booleans(),
    ),
    unique=True,
    min_size=1,
)


@given(CANDIDATES, st.integers(0, 100), st.data())
def test_a_draw_is_even_over_verdicts_and_takes_nothing_twice(candidates, seed, data):
    count = data.draw(st.integers(0, len(candidates)))
    drawn = draw(candidates, count, np.random.default_rng(seed))
    assert len(set(drawn)) == count
    assert set(drawn) <= set(candidates)
    there, condemned = sum(c.spurious for c in candidates), sum(c.spurious for c in drawn)
    others = len(candidates) - there
    low, high = count // 2, (count + 1) // 2
    if there >= high and others >= high:
        assert condemned in (low, high)
    else:  # all of the rarer kind
        assert condemned in (there, count - others)


def test_a_draw_is_even_over_runs_and_classes_and_spares_images():
    candidates = [
        Candidate(run, f"{name}-{n}", name, part, part == 1)
        for run, size in ((0, 20), (1, 4))
        for name in ("seven", "nine")
        for n in range(size)
        for part in (1, 2)
    ]
    drawn = draw(candidates, 8, np.random.default_rng(1))
    assert Counter(one.run for one in drawn) == {0: 4, 1: 4}
    assert set(Counter((one.run, one.class_name) for one in drawn).values()) == {2}
    assert len({(one.run, one.image_id) for one in drawn}) == 8
    more = draw([c for c in candidates if c not in drawn], 8, np.random.default_rng(1), seen=drawn)
    assert len({(one.run, one.image_id) for one in drawn + more}) == 16


def test_the_order_of_a_draw_does_not_tell_the_verdict():
    candidates = [Candidate(0, f"p{n}", "seven", 1, n % 2 == 0) for n in range(40)]
    orders = {
        tuple(one.spurious for one in draw(candidates, 6, np.random.default_rng(seed))) for seed in range(40)
    }
    assert len(orders) > 10  # of 20; in the order in which they are taken there are two


def test_lines_about_a_segment():
    critique = """Step 3. Segment 1 covers the patch.
* **Segment 2** covers the stroke.
Segments 1, 2 and 3 lie in a row.
Segment 12 is another, and 2 of its pixels are white.
SEGMENT 2: VALID — the stroke"""
    assert about_segment(critique, 2) == [
        "Segment 2** covers the stroke.",
        "Segments 1, 2 and 3 lie in a row.",
        "SEGMENT 2: VALID — the stroke",
    ]
    assert about_segment(critique, 1) == [
        "Segment 1 covers the patch.",
        "Segments 1, 2 and 3 lie in a row.",
    ]
    assert about_segment(critique, 4) == []


# ---- The files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def built(runs, tmp_path_factory) -> BuiltStudy:
    return build_study(runs, tmp_path_factory.mktemp("study"))


def contents(built: BuiltStudy) -> dict:
    text = built.page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="study">(.*?)</script>', text)[1])


def test_26_questions_half_of_the_segments_condemned_and_none_twice(built):
    questions = built.study.questions
    assert Counter(q.kind for q in questions) == {"relevance": 10, "reasoning": 10, "explanations": 6}
    for kind in ("relevance", "reasoning"):
        assert Counter(q.spurious for q in questions if q.kind == kind) == {True: 5, False: 5}
        assert set(Counter(q.run for q in questions if q.kind == kind).values()) <= {1, 2, 3}
    segments = [(q.run, q.image_id, q.segment) for q in questions if q.segment is not None]
    assert len(set(segments)) == 20


def test_verdicts_are_the_critics_and_not_those_that_overruled_it(runs, tmp_path):
    made = build_study(runs[:1], tmp_path, relevance=5, reasoning=0, explanations=0)
    verdicts = {(q.image_id, q.segment): q.spurious for q in made.study.questions}
    assert verdicts["c", 2] is True  # a person said otherwise
    assert made.study.runs[0].critic == "“openai:gpt-4o”, judged by “builtin” (measures; not an LVLM)"


def test_the_page_tells_nothing_that_the_question_hides(built):
    text = built.page.read_text(encoding="utf-8")
    assert "secret-test" not in text  # the images' names, which may tell more than the images
    for run in built.study.runs:
        assert run.path not in text
    for question in contents(built)["questions"]:
        if question["kind"] == "relevance":
            assert set(question) == {"id", "kind", "class_name", "specification", "segment", "figures"}
        if question["kind"] == "explanations":
            left, right = question["pair"]
            assert left.keys() == right.keys()
            assert left["alt"] == right["alt"]
    tokens = [
        next(iter(question["pair"]))["token"]
        for question in contents(built)["questions"]
        if question["kind"] == "explanations"
    ]
    which = [q.tokens[t] for q in built.study.questions for t in tokens if t in q.tokens]
    assert set(which) == {"before", "after"}  # first is not always the same


def test_the_critics_words_are_shown_where_they_are_in_question(built):
    asked = {question.id: question for question in built.study.questions}
    for question in contents(built)["questions"]:
        if question["kind"] == "reasoning":
            key = asked[question["id"]]
            assert question["verdict"] == ("spurious" if key.spurious else "valid")
            assert question["reason"] == key.reason
            assert len(question["critique"]) == 6


FEW = {"relevance": 1, "reasoning": 1, "explanations": 1}


def test_the_same_runs_and_seed_give_the_same_bytes(runs, tmp_path):
    first, second = (build_study(runs, tmp_path / name, **FEW) for name in ("first", "second"))
    assert first.page.read_bytes() == second.page.read_bytes()
    assert first.key.read_bytes() == second.key.read_bytes()


def test_a_key_is_not_overwritten(runs, tmp_path):
    first = build_study(runs, tmp_path, **FEW)
    before = (tmp_path / "study.json").read_bytes()
    build_study(runs, tmp_path, **FEW)  # the same once more is no other study
    with pytest.raises(ConfigError, match=r"study\.json: is the key of another study"):
        build_study(runs, tmp_path, seed=1, **FEW)
    assert first.study.fingerprint in before.decode()
    assert (tmp_path / "study.json").read_bytes() == before


def test_what_cannot_be_asked(runs, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="hold 5 segments with a verdict and a critique, but 20 are asked"):
        build_study(runs[:1], out)
    with pytest.raises(ConfigError, match=r"hold 2 test images .* give more runs, or --explanations 2"):
        build_study(runs[:1], out, relevance=2, reasoning=2)
    with pytest.raises(ConfigError, match="given twice"):
        build_study([runs[0], runs[0]], out)
    with pytest.raises(ConfigError, match="at least one question"):
        build_study(runs[:1], out, relevance=0, reasoning=0, explanations=0)
    with pytest.raises(ConfigError, match="at least one run"):
        build_study([], out)
    with pytest.raises(RunError, match="no run here"):
        build_study([tmp_path], out)
    assert not out.exists()


def test_a_model_that_stayed_as_it_was_is_not_compared_with_itself(tmp_path):
    (run,) = make_runs(tmp_path, 1)
    import torch

    from lvlm_va.run import artefacts

    path = run / "explanations.safetensors"
    tensors, notes = artefacts.read_tensors(path)
    tensors["after_attribution"] = tensors["before_attribution"].clone()
    path.write_bytes(artefacts.tensors_file(tensors, **notes))
    with pytest.raises(ConfigError, match="hold 0 test images whose explanations before and after differ"):
        build_study([run], tmp_path / "out", **FEW)
    # Nor is one of a class whose specification no critic was asked with.
    write_explanations(run, [1, 1], torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match="hold 0 test images"):
        build_study([run], tmp_path / "out", **FEW)


def test_a_diagnosis_has_segments_to_ask_about(tmp_path):
    (run,) = make_runs(tmp_path, 1)
    measured = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    del measured["lambda"]
    for name in ("metrics.json", "explanations.safetensors"):
        (run / name).unlink()
    found = {
        "project": "tiny",
        "evidence": {"condemned": 1, "accepted": 0, "unscored": 0},
        "strongest_segment": {"images": 3, "condemned": 3, "accepted": 0, "unscored": 0},
        "grounds": [],
        "classes": [],
    }
    (run / "diagnosis.json").write_text(json.dumps(measured | found), encoding="utf-8")
    made = build_study([run], tmp_path / "out", relevance=1, reasoning=1, explanations=0)
    assert len(made.study.questions) == 2
    assert made.study.runs[0].critic.startswith("“openai:gpt-4o”, judged by")
    (run / "diagnosis.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"diagnosis\.json: cannot be read"):
        build_study([run], tmp_path / "out", relevance=1, reasoning=1, explanations=0)


DOCUMENT = (Path(__file__).parents[1] / "docs/user-study.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^lvlm-va [^#\n]+", DOCUMENT, flags=re.MULTILINE))))
def test_the_documented_commands_parse(line):
    check_command(line)


def test_the_commands(runs, tmp_path, monkeypatch, capsys):
    def command(*arguments) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["lvlm-va", "study", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, *capsys.readouterr()

    few = ["--relevance", 1, "--reasoning", 1, "--explanations", 1, "--out", tmp_path]
    code, out, _ = command("build", *runs, *few)
    assert code == 0
    assert "3 questions: 1 on relevance, 1 on reasoning, 1 on explanations" in out
    study = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    answers = {"format": 1, "study": study["fingerprint"], "code": "P1", "role": "other", "answers": []}
    (tmp_path / "p1.json").write_text(json.dumps(answers), encoding="utf-8")
    code, out, _ = command("analyse", tmp_path / "study.json", tmp_path / "p1.json")
    assert code == 0
    assert "3 of 3 answers are missing" in out
    assert (tmp_path / "analysis.md").exists()
    code, out, error = command("analyse", tmp_path / "study.json", tmp_path / "none.json")
    assert (code, out) == (1, "")
    assert error == f"lvlm-va: {tmp_path / 'none.json'}: no such file of answers\n"


# ---- In a browser --------------------------------------------------------------------------------------


class Visit:
    """The page in a tab, and what a participant can know of it."""

    def __init__(self, built: BuiltStudy, context) -> None:
        self.built, self.context = built, context
        self.asked = {question.id: question for question in built.study.questions}
        self.known = {}  # an image that is in no other question → question
        self.tokens = {}
        for question in contents(built)["questions"]:
            self.known[question["figures"][-1]["uri"]] = self.asked[question["id"]]
            self.tokens |= {figure["uri"]: figure["token"] for figure in question.get("pair", [])}
        assert len(self.known) == 26
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.open()

    def open(self) -> None:
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(self.built.page.as_uri())

    def question(self):
        """The question on the screen, and the models behind the left and the right explanation."""
        sources = self.page.locator("#figures img").evaluate_all("images => images.map(image => image.src)")
        if len(sources) == 3 and sources[2] in self.known:
            return self.known[sources[2]], []
        question = self.known[sources[0]]
        return question, [question.tokens[self.tokens[source]] for source in sources[1:]]

    def agreeing(self) -> int:
        """0, 1 or 2: the answer that agrees with the critic, or with the aligned model."""
        question, sides = self.question()
        if question.kind == "relevance":
            return 1 if question.spurious else 0
        return sides.index("after") if sides else 0

    def save(self, how) -> Path:
        with self.page.expect_download() as download:
            how()
        path = self.built.page.parent / download.value.suggested_filename
        download.value.save_as(path)
        return path


@contextmanager
def visit(built, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    one = Visit(built, context)
    yield one
    context.close()
    # Downloads and images are in memory; nothing came from anywhere else, and nothing went wrong.
    assert {url for url in one.requests if not url.startswith(("data:", "blob:"))} == {built.page.as_uri()}
    assert one.complaints == []


@pytest.mark.browser
def test_by_mouse_and_then_by_keyboard_alone(built, browser):
    """The one agrees with everything, the other with nothing and leaves questions open."""
    with visit(built, browser) as mouse:
        page = mouse.page
        assert page.title() == "A study of 26 questions"  # and not what the critic's script would set
        page.locator("#code").fill("P-1")
        page.get_by_text("Yes, it is my field").click()
        page.get_by_role("button", name="Begin").click()
        seen = []
        for n in range(26):
            assert page.locator("#place").inner_text().startswith(f"Question {n + 1} of 26")
            widths = page.locator("#figures img").evaluate_all("all => all.map(one => one.naturalWidth)")
            assert min(widths) > 500
            seen.append(mouse.question())
            page.locator("#options label").nth(mouse.agreeing()).click()
            if n == 3:
                page.locator("#comment").fill(f"{SCRIPT} 1 2 3")
            page.locator("#next").click()
        assert page.locator("#summary").inner_text() == "All 26 questions are answered."
        first = mouse.save(page.get_by_role("button", name="Save answers").click)
        sides = {tuple(sides) for _, sides in seen if sides}
        assert sides == {("before", "after"), ("after", "before")}
        assert len({question.id for question, _ in seen}) == 26
        kinds = [question.kind for question, _ in seen]
        assert kinds == 10 * ["relevance"] + 10 * ["reasoning"] + 6 * ["explanations"]

    with visit(built, browser) as keys:
        page = keys.page
        press = page.keyboard.press
        for key in ("Tab", "p", "2", "Tab", "ArrowDown", "Enter"):  # the code, and the second role
            press(key)
        order = []
        for n in range(26):
            assert page.locator("#place").inner_text().startswith(f"Question {n + 1} of 26")
            order.append(keys.question()[0].id)
            if n in (2, 22):
                press("Enter")  # without an answer it says what to do, and stays
                assert "press → to skip" in page.locator("#hint").inner_text()
                press("ArrowRight")
                continue
            if n == 5:
                press("3")
                press("ArrowUp")  # the arrows move between the answers, too
                assert page.locator("#options input:checked").input_value() == "spurious"
            press(str(2 - keys.agreeing()))
            assert page.evaluate("document.activeElement.checked")
            outline = page.locator("#options label:has(:checked)").evaluate(
                "e => getComputedStyle(e).outlineWidth"
            )
            assert outline == "3px"
            if n == 7:
                press("ArrowLeft")
                press("ArrowRight")
            press("Enter")
        assert page.locator("#summary").inner_text().startswith("24 of 26 questions are answered.")
        assert page.locator("#open button").all_inner_texts() == ["Question 3", "Question 23"]
        for _ in range(4):
            press("Tab")
        assert page.evaluate("document.activeElement.id") == "save"
        second = keys.save(lambda: press("Enter"))
        assert "Saved as answers-p2.json" in page.locator("#saved").inner_text()
        assert order != [question.id for question, _ in seen]  # everyone has an order of their own

    done = analyse_study(built.key, [second, first])
    rates = done.findings["rates"]
    mine = done.findings["participants"]
    assert [(one["code"], one["role"], one["missing"]) for one in mine] == [
        ("P-1", "expert", 0),
        ("p2", "other", 2),
    ]
    assert mine[0]["rates"] == {"relevance": 1, "reasoning": 1, "explanations": 1}
    assert mine[1]["rates"] == {"relevance": 0, "reasoning": 0, "explanations": 0}
    assert (rates["relevance"]["agreeing"], rates["relevance"]["answers"]) == (10, 19)
    assert rates["explanations"]["values"] == {"after": 6, "before": 5}
    assert done.findings["between_participants"]["explanations"]["observed"] == 0
    assert [c for q in done.findings["questions"] for c in q["comments"]] == [
        {"code": "P-1", "comment": f"{SCRIPT} 1 2 3"}
    ]
    saved = json.loads(first.read_text(encoding="utf-8"))
    assert set(saved) == {"format", "study", "code", "role", "answers"}
    assert {key for answer in saved["answers"] for key in answer} == {
        "question",
        "answer",
        "seconds",
        "comment",
        "sides",
    }


@pytest.mark.browser
def test_a_closed_tab_loses_nothing(built, browser):
    with visit(built, browser) as one:
        one.page.locator("#code").fill("P3")
        one.page.locator("input[value=other]").check()
        one.page.keyboard.press("Enter")
        for _ in range(4):
            one.page.keyboard.press("2")
            one.page.keyboard.press("Enter")
        one.page.locator("#comment").fill("half a thought")
        where = one.question()[0].id
        one.page.reload()
        assert one.question()[0].id == where
        assert one.page.locator("#comment").input_value() == "half a thought"
        one.page.close()
        one.open()
        assert one.page.locator("#place").inner_text().startswith("Question 5 of 26")
        assert one.page.locator("#progress").evaluate("bar => bar.value") == 4
        # Another participant starts afresh, and the first one can go on.
        one.page.get_by_role("button", name="Another participant").first.click()
        one.page.locator("#code").fill("P4")
        one.page.locator("input[value=expert]").check()
        one.page.keyboard.press("Enter")
        assert one.page.locator("#progress").evaluate("bar => bar.value") == 0
        one.page.get_by_role("button", name="Another participant").first.click()
        one.page.locator("#code").fill("P3")
        one.page.locator("input[value=other]").check()
        one.page.keyboard.press("Enter")
        assert one.question()[0].id == where
        one.page.keyboard.press("ArrowLeft")
        assert one.page.locator("#options input:checked").count() == 1


@pytest.mark.browser
def test_a_browser_that_keeps_nothing_is_told_and_still_saves(built, browser):
    with visit(built, browser) as one:
        one.context.add_init_script(
            "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
        )
        one.page.goto(built.page.as_uri())
        one.page.locator("#code").fill("P5")
        one.page.locator("input[value=other]").check()
        one.page.keyboard.press("Enter")
        assert one.page.locator("#unkept").is_visible()
        one.page.keyboard.press("1")
        for _ in range(26):
            one.page.keyboard.press("ArrowRight")
        path = one.save(one.page.locator("#save").click)
    assert analyse_study(built.key, [path]).findings["participants"][0]["answers"] == 1


@pytest.mark.browser
def test_what_critics_wrote_is_shown_as_they_wrote_it_and_fits(built, browser):
    with visit(built, browser) as one:
        one.page.locator("#code").fill("P6")
        one.page.locator("input[value=other]").check()
        one.page.keyboard.press("Enter")
        texts = []
        for _ in range(26):
            for width in (400, 1280):
                one.page.set_viewport_size({"width": width, "height": 860})
                assert one.page.evaluate("document.documentElement.scrollWidth") <= width, "scrolls sideways"
            texts.append(one.page.locator("#asking").inner_text())
            one.page.keyboard.press("ArrowRight")
        assert one.page.locator("script").count() == 2
        unnamed = "all => all.filter(one => !one.labels.length).length"
        assert one.page.locator("input, textarea").evaluate_all(unnamed) == 0
    assert any(SCRIPT in text for text in texts)
    assert any(HANDLER in text for text in texts)
