"""How a page is made: a template filled, every text in it escaped; and what every page says."""

import html
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lvlm_va.critique.unanswered import say_too_little
from lvlm_va.report import tables, words
from lvlm_va.report.comparison import dependence_table, ranked_classes
from lvlm_va.report.critiques import Critique
from lvlm_va.report.record import Images, Judged, specifications_asked
from lvlm_va.report.reliance import Reliance
from lvlm_va.report.story import critic_name, tell_data, tell_intervention
from lvlm_va.report.words import explained_class, printable
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.judge_check import ignored_examples
from lvlm_va.run.metrics import Measured

__all__ = ["markdown", "render_markdown", "render_page", "said_everywhere"]


def said_everywhere(
    run: RunDirectory,
    measured: Measured,
    images: Images,
    judged: Judged,
    critiques: Mapping[str, Critique],
    reliance: Reliance,
) -> dict[str, Any]:
    """What the templates of report, diagnosis and model card name alike."""
    verdicts = measured.verdicts
    return {
        "project": run.settings.project,
        "critic": critic_name(verdicts),
        "intervention": tell_intervention(verdicts),
        "too_little": say_too_little(verdicts.critic, reliance.unscored_evidence),
        "ignores": ignored_examples(run),
        "dependence": dependence_table(measured),
        "ranked": measured.data.several_labels or bool(ranked_classes(measured.data.classes)),
        "overruled": tables.overruled_table(verdicts.overruled),
        "unscored": tables.unscored_table(judged.in_force),
        "data_notes": tell_data(measured),
        "unusable": tables.reasons_table("Files that could not be used", measured.data.set_aside),
        "leaks": tables.leaks_table(measured.data),
        "set_aside": tables.reasons_table("Images that could not be segmented", measured.selection.set_aside),
        "costs": tables.costs_table(measured.costs),
        "segmentation": images.segmentation.method,
        "explained_class": explained_class(run.settings, several=measured.data.several_labels),
        "settings": tables.settings_table(run.config),
        "machine": run.machine,
        "specifications": specifications_asked(images, critiques, measured.data.classes),
    }


def render_page(template: str, contents: Mapping[str, Any]) -> str:
    """The page.

    Args:
        template: a file in templates/.
        contents: everything that it names.
    """
    return _environment().get_template(template).render(contents)


def render_markdown(template: str, contents: Mapping[str, Any]) -> str:
    """The Markdown file; the template passes what a model or a person wrote through `markdown`."""
    text = _environment(escape=False).get_template(template).render(contents)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def markdown(text: str) -> str:
    """Plain text as Markdown that shows it as it is, in one line: no element, link, emphasis or cell."""
    line = html.escape(re.sub(r"[\r\n\t]+", " ", printable(text)), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", line)


@cache
def _environment(*, escape: bool = True) -> Environment:
    environment = Environment(
        loader=PackageLoader("lvlm_va.report"),
        autoescape=escape,  # noqa: S701 -- Markdown is escaped by `markdown`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(words, name) for name in words.__all__} | {"md": markdown}
    return environment
