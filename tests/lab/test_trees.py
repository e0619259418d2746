"""The built trees on real hosts: from the builder to the others, and what the role does where they do not come so."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Cluster
from tests.lab.running import Running

pytestmark = [pytest.mark.lab, pytest.mark.long]
TREES = "/var/lib/r1deploy/trees"
LEFT = (
    f"find {TREES} /run/r1deploy -name '.r1part-*' -o -name '*-trees.json'; ps -eo args | grep -E '[ ]relay$' || true"
)

# The folders stay: containers have them mounted.
EMPTIED = f"find {TREES} -mindepth 2 -delete"


def test_what_lacks_comes_from_the_builder(ready: Cluster) -> None:
    ready.sh("node2", EMPTIED)
    done = ready.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    assert "from node1 from host to host: node2" in done.text and "through the controller" not in done.text
    assert ready.plan() == []
    assert ready.sh("node1", LEFT) == ready.sh("node2", LEFT) == ""
    again = ready.r1("bootstrap", "--yes")
    assert again.code == 0 and "from host to host" not in again.text, "an unchanged run sends nothing"


def test_one_altered_file_is_all_that_is_sent(ready: Cluster) -> None:
    name = ready.sh("node2", f"find {TREES}/*/FlagGems -name '*.py' -size +0 | head -1").strip()
    ready.sh("node2", f"echo '# by hand' >> {name}")
    done = ready.r1("bootstrap", "--yes")
    assert done.code == 0 and "trees: 1 file, " in done.text, done.text
    assert ready.plan() == []


def test_killed_in_the_middle_it_goes_on(ready: Cluster) -> None:
    ready.sh("node2", EMPTIED)
    with Running(ready, "bootstrap", "--yes") as run:
        run.until("from host to host")
        run.kill()
        run.assert_whole()
    assert ready.r1("bootstrap", "--yes", "--wait").code == 0
    assert ready.plan() == []
    assert ready.sh("node2", LEFT) == ""


def test_a_host_that_does_not_reach_the_builder_gets_them_through_the_controller(ready: Cluster) -> None:
    ready.sh("node2", EMPTIED)
    address = ready.sh("node2", "hostname -i | cut -d' ' -f1").strip()
    rule = f"INPUT -p tcp --syn -s {address} ! --dport 22 -j REJECT"
    ready.sh("node1", f"iptables -I {rule}")
    try:
        done = ready.r1("bootstrap", "--yes")
        assert done.code == 0, done.err
        assert "trees: node2: they come through the controller instead" in done.text
        assert ready.plan() == []
    finally:
        ready.sh("node1", f"iptables -D {rule}")
