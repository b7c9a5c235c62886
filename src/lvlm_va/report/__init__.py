"""What a run found, for people: HTML pages, figures, the model card."""

from lvlm_va.io.silence import load_fonts

load_fonts()
