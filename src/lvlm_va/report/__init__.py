"""The report of a run: one self-contained HTML page, and one picture for the terminal."""
