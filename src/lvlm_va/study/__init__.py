"""The user study (Sec. 6): a page of questions, and the analysis of its answers."""
