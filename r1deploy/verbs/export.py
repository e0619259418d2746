"""A folder for someone who only knows Ansible: a play, an inventory with its variables, the collection."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from r1deploy import __version__, content
from r1deploy.ansible import overlay
from r1deploy.applying import brought_for
from r1deploy.errors import ConfigError, UsageError
from r1deploy.inventorytext import Template
from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.view import View, lock_of, look
from r1deploy.planning.rolevars import fixed_groups, host_vars, role_vars
from r1deploy.planning.steps import STEPS
from r1deploy.render import SECRET, environment
from r1deploy.run import Run
from r1deploy.settings import redact
from r1deploy.ssh import PASSWORD, login_of_all

# Of the collection, what only the CLI uses: its configuration, its look at the hosts.
IGNORED = shutil.ignore_patterns("__pycache__", ".*", "action", "ansible.cfg", "inventory.yml")
PARTS = ("LICENSE", "README.md", "meta", "playbooks", "plugins", "roles")
# A password is no part of an export; the name is the key above it.
UNSAID = frozenset({"name", "grouped", *PASSWORD})
# Paths on the machine that runs Ansible, each in one variable; the folder itself has none of the exporter's.
HERE = "{{ inventory_dir | dirname }}"
PLACES = {"r1_files": Template(f"{HERE}/files"), "r1_staging": Template(f"{HERE}/.staging")}
# What is too large or too secret to be in the folder: a path on the machine where it was written.
PATHS = (
    "image_tarball",
    "image_registry_password_file",
    "sources_mirrors",
    "ansible_ssh_private_key_file",
    "ansible_ssh_extra_args",
)
SITE = """\
---
# Every step on every host, in its order. What is done already is left as it is; --tags names steps: host, image, ...
- name: Install the release
  ansible.builtin.import_playbook: r1deploy.cluster.bootstrap
"""


def export(run: Run, target: Path) -> list[str]:
    """Write the folder; it must not be there. Raises UsageError, UnreachableError."""
    if target.exists() and any(target.iterdir()):
        raise UsageError("FILE_EXISTS", f"{target} is not empty", fix="name a new folder")
    view = look(run.context, lock_of(run.context, frozenset(), run.say))
    refuse_unreachable(view.probed)
    return write(view, target)


def write(view: View, target: Path) -> list[str]:
    """Write the folder for what was found of a cluster. Returns what to tell of it."""
    ca = ca_of(view)
    view.rendered.write(target / "files")
    secrets = list((target / "files").rglob(SECRET))
    for path in secrets:
        path.unlink()
    if ca is not None:
        (target / "ca.pem").write_bytes(ca)
    everywhere, rows = variables_of(view)
    write_inventory(view, target / "inventory", everywhere, rows)
    write_collections(target / "collections")
    (target / "ansible.cfg").write_text(ansible_cfg(), encoding="utf-8")
    (target / "site.yml").write_text(SITE, encoding="utf-8")
    command = command_of(view, bool(secrets))
    (target / "README.md").write_text(readme(view, command, everywhere), encoding="utf-8")
    told = [f"wrote {target}", f"run: cd {target} && {command}"]
    return [*told, f"{SECRET} holds one line, mode 0600: export VLLM_API_KEY=..."] if secrets else told


def ca_of(view: View) -> bytes | None:
    """The site's CAs; None: it has none of its own. Raises ConfigError, before anything is written."""
    path = view.desired.settings.site.ca_bundle
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise ConfigError("SETTINGS_VALUE", f"site.ca_bundle: {error}", fix="name the PEM file with the CAs") from None


def command_of(view: View, with_api_key: bool) -> str:
    """The command that runs the folder, with what it has to be given."""
    words = ["ansible-playbook site.yml"]
    patch = view.desired.settings.patch
    words += ["-e patch_key_file=/path/to/private_key.pem"] if patch.encrypted and patch.backends else []
    words += [f"-e config_api_key_file=/path/to/{SECRET}"] if with_api_key else []
    return " ".join(words)


def readme(view: View, command: str, variables: Mapping[str, Any]) -> str:
    """The folder's README.md. In: the command that runs it; the variables of all hosts."""
    return (
        environment()
        .get_template("export.md.j2")
        .render(
            cluster=view.desired.settings.cluster,
            hosts=len(view.desired.hosts),
            command=command,
            secret=SECRET,
            steps=STEPS,
            paths=[name for name in PATHS if "/" in str(variables.get(name, ""))],
            version=__version__,
        )
    )


def variables_of(view: View) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Variables of all hosts, and those that differ by host: how to reach them, and what the roles need."""
    settings = view.desired.settings
    # Logins are no part of an export: who uses it has git's own helpers, or gives these variables.
    given = role_vars(view.desired, brought_for(view, "", False), view.probed.observed)
    roles = redact.without_logins(given | {"sources_logins": [], "patch_logins": {}})
    if settings.site.ca_bundle:
        roles |= dict.fromkeys(("guest_ca_file", "sources_ca_file"), Template(f"{HERE}/ca.pem"))
    own = host_vars(view.desired, view.plan, view.probed.observed, "")
    for row in own.values():
        # What an interrupted run left here today says nothing of the day on which the folder is used.
        del row["host_leftovers"], row["config_active"]
        row["config_source"] = Template("{{ r1_files }}/{{ inventory_hostname }}")
        for file in row["config_files"]:
            if file["name"] == SECRET:
                file["src"] = Template("{{ config_api_key_file }}")
    rows = {
        host.name: {**{k: v for k, v in view.probed.login[host.name].items() if k not in UNSAID}, **own[host.name]}
        for host in view.desired.hosts
    }
    same = shared(rows.values())
    apart = {name: {key: row[key] for key in row if key not in same} for name, row in rows.items()}
    # Defined, since Ansible checks the variables of all steps, whatever --tags says.
    key = {"config_api_key_file": Template(f"{{{{ r1_files }}}}/{SECRET}")} if settings.service.api_key_file else {}
    return {**login_of_all(settings.ssh).ansible(), **roles, **PLACES, **key, **same}, apart


def shared(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of several hosts have with the same value; of one host alone nothing is."""
    first, *others = rows
    return {key: value for key, value in first.items() if others and all(row.get(key) == value for row in others)}


def groups_of(view: View) -> dict[str, tuple[str, ...]]:
    """Groups of the plays: every host in every step, since here the roles decide what is to do."""
    everyone = tuple(host.name for host in view.desired.hosts)
    builder = view.desired.builder.name
    groups: dict[str, tuple[str, ...]] = {f"drift_{step}": everyone for step in STEPS}
    groups["drift_patch"] = (builder,)
    groups["clone_sources"] = ()
    groups["ship_sources"] = groups["ship_vllm"] = (builder,) if len(everyone) > 1 else ()
    return {**groups, **fixed_groups(view.desired)}


def write_inventory(view: View, folder: Path, everywhere: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    """Write ``hosts.yml``, ``group_vars`` and ``host_vars``. In: variables of all hosts, and those of each."""
    for name in ("group_vars", "host_vars"):
        (folder / name).mkdir(parents=True)
    groups: dict[str, Any] = {
        name: {"hosts": {host: {} for host in members}} if members else {} for name, members in groups_of(view).items()
    }
    hosts = {"all": {"hosts": {name: {} for name in rows}, "children": groups}}
    store(folder / "hosts.yml", "The hosts in their order, the first one is the head; a group a step.", hosts)
    store(folder / "group_vars" / "all.yml", "What is the same on all hosts.", everywhere)
    for name, row in rows.items():
        if row:
            store(folder / "host_vars" / f"{name}.yml", f"What {name} has of its own.", row)


def store(path: Path, title: str, document: dict[str, Any]) -> None:
    """Write a YAML file of the inventory, in which every text is data."""
    path.write_text(f"---\n# {title} Written by r1deploy export.\n{overlay.dump(document)}", encoding="utf-8")


def write_collections(folder: Path) -> None:
    """Write our collection where Ansible finds it, and the list of those that it needs."""
    place = folder.joinpath("ansible_collections", *content.COLLECTION)
    place.mkdir(parents=True)
    for name in PARTS:
        source = content.TOP / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=IGNORED)
        else:
            shutil.copyfile(source, place / name)
    metadata = yaml.safe_load((content.TOP / "galaxy.yml").read_text(encoding="utf-8"))
    del metadata["build_ignore"]
    # As in a collection that ansible-galaxy installed: where it reads the version.
    manifest = json.dumps({"collection_info": metadata, "format": 1}, indent=2)
    (place / "MANIFEST.json").write_text(f"{manifest}\n", encoding="utf-8")
    rows = [f'  - name: {name}\n    version: "{version}"\n' for name, version in metadata["dependencies"].items()]
    text = "".join(
        ["---\n# The package ansible has them; with ansible-core alone they are needed.\ncollections:\n", *rows]
    )
    (folder / "requirements.yml").write_text(text, encoding="utf-8")


def ansible_cfg() -> str:
    """Our ansible.cfg, with the inventory and the collections of the folder."""
    text = (content.PLAYBOOKS / "ansible.cfg").read_text(encoding="utf-8")
    search = ":".join(("./collections", *content.OF_USERS))
    own = f"[defaults]\ninventory = ./inventory/hosts.yml\ncollections_path = {search}\n"
    return text.replace("[defaults]\n", own, 1)
