"""YAML for Ansible in which every text is data: Ansible evaluates what stands in an inventory, and hosts' words do.

A file name on a host may be ``{{ lookup('pipe', …) }}``; in an inventory that would run on this machine, as us.
"""

from __future__ import annotations

from typing import Any

import yaml

from r1deploy.inventorytext import Template

TEXT = "tag:yaml.org,2002:str"
# People read an exported inventory: a long text goes over several lines.
LONG, WIDTH = 80, 120


class _Dumper(yaml.SafeDumper):
    """Every text is ``!unsafe`` but our own templates; keys are names and stay as they are."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, _ in node.value:
            if key.tag == "!unsafe":
                key.tag, key.style = TEXT, None
        return node

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """A list stands below its key, further in."""
        super().increase_indent(flow, False)

    def write_double_quoted(self, text: str, split: bool = True) -> None:
        """Each line but the last ends with a backslash: so a word of any length may go on in the next one."""
        self.write_indicator('"', True)
        for character in text:
            word = _escaped(character)
            if split and self.column + len(word) >= WIDTH:
                self.stream.write("\\")
                self.write_indent()
                # What begins a line is no part of the text, unless it is escaped.
                word = "\\ " if word == " " else word
            self.stream.write(word)
            self.column += len(word)
        self.write_indicator('"', False)

    def ignore_aliases(self, data: Any) -> bool:
        """The same list twice is written twice: people read an exported inventory."""
        return True


def _escaped(character: str) -> str:
    """A character as it stands in double quotes."""
    named = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    if character in named or character.isprintable():
        return named.get(character, character)
    number = ord(character)
    return f"\\x{number:02X}" if number < 0x100 else f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"


def _data(dumper: Any, text: str) -> Any:
    """Ansible reads ``!unsafe '12'`` as a number and ``!unsafe ''`` as null: such a text is a plain quoted one.

    Nothing that YAML reads as anything but a text has room for a template.
    """
    style = "'" if text.isprintable() and len(text) <= LONG else '"'
    plain = dumper.resolve(yaml.ScalarNode, text, (True, False))
    return dumper.represent_scalar("!unsafe" if plain == TEXT else TEXT, text, style=style)


def _template(dumper: yaml.SafeDumper, text: Template) -> yaml.Node:
    return dumper.represent_scalar(TEXT, str(text))


_Dumper.add_representer(str, _data)
_Dumper.add_representer(Template, _template)


def dump(document: dict[str, Any]) -> str:
    """A document of an inventory as YAML. In: texts are data, ``Template``s are evaluated."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
