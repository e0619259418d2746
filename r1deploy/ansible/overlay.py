"""YAML for Ansible in which every text is data: Ansible evaluates what stands in an inventory, and hosts' words do.

A file name on a host may be ``{{ lookup('pipe', …) }}``; in an inventory that would run on this machine, as us.
"""

from __future__ import annotations

from typing import Any

import yaml

TEXT = "tag:yaml.org,2002:str"


class Template(str):
    """A text that Ansible shall evaluate: only what r1deploy itself wrote, never with a value of anybody's in it."""


class _Dumper(yaml.SafeDumper):
    """Every text is ``!unsafe`` but our own templates; keys are names and stay as they are."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, _ in node.value:
            if key.tag == "!unsafe":
                key.tag, key.style = TEXT, None
        return node

    def ignore_aliases(self, data: Any) -> bool:
        """The same list twice is written twice: people read an exported inventory."""
        return True


def _data(dumper: Any, text: str) -> Any:
    """Ansible reads ``!unsafe '12'`` as a number and ``!unsafe ''`` as null: such a text is a plain quoted one.

    Nothing that YAML reads as anything but a text has room for a template.
    """
    style = "'" if text.isprintable() else '"'
    plain = dumper.resolve(yaml.ScalarNode, text, (True, False))
    return dumper.represent_scalar("!unsafe" if plain == TEXT else TEXT, text, style=style)


def _template(dumper: yaml.SafeDumper, text: Template) -> yaml.Node:
    return dumper.represent_scalar(TEXT, str(text))


_Dumper.add_representer(str, _data)
_Dumper.add_representer(Template, _template)


def dump(document: dict[str, Any]) -> str:
    """A document of an inventory as YAML. In: texts are data, ``Template``s are evaluated."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
