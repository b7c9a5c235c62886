"""`make test`, pre-commit and the workflow check the same."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_pre_commit_checks_what_make_test_checks():
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)
    targets = re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)
    assert recipe is not None
    assert targets is not None
    checks = [word for word in recipe[1].split() if word in targets[1].split()]
    assert checks == ["lint", "types", "docs", "unit"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert [hook["entry"] for hook in hooks[0]["hooks"]] == [f"make {name}" for name in checks]


def test_the_workflow_runs_make_test_on_every_python_that_is_promised():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test", "make slow"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"


def test_make_test_fails_on_layers_documentation_and_coverage():
    assert "/lint-imports" in MAKEFILE
    # --quiet would turn off the warnings that --strict counts.
    (site,) = re.findall(r"mkdocs build (.*)", MAKEFILE)
    assert site.split() == ["--strict"]
    assert re.search(r"^\t\$\(PYTEST\) .*--cov ", MAKEFILE, flags=re.MULTILINE)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["coverage"]
    assert settings["report"]["fail_under"] >= 90
