"""Pages of results: Markdown and figures from the trials of an experiment."""

from lvlm_va.io.silence import load_fonts

load_fonts()

from experiments.pages.render import headline, render

__all__ = ["headline", "render"]
