"""A project: model, data, specifications; and the method from explanation to report."""
