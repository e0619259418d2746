"""YAML for Ansible in which every text is data: Ansible evaluates what stands in an inventory, and hosts' words do.

A file name on a host may be ``{{ lookup('pipe', …) }}``; in an inventory that would run on this machine, as us.
"""

from __future__ import annotations

from typing import Any

import yaml


class Template(str):
    """A text that Ansible shall evaluate: only what r1deploy itself wrote, never with a value of anybody's in it."""


class _Dumper(yaml.SafeDumper):
    """Every text is ``!unsafe`` but our own templates; keys are names and stay as they are."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, _ in node.value:
            if key.tag == "!unsafe":
                key.tag, key.style = "tag:yaml.org,2002:str", None
        return node

    def ignore_aliases(self, data: Any) -> bool:
        """The same list twice is written twice: people read an exported inventory."""
        return True


def _data(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "'" if text.isprintable() else '"'
    return dumper.represent_scalar("!unsafe", text, style=style)


def _template(dumper: yaml.SafeDumper, text: Template) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text))


_Dumper.add_representer(str, _data)
_Dumper.add_representer(Template, _template)


def dump(document: dict[str, Any]) -> str:
    """A document of an inventory as YAML. In: texts are data, ``Template``s are evaluated."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
