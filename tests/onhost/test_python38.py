"""What runs on hosts and in containers may meet Python 3.8, and only what is listed may be started there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from r1deploy import content, shipping

FILES = [
    *sorted(shipping.PACKAGE.glob("*.py")),
    *sorted(content.ROLES.glob("*/files/*.py")),
    *sorted(content.PLAYBOOKS.parent.glob("plugins/modules/*.py")),
    *sorted(content.PLAYBOOKS.parent.glob("plugins/modules/*.py")),
]
NAMES = [f"{path.parent.name}/{path.name}" for path in FILES]
BUILTINS = {"dict", "frozenset", "list", "set", "tuple", "type"}


def annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """The expressions that a postponed annotation is: nobody evaluates them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            yield node.returns


def evaluated_types(source: str) -> list[str]:
    """Types that are evaluated although Python 3.8 cannot: ``list[int]``, ``int | None``."""
    tree = ast.parse(source)
    postponed = {id(node) for top in annotations(tree) for node in ast.walk(top)}
    found = []
    for node in ast.walk(tree):
        if id(node) in postponed:
            continue
        is_subscript = isinstance(node, ast.Subscript) and ast.unparse(node.value) in BUILTINS
        is_union = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and "None" in ast.unparse(node)
        if is_subscript or is_union:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_there_are_files_of_each_kind() -> None:
    assert {"onhost/probe.py", "files/r1guest.py", "files/r1trust.py"} <= set(NAMES)
    assert any(name.endswith("r1_tree.py") for name in NAMES)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_it_is_python_3_8(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    assert evaluated_types(source) == []
    if any(True for _ in annotations(tree)):
        assert "from __future__ import annotations\n" in source, "its annotations would be evaluated"


def test_what_is_looked_for_would_be_found() -> None:
    source = (
        "def f(a: list[int] | None) -> None: ...\nA = dict[str, int]\nB = int | None\nc: set[int] = frozenset[int]()\n"
    )
    assert evaluated_types(source) == ["line 2: dict[str, int]", "line 3: int | None", "line 4: frozenset[int]"]
    with pytest.raises(SyntaxError):
        ast.parse("with (open('a') as a, open('b') as b): pass\nmatch a:\n    case 1: pass\n", feature_version=(3, 8))


def test_the_scripts_are_the_modules_with_a_main() -> None:
    """``hubclient`` is started by ``hub`` on the host, not from here."""
    found = set()
    for path in shipping.PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        found |= {path.stem for node in mains if [arg.arg for arg in node.args.args] == ["text"]}
    assert found == set(get_args(shipping.Script))


def test_no_module_has_the_name_of_another_one() -> None:
    """Somebody who is told of ``holder.py`` knows which one is meant."""
    top = shipping.PACKAGE.parent
    others = {path.name for path in top.rglob("*.py") if not {"standins", "_content", "onhost"} & set(path.parts)}
    assert {path.name for path in shipping.PACKAGE.glob("*.py")} & others <= {"__init__.py", "probe.py"}
