"""The error tree: exit codes, JSON, and a registry that holds every code raised."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from r1deploy import errors
from r1deploy.errors import ErrorCode, PreflightError, R1Error
from tests.sourcetree import MODULES, tree_of


def subclasses() -> dict[str, type[R1Error]]:
    found = {name: item for name, item in vars(errors).items() if isinstance(item, type)}
    return {name: item for name, item in found.items() if issubclass(item, R1Error)}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("R1Error", 1),
        ("UsageError", 2),
        ("ConfigError", 3),
        ("UnreachableError", 4),
        ("PreflightError", 5),
        ("ApplyError", 6),
        ("GateError", 7),
        ("LockedError", 8),
        ("Interrupted", 130),
    ],
)
def test_exit_code(name: str, code: int) -> None:
    assert subclasses()[name].exit_code == code


def test_one_class_for_each_exit_code() -> None:
    codes = [item.exit_code for item in subclasses().values()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", subclasses().values(), ids=lambda kind: kind.__name__)
def test_to_dict_is_json_and_raising_prints_nothing(kind: type[R1Error], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(R1Error) as caught:
        raise kind("BUG", "it broke", host="node1", evidence=["a", "b"], fix="mend it", log=Path("run.log"))
    found = json.loads(json.dumps(caught.value.to_dict()))
    found.pop("blockers", None)
    assert found == {
        "code": "BUG",
        "message": "it broke",
        "host": "node1",
        "evidence": ["a", "b"],
        "fix": "mend it",
        "log": "run.log",
        "exit_code": kind.exit_code,
    }
    assert str(caught.value) == "it broke"
    assert caught.value.evidence == ("a", "b")
    assert capfd.readouterr() == ("", "")


def test_blockers_of_any_kind_become_json() -> None:
    @dataclass(frozen=True)
    class Blocker:
        code: str
        hosts: tuple[str, ...]

    error = PreflightError("BUG", "no", blockers=[Blocker("KEY_WRONG", ("node1",)), {"path": Path("x")}, "text"])
    assert len(error.blockers) == 3
    expected = [{"code": "KEY_WRONG", "hosts": ["node1"]}, {"path": "x"}, "text"]
    assert json.loads(json.dumps(error.to_dict()))["blockers"] == expected


@pytest.mark.parametrize("code", ErrorCode)
def test_registry_entries_can_be_docs(code: str) -> None:
    assert code.isupper() and code.replace("_", "").isalnum()
    assert ErrorCode[code] and "\n" not in ErrorCode[code] and not ErrorCode[code].endswith(".")


# Where in a call its code stands; a text there that is no code is not in capitals.
PLACES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys((*subclasses(), "failed", "warned", "_failed"), (0,)),
    "odd_one_out": (0, 1),
    "Cause": (1,),
    "Failure": (3,),
    "Check": (4,),
}


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
            for place in PLACES.get(ast.unparse(node.func).split(".")[-1], ()):
                yield from texts(node.args[place]) if len(node.args) > place else ()
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
    ways = {"HOSTFILE_EMPTY", "SETTINGS_MISSING", "KEY_MODE", "DRIVER_DIFFERS", "TOPOLOGY", "SSH_DNS"}
    assert ways | {"GIT_DNS", "NO_TOKENS", "STEP_FAILED"} <= set(found)
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
