"""The host itself: identity, network, memory, keys."""

from __future__ import annotations

import pytest

from r1deploy.onhost import ownhost


@pytest.mark.parametrize(
    ("address", "numbers", "ip", "nic"),
    [
        ("127.0.0.1", [], "127.0.0.1", "lo"),
        ("known-to-us-only.invalid", ["192.0.2.7", "127.0.0.1"], "127.0.0.1", "lo"),
        ("known-to-us-only.invalid", ["192.0.2.7"], "192.0.2.7", None),
        ("known-to-nobody.invalid", [], None, None),
    ],
)
def test_the_interface_of_an_address(address: str, numbers: list[str], ip: str | None, nic: str | None) -> None:
    """field.md 3.9: a name may be known to the controller only, which says its numbers."""
    found = ownhost.look_net({"address": address, "numbers": numbers, "ports": []})
    assert (found["ip"], found["nic"]) == (ip, nic)
