"""The project file: what it may say, how it is read."""
