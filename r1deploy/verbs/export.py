"""A folder for someone who only knows Ansible: inventory, variables, rendered files, playbooks, roles."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from r1deploy import content
from r1deploy.ansible import overlay
from r1deploy.ansible.overlay import Template
from r1deploy.errors import UsageError
from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.view import View, lock_of, look
from r1deploy.planning.rolevars import fixed_groups, host_vars, role_vars
from r1deploy.planning.steps import STEPS
from r1deploy.render import SECRET
from r1deploy.run import Run
from r1deploy.settings import redact
from r1deploy.ssh import PASSWORD, login_of_all
from r1deploy.verbs.bootstrap import brought_for

IGNORED = shutil.ignore_patterns(
    "__pycache__", "probe.yml", "inventory.yml", "r1_probe.py", "probe.py", "lock.py", "weights.py"
)
# A password is no part of an export; the name is the key above it.
UNSAID = frozenset({"name", "grouped", *PASSWORD})


def export(run: Run, target: Path) -> list[str]:
    """Write the folder; it must not be there. Raises UsageError, UnreachableError."""
    if target.exists() and any(target.iterdir()):
        raise UsageError("FILE_EXISTS", f"{target} is not empty", fix="name a new folder")
    view = look(run.context, lock_of(run.context, frozenset(), run.say))
    refuse_unreachable(view.probed)
    shutil.copytree(content.PLAYBOOKS, target / "playbooks", ignore=IGNORED, dirs_exist_ok=True)
    shutil.copytree(content.ROLES, target / "roles", ignore=IGNORED)
    view.rendered.write(target / "files")
    secrets = list((target / "files").rglob(SECRET))
    for path in secrets:
        path.unlink()
    (target / "inventory").mkdir()
    (target / "inventory" / "hosts.yml").write_text(inventory(view), encoding="utf-8")
    (target / "ansible.cfg").write_text(ansible_cfg(), encoding="utf-8")
    asked = f" -e config_api_key_file=/path/to/{SECRET}" if secrets else ""
    command = "ansible-playbook playbooks/bootstrap.yml -e patch_key_file=/path/to/private_key.pem"
    rows = [f"wrote {target}", f"run: cd {target} && {command}{asked}"]
    if secrets:
        rows.append(f"{SECRET} holds one line, mode 0600: export VLLM_API_KEY=...")
    return rows


def ansible_cfg() -> str:
    """Our ansible.cfg, with paths from the folder's top and the inventory named."""
    text = (content.PLAYBOOKS / "ansible.cfg").read_text(encoding="utf-8")
    text = text.replace("= ./", "= ./playbooks/").replace("= ../roles", "= ./roles")
    return text.replace("[defaults]\n", "[defaults]\ninventory = ./inventory/hosts.yml\n", 1)


def inventory(view: View) -> str:
    """The inventory: every host in every group of the steps, since here the roles decide what is to do."""
    everyone = tuple(host.name for host in view.desired.hosts)
    builder = view.desired.builder.name
    found: dict[str, tuple[str, ...]] = {f"drift_{step}": everyone for step in STEPS}
    others = tuple(name for name in everyone if name != builder)
    found["drift_patch"] = (builder,)
    found["ship_sources"] = found["ship_vllm"] = (builder,) if others else ()
    found.update(fixed_groups(view.desired))
    # Logins are no part of an export: who uses it has git's own helpers, or gives these variables.
    roles = redact.without_logins(
        role_vars(view.desired, brought_for(view, "", False), view.probed.observed)
        | {"sources_logins": [], "patch_logins": {}}
    )
    variables: dict[str, Any] = {**login_of_all(view.desired.settings.ssh).ansible(), **roles}
    variables["r1_staging"] = Template("{{ playbook_dir | dirname }}/.staging")
    own = host_vars(view.desired, view.plan, view.probed.observed, "")
    for host in own.values():
        # What an interrupted run left here today says nothing of the day on which the folder is used.
        del host["host_leftovers"], host["config_active"]
        host["config_source"] = Template("{{ playbook_dir | dirname }}/files/{{ inventory_hostname }}")
        for file in host["config_files"]:
            if file["name"] == SECRET:
                file["src"] = Template("{{ config_api_key_file }}")
    hosts = {
        host.name: {**{k: v for k, v in view.probed.login[host.name].items() if k not in UNSAID}, **own[host.name]}
        for host in view.desired.hosts
    }
    document = {
        "all": {
            "vars": variables,
            "hosts": hosts,
            "children": {name: {"hosts": {host: {} for host in members}} for name, members in found.items()},
        }
    }
    head = "# Written by r1deploy export. patch_key_file: path of the vendor's key on this machine.\n"
    return head + overlay.dump(document)
