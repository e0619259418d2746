"""The site of docs/: it builds without a warning, and a link that leads nowhere is one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """As ``make docs`` does it."""
    argv = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(source), str(target)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)


def test_the_site_builds_and_has_every_page(tmp_path: Path) -> None:
    done = build(DOCS, tmp_path / "site")
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.stem for path in DOCS.glob("*.md")}
    assert {path.stem for path in (tmp_path / "site").glob("*.html")} >= pages
    front = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert [page for page in pages if f'href="{page}.html' not in front and page != "index"] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("See [nowhere](nowhere.md).", "nowhere"),
        ("See [a code](errors.md#no-such-code).", "no-such-code"),
        ("See [below](#no-such-heading).", "no-such-heading"),
    ],
)
def test_a_link_that_leads_nowhere_fails(tmp_path: Path, line: str, said: str) -> None:
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("_build"))
    page = tmp_path / "docs" / "upgrades.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    done = build(tmp_path / "docs", tmp_path / "site")
    assert done.returncode != 0 and f"upgrades.md:{len(page.read_text(encoding='utf-8').splitlines())}" in done.stderr
    assert said in done.stderr


def test_a_page_that_no_list_names_fails(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("_build"))
    (tmp_path / "docs" / "forgotten.md").write_text("# Forgotten\n", encoding="utf-8")
    done = build(tmp_path / "docs", tmp_path / "site")
    assert done.returncode != 0 and "forgotten.md" in done.stderr
