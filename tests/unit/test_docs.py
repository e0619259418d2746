"""The pages under docs/ say what the program does: they cannot go stale unnoticed."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

import r1deploy
from r1deploy import errors
from r1deploy.cli import main
from r1deploy.cli.app import GROUPS, app
from r1deploy.errors import ErrorCode, PreflightError, R1Error
from r1deploy.settings import schema
from r1deploy.ui import planlines
from tests.plans.test_plans import CASES, run

PACKAGE = Path(r1deploy.__file__ or "").parent
DOCS = PACKAGE.parent / "docs"
ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", ERRORS, re.M | re.S))


def raised() -> dict[str, set[int]]:
    """Code → exit codes of the classes that are raised with it as a literal; a preflight check is one of 5."""
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, R1Error)}
    found: dict[str, set[int]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).split(".")[-1]
            place = 0 if name in kinds or name == "failed" else None
            if place is None or len(node.args) <= place:
                continue
            code = node.args[place]
            if isinstance(code, ast.Constant) and code.value in ErrorCode:
                found[code.value].add(kinds.get(name, PreflightError).exit_code)
    return found


RAISED = raised()


def test_every_code_has_its_paragraph_and_no_other_is_there() -> None:
    assert sorted(SECTIONS) == sorted(ErrorCode)
    assert len(re.findall(r"^### ", ERRORS, re.M)) == len(SECTIONS), "a code is there twice"


@pytest.mark.parametrize("code", ErrorCode)
def test_a_paragraph_says_the_exit_code_the_meaning_and_the_fix(code: str) -> None:
    text = " ".join(SECTIONS[code].split())
    found = re.match(r"\*Exit ([0-9]+(?:(?:, | or )[0-9]+)*)\.\* (.+) Fix: (.+)", text)
    assert found, text[:80]
    said = {int(number) for number in re.findall("[0-9]+", found[1])}
    # SSH's own failures are read before any step (4), a host is found unreachable there; the rest is literal.
    wanted = RAISED.get(code, set()) - ({5} if code == "SSH_FAILED" else set())
    assert wanted <= said, f"{code} is raised with exit code {sorted(wanted)}"
    assert len(found[2]) > 25 and len(found[3]) > 5


def test_the_search_for_raised_codes_finds_them() -> None:
    assert RAISED["LIMIT_EMPTY"] == {2} and RAISED["CHIP_SICK"] == {5} and len(RAISED) > 50


def pages() -> dict[str, str]:
    """The pages that ``make docs`` writes, by name."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: page() for name, page in module.PAGES.items()}


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return pages()


@pytest.mark.parametrize("name", ["cli.md", "settings.md"])
def test_a_reference_is_what_the_program_says(written: dict[str, str], name: str) -> None:
    """``make docs`` writes it."""
    assert (DOCS / name).read_text(encoding="utf-8") == written[name], "run: make docs"


def test_the_references_have_every_verb_and_every_setting(written: dict[str, str]) -> None:
    verbs = re.findall(r"^#{3,4} (r1deploy .+)$", written["cli.md"], re.M)
    assert {"r1deploy bootstrap", "r1deploy lab up", "r1deploy weights pull"} <= set(verbs)
    keys = re.findall(r"^\| `([a-z0-9_.]+)` \|", written["settings.md"], re.M)
    assert sorted(keys) == sorted(".".join(path) for path, node in schema.nodes().items() if node.kind != "section")


def test_every_verb_is_in_one_group_and_every_group_has_verbs() -> None:
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(program.commands) and all(GROUPS.values())


def test_help_shows_the_groups_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["-h"]) == 0
    shown = re.findall(r"^╭─ (\w+) ", capsys.readouterr().out, re.M)
    assert shown == ["Options", *GROUPS]
    assert main.run(["plan", "-h"]) == 0
    assert "[INVENTORY]" in capsys.readouterr().out


def test_a_shell_completes_verbs_and_options() -> None:
    """And no shell of the user is asked when nothing is completed."""
    env = {**os.environ, "_R1DEPLOY_COMPLETE": "complete_bash", "COMP_WORDS": "r1deploy pla", "COMP_CWORD": "1"}
    argv = [sys.executable, "-m", "r1deploy"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["plan"]
    env["COMP_WORDS"], env["COMP_CWORD"] = "r1deploy plan --exit", "2"
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["--exit-code"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_links_of_the_front_pages_lead_somewhere(name: str) -> None:
    """Those of docs/ are checked where the site is built."""
    text = (DOCS.parent / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if "://" not in link and not (DOCS.parent / link).exists()] == []


def hashes_away(text: str) -> str:
    """Text in one line, without what differs between two clusters: hashes, and where the image comes from."""
    return re.sub(r"\b[0-9a-f]{12}\b|tarball|registry", "#", " ".join(text.split()))


def test_the_plan_in_the_readme_is_what_the_program_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    plan, _ = run(CASES["nothing-is-there"])
    printed = hashes_away("\n".join(planlines.plan_lines(plan, False)))
    (block,) = re.findall(r"^\$ r1deploy plan.*?\n(.*?)^Choices:", (DOCS.parent / "README.md").read_text(), re.M | re.S)
    said = [hashes_away(part) for part in block.split("  …\n")]
    rows = [
        row.strip() for part in said for row in re.split(r" (?=(?:image|container|sources|patch|vllm) +node)", part)
    ]
    assert len(rows) > 7 and [row for row in rows if row not in printed] == []


def test_the_readme_is_a_front_door() -> None:
    assert len((DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()) < 120
