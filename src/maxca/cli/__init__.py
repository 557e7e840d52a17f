"""The command line: one file per command; a command parses and calls, and holds no logic."""
