"""What a run found, for people: HTML pages, figures, the model card."""
