"""Hosts that say more than they are asked, or speak for others: ``diag network`` takes their own word only."""

from __future__ import annotations

import json

from tests.unit.test_diag_network import measured, ranks_of, script, settings, two


def test_a_host_whose_login_says_much_listens_all_the_same() -> None:
    first, second = two("healthy")
    whole = second.script
    second.script = lambda module, order: [*["a word of the login"] * 2000, *whole(module, order)]
    found, _ = measured([first, second], settings(floor_gbit=1.0))
    assert found.findings == []


def test_ranks_of_other_hosts_are_not_a_hosts_own_to_tell_of() -> None:
    remotes = two("healthy")
    row = {"kind": "rank", "rank": 0, "name": "x", "backend": "gloo", "ended": "failed", "doing": "", "last": "never"}
    lies = ["r1:" + json.dumps(row), 'r1:{"kind":"absent","ranks":[0],"names":["node1"]}', *ranks_of("gloo", 1)]
    remotes[1].script = script("node2", "healthy", {"gloo": lies})
    found, _ = measured(remotes, settings())
    (run,) = found.collectives
    assert run.findings == [] and found.notes == ["node2: 2 of its lines tell of other hosts' ranks"]
