"""field.md 1.1, 1.2: no text in an inventory that r1deploy writes is evaluated, but its own templates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1deploy.ansible import overlay
from r1deploy.ansible.runner import Play, Target, write_overlay
from r1deploy.inventorytext import Template
from r1deploy.settings.model import Ssh
from r1deploy.ssh import login_of_all


def hostile(mark: Path) -> list[str]:
    """Texts that run something or fail, where they are evaluated. In: a file that they would make."""
    return [
        f"/dev/shm/r1deploy-{{{{ lookup('pipe', 'touch {mark}') }}}}",
        f"{{% for _ in [1] %}}{{{{ lookup('pipe', 'touch {mark}') }}}}{{% endfor %}}",
        "{# no comment #}",
        "!unsafe x",
        "a\nb: {{ 1 + 1 }}\n",
        "\x1b[31m{{ red }}",
        "'\"{{",
        "lookup('pipe', 'id')",
    ]


def evaluated(inventory: Path, name: str) -> Any:
    """A host's variable as a task gets it: Ansible itself, with a task that uses it."""
    play = inventory.parent / "play.yml"
    task = {"name": "t", "ansible.builtin.copy": {"content": f"{{{{ {name} | to_json }}}}", "dest": f"{play}.out"}}
    play.write_text(yaml.safe_dump([{"hosts": "node1", "gather_facts": False, "tasks": [task]}]))
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "-c", "local", str(play)]
    extra = json.dumps({"ansible_python_interpreter": sys.executable, "ansible_become": False})
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "False"}
    done = subprocess.run([*argv, "-e", extra], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(Path(f"{play}.out").read_text())


def test_a_hosts_word_stays_text_for_ansible(tmp_path: Path) -> None:
    """Values, texts in lists and in mappings, keys: each arrives as it was, and nothing ran here."""
    mark = tmp_path / "ran"
    words = hostile(mark)
    found = {"list": words, "one": words[0], "deep": {"in": [{"it": word} for word in words], words[0]: 1}, "n": 3}
    path = write_overlay(
        tmp_path,
        Target(tmp_path, Ssh()),
        Play("x.yml", {"g": ("node1",)}, {"all_of_us": words}, {"node1": {"x": found}}),
    )
    assert evaluated(path, "x") == found
    assert evaluated(path, "all_of_us") == words
    assert not mark.exists()


def test_a_text_that_looks_like_something_else_stays_a_text(tmp_path: Path) -> None:
    """A commit of digits, an empty path, a host named null: Ansible reads ``!unsafe`` by what it looks like."""
    words = ["", "~", "null", "yes", "False", "12", "-1", "0o17", "0x1f", "1e5", "1.5", ".inf", ".NaN", "1:30"]
    words += ["2026-01-31", "2026-01-31T00:00:00Z", "<<", "=", "4" * 40, "1_000", "[]", "{}", "- x", "a: b", "!x"]
    path = write_overlay(
        tmp_path,
        Target(tmp_path, Ssh()),
        Play("x.yml", {"g": ("node1",)}, {}, {"node1": {"x": {"in": words, "one": ""}}}),
    )
    assert evaluated(path, "x") == {"in": words, "one": ""}


def test_a_long_text_goes_over_several_lines_and_stays_the_same(tmp_path: Path) -> None:
    """Within a word, at a space, at what is escaped: wherever the line ends."""
    pieces = ["x" * 300, "a b " * 100, " " * 200, '"\\' * 150, "\n" * 130, "\t \x1b" * 100, "ü€😀\u2028 " * 60]
    words = [*pieces, *(f"{'-' * n}  {' '.join(pieces)}" for n in range(90, 125, 5))]
    path = write_overlay(
        tmp_path, Target(tmp_path, Ssh()), Play("x.yml", {"g": ("node1",)}, {}, {"node1": {"x": {"in": words}}})
    )
    assert max(map(len, path.read_text().splitlines())) <= 140
    assert evaluated(path, "x") == {"in": words}


def test_our_own_templates_are_evaluated(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    hosts = {"node1": {"x": Template("{{ inventory_hostname }}/files"), "y": "{{ inventory_hostname }}"}}
    path.write_text(overlay.dump({"all": {"hosts": hosts}}))
    assert evaluated(path, "[x, y]") == ["node1/files", "{{ inventory_hostname }}"]


def test_who_needs_sudo_is_a_template_still(tmp_path: Path) -> None:
    path = write_overlay(tmp_path, Target(tmp_path, Ssh(user="ops")), Play("x.yml", {"g": ("node1",)}))
    text = path.read_text()
    path.write_text(text.replace("ansible_become:", "asked:"))
    assert evaluated(path, "asked | bool") is True


def test_no_template_holds_a_value_of_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that is called like a template is a login."""
    monkeypatch.setattr("getpass.getuser", lambda: "{{ evil }}")
    found = login_of_all(Ssh(user="{{ x }}", key_file="/{{ y }}")).ansible()
    templates = [value for value in found.values() if isinstance(value, Template)]
    assert templates and not [text for text in templates if "evil" in text or "{{ x" in text or "{{ y" in text]
