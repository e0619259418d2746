"""Action plugin: write down what Ansible read in the inventory; no host is contacted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from r1deploy.cluster.inventories import GROUP
from r1deploy.ssh import ADDRESS, KEY, PASSWORD, PORT, USER

INVENTORY_KEYS = (
    *ADDRESS,
    *PORT,
    *USER,
    *KEY,
    *PASSWORD,
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_become",
    "ansible_python_interpreter",
    "r1_address",
    "slots",
    "type",
)


class ActionModule(ActionBase):
    """``r1_inventory: dest=FILE`` writes there what Ansible read: order, addresses, logins."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("dest",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the file; nothing changes."""
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        result["changed"] = False
        _write_inventory(self._task.args["dest"], task_vars)
        return result


def _write_inventory(path: str, task_vars: dict[str, Any]) -> None:
    """Write ``[{name, address, ...}]`` of the cluster's hosts; ``grouped``: in a group of their own."""
    grouped = GROUP in task_vars["groups"]
    names = list(task_vars["groups"][GROUP if grouped else "all"])
    rows = []
    for name in names:
        found = task_vars["hostvars"][name]
        row = {key: found.get(key) for key in INVENTORY_KEYS if found.get(key) is not None}
        rows.append({"name": name, "grouped": grouped, **json.loads(json.dumps(row, default=str))})
    partial = Path(path + ".new")
    partial.write_text(json.dumps(rows), encoding="utf-8")
    partial.replace(path)
