"""The stages of a run: each reads values, computes values, and is computed again only if inputs changed.

Here values meet the run's directory; what they mean is decided in the rooms (`explain`, `critique`, ...).
"""
