"""One file to many hosts: each passes on what it receives."""
