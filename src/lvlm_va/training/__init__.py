"""Training: one or several processes, number formats, out of memory, resume."""
