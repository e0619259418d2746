"""The shape of the program: what may import what, and names that have to agree in several places."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import r1deploy
from r1deploy import content
from r1deploy.errors import ErrorCode
from r1deploy.planning.steps import STEPS

PACKAGE = Path(r1deploy.__file__ or "").parent
STANDINS = PACKAGE / "lab" / "standins"
HEAVY = ("ansible_runner", "docker", "fabric", "httpx", "jinja2")
# Anything that reaches out of the process, or gives another answer at another time or place.
IO = {
    "asyncio", "docker", "fabric", "glob", "http", "httpx", "io", "ansible_runner", "jinja2", "multiprocessing", "os",
    "pathlib", "platform", "random", "requests", "secrets", "shutil", "signal", "socket", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib", "uuid", "yaml",
}  # fmt: skip
CALLS = {"open", "print", "input", "exec", "eval", "now", "utcnow", "today", "read_text", "write_text", "getenv"}
ALLOWED_OUTSIDE = {
    "r1deploy",
    "r1deploy.settings",
    "r1deploy.settings.model",
    "r1deploy.cluster",
    "r1deploy.cluster.host",
}


def modules() -> dict[str, Path]:
    """All modules of the package by their dotted names."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if STANDINS in path.parents or "_content" in path.parts:
            continue
        words = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return found


MODULES = modules()


def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(body: list[ast.stmt], package: str, deep: bool) -> Iterator[str]:
    """Modules that are imported: at module level, or with ``deep`` inside functions too; not for type checking."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module
            if package.startswith("r1deploy.onhost."):  # on a host the package has another name
                assert node.level <= 1, f"{package}: leads out of what is shipped"
                source = f"r1deploy.onhost.{source}" if node.module and node.level else source or "r1deploy.onhost"
            else:
                assert node.level == 0, f"{package}: relative import"
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield whole if whole in MODULES else str(source)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(node.orelse, package, deep)
        elif deep or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            below = [child for child in ast.walk(node) if isinstance(child, ast.Import | ast.ImportFrom)]
            if isinstance(node, ast.ClassDef) and not deep:
                below = [child for child in node.body if isinstance(child, ast.Import | ast.ImportFrom)]
            yield from imports(list(below), package, deep)


def with_parents(name: str) -> set[str]:
    """A module and the packages whose ``__init__`` runs before it."""
    words = name.split(".")
    return {".".join(words[:n]) for n in range(1, len(words) + 1)}


def test_planning_does_no_io_and_imports_nothing_that_does() -> None:
    waiting = [name for name in MODULES if name.startswith("r1deploy.planning")]
    assert "r1deploy.planning.planner" in waiting
    seen: set[str] = set()
    outside: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if not name.startswith("r1deploy.planning"):
            outside.add(name)
        tree = tree_of(name)
        for found in imports(tree.body, name, deep=True):
            assert found.split(".")[0] not in IO, f"{name} imports {found}"
            waiting += [module for module in with_parents(found) if module in MODULES]
        called = {ast.unparse(node.func).split(".")[-1] for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert called & CALLS == set(), f"{name} calls {called & CALLS}"
    assert outside <= ALLOWED_OUTSIDE, f"planning leads to {sorted(outside - ALLOWED_OUTSIDE)}"


def test_what_runs_on_hosts_needs_the_standard_library_only() -> None:
    names = [name for name in MODULES if name.startswith("r1deploy.onhost")]
    assert len(names) > 5
    for name in names:
        for found in imports(tree_of(name).body, name, deep=True):
            first = found.split(".")[0]
            assert found.startswith("r1deploy.onhost") or first in sys.stdlib_module_names, f"{name} imports {found}"


def test_no_circle_of_imports() -> None:
    graph = {
        name: {found for found in imports(tree_of(name).body, name, deep=False) if found in MODULES and found != name}
        for name in MODULES
    }
    assert sum(map(len, graph.values())) > 50, "the search finds no imports"
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for found in sorted(graph[name]):
                visit(found, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["bootstrap", "--help"]], ids=" ".join)
def test_help_starts_without_the_heavy_libraries(argv: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["r1deploy", *{argv!r}]
from r1deploy.cli.main import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print("HEAVY", code or 0, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1:] == ["HEAVY 0 []"], done.stdout[-500:] + done.stderr[-500:]


def test_importtime_of_the_module_shows_no_heavy_library() -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "r1deploy", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "r1deploy.cli.main" in loaded
    assert loaded & set(HEAVY) == set()


def test_a_step_has_the_same_name_everywhere() -> None:
    plays = yaml.safe_load((content.PLAYBOOKS / "bootstrap.yml").read_text(encoding="utf-8"))
    groups: list[str] = []
    for play in plays:
        group = play["hosts"].split(":")[0]
        if group.startswith("drift_"):
            step = group.removeprefix("drift_")
            groups += [step] if step not in groups else []
            assert play["name"].split(":")[0].lower() == step, play["name"]
        else:
            assert group.removeprefix("ship_") in STEPS, group
    assert tuple(groups) == STEPS, "plays run in the order of the steps"
    roles = {path.name for path in content.ROLES.iterdir()}
    assert set(STEPS) <= roles
    # The roles beside the steps: what others are made of, and the service.
    assert roles - set(STEPS) == {"guest", "reset", "service", "tree"}


def test_every_play_of_a_step_stops_all_hosts_on_the_first_error() -> None:
    for play in yaml.safe_load((content.PLAYBOOKS / "bootstrap.yml").read_text(encoding="utf-8")):
        assert play["any_errors_fatal"] is True and play["gather_facts"] is False, play["name"]


ERRORS = {
    "R1Error", "UsageError", "ConfigError", "UnreachableError", "PreflightError", "ApplyError", "GateError",
    "LockedError", "Interrupted",
}  # fmt: skip
# Where in a call its code stands.
PLACES = {**dict.fromkeys(ERRORS, 0), "_failed": 0, "odd_one_out": 1, "Failure": 3, "Check": 4}


def texts(node: ast.expr | None) -> set[str]:
    """Texts that an expression may be; both branches of a condition."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    return set()


def codes_in(tree: ast.Module) -> Iterator[str]:
    """Every code that a module gives to an error, a finding or a failure."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            place = PLACES.get(ast.unparse(node.func).split(".")[-1])
            if place is not None and len(node.args) > place:
                yield from texts(node.args[place])
            yield from (text for word in node.keywords if word.arg == "code" for text in texts(word.value))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and target.id == "code":
                    yield from texts(node.value)
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for name, value in zip(target.elts, node.value.elts, strict=False):
                        if isinstance(name, ast.Name) and name.id == "code":
                            yield from texts(value)
                if isinstance(target, ast.Name) and target.id == "CAUSES" and isinstance(node.value, ast.Tuple):
                    for row in node.value.elts:
                        assert isinstance(row, ast.Tuple)
                        yield from texts(row.elts[1])


def test_every_code_is_in_the_registry() -> None:
    found = {code: name for name in MODULES for code in codes_in(tree_of(name)) if code.isupper()}
    # One of each way in which a code is given.
    assert {"KEY_MODE", "DRIVER_DIFFERS", "TOPOLOGY", "SSH_DNS", "GIT_DNS", "NO_TOKENS", "STEP_FAILED"} <= set(found)
    assert {code: name for code, name in found.items() if code not in ErrorCode} == {}


def test_every_code_of_the_registry_is_used() -> None:
    said = {
        word
        for name in MODULES
        if name != "r1deploy.errors"
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for word in re.findall(r"[A-Z][A-Z0-9_]+", node.value)
    }
    assert set(ErrorCode) - said == set()
