"""The documentation site, for mkdocs: which pages there are, and the reference, written from the docstrings.

Pages are written to be read in the repository: a link leads from the page's own place in it. Here README.md
is the first page, docs/ is the root, and whatever a page links to in the repository is taken along.
"""

import ast
import json
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import lvlm_va

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src/lvlm_va"

# Site → repository, of pages that do not lie in docs/.
OUTSIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "examples/index.md": "examples/README.md",
}
ROOMS = (
    *("project", "run", "report", "alignment", "critique", "training", "evaluate", "explain", "vision"),
    *("models", "data", "config", "study"),
)
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation; a how-to page or a page of results needs no entry anywhere."""
    guides = sorted(path.name for path in (ROOT / "docs/how-to").glob("*.md"))
    results = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "results").rglob("*.md"))
    config.nav = [
        {"Start": "index.md"},
        {"Examples": "examples/index.md"},
        {"The project file": "project-file.md"},
        {"The studio": "studio.md"},
        {"Who answers": "critics.md"},
        {"Scale": "scale.md"},
        *([{"How to": [f"how-to/{name}" for name in guides]}] if guides else []),
        {"Architecture": ["architecture.md", "architectures.md"]},
        {"The paper, claim by claim": "paper.md"},
        {"Experiments": ["experiments.md", *results]},
        {"User study": "user-study.md"},
        *({title: page} for title, page in _about()),
        {
            "Reference": [
                {"lvlm_va": "reference/index.md"},
                *({f"lvlm_va.{room}": f"reference/{room}.md"} for room in ROOMS),
            ]
        },
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside docs/, and the reference."""
    for site, repository in OUTSIDE.items():
        if (ROOT / repository).is_file():
            files.append(File.generated(config, site, abs_src_path=str(ROOT / repository)))
    for path in sorted((ROOT / "results").rglob("*")):
        if path.suffix in (".md", ".svg", ".png"):
            site = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, site, abs_src_path=str(path)))
    files.append(File.generated(config, "reference/index.md", content=_front_door()))
    for room in ROOMS:
        files.append(File.generated(config, f"reference/{room}.md", content=_room(room)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links of the repository to the same things on the site."""
    here = PurePosixPath(_in_repository(page.file.src_uri)).parent

    def led(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = os.path.normpath(here / target)
        if (ROOT / path).is_dir():
            path = f"{path}/README.md"
        site = _on_site(path)
        if files.get_file_from_path(site) is None and (ROOT / path).is_file():
            files.append(File.generated(config, site, abs_src_path=str(ROOT / path)))
        return before + os.path.relpath(site, PurePosixPath(page.file.src_uri).parent) + after

    return _LINK.sub(led, markdown)


def _about() -> list[tuple[str, str]]:
    titles = {"security.md": "Security", "contributing.md": "Contributing", "changelog.md": "Changelog"}
    return [(title, page) for page, title in titles.items() if (ROOT / OUTSIDE[page]).is_file()]


def _in_repository(site: str) -> str:
    if site in OUTSIDE:
        return OUTSIDE[site]
    return site if site.startswith("results/") else f"docs/{site}"


def _on_site(repository: str) -> str:
    for site, path in OUTSIDE.items():
        if path == repository:
            return site
    return repository.removeprefix("docs/")


def _front_door() -> str:
    lines = ["# lvlm_va", "", "What `import lvlm_va` offers; it is imported when it is first used.", ""]
    return "\n".join([*lines, *(f"::: {home}.{name}" for name, home in lvlm_va._HOMES.items())])


def _room(room: str) -> str:
    """Every module of a room with public names; what `import lvlm_va` offers stands on the page before."""
    lines = [f"# lvlm_va.{room}", ""]
    for path in sorted((SOURCES / room).rglob("*.py")):
        module = ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts)
        names = _public(path)
        if not names or path.name == "__init__.py":
            continue
        lines += [f"## {module.split('.', 2)[2]}", ""]
        elsewhere = [name for name in names if lvlm_va._HOMES.get(name) == module]
        if elsewhere:
            lines += ["See also " + ", ".join(f"[{name}][{module}.{name}]" for name in elsewhere) + ".", ""]
        members = [name for name in names if name not in elsewhere]
        lines += [f"::: {module}", "    options:", "      show_root_heading: false"]
        lines += ["      show_root_toc_entry: false", f"      members: {json.dumps(members)}", ""]
    return "\n".join(lines)


def _public(path: Path) -> list[str]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []
