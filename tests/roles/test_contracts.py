"""What a role says of itself, what it has, and what r1deploy gives to it are the same."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1deploy import content
from r1deploy.planning import rolevars

ROLES = sorted(path.name for path in content.ROLES.iterdir())
# Roles and modules of ours are named in full: so they are found wherever the collection lies.
FULL = "r1deploy.cluster."
# The playbook's own, for where trees wait on the controller.
NO_ROLE = {"r1_staging"}
# Modules that hand a line to a shell, or need no Python: none is wanted.
FORBIDDEN = {"shell", "raw", "script", "expect"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def defaults(role: str) -> dict[str, Any]:
    path = content.ROLES / role / "defaults" / "main.yml"
    return dict(read(path)) if path.exists() else {}


def specs(role: str) -> dict[str, dict[str, Any]]:
    """Entry point → what it says of its variables."""
    found = read(content.ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]
    return {entry: dict(row["options"]) for entry, row in found.items()}


def declared(role: str) -> set[str]:
    """Every variable that a role takes at one of its entry points."""
    return {name for options in specs(role).values() for name in options}


def required(role: str) -> set[str]:
    """The variables of a role that have to be given."""
    return {name for options in specs(role).values() for name, row in options.items() if row.get("required")}


POINTS = [(role, entry) for role in ROLES for entry in specs(role)]


def files() -> list[Path]:
    found = [
        *content.ROLES.glob("*/tasks/*.yml"),
        *content.ROLES.glob("*/handlers/*.yml"),
        *content.PLAYBOOKS.glob("*.yml"),
    ]
    assert len(found) > len(ROLES)
    return sorted(found)


def tasks(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Tasks of a file, of plays and of blocks."""
    for row in rows:
        yield row
        for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from tasks(row.get(key) or [])


def given() -> dict[str, str]:
    """Variables that r1deploy gives to roles, as they stand in the sources: name → function."""
    found = {}
    functions = [node for node in ast.parse(inspect.getsource(rolevars)).body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        name = function.name if function.name == "host_vars" else "role_vars"
        for node in ast.walk(function) if "groups" not in function.name else ():
            if isinstance(node, ast.Dict):
                for key in node.keys:
                    # The keys of what a variable holds (path, mode, name) are no variables.
                    if isinstance(key, ast.Constant) and isinstance(key.value, str) and "_" in key.value:
                        found[key.value] = name
    return found


@pytest.mark.parametrize("role", ROLES)
def test_specification_and_defaults_agree(role: str) -> None:
    """field.md 5.17: at each entry point a variable is required, or has the default that is in defaults."""
    said: dict[str, Any] = {}
    for entry, options in specs(role).items():
        for name, row in options.items():
            assert ("default" in row) != row.get("required", False), f"{entry}: {name}"
            if "default" in row:
                assert row["default"] == said.setdefault(name, row["default"]), f"{entry}: {name}"
    assert said == defaults(role)
    assert list(said) == list(defaults(role)), "in another order"


@pytest.mark.parametrize(("role", "entry"), POINTS)
def test_every_variable_has_the_type_it_says(role: str, entry: str) -> None:
    kinds: dict[str, Any] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
    for name, row in specs(role)[entry].items():
        assert row.get("description"), name
        assert "default" not in row or type(row["default"]) is kinds[row["type"]], name
        assert row["type"] != "list" or "elements" in row, name


@pytest.mark.parametrize("path", sorted(content.PLAYBOOKS.glob("*.yml")), ids=lambda path: str(path.stem))
def test_a_play_has_the_tag_of_its_step(path: Path) -> None:
    """``--tags image``: the tag is the first word of the play's name. What only looks has none."""
    for play in read(path):
        if "hosts" not in play:  # another playbook, looked at by itself
            assert (content.PLAYBOOKS / play["ansible.builtin.import_playbook"]).is_file()
            continue
        tag = str(play["name"]).partition(":")[0].lower()
        assert play.get("tags", []) == ([] if tag in ("probe", "inventory") else [tag]), play["name"]
        assert not play.get("tags") or tag in ROLES


def short(role: str) -> str:
    """A role's own name. In: its full one, as a play or another role has it."""
    assert role.startswith(FULL), role
    return role.removeprefix(FULL)


def entered() -> list[tuple[str, str, str]]:
    """``(place, role, entry point)`` wherever a play or a role enters a role."""
    found = []
    for path in files():
        rows = read(path)
        place = str(path.relative_to(content.TOP))
        calls = [row for play in rows for row in play.get("roles", [])]
        found += [(place, short(row["role"]), row.get("tasks_from", "main")) for row in calls]
        for task in tasks(rows):
            for key in ("include_role", "import_role"):
                call = task.get(f"ansible.builtin.{key}")
                if call:
                    found.append((place, short(call["name"]), call.get("tasks_from", "main")))
    return found


@pytest.mark.parametrize(("place", "role", "entry"), entered())
def test_a_role_is_entered_where_its_variables_are_checked(place: str, role: str, entry: str) -> None:
    """field.md 5.17: Ansible checks against the specification that is called as the entry point, or not at all."""
    assert entry in specs(role), place
    assert (content.ROLES / role / "tasks" / f"{entry}.yml").is_file(), place


@pytest.mark.parametrize(("role", "entry"), POINTS)
def test_an_entry_point_is_entered(role: str, entry: str) -> None:
    assert (role, entry) in {row[1:] for row in entered()}


def reached(role: str, entry: str) -> set[Path]:
    """The files of a role that an entry point leads to."""
    folder = content.ROLES / role / "tasks"
    found, ahead = set(), [folder / f"{entry}.yml"]
    while ahead:
        path = ahead.pop()
        found.add(path)
        rows = tasks(read(path))
        calls = [value for row in rows for key, value in row.items() if key.split(".")[-1] in INCLUDES]
        ahead += [folder / call for call in calls if isinstance(call, str) and folder / call not in found]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_file_of_tasks_is_reached(role: str) -> None:
    found = {path for entry in specs(role) for path in reached(role, entry)}
    assert set((content.ROLES / role / "tasks").glob("*.yml")) == found


@pytest.mark.parametrize(("role", "entry"), POINTS)
def test_an_entry_point_declares_what_its_tasks_read_and_nothing_else(role: str, entry: str) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(reached(role, entry)))
    used = set(re.findall(rf"(?<!__)\b{role}_[a-z0-9_]+", text))
    assert used & declared(role) == set(specs(role)[entry])


@pytest.mark.parametrize("role", ROLES)
def test_variables_have_the_name_of_the_role(role: str) -> None:
    assert [name for name in defaults(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_used_and_nothing_else_of_the_role(role: str) -> None:
    text = "".join(
        path.read_text(encoding="utf-8") for path in content.ROLES.glob(f"{role}/**/*.yml") if "tasks" in path.parts
    )
    used = set(re.findall(rf"\b{role}_[a-z0-9_]+", text))
    facts = set(re.findall(rf"^\s+(?:register: )?({role}_[a-z_]+)(?::|$)", text, re.M))
    # What another host's part of the role has found: read as a fact of that host.
    facts |= set(re.findall(rf"selectattr\('({role}_[a-z_]+)'", text))
    assert declared(role) - used == set(), "variables that no task reads"
    assert used - declared(role) - facts - {f"__{name}" for name in used} == set(), "read but not declared"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(content.TOP)))
def test_no_shell(path: Path) -> None:
    for task in tasks(read(path)):
        words = {key.split(".")[-1] for key in task}
        assert words & FORBIDDEN == set(), task.get("name")
        action = task.get("action") or task.get("local_action")
        assert action is None, "modules are named by their own key"
        for key in task:
            if key.split(".")[-1] == "command":
                assert set(task[key]) >= {"argv"}, f"{task.get('name')}: command takes argv, not a line"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(content.TOP)))
def test_modules_have_their_full_names(path: Path) -> None:
    for task in tasks(read(path)):
        named = [key for key in task if "." in key]
        assert all(key.startswith(FULL) for key in named if ".r1_" in key), task.get("name")
        if "block" not in task and "hosts" not in task:
            assert len(named) == 1, f"{task.get('name')}: {list(task)}"


def test_every_variable_that_is_given_has_a_role_that_declares_it() -> None:
    found = given()
    assert {"container_volumes", "patch_key_file", "config_files", "container_recreate"} <= set(found)
    assert set(found) - {name for role in ROLES for name in declared(role)} - NO_ROLE == set()


def test_steps_get_every_variable_that_names_a_place_or_a_thing() -> None:
    """What is required, and what is empty by default: one that is forgotten would end in a path like "/wheels"."""
    inner = {"guest", "reset", "service", "tree"}
    steps = [role for role in ROLES if role not in inner]
    empty = {name for role in steps for name, value in defaults(role).items() if value == ""}
    needed = {name for role in steps for name in required(role)}
    assert "sources_flaggems_root" in needed
    assert (empty | needed) - set(given()) == set()


def test_the_key_is_never_shown() -> None:
    run = next(row for row in tasks(read(content.ROLES / "guest/tasks/main.yml")) if "guest_stdin" in str(row))
    assert run["no_log"] is True
    for path in files():
        for task in tasks(read(path)):
            # The key travels on standard input only: in an argument any user of the host could read it.
            text = str(task)
            assert "lookup('ansible.builtin.file', patch_key_file" not in text or "guest_stdin" in str(task.get("vars"))


# A reader sees in a role's main.yml what it does; what is longer goes into files of its own that it includes.
MOST_TASKS, MOST_LINES = 8, 80
INCLUDES = {"include_tasks", "import_tasks", "include_role", "import_role"}


def made_here(task: dict[str, Any]) -> Iterator[str]:
    """Variables that a task makes for later ones: registered, or set as facts."""
    if "register" in task:
        yield task["register"]
    for key, value in task.items():
        if key.split(".")[-1] == "set_fact":
            yield from (name for name in value if name != "cacheable")


@pytest.mark.parametrize("role", ROLES)
def test_variables_that_a_role_makes_have_its_name(role: str) -> None:
    """Facts and registered results live as long as the play: without the name another role would read them."""
    for path in content.ROLES.glob(f"{role}/*/*.yml"):
        if path.parent.name not in ("tasks", "handlers"):
            continue
        for task in tasks(read(path)):
            wrong = [name for name in made_here(task) if not name.lstrip("_").startswith(f"{role}_")]
            assert wrong == [], f"{path.name}: {task.get('name')}"


def commands() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.relative_to(content.TOP)}: {task.get('name')}", task)
        for path in files()
        for task in tasks(read(path))
        if any(key.split(".")[-1] == "command" for key in task)
    ]


@pytest.mark.parametrize("task", [pytest.param(task, id=name) for name, task in commands()])
def test_a_command_says_whether_it_changes_something(task: dict[str, Any]) -> None:
    arguments = next(value for key, value in task.items() if key.split(".")[-1] == "command")
    assert "changed_when" in task or {"creates", "removes"} & set(arguments), "Ansible would always say changed"


def test_there_are_commands_to_look_at() -> None:
    assert commands()


@pytest.mark.parametrize("role", ROLES)
def test_main_is_short_or_only_includes(role: str) -> None:
    path = content.ROLES / role / "tasks" / "main.yml"
    if not path.exists():
        assert "main" not in specs(role)
        return
    rows = read(path)
    if all({key.split(".")[-1] for key in row} & INCLUDES for row in rows):
        return
    assert len(list(tasks(rows))) <= MOST_TASKS and len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", files(), ids=lambda path: f"{path.parent.parent.name}-{path.name}")
def test_a_task_is_named_by_what_is_done(path: Path) -> None:
    """field.md 5.13: a failure is told by its task's name, and "node1: failed: It ended well" misleads."""
    before: list[str] = []
    for row in tasks(read(path) or []):
        name = str(row.get("name", ""))
        assert not re.match(r"(It|Its|The|A|They|This|There|Ray)\b", name), name
        if {"ansible.builtin.assert", "ansible.builtin.fail"} & row.keys():
            assert re.match(r"(Check|Compare)\b", name) or name in before, f"{name}: judges a task of another name"
        before.append(name)


@pytest.mark.parametrize(("role", "entry"), POINTS)
def test_an_entry_point_says_what_it_does(role: str, entry: str) -> None:
    """In one line, as ``ansible-doc`` lists it."""
    found = read(content.ROLES / role / "meta" / "argument_specs.yml")["argument_specs"][entry]
    assert set(found) == {"short_description", "options"} and found["options"], "an entry point without variables"
    assert not found["short_description"].endswith(".")
