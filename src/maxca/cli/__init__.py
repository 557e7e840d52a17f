"""The command line: one file per command, which parses its arguments and calls the library."""
