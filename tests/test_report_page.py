"""The page of a small run: true, self-contained, well-formed, and deaf to what critics write."""

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from lvlm_va.errors import RunError
from lvlm_va.report import write
from lvlm_va.report.summary import summary_table
from lvlm_va.run.directory import RunDirectory
from patience import PATIENCE
from report_run import (
    CLASSES,
    CRITIC,
    GROUPS,
    HANDLER,
    IDS,
    SCRIPT,
    encode,
    make_run,
    metrics,
    record,
    with_groups,
)

VOID = {"meta", "link", "img", "br"}
FILES = [
    "metrics.json",
    "verdicts.csv",
    "critic_verdicts.csv",
    "critiques.sqlite",
    "explanations.safetensors",
    "segments/images.safetensors",
    "segments/attribution.safetensors",
    "segments/segments.safetensors",
    "segments/masks.safetensors",
]


class Page(HTMLParser):
    """Checks that every element is closed in order, and collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "elements left open"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", "".join(self.words))  # the narrow spaces stay

    def row(self, name: str) -> list[str]:
        (found,) = [row for row in self.rows if row and row[0] == name]
        return found


@pytest.fixture(autouse=True, scope="module")
def _no_encoder():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(write, "encode", encode)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def page(run) -> Page:
    return Page(write.write_report(run).read_text(encoding="utf-8"))


def changed(tmp_path: Path, **sections) -> Page:
    """The page of a run whose metrics differ in some sections."""
    run = make_run(tmp_path)
    content = metrics()
    for name, values in sections.items():
        content[name] |= values
    run.write("metrics.json", json.dumps(content).encode())
    return Page(write.write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def grouped(tmp_path_factory) -> RunDirectory:
    """A run in which groups, verdict scores, files set aside and leaks are known."""
    run = make_run(tmp_path_factory.mktemp("grouped"))
    run.write("metrics.json", json.dumps(with_groups()).encode())
    return run


@pytest.fixture(scope="module")
def grouped_page(grouped) -> Page:
    return Page(write.write_report(grouped).read_text(encoding="utf-8"))


def test_nothing_is_shown_where_nothing_is_known(page):
    shown = summary_table(record(metrics()))
    for text in (page.text, shown):
        for word in (
            "WGA",
            "AGA",
            "group by group",
            "could not be used",
            "also in",
            "κ =",
            "true groups",
            "stays",
        ):
            assert word not in text, word
    assert [row[0] for row in page.rows if row and row[0] in GROUPS] == []


def test_every_group_before_and_after_with_its_number_of_images(grouped_page):
    changes = {
        "seven, grey": ["7", "14.3", "57.1", "+42.9", "85.7", "+71.4"],
        f"nine, white {SCRIPT}": ["601", "80.4", "79.4", "−1.0", "91.2", "+10.8"],
        "nine, grey": ["58", "25.9", "46.6", "+20.7", "70.7", "+44.8"],
        "seven, white": ["0", "—", "—", "—", "—", "—"],
        "mean over groups (AGA)": ["666", "40.2", "61.0", "+20.8", "82.5", "+42.4"],
        "worst group (WGA)": ["666", "14.3", "46.6", "+32.3", "70.7", "+56.4"],
    }
    for group, expected in changes.items():
        assert [cell.replace("\u202f%", "") for cell in grouped_page.row(group)[1:]] == expected
    head = next(row for row in grouped_page.rows if row[0] == "group")
    assert head[4:] == ["Δ, points", "after, ground-truth masks (oracle)", "Δ, points"]
    assert head[2:4] == ["before", "after"]
    assert f"after alignment with the critic “{CRITIC}”" in grouped_page.text
    said = "worst group (WGA) 14.3\u202f% → 46.6\u202f% (+32.3 points)"
    assert said in grouped_page.text
    shown = summary_table(record(with_groups()))
    assert said in shown
    assert re.search(r"nine, grey\W+58\W+25.9.%\W+46.6.%\W+\+20.7", shown)


def test_what_decided_is_told_with_its_scores(grouped_page):
    told = (
        "λ = 0.01 was chosen of 0.01, 0.1. What decided: worst and mean accuracy of the classes. "
        "Kept is epoch 2 of 3, by the same score."
    )
    assert told in grouped_page.text
    assert told in summary_table(record(with_groups()))
    nine, seven = CLASSES
    (row,) = [row for row in grouped_page.rows if row and row[0] == "λ\u00a0=\u00a00.01"]
    assert [cell.replace("\u202f", "") for cell in row[1:]] == [
        f"83.5%; 83.0% ({nine})",
        f"70.5%; 65.0% ({nine})",
        "71.0%",  # (65 + (83 + 84 + 65 + 76) / 4) / 2
        "91.2%",
        "61.6%",
        "17.2%",
    ]
    assert seven not in row


def test_the_original_model_stays_loudly(tmp_path):
    original = with_groups()["models"]["original"]
    how = "the best; nothing was better than the original model, which stays"
    stays = {"chosen": 0.0, "original_stays": True, "how": how}
    page = changed(tmp_path, models={"aligned": original}, **{"lambda": stays})
    assert "The original model stays. No fine-tuned model was better on the validation set" in page.text
    assert "so the classifier stays as it was; it gets 56.3\u202f% of the images" in page.text
    told = "The original model stays: no fine-tuned one (λ = 0.01, 0.1) was better. What decided: the best."
    assert told in page.text


def test_files_set_aside_and_leaks_come_before_any_number(grouped_page):
    notes = "2 files could not be used and were set aside. 3 images of decoy $test$ are also in train."
    assert notes in grouped_page.text
    assert grouped_page.text.index(notes) < grouped_page.text.index("The numbers")
    assert grouped_page.row("is not an image")[1:] == [f"x{SCRIPT}.png; y.png", "2"]
    assert grouped_page.row("train and decoy $test$")[1:] == ["a = test-0; c = test-7", "3"]
    assert "NOTE: 2 files could not be used" in summary_table(record(with_groups()))


def test_verdicts_beside_the_object_are_an_oracles_too(grouped_page):
    assert "accuracy is 91.9\u202f% and recall 82.8\u202f% (oracle)" in grouped_page.text
    assert "too 0.919 and 0.828" in summary_table(record(with_groups()))


def test_step_by_step(grouped, grouped_page):
    captions = [a["alt"] for tag, a in grouped_page.elements if tag == "img" and "orrection mask" in a["alt"]]
    assert captions == [
        "The correction mask on the original: 6.2\u202f% of the image.",  # 4 of 64 pixels
        "The correction mask on the original: 6.2\u202f% of the image.",
        "The correction mask on the original: empty.",
    ]
    assert "What it covers is penalised." in grouped_page.text
    with Image.open(grouped.file(write.STEPS_FIGURE)) as drawn:
        assert drawn.width > 5 * 384


def test_random_weights_in_place_of_imagenets_are_said(page, tmp_path):
    told = "The original model was trained from random weights."
    assert told not in page.text
    unavailable = {"initial_weights": "random (imagenet was asked for but could not be had)"}
    assert told in changed(tmp_path, model=unavailable).text
    assert "random weights" in summary_table(record(metrics() | {"model": metrics()["model"] | unavailable}))
    assert "random weights" not in summary_table(record(metrics()))


def test_nothing_is_loaded_and_nothing_runs(page):
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "i", "b", "u"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}:
                assert value is not None
                assert value.startswith(("data:", "#")), (tag, name, value[:50])
    policy = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


@pytest.mark.usefixtures("page")
def test_styles_name_no_other_file(run):
    text = run.file("report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert "url(http" not in text


def test_what_models_and_people_wrote_is_shown_as_they_wrote_it(page):
    text = page.text
    assert text.count(SCRIPT) >= 5  # a critique, a reason, a specification, a test set's name, a cause
    assert HANDLER.replace('"', "") in text.replace('"', "")
    assert "Dr. <u>Who</u>" in text
    assert "nine & <b>ten</b>" in text


def test_it_can_be_used_without_eyes_or_mouse(page):
    names = [attributes.get("id") for _, attributes in page.elements]
    for tag, attributes in page.elements:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert "λ" in (attributes["aria-label"] or "")
        if tag == "a":
            assert (attributes["href"] or "")[1:] in names
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert ("html", {"lang": "en"}) in page.elements


def test_numbers_are_those_of_the_metrics(page):
    measured = metrics()
    lines = {
        "original": "original",
        f"aligned, critic “{CRITIC}”, judged by “builtin” (measures; not an LVLM)": "aligned",
        "ground-truth masks (oracle)": "ground-truth masks (oracle)",
    }
    for line, name in lines.items():
        model, row = measured["models"][name], page.row(line)
        accuracies = [*model["accuracy"].values(), model["validation"]["accuracy"]]
        assert [cell.replace("\u202f", "") for cell in (*row[2:4], row[5])] == [
            f"{100 * a:.1f}%" for a in accuracies
        ]
        assert row[4] == f"{model['mu_align']['mean']:.3f} ± {model['mu_align']['std']:.3f}"
    assert "By the ground truth (an oracle), verdict accuracy is 100.0\u202f%: 2 of 2 condemned" in page.text
    assert "Verdict recall is 66.7\u202f%: of 3 segments that contain part of it, 2" in page.text
    assert "completeness error" in page.text
    assert "3.2e-07" in page.text
    assert "75.0\u202f% of them carry the planted feature (a grey patch)" in page.text


def test_costs_and_settings(page):
    (row,) = [row for row in page.rows if row and row[0] == "critic"]
    assert row[1:] == [
        "openai:gpt-4o · gpt-4o-2024",
        "3",
        "1",
        "4,321",
        "987",
        "at least 0.0421\u202fUSD",
        "12\u202fs",
    ]
    assert "A vision-language model instead" not in page.text  # it was one
    assert page.row("all stages")[1] == "1\u202fmin 21\u202fs"
    assert page.row("align.lambda")[1:] == [
        "λ, one or several; of several the validation set chooses",
        "0.01, 0.1",
    ]
    assert page.row("of a later version")[2] == "x"


def test_judge_critic_and_person_are_named_wherever_verdicts_are(page):
    assert page.row(IDS[2])[1:] == ["Dr. <u>Who</u>", "spurious", "valid", f"that is the digit {SCRIPT}", "2"]
    (unscored,) = [r for r in page.rows if r and r[0].startswith("the judge's answer holds no readable")]
    assert unscored[1:] == [f"{IDS[1]}, segment 1", "1"]
    assert page.row("no pixel has positive attribution")[1:] == [IDS[3], "1"]


def test_six_steps_and_the_specification_are_shown(page):
    assert "Preamble." in page.text
    assert "What I see in a." in page.text
    assert "Strokes, not patches." in page.text


@pytest.mark.parametrize(
    ("kind", "mark"),
    [("oracle", "(an oracle: reads the ground truth)"), ("measurement", "(measures; not an LVLM)")],
)
def test_what_is_no_lvlm_says_so_beside_every_number(tmp_path, kind, mark):
    verdicts = {"critic": "it", "critic_kind": kind, "judge": "it", "judge_kind": kind}
    page = changed(tmp_path, verdicts=verdicts)
    name = f"“it” {mark}"
    assert page.text.count(name) >= 5
    assert page.row(f"aligned, critic {name}")
    assert "A vision-language model instead would be asked 6 questions: gpt-4o about" in page.text
    label = next(a["aria-label"] for tag, a in page.elements if tag == "svg")
    assert name in (label or "")


def test_a_run_in_which_nothing_was_condemned(tmp_path):
    original = metrics()["models"]["original"]
    page = changed(
        tmp_path,
        verdicts={"spurious": 0, "quality": None},
        models={"aligned": original},
        **{"lambda": {"chosen": 0.0, "curves": {"aligned": [original]}}},
    )
    assert "condemned none of 6 segments" in page.text
    assert "there is no λ to choose" in page.text
    assert "Whether they were right cannot be measured" in page.text
    assert not [tag for tag, _ in page.elements if tag == "svg"]


def test_a_run_without_test_sets(tmp_path):
    without = {"accuracy": {}, "mu_align": None}
    models = {name: model | without for name, model in metrics()["models"].items()}
    curves = {"aligned": [models["aligned"]]}
    page = changed(tmp_path, data={"tests": {}}, models=models, **{"lambda": {"curves": curves}})
    assert "of the validation set right" in page.text
    assert "There is no test set" in page.text


def test_an_edit_after_the_measurement_is_pointed_out(tmp_path, page):
    assert "was edited after these numbers" not in page.text
    later = changed(tmp_path, verdicts={"overruled": []})
    assert "was edited after these numbers" in later.text


@pytest.mark.usefixtures("page")
def test_the_same_run_gives_the_same_bytes(run):
    first = run.file("report.html").read_bytes()
    assert write.write_report(run).read_bytes() == first


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    run = make_run(tmp_path)
    run.file(name).unlink()
    with pytest.raises(RunError, match=rf"{name} is missing, the run is not finished"):
        write.write_report(run)
    assert not run.file("report.html").exists()
    assert not run.file(name).exists()  # reading made none


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("verdicts.csv")])
def test_a_damaged_file_is_named(tmp_path, name):
    run = make_run(tmp_path)
    run.file(name).write_bytes(b"{}" * 100)
    with pytest.raises(RunError, match=name):
        write.write_report(run)


@pytest.mark.browser
@pytest.mark.usefixtures("page", "grouped_page")
def test_in_a_browser(run, grouped, browser):
    path = run.file("report.html")
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    assert page.title() == "tiny: what the classifier relied on"  # and not what the script would set
    images = page.locator("img")
    widths = images.evaluate_all("images => images.map(image => image.naturalWidth)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"
    page.locator("summary").first.click()
    assert page.locator("details[open]").count() == 1
    page.goto(grouped.file("report.html").as_uri())
    for width in (400, 1200):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    page.close()
    assert widths
    assert min(widths) > 0
    assert [url for url in requests if not url.startswith("data:")] == [
        path.as_uri(),
        grouped.file("report.html").as_uri(),
    ]
    assert complaints == []
