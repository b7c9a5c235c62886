"""The README is true: its commands parse, its code runs, its numbers are those of the results."""

import importlib
import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

import lvlm_va
import result_lines
import small
from documented import check_command
from experiments import __main__ as experiments_app
from experiments.carry_over import stale
from experiments.description import read_experiment
from experiments.pages import render
from experiments.results import read_results
from lvlm_va.config.loading import parse_config
from lvlm_va.critique.specification import load_specifications
from lvlm_va.errors import RunError
from lvlm_va.models.mlp import MLP

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(program: str) -> list[str]:
    lines = (line for block in blocks("console") for line in block.splitlines())
    return [line.split("  #")[0].strip() for line in lines if line.startswith(program)]


def test_it_starts_with_an_image_and_the_two_commands():
    image = re.search(r"!\[.+?\]\((.+?)\)", README)
    assert image is not None
    places = [README.index(text) for text in (image[0], "pip install", "make demo", "make test", "```python")]
    assert places == sorted(places)
    assert places[-1] < README.index("<!-- "), "own images come before tables"
    assert README[: README.index("<!-- ")].count("\n") < 60
    with Image.open(ROOT / image[1]) as image:
        image.verify()


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("line", commands("make"))
def test_make_commands_exist(line):
    dry = subprocess.run(
        ["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert dry.returncode == 0, dry.stderr
    if "CRITIC=" in line:
        assert f'--critic "{line.split("CRITIC=")[1]}"' in dry.stdout


def test_the_experiments_are_repeated_as_it_says():
    lines = commands("python -m experiments")
    assert lines
    for line in lines:
        arguments = shlex.split(line)[3:]
        typer.main.get_command(experiments_app.app).make_context("experiments", list(arguments))
        read_experiment(arguments[0])


@pytest.mark.parametrize("line", commands("lvlm-va"))
def test_commands_parse(line):
    check_command(line)


def test_the_specifications_are_read():
    _, text = blocks("yaml")
    found = load_specifications(yaml.safe_load(text), ["bolt", "nut"])
    assert found["nut"].spurious == ("the blue sticker", "the shadow of the gripper")


def test_a_project_is_ten_lines():
    text, _ = blocks("yaml")
    assert len(text.splitlines()) <= 10
    config = parse_config(yaml.safe_load(text))
    assert config.align.lam == (0.0001, 0.001)
    assert config.data.name == "folder"


def test_the_code_runs(tmp_path, monkeypatch):
    (code,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    splits = small.splits()
    Path("specifications.yaml").write_text(yaml.safe_dump(small.SPECIFICATIONS), encoding="utf-8")
    monkeypatch.setattr(lvlm_va, "read_folder", lambda *_, **__: splits, raising=False)
    names = {"model": MLP((1, small.SIDE, small.SIDE), num_classes=len(splits.class_names))}
    exec(compile(code, "README.md", "exec"), names)
    assert len(code[code.index("data =") :].splitlines()) <= 12
    run = names["run"]
    assert run.report.is_file()
    assert run.metrics.verdicts.segments > 0
    assert run.metrics.lam.chosen in (0.0, 0.01, 0.1)


def tables_script():
    source = importlib.util.spec_from_file_location("readme_tables", ROOT / "docs/readme_tables.py")
    readme_tables = importlib.util.module_from_spec(source)
    source.loader.exec_module(readme_tables)
    return readme_tables


def test_the_tables_are_those_of_the_results():
    found = tables_script().blocks(README)
    assert found
    assert len(found) == README.count("<!-- /")
    for marker, block in found.items():
        assert block.count("\n") > 2
        assert block.count("\n|") <= 20
        assert f"<!-- {marker} -->\n{block}\n<!-- /{marker} -->" in README


def test_tables_are_written_from_results(tmp_path):
    (tmp_path / "terms").mkdir()
    lines = [
        result_lines.measured("original", seed=seed, worst=worst) for seed, worst in ((0, 0.25), (1, 0.75))
    ]
    (tmp_path / "terms/trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = "before\n<!-- terms -->\nold\n<!-- /terms -->\nafter\n"
    script = tables_script()
    new = script.written(text, tmp_path)
    assert new.startswith("before\n<!-- terms -->\n**Knee, reduced size**\n")
    assert new.endswith("\n<!-- /terms -->\nafter\n")
    assert "| 0.500 ± 0.354 |" in new
    assert "old" not in new
    assert script.written(new, tmp_path) == new


def test_what_the_readme_leaves_out_is_whole_rows_and_columns():
    whole = "**A**\n\n| method | masks by | reads | n |\n| --- | --- | --- | --- |\n| RRR |  | x | 3 |\n"
    whole += "| LVLM-VA | oracle verdicts | y | 4 |\n\n| n | ΔWGA |\n| --- | --- |\n| 1 | 2 |"
    assert tables_script().shortened(whole).splitlines() == [
        *("**A**", "", "| method | masks by | n |", "| --- | --- | --- |", "| RRR |  | 3 |", ""),
        *("| n |", "| --- |", "| 1 |"),
    ]


@pytest.mark.parametrize(
    "folder", sorted(file.parent for file in ROOT.glob("results/*/trials.jsonl")), ids=lambda f: f.name
)
def test_pages_of_results_are_those_of_their_trials(folder):
    text, files = render(read_experiment(folder.name), read_results(folder))
    assert (folder / "README.md").read_text(encoding="utf-8") == text
    assert all((folder / name).is_file() for name in files)
    assert not stale(folder), "the command would compute these again; see experiments/carry_over.py"


def test_a_table_without_results_is_an_error(tmp_path):
    with pytest.raises(RunError, match="<!-- terms -->"):
        tables_script().blocks("<!-- terms -->\nold\n<!-- /terms -->\n", tmp_path)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(lvlm_va(?:\.\w+)+)`", README))))
def test_names_exist(name):
    parent, _, last = name.rpartition(".")
    if not hasattr(importlib.import_module(parent), last):
        importlib.import_module(name)
