"""Action plugin: run the probe's script on a host in one remote execution.

The package ``onhost`` goes to the host's Python on standard input: no file is written
there, no module is unpacked, nothing changes. Measured: an ordinary module
costs five times as much on the host.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from r1deploy import shipping
from r1deploy.cluster.inventories import GROUP
from r1deploy.onhost.addresses import addresses_of
from r1deploy.ssh import ADDRESS, KEY, PASSWORD, PORT, USER, python_words

MARK = "r1probe:"
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
    """``r1_probe: request={...}`` returns ``probe`` (the script's JSON) or fails with what the host said.

    ``inventory_out`` names a file here: the first host of the inventory writes
    there what Ansible read (order, addresses, logins), before any connection,
    so that it is known of unreachable hosts too. Without a ``request`` that is all.
    """

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("request", "inventory_out"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send the script, read one marked line of JSON back."""
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        result["changed"] = False
        _write_inventory(self._task.args.get("inventory_out"), task_vars)
        if "request" not in self._task.args:
            return result
        address = _address(task_vars)
        request = {**self._task.args["request"], "address": address, "numbers": addresses_of(address)}
        interpreter = python_words(self._templar.template(task_vars.get("ansible_python_interpreter")))
        done = self._low_level_execute_command(
            shipping.command(interpreter, "probe"), in_data=shipping.parcel(request), sudoable=True
        )
        result.update(_answer_of(done, int(request["limit"])))
        return result


def _answer_of(done: dict[str, Any], limit: int) -> dict[str, Any]:
    """``probe``, or a failure with what the host said. In: what came of the command; bytes that are taken."""
    text, said = str(done["stdout"]), str(done["stderr"] or done["stdout"])
    # Twice: what a noisy login shell says around it is skipped, up to a point.
    if len(text) > 2 * limit:
        return {"failed": True, "msg": f"the host's answer has {len(text)} characters, {2 * limit} are taken"}
    line = next((row for row in text.splitlines() if MARK in row), None)
    if line is None:
        tail = [row[:500] for row in said[-limit:].strip().splitlines()[-5:]]
        return {"failed": True, "msg": "the probe gave no answer", "rc": done["rc"], "tail": tail}
    try:
        return {"probe": json.loads(line.partition(MARK)[2])}
    except (ValueError, RecursionError) as error:
        return {"failed": True, "msg": f"the probe's answer is no JSON: {error}"}


def _write_inventory(path: str | None, task_vars: dict[str, Any]) -> None:
    """Write ``[{name, address, ...}]`` of the cluster's hosts, once a run; ``grouped``: in a group of their own."""
    grouped = GROUP in task_vars["groups"]
    names = list(task_vars["groups"][GROUP if grouped else "all"])
    if not path or task_vars["inventory_hostname"] != task_vars["ansible_play_hosts_all"][0]:
        return
    rows = []
    for name in names:
        found = task_vars["hostvars"][name]
        row = {key: found.get(key) for key in INVENTORY_KEYS if found.get(key) is not None}
        rows.append({"name": name, "grouped": grouped, **json.loads(json.dumps(row, default=str))})
    partial = Path(path + ".new")
    partial.write_text(json.dumps(rows), encoding="utf-8")
    partial.replace(path)


def _address(hostvars: Any) -> str:
    """The address by which the other hosts reach this one."""
    return str(hostvars.get("r1_address") or hostvars.get("ansible_host") or hostvars.get("inventory_hostname"))
