"""The generated part of a role's README, from its argument_specs: ``python -m tests.roles.readmes`` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from r1deploy import content

HEAD = "## Entry points and variables\n"


def value(row: Mapping[str, Any]) -> str:
    """What a variable is by default, as JSON."""
    return f"`{json.dumps(row['default'])}`" if "default" in row else "required"


def line(name: str, row: Mapping[str, Any]) -> str:
    """A variable as a line of the table, with the keys of what it holds."""
    kind = f"{row['type']} of {row['elements']}" if "elements" in row else row["type"]
    keys = [f"`{key}` ({one['description'].rstrip('.')})" for key, one in row.get("options", {}).items()]
    said = " ".join([row["description"].strip(), *(["Each has " + ", ".join(keys) + "."] if keys else [])])
    return "| " + " | ".join(part.replace("|", "\\|") for part in (f"`{name}`", kind, value(row), said)) + " |\n"


def reference(role: Path) -> str:
    """The entry points of a role, each with its variables."""
    found = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    rows = [HEAD]
    for entry, spec in found.items():
        rows += [f"\n### {entry}\n\n{spec['short_description']}.\n\n"]
        rows += ["| Variable | Type | Default | What it is |\n", "|---|---|---|---|\n"]
        rows += [line(name, row) for name, row in spec["options"].items()]
    return "".join(rows)


def main() -> None:
    """Write the part of each README that is generated; what stands before it is written by hand."""
    for role in sorted(content.ROLES.iterdir()):
        path = role / "README.md"
        before = path.read_text(encoding="utf-8").partition(HEAD)[0]
        path.write_text(before + reference(role), encoding="utf-8")


if __name__ == "__main__":
    main()
