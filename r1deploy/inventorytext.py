"""What of an inventory's texts is evaluated: only what r1deploy itself wrote."""

from __future__ import annotations


class Template(str):
    """A text that Ansible shall evaluate: only what r1deploy itself wrote, never with a value of anybody's in it."""
