"""Desired state → variables of the roles, groups of the plays, files to copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1deploy.inputs.key import key_file
from r1deploy.inputs.locking import password_file
from r1deploy.observe.view import View
from r1deploy.planning.desired import Desired, known_hosts
from r1deploy.planning.steps import STEP_NAMES
from r1deploy.settings import gitlogin, site


def role_vars(view: View, staging: Path | str, with_key: bool) -> dict[str, Any]:
    """Variables that are the same on all hosts.

    In: a folder on the controller for trees on their way; whether the path of the
    vendor's key is given (its content never is).
    """
    desired, settings = view.desired, view.desired.settings
    release, state = desired.release, settings.state_dir
    gems, scale = desired.tree_dir(release.flaggems.name), desired.tree_dir(release.flagscale.name)
    log = f"{desired.release_dir}"
    image = view.lock.image
    key = key_file(settings) if with_key else None
    logins = gitlogin.logins(settings)
    return {
        "r1_staging": str(staging),
        "guest_script": f"{state}/bin/r1guest.py",
        "guest_environment": site.environment(settings.site),
        "guest_ca_file": settings.site.ca_bundle or "",
        "host_state_dir": state,
        "host_folders": [{"path": path, "mode": wanted.split()[0]} for path, wanted in desired.folders.items()],
        "image_name": settings.image.name,
        "image_digests": list(desired.image_digests),
        "image_tarball": settings.image.tarball or "",
        "image_tarball_sha256": (image.tarball_sha256 if image else None) or "",
        "image_incoming": f"{state}/incoming.tar",
        "image_registry_user": settings.image.registry_user or "",
        "image_registry_password_file": str(password_file(settings) or ""),
        "container_cluster": settings.cluster,
        "container_release": release.id,
        "container_name": desired.candidate_name,
        # Which of its digests an engine goes by depends on its image store.
        "container_images": [*desired.image_digests, settings.image.name],
        "container_shm_size": settings.container.shm_size,
        "container_interactive": settings.container.interactive,
        "container_tty": settings.container.tty,
        "container_volumes": desired.volumes,
        "container_privileged": settings.container.privileged,
        "container_cap_add": settings.container.cap_add,
        "container_pid": settings.container.pid,
        "container_network": settings.container.network,
        "container_devices": settings.container.devices,
        "sources_flaggems_url": gitlogin.bare(settings.flaggems.url),
        "sources_flaggems_commit": desired.flaggems_commit,
        "sources_flaggems_root": gems,
        "sources_flaggems_key": release.flaggems.name,
        "sources_flagscale_url": gitlogin.bare(settings.flagscale.url),
        "sources_flagscale_commit": desired.flagscale_commit,
        "sources_flagscale_root": scale,
        "sources_instead_of": {
            **{gitlogin.bare(url): gitlogin.bare(mirror) for url, mirror in settings.git.instead_of.items()},
            **{
                gitlogin.bare(url): f"file://{scale}/mirrors/{Path(path).name}"
                for url, path in settings.git.mirrors.items()
            },
        },
        "sources_logins": gitlogin.files(logins, scale),
        "sources_mirrors": [{"name": Path(path).name, "path": path} for path in settings.git.mirrors.values()],
        "sources_proxy": site.git_proxy(settings.site),
        "sources_no_proxy": settings.site.no_proxy or "",
        "sources_ca_file": settings.site.ca_bundle or "",
        "sources_python": settings.python.executable,
        "sources_log": f"{log}/build.log",
        "patch_root": scale,
        "patch_key": release.patch_key,
        "patch_commit": settings.patch.commit,
        "patch_device_type": settings.patch.device_type,
        "patch_backends": settings.patch.backends,
        "patch_task": settings.patch.task,
        "patch_ciphertexts": dict(view.lock.patch.ciphertexts if view.lock.patch else {}),
        "patch_key_file": str(key) if key else "",
        "patch_logins": gitlogin.environment(logins),
        "patch_python": settings.python.executable,
        "patch_log": f"{log}/build.log",
        "vllm_root": scale,
        "vllm_tree": desired.patched_tree,
        "vllm_dir": desired.vllm_dir,
        "vllm_parts": list(release.flagscale.parts),
        "vllm_key": release.build_key,
        "vllm_build": settings.vllm.build,
        "vllm_timeout": settings.vllm.timeout,
        "vllm_python": settings.python.executable,
        "vllm_log": f"{log}/build.log",
        "install_flaggems_root": gems,
        "install_flagscale_root": scale,
        "install_vllm_dir": desired.vllm_dir,
        "install_vllm": settings.vllm.install,
        "install_smi": settings.chip.smi,
        "install_smi_env": settings.chip.smi_env,
        "install_smi_version_pattern": settings.chip.smi_version_pattern,
        "install_imports": settings.python.imports,
        "install_python": settings.python.executable,
        "install_log": f"{log}/install.log",
        "trust_folder": f"{state}/trust",
        "trust_head": desired.head.name,
        "trust_known_hosts": known_hosts(
            tuple(host for host in desired.workers if host.name in view.probed.observed),
            {name: found.ssh.host_keys for name, found in view.probed.observed.items()},
        ),
        "trust_mark": desired.trust_mark,
        "config_folder": desired.config_dir,
        "config_state_dir": state,
    }


def host_vars(view: View, files: Path | str) -> dict[str, dict[str, Any]]:
    """Variables that differ by host. In: the folder on the controller with each host's rendered files."""
    desired = view.desired
    active = view.plan.serving.active
    lost = {row.host for row in view.plan.serving.unrecorded}
    recreate = {row.host for row in view.plan.changes if row.step == "container" and row.reason.startswith("recreated")}
    seen = view.probed.observed
    pythons = {host.name: seen[host.name].host.interpreter if host.name in seen else None for host in desired.hosts}
    return {
        host.name: {
            "trust_options": desired.authorized_line("KEY", pythons[host.name]).split(" KEY ")[0],
            "host_leftovers": list(leftovers(view, host.name)),
            "container_recreate": host.name in recreate,
            "config_active": active.model_dump() if active and host.name in lost else {},
            "config_source": f"{files}/{host.name}",
            "config_files": [{"name": name, "mode": file.mode} for name, file in desired.configs[host.name].items()],
        }
        for host in desired.hosts
    }


def leftovers(view: View, host: str) -> tuple[str, ...]:
    """What a run that was cut left on a host."""
    found = view.probed.observed.get(host)
    return found.state.leftovers if found else ()


def groups(view: View, steps: tuple[str, ...] = STEP_NAMES) -> dict[str, tuple[str, ...]]:
    """Groups of the plays: the hosts with work by step, all of them defined, empty or not."""
    desired = view.desired
    builder = desired.builder.name
    found = {f"drift_{step}": view.plan.hosts_of(step) if step in steps else () for step in STEP_NAMES}
    for step in ("sources", "vllm"):
        others = [name for name in found[f"drift_{step}"] if name != builder]
        found[f"ship_{step}"] = (builder,) if others else ()
    return {**found, **fixed_groups(desired)}


def fixed_groups(desired: Desired) -> dict[str, tuple[str, ...]]:
    """Groups that do not depend on the plan."""
    return {
        "r1_builder": (desired.builder.name,),
        "r1_head": (desired.head.name,),
        "r1_service": tuple(host.name for host in desired.hosts),
    }


def write_files(view: View, folder: Path) -> None:
    """Write each host's rendered files below ``folder/<host>/``."""
    for host, files in view.rendered.files.items():
        for name, data in files.items():
            path = folder / host / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
