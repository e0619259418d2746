"""Where playbooks, roles and templates are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _top() -> Path:
    checkout = PACKAGE.parent
    if (checkout / "playbooks" / "probe.yml").exists() and (checkout / "pyproject.toml").exists():
        return checkout
    return PACKAGE / "_content"


TOP = _top()
PLAYBOOKS = TOP / "playbooks"
ROLES = TOP / "roles"
TEMPLATES = TOP / "templates"
HELPERS = ROLES / "host" / "files"
PROFILES = PACKAGE / "settings" / "profiles"
