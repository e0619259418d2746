"""Names of interfaces in the settings, as NCCL and Gloo read them (field.md 4.6, 4.7)."""

from __future__ import annotations

import pytest

from r1deploy.planning.interfaces import absent, engine_nic, named, value_of

NICS = ("lo", "eth0", "eth0.2093", "bond0", "docker0")


@pytest.mark.parametrize(
    ("name", "nic", "wanted"),
    [
        ("NCCL_SOCKET_IFNAME", "eth0", "=eth0"),
        ("MCCL_SOCKET_IFNAME", "bond0.7", "=bond0.7"),
        ("GLOO_SOCKET_IFNAME", "eth0", "eth0"),
        ("TP_SOCKET_IFNAME", "eth0", "eth0"),
        ("NCCL_SOCKET_IFNAME", None, ""),
        ("GLOO_SOCKET_IFNAME", None, ""),
    ],
)
def test_auto_is_exact_for_nccl_and_plain_for_the_others(name: str, nic: str | None, wanted: str) -> None:
    assert value_of(name, "auto", nic) == wanted


def test_a_value_of_the_settings_stays() -> None:
    assert value_of("NCCL_SOCKET_IFNAME", "ens1f0", "eth0") == "ens1f0"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("NCCL_SOCKET_IFNAME", "ens1f0", ["ens1f0"]),
        ("NCCL_SOCKET_IFNAME", "ens1f0,bond", []),  # one that fits is enough, by its beginning
        ("NCCL_SOCKET_IFNAME", "=bond", ["bond"]),
        ("NCCL_SOCKET_IFNAME", "=bond0:9100", []),
        ("NCCL_SOCKET_IFNAME", "^docker,lo", []),
        ("NCCL_SOCKET_IFNAME", "^eth,bond,docker", ["eth", "bond", "docker"]),  # nothing but lo is left
        ("GLOO_SOCKET_IFNAME", "eth0", []),
        ("GLOO_SOCKET_IFNAME", "eth", ["eth"]),
        ("GLOO_SOCKET_IFNAME", "eth0, ens1f0", ["ens1f0"]),  # Gloo opens each of them
        ("GLOO_SOCKET_IFNAME", "=eth0", ["=eth0"]),  # NCCL's form: Gloo would look for this very name
        ("GLOO_SOCKET_IFNAME", "", []),
    ],
)
def test_what_a_host_does_not_have(name: str, value: str, wanted: list[str]) -> None:
    assert absent(name, value, NICS) == wanted


def test_only_interfaces_that_the_user_names_are_looked_for() -> None:
    env = {"NCCL_SOCKET_IFNAME": "auto", "GLOO_SOCKET_IFNAME": "ib0", "NCCL_IB_HCA": "mlx5", "X_IFNAME": "a"}
    assert named(env) == {"GLOO_SOCKET_IFNAME": "ib0", "X_IFNAME": "a"}


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, "eth0"),
        ({"NCCL_SOCKET_IFNAME": "auto"}, "eth0"),
        ({"NCCL_SOCKET_IFNAME": "eth,bond"}, "eth0"),  # the address's own is among them
        ({"NCCL_SOCKET_IFNAME": "bond"}, "bond0"),
        ({"NCCL_SOCKET_IFNAME": "^eth,docker"}, "bond0"),
        ({"GLOO_SOCKET_IFNAME": "bond0"}, "bond0"),
        ({"GLOO_SOCKET_IFNAME": "ens1f0"}, "eth0"),  # no such interface: preflight says so
    ],
)
def test_the_interface_that_the_engine_will_use(env: dict[str, str], wanted: str) -> None:
    assert engine_nic(env, "eth0", NICS) == wanted


def test_the_interface_of_a_host_whose_address_has_none() -> None:
    assert engine_nic({}, None, NICS) == "" and engine_nic({"GLOO_SOCKET_IFNAME": "bond0"}, None, NICS) == "bond0"
