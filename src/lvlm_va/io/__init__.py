"""What goes in and out of the process: files, the screen, secrets, signals; nothing heavy."""
