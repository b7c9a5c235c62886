"""Stub."""

dfr = subg = jtt = None
