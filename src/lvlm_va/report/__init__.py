"""The report of a run: one self-contained HTML page, and one picture for the terminal."""

from lvlm_va.silence import load_fonts

load_fonts()
