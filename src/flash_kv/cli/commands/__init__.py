"""One module per command; each has `command`, found by its module's name."""
