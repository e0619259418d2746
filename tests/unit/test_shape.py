"""The shape of the program: what may import what, and names that have to agree in several places."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from r1deploy import content
from r1deploy.planning.steps import STEPS
from tests.sourcetree import MODULES, PACKAGE, tree_of

FILE_LINES, FUNCTION_LINES, MEDIAN_LINES, P90_LINES, PARAMETERS = 350, 60, 8, 20, 5
# The rooms of the house, the highest first: an import goes down this list, or stays in its line.
ROOMS = (
    ("__main__",),
    ("cli",),
    ("lab",),
    ("ui",),
    ("verbs",),
    ("applying", "serving"),
    ("checkpoint",),
    ("fanout",),
    ("assurance",),
    ("reporting",),
    ("run",),
    ("journal", "runlock"),
    ("observe",),
    ("connection", "hostlink", "sshprocess", "session", "forwarding", "shipping", "dockercli", "together"),
    ("ansible",),
    ("ssh",),
    ("render",),
    ("planning",),
    ("modes",),
    ("inputs",),
    ("settings",),
    ("cluster",),
    ("onhost",),
    ("content", "causes", "voice", "signals"),
    ("errors", "units", "inventorytext"),
    ("r1deploy",),
)
HEAVY = ("ansible_runner", "docker", "fabric", "httpx", "jinja2")
# Anything that reaches out of the process, or gives another answer at another time or place.
IO = {
    "asyncio", "docker", "fabric", "glob", "http", "httpx", "io", "ansible_runner", "jinja2", "multiprocessing", "os",
    "pathlib", "platform", "random", "requests", "secrets", "shutil", "signal", "socket", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib", "uuid", "yaml",
}  # fmt: skip
CALLS = {"open", "print", "input", "exec", "eval", "now", "utcnow", "today", "read_text", "write_text", "getenv"}
PURE = ("r1deploy.planning", "r1deploy.modes")
ALLOWED_OUTSIDE = {
    "r1deploy",
    "r1deploy.errors",
    "r1deploy.settings",
    "r1deploy.settings.gitlogin",
    "r1deploy.settings.model",
    "r1deploy.settings.redact",
    "r1deploy.settings.site",
    "r1deploy.cluster",
    "r1deploy.cluster.host",
    "r1deploy.cluster.ranges",
    "r1deploy.units",
}


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
    waiting = [name for name in MODULES if name.startswith(PURE)]
    assert "r1deploy.planning.planner" in waiting
    seen: set[str] = set()
    outside: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if not name.startswith(PURE):
            outside.add(name)
        tree = tree_of(name)
        for found in imports(tree.body, name, deep=True):
            assert found.split(".")[0] not in IO or found == "urllib.parse", f"{name} imports {found}"
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


def all_imports(name: str) -> set[str]:
    """Modules of ours that a module names in any import: inside a function and for type checking too."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    named: set[str] = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            source = ".".join(word for word in (above, node.module) if word)
            wholes = {f"{source}.{alias.name}" for alias in node.names}
            named |= {whole if whole in MODULES else source for whole in wholes}
    return {module for module in named if module in MODULES and module != name}


GRAPH = {name: all_imports(name) for name in MODULES}


def test_no_circle_of_imports() -> None:
    assert sum(map(len, GRAPH.values())) > 50, "the search finds no imports"
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for below in sorted(GRAPH[name]):
                visit(below, (*path, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


def room_of(name: str) -> str:
    """``r1deploy.planning.steps`` → planning; the package itself is ``r1deploy``."""
    return name.split(".")[1] if "." in name else name


def test_every_module_has_a_room() -> None:
    placed = [room for floor in ROOMS for room in floor]
    assert len(placed) == len(set(placed))
    assert {room_of(name) for name in MODULES} - set(placed) == set(), "put these somewhere in ROOMS"


def test_no_import_goes_up() -> None:
    floors = {room: number for number, floor in enumerate(ROOMS) for room in floor}
    up = [
        f"{name} imports {below}"
        for name, imported in sorted(GRAPH.items())
        for below in sorted(imported)
        if floors.get(room_of(below), len(ROOMS)) < floors.get(room_of(name), -1)
    ]
    assert up == []


def test_no_two_modules_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES.values():
        if path.stem not in ("__init__", "__main__"):
            places.setdefault(path.stem, []).append(str(path.relative_to(PACKAGE)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def sources() -> list[Path]:
    """Every Python file of ours, tests and roles included."""
    tops = ("r1deploy", "playbooks", "plugins", "roles", "tests", "docs", "benchmarks")
    files = (path for top in tops for path in (PACKAGE.parent / top).rglob("*.py"))
    return sorted(path for path in files if path.name != "r1guest.py" and "_content" not in path.parts)


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert len(lengths) > 100
    long = {str(path.relative_to(PACKAGE.parent)): lines for path, lines in lengths.items() if lines > FILE_LINES}
    assert long == {}


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """Every function and method of the program, those inside of others too, with its place."""
    for name in MODULES:
        for node in ast.walk(tree_of(name)):
            if isinstance(node, Function):
                yield f"{name}:{node.lineno} {node.name}", node


def lines_of(function: Function) -> int:
    """Lines from ``def`` to the end, without those of the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_functions_are_short() -> None:
    lengths = {place: lines_of(function) for place, function in functions()}
    assert {place: lines for place, lines in lengths.items() if lines > FUNCTION_LINES} == {}
    ordered = sorted(lengths.values())
    assert len(ordered) > 500
    assert ordered[len(ordered) // 2] <= MEDIAN_LINES
    assert ordered[len(ordered) * 9 // 10] <= P90_LINES


def is_command(function: Function) -> bool:
    """Whether Typer calls it: its parameters are the options of a command, one each."""
    calls = (node.func for node in function.decorator_list if isinstance(node, ast.Call))
    return any(isinstance(call, ast.Attribute) and call.attr in ("command", "callback") for call in calls)


def test_functions_take_few_parameters() -> None:
    """Without self and cls; ``*args`` and ``**kwargs`` count one each."""
    many = {}
    for place, function in functions():
        asked = function.args
        rows = (*asked.posonlyargs, *asked.args, *asked.kwonlyargs, asked.vararg, asked.kwarg)
        names = [row.arg for row in rows if row and row.arg not in ("self", "cls")]
        if len(names) > PARAMETERS and not is_command(function):
            many[place] = names
    assert many == {}


def test_ruff_holds_the_complexity() -> None:
    """Of each function, with ``ruff check`` in `make lint` and in CI."""
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "C901" in settings["select"] and settings["mccabe"] == {"max-complexity": 12}
    assert not [row for rows in settings["per-file-ignores"].values() for row in rows if row.startswith("C9")]


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
            assert group.removeprefix("ship_").removeprefix("clone_") in STEPS, group
    assert tuple(groups) == STEPS, "plays run in the order of the steps"
    roles = {path.name for path in content.ROLES.iterdir()}
    assert set(STEPS) <= roles
    # The roles beside the steps: what others are made of, and the service.
    assert roles - set(STEPS) == {"guest", "reset", "service", "tree"}


def test_every_play_of_a_step_stops_all_hosts_on_the_first_error() -> None:
    for play in yaml.safe_load((content.PLAYBOOKS / "bootstrap.yml").read_text(encoding="utf-8")):
        assert play["any_errors_fatal"] is True and play["gather_facts"] is False, play["name"]
