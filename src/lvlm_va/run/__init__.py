"""The run directory: files that a person can read, and the typed record of what was measured."""
