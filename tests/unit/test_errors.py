"""The error tree: exit codes, JSON, and a registry that holds every code raised."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

import r1deploy
from r1deploy import errors
from r1deploy.errors import ErrorCode, PreflightError, R1Error

PACKAGE = Path(r1deploy.__file__ or "").parent


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


def raised_codes() -> dict[str, str]:
    """Return the literal codes given to an error class anywhere in the package, with their places."""
    names = set(subclasses())
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if name in names and isinstance(first, ast.Constant) and isinstance(first.value, str):
                found[first.value] = f"{path.relative_to(PACKAGE)}:{node.lineno}"
    return found


def test_every_code_raised_is_in_the_registry() -> None:
    raised = raised_codes()
    assert {"HOSTFILE_EMPTY", "SETTINGS_MISSING"} <= set(raised), "the search for codes finds none"
    assert {code: place for code, place in raised.items() if code not in ErrorCode} == {}
