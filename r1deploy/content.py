"""Where playbooks, roles, plugins and templates are: beside the package in a checkout, inside it in a wheel.

The folder that holds them is an Ansible collection. Ansible finds one by the end of its path only, so each run has a
link of that name.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

COLLECTION = ("r1deploy", "cluster")
# Where Ansible looks by itself: a user's own collections, for the inventory's plugins.
OF_USERS = ("~/.ansible/collections", "/usr/share/ansible/collections")


def _top() -> Path:
    checkout = PACKAGE.parent
    if (checkout / "playbooks" / "bootstrap.yml").exists() and (checkout / "pyproject.toml").exists():
        return checkout
    return PACKAGE / "_content"


TOP = _top()
PLAYBOOKS = TOP / "playbooks"
ROLES = TOP / "roles"
TEMPLATES = TOP / "templates"
HELPERS = ROLES / "host" / "files"


def collections_path(folder: Path) -> str:
    """Ansible's search path of collections: ours, by a link made in a folder of the run's, then the users'."""
    namespace, name = COLLECTION
    place = folder / "ansible_collections" / namespace
    place.mkdir(parents=True, exist_ok=True)
    if not (place / name).is_symlink():
        (place / name).symlink_to(TOP, target_is_directory=True)
    return os.pathsep.join([str(folder), *OF_USERS])
