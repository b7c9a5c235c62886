"""One training loop: precision, several processes, out of memory, resume."""
