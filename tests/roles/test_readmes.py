"""Each role has a README that says what it takes, and an example that is right."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from r1deploy import content
from tests.roles.readmes import HEAD, reference
from tests.roles.test_contracts import ROLES, short, specs


def readme(role: str) -> str:
    return (content.ROLES / role / "README.md").read_text(encoding="utf-8")


def example(role: str) -> dict[str, Any]:
    """The task of the example."""
    (text,) = re.findall(r"```yaml\n(.*?)```", readme(role), re.S)
    (play,) = yaml.safe_load(text)
    (task,) = play["tasks"]
    return dict(task)


@pytest.mark.parametrize("role", ROLES)
def test_the_variables_are_those_of_the_specification(role: str) -> None:
    """``make docs`` writes them."""
    said, head, variables = readme(role).partition(HEAD)
    assert head + variables == reference(content.ROLES / role)
    assert said.startswith(f"# r1deploy.cluster.{role}\n") and len(said.splitlines()) < 40


@pytest.mark.parametrize("role", ROLES)
def test_the_example_gives_what_is_required_and_nothing_unknown(role: str) -> None:
    task = example(role)
    call = task["ansible.builtin.include_role"]
    assert short(call["name"]) == role
    options = specs(role)[call.get("tasks_from", "main")]
    assert {name for name, row in options.items() if row.get("required")} <= set(task["vars"]) <= set(options)
