"""Desired state → variables of the roles, and groups of the plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from r1deploy.planning.desired import Desired, known_hosts
from r1deploy.planning.interfaces import AUTO
from r1deploy.planning.observed import Observed
from r1deploy.planning.planner import Plan
from r1deploy.planning.steps import STEPS
from r1deploy.settings import gitlogin, site
from r1deploy.settings.model import Settings

Variables = dict[str, Any]


@dataclass(frozen=True)
class Brought:
    """What the controller brings: paths on it, empty where there is nothing to bring, and what the lock file says.

    ``staging``: a folder for trees on their way. Of a secret only the path of its file is here, never the content.
    """

    staging: str = ""
    key_file: str = ""
    password_file: str = ""
    tarball_sha256: str = ""
    ciphertexts: Mapping[str, str] = field(default_factory=dict)


def role_vars(desired: Desired, brought: Brought, observed: Mapping[str, Observed]) -> Variables:
    """Variables that are the same on all hosts."""
    return {
        "r1_staging": brought.staging,
        **_host(desired),
        **_image(desired, brought),
        **_container(desired),
        **_sources(desired),
        **_patch(desired, brought),
        **_vllm(desired),
        **_install(desired),
        **_trust(desired, observed),
        "config_folder": desired.config_dir,
        "config_state_dir": desired.layout.top,
    }


def _host(desired: Desired) -> Variables:
    """The host's folders, and what jobs in a container need."""
    settings = desired.settings
    return {
        "guest_script": desired.layout.script("r1guest.py"),
        "guest_environment": site.environment(settings.site),
        "guest_ca_file": settings.site.ca_bundle or "",
        "host_state_dir": desired.layout.top,
        "host_folders": [{"path": path, "mode": wanted.split()[0]} for path, wanted in desired.folders.items()],
    }


def _image(desired: Desired, brought: Brought) -> Variables:
    image = desired.settings.image
    return {
        "image_name": image.name,
        "image_digests": list(desired.image_digests),
        "image_tarball": image.tarball or "",
        "image_tarball_sha256": brought.tarball_sha256,
        "image_incoming": desired.layout.incoming,
        "image_registry_user": image.registry_user or "",
        "image_registry_password_file": brought.password_file,
    }


def _container(desired: Desired) -> Variables:
    settings, wanted = desired.settings, desired.settings.container
    return {
        "container_cluster": settings.cluster,
        "container_release": desired.release.id,
        "container_name": desired.candidate_name,
        # Which of its digests an engine goes by depends on its image store.
        "container_images": [*desired.image_digests, settings.image.name],
        "container_shm_size": wanted.shm_size,
        "container_interactive": wanted.interactive,
        "container_tty": wanted.tty,
        "container_volumes": desired.volumes,
        "container_privileged": wanted.privileged,
        "container_cap_add": wanted.cap_add,
        "container_pid": wanted.pid,
        "container_network": wanted.network,
        "container_devices": wanted.devices,
    }


def _sources(desired: Desired) -> Variables:
    settings, release, at = desired.settings, desired.release, desired.layout
    gems, scale = release.flaggems.name, release.flagscale.name
    mirrors = {url: path.rstrip("/").rpartition("/")[2] for url, path in settings.git.mirrors.items()}
    rules = {gitlogin.bare(url): gitlogin.bare(mirror) for url, mirror in settings.git.instead_of.items()}
    brought = {gitlogin.bare(url): f"file://{at.mirror(scale, name)}" for url, name in mirrors.items()}
    return {
        "sources_flaggems_url": gitlogin.bare(settings.flaggems.url),
        "sources_flaggems_commit": desired.flaggems_commit,
        "sources_flaggems_root": at.tree(gems),
        "sources_flaggems_key": gems,
        "sources_flagscale_url": gitlogin.bare(settings.flagscale.url),
        "sources_flagscale_commit": desired.flagscale_commit,
        "sources_flagscale_root": at.tree(scale),
        "sources_instead_of": {**rules, **brought},
        "sources_logins": gitlogin.files(gitlogin.logins(settings), at.tree(scale)),
        "sources_mirrors": [{"name": mirrors[url], "path": path} for url, path in settings.git.mirrors.items()],
        "sources_proxy": site.git_proxy(settings.site),
        "sources_no_proxy": settings.site.no_proxy or "",
        "sources_ca_file": settings.site.ca_bundle or "",
        "sources_python": settings.python.executable,
        "sources_log": at.build_log(release.id),
    }


def _patch(desired: Desired, brought: Brought) -> Variables:
    settings, release = desired.settings, desired.release
    return {
        "patch_root": desired.tree_dir(release.flagscale.name),
        "patch_key": release.patch_key,
        "patch_commit": settings.patch.commit,
        "patch_device_type": settings.patch.device_type,
        "patch_backends": settings.patch.backends,
        "patch_task": settings.patch.task,
        "patch_ciphertexts": dict(brought.ciphertexts),
        "patch_key_file": brought.key_file,
        "patch_logins": gitlogin.environment(gitlogin.logins(settings)),
        "patch_python": settings.python.executable,
        "patch_log": desired.layout.build_log(release.id),
    }


def _vllm(desired: Desired) -> Variables:
    settings, release = desired.settings, desired.release
    return {
        "vllm_root": desired.tree_dir(release.flagscale.name),
        "vllm_tree": desired.patched_tree,
        "vllm_dir": desired.vllm_dir,
        "vllm_parts": list(release.flagscale.parts),
        "vllm_key": release.build_key,
        "vllm_build": settings.vllm.build,
        "vllm_timeout": settings.vllm.timeout,
        "vllm_python": settings.python.executable,
        "vllm_log": desired.layout.build_log(release.id),
    }


def _install(desired: Desired) -> Variables:
    settings, release = desired.settings, desired.release
    return {
        "install_flaggems_root": desired.tree_dir(release.flaggems.name),
        "install_flagscale_root": desired.tree_dir(release.flagscale.name),
        "install_vllm_dir": desired.vllm_dir,
        "install_vllm": settings.vllm.install,
        "install_smi": settings.chip.smi,
        "install_smi_env": settings.chip.smi_env,
        "install_smi_version_pattern": settings.chip.smi_version_pattern,
        "install_torch_device": settings.chip.torch_device if uses_flaggems(settings) else "",
        "install_operator_seconds": settings.diag.operator_seconds,
        "install_env": {name: value for name, value in settings.env.items() if value != AUTO},
        "install_imports": settings.python.imports,
        "install_python": settings.python.executable,
        "install_log": desired.layout.install_log(release.id),
    }


def uses_flaggems(settings: Settings) -> bool:
    """Whether the engine is told to: what it does not use need not compute."""
    return settings.env.get("USE_FLAGGEMS", "").lower() in ("1", "true")


def _trust(desired: Desired, observed: Mapping[str, Observed]) -> Variables:
    answered = tuple(host for host in desired.workers if host.name in observed)
    return {
        "trust_folder": desired.layout.trust,
        "trust_head": desired.head.name,
        "trust_known_hosts": known_hosts(answered, {name: seen.ssh.host_keys for name, seen in observed.items()}),
        "trust_mark": desired.trust_mark,
    }


def host_vars(desired: Desired, plan: Plan, observed: Mapping[str, Observed], files: str) -> dict[str, Variables]:
    """Variables that differ by host. In: the folder on the controller with each host's rendered files."""
    active = plan.serving.active
    lost = {row.host for row in plan.serving.unrecorded}
    recreate = {row.host for row in plan.changes if row.step == "container" and row.reason.startswith("recreated")}
    rows: dict[str, Variables] = {}
    for host in desired.hosts:
        seen = observed.get(host.name)
        line = desired.authorized_line("KEY", seen.host.interpreter if seen else None)
        rows[host.name] = {
            "trust_options": line.split(" KEY ")[0],
            "host_leftovers": list(seen.state.leftovers if seen else ()),
            "container_recreate": host.name in recreate,
            "config_active": active.model_dump() if active and host.name in lost else {},
            "config_source": f"{files}/{host.name}",
            "config_files": [{"name": name, "mode": file.mode} for name, file in desired.configs[host.name].items()],
        }
    return rows


# Steps that build on the builder and then bring what was built to the others.
BUILDS = ("sources", "vllm")
# Which plays of these steps: those that build, those that bring, or both.
Half = Literal["build", "bring", "both"]


def groups(
    desired: Desired, plan: Plan, steps: tuple[str, ...] = STEPS, half: Half = "both"
) -> dict[str, tuple[str, ...]]:
    """Groups of the plays: the hosts with work by step, all of them defined, empty or not."""
    builder = desired.builder.name
    rows = {f"drift_{step}": plan.hosts_of(step) if step in steps else () for step in STEPS}
    for step in BUILDS:
        others = tuple(name for name in rows[f"drift_{step}"] if name != builder and half != "build")
        builds = tuple(name for name in rows[f"drift_{step}"] if name == builder and half != "bring")
        rows[f"drift_{step}"] = tuple(host.name for host in desired.hosts if host.name in (*builds, *others))
        rows[f"ship_{step}"] = (builder,) if others else ()
    return {**rows, **fixed_groups(desired)}


def fixed_groups(desired: Desired) -> dict[str, tuple[str, ...]]:
    """Groups that do not depend on the plan."""
    return {
        "r1_builder": (desired.builder.name,),
        "r1_head": (desired.head.name,),
        "r1_service": tuple(host.name for host in desired.hosts),
    }
