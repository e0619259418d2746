"""The command line: a command parses, calls one action, prints."""
