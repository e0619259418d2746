"""Who can reach what of the running service: warnings that forbid nothing.

Sources: vLLM's API server listens on all interfaces where it is given no host, and guards only ``/v1`` with its key;
Ray has no login at all: whoever reaches its port runs programs on every node (Ray's own security page).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from r1deploy.cluster.ranges import spoken
from r1deploy.modes import mode_of
from r1deploy.modes.base import MODES
from r1deploy.planning.desired import Desired
from r1deploy.planning.findings import Check, warned
from r1deploy.planning.observed import Observed

EVERYWHERE = ("", "0.0.0.0", "::", "None")
DOCS = "docs/security.md"


def exposure(desired: Desired, _: Mapping[str, Observed]) -> Iterator[Check]:
    """The API and Ray where they listen on all interfaces without a key; what the trust between containers means."""
    settings = desired.settings
    head, port = desired.head, settings.engine.port
    if settings.service.api_key_file is None and str(settings.engine.extra.get("host", "")) in EVERYWHERE:
        detail = f"the API will listen on all interfaces of {head.name}, port {port}, without a key"
        fix = f"set service.api_key_file, or let only its users reach tcp/{port} of {head.address}: {DOCS}, Firewall"
        yield warned("API_OPEN", "api", detail, fix)
    mode = mode_of(settings.service.mode)
    if not mode.has_ray:
        return
    detail = "Ray will listen on all interfaces of every host without a key: who reaches it runs programs there"
    addresses = spoken((host.address for host in desired.hosts), most=None)
    fix = f"let only {addresses} reach tcp/1024:65535 of each other: {DOCS}, Firewall"
    yield warned("RAY_OPEN", "ray", detail, fix)
    if mode.trusts and desired.workers:
        others = [row.name for row in MODES.values() if not row.trusts and row.most_hosts is None]
        detail = "root in the head's container is root on the workers: their containers are privileged"
        yield warned(
            "TRUST_ROOT", "trust", detail, f"service.mode: {', '.join(others)} needs no such trust and makes none"
        )
