"""Who agrees to what happens on the hosts: a person at a terminal, or ``--yes`` beforehand; nobody else."""

from __future__ import annotations

import io
import sys

import pytest

from r1deploy.cli.app import agreed
from r1deploy.errors import Interrupted, UsageError


class Terminal(io.StringIO):
    """A standard input with a person at it."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_and_without_yes_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 5.1."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError) as caught:
        agreed("Go on?", False)
    assert (caught.value.code, caught.value.exit_code) == ("YES_MISSING", 2)
    assert "--yes" in (caught.value.fix or "")
    agreed("Go on?", True)


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, goes_on: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    if goes_on:
        agreed("Go on?", False)
    else:
        with pytest.raises(Interrupted, match="nothing was done"):
            agreed("Go on?", False)
    said = capsys.readouterr()
    assert said.out == "" and "Go on?" in said.err


def test_the_end_of_input_is_no_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    with pytest.raises(EOFError):
        agreed("Go on?", False)
