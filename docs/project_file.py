"""The reference of the project file, docs/project-file.md, written from the configuration itself.

Run again when a key changes: python docs/project_file.py
"""

from pathlib import Path

from lvlm_va.config.reference import Key, project_keys

PAGE = Path(__file__).with_name("project-file.md")

HEAD = """\
# The project file

Every key, what it means, and its default. `lvlm-va init` writes a file with all of them, `lvlm-va check`
proves one before it costs anything. The same keys work as `--set section.key=value` on the command line and
as `settings={"section.key": value}` of `lvlm_va.align`. An unknown key is an error that names the nearest
known one. Relative paths start from the file's folder.

Images are prepared once, when they are read: brought to `data.size` (the side of a square, or
[height, width]), with values in [0, 1]. That is what the model is given, what is explained and what the
critic is shown; normalisation belongs inside the model. They are decoded once and kept as bytes in the cache
(`LVLM_VA_CACHE`, else `~/.cache/lvlm-va`), which may be deleted at any time.

This page is written by `python docs/project_file.py`.
"""


def page() -> str:
    """The whole page."""
    lines, section = [HEAD], None
    for key in project_keys():
        if key.section != section:
            section = key.section
            title = f"`{section}`" if section else "At the top"
            lines += ["", f"## {title}", "", *([key.section_meaning, ""] if section else [])]
            lines += ["| key | may be | default | meaning |", "|---|---|---|---|"]
        lines.append(_row(key))
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _row(key: Key) -> str:
    default = f"`{key.default_text}`" if key.default_text else ""
    cells = (f"`{key.name}`", key.kind, default, key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
