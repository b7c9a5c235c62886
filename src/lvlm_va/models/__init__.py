"""The classifier: adapter, architectures, checkpoints, predictions."""
