"""What is generated in docs/ is current, and what is written there is true."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from jsonschema import Draft202012Validator

from lvlm_va import __version__
from lvlm_va.run import metrics

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_image_of_the_rooms_is_drawn_from_todays_imports():
    assert (ROOT / "docs/architecture.svg").read_text("utf-8") == script("architecture").svg()


def test_lines_that_others_imply_are_left_out_and_no_other():
    drawn = script("architecture")
    edges = {"a": frozenset("bcd"), "b": frozenset("c"), "c": frozenset("d"), "d": frozenset()}
    assert drawn.reduced(edges) == {
        "a": frozenset("b"),
        "b": frozenset("c"),
        "c": frozenset("d"),
        "d": frozenset(),
    }
    assert drawn.rows(drawn.reduced(edges)) == [["a"], ["b"], ["c"], ["d"]]


def test_the_walk_names_every_room_once_in_the_order_of_the_image():
    walked = re.findall(r"^\| (\d+) \| `(\w+)` \|", ARCHITECTURE, flags=re.MULTILINE)
    assert [room for _, room in walked] == list(script("architecture").WALK)
    assert [int(n) for n, _ in walked] == list(range(1, len(walked) + 1))


def test_the_pipeline_takes_that_walk():
    """The calls of the pipeline and of Project.align, in the order in which they stand."""
    pipeline = (ROOT / "src/lvlm_va/project/pipeline.py").read_text("utf-8")
    body = pipeline[pipeline.index("def run_pipeline") :]
    first, second = body[: body.index("def run_diagnosis")], body[body.index("def _critique") :]
    for text, calls in (
        (second, ("original_model(", "explain(", "collect_verdicts(")),
        (first, ("_critique(", "alignment_set(", "align_with(", "measure(", "RunMetrics(", "write_metrics(")),
    ):
        places = [text.index(call) for call in calls]
        assert places == sorted(places)
    project = (ROOT / "src/lvlm_va/project/project.py").read_text("utf-8")
    align = project[project.index("def align(") :]
    assert align.index("run_pipeline(") < align.index("write_report(")


def test_every_room_of_the_contract_exists_and_is_described():
    drawn = script("architecture")
    for room in drawn.rooms():
        importlib.import_module(f"lvlm_va.{room}")
    assert drawn.CONTENTS.keys() <= set(drawn.rooms())
    assert set(drawn.WALK) <= drawn.CONTENTS.keys()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(lvlm_va(?:\.\w+)+)`", ARCHITECTURE))))
def test_names_in_the_architecture_exist(name):
    importlib.import_module(name)


def test_the_published_schema_is_that_of_the_record():
    written = script("metrics_schema")
    assert written.SCHEMA.read_text("utf-8") == written.schema()
    assert f"format {metrics.METRICS_FORMAT}" in written.schema()


def test_the_schema_is_one_and_refuses_what_the_record_refuses():
    document = json.loads((ROOT / "docs/metrics.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(document)
    cost = document["$defs"]["StageCosts"] | {"$defs": document["$defs"]}
    valid = Draft202012Validator(cost)
    assert valid.is_valid({"stage": "explain", "seconds": 1.5, "peak_gib": None})
    assert not valid.is_valid({"stage": "explain", "seconds": None, "peak_gib": None})
    assert not valid.is_valid({"stage": "explain", "seconds": 1.5, "peak_gib": None, "more": 1})


def test_the_site_loads_nothing_from_elsewhere_and_a_broken_link_breaks_it(tmp_path):
    """`make docs` builds the whole site; here it is one page."""
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    settings = re.sub(r"hooks:\n  - .*\n", "", settings)
    settings = re.sub(r"  - mkdocstrings:\n(?: {6}.*\n)+", "", settings)
    (tmp_path / "mkdocs.yml").write_text(settings, "utf-8")
    page = tmp_path / "docs/index.md"
    page.parent.mkdir()

    def built(text: str) -> subprocess.CompletedProcess[str]:
        page.write_text(text, "utf-8")
        command = [sys.executable, "-m", "mkdocs", "build"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert built("# A\n\nsee [this](index.md)\n").returncode == 0
    html = (tmp_path / "build/site/index.html").read_text("utf-8")
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?(?:https?:)?//", html)
    assert built("# A\n\nsee [this](nowhere.md)\n").returncode != 0


def test_the_version_is_the_same_everywhere():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    newest = re.search(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dynamic"]
