"""Two lanes on real hosts: the builder builds while the image of a worker behind a slow link is still on its way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r1deploy.fanout.logged import SPREAD
from r1deploy.lab import links
from r1deploy.planning.steps import BUILDER, CLONES, OTHERS
from tests.lab.conftest import HOSTS, Cluster
from tests.lab.running import Running, assert_hosts_let_go, assert_nothing_left
from tests.lab.test_fanout import REMOVED

pytestmark = [pytest.mark.lab, pytest.mark.long]
SLOW = f"{HOSTS[1]}=40mbit"


@pytest.fixture
def slow(cluster: Cluster) -> Iterator[Cluster]:
    """Hosts without anything, the worker behind a slow link; afterwards all is as after a bootstrap."""
    cluster.wipe()
    for host in HOSTS:
        cluster.sh(host, REMOVED)
    try:
        cluster.lab.limit(links.parse([SLOW]))
        yield cluster
    finally:
        cluster.lab.up(len(HOSTS))
    if cluster.plan():
        assert cluster.r1("bootstrap", "--yes").code == 0


def events(cluster: Cluster) -> list[dict[str, Any]]:
    """The rows of the log of this cluster's newest run: other labs write into the same folder."""
    last = json.loads(cluster.r1("history", "--json").out)[-1]
    return [json.loads(line) for line in Path(last["log"]).read_text().splitlines()]


def first(rows: list[dict[str, Any]], **wanted: Any) -> int:
    """The place of the first row that has these values."""
    return next(at for at, row in enumerate(rows) if wanted.items() <= row.items())


def test_the_build_begins_before_the_slow_image_has_ended(slow: Cluster) -> None:
    done = slow.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    rows, (builder, worker) = events(slow), HOSTS
    arrived = {host: first(rows, step="image", task=SPREAD, kind="changed", host=host) for host in HOSTS}
    cloned = first(rows, lane=CLONES, step="sources", host=builder)
    built = first(rows, lane=BUILDER, step="vllm", host=builder)
    assert cloned < arrived[builder] < built < arrived[worker]
    prepared = first(rows, lane=OTHERS, step="container", kind="changed", host=worker)
    brought = first(rows, step="vllm", host=worker)
    assert arrived[worker] < prepared < brought < first(rows, step="install", host=worker)
    assert not [row for row in rows[brought:] if row.get("lane")], "the lanes join before trees travel"
    assert slow.plan() == []


def test_an_interruption_ends_both_lanes_and_the_next_run_goes_on(slow: Cluster) -> None:
    with Running(slow, "bootstrap", "--yes") as run:
        run.until(r"s  vllm +Run the job")
        run.interrupt()
        assert run.end(60) == 130, run.text
        run.assert_whole()
    assert "Ctrl-C" in run.text and "work may go on for a while on node1" in run.text
    assert_hosts_let_go(slow)
    again = slow.r1("bootstrap", "--yes", "--wait")
    assert again.code == 0, again.err
    assert slow.plan() == []
    assert_nothing_left(slow, run.text, again.out, again.err)
