"""Bring a tree from a cluster's first host to the others, as a bootstrap brings what its builder has built.

``python -m benchmarks.bringtree FOLDER TREE``: in the folder of r1deploy.yaml; the tree's path on the hosts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from r1deploy.ansible.sockets import kept_open
from r1deploy.errors import R1Error
from r1deploy.fanout.bringing import Bringing, Files
from r1deploy.fanout.spreading import Told
from r1deploy.observe.ansiblerows import inventory_rows
from r1deploy.observe.context import open_context
from r1deploy.observe.probing import Probed, by_name, hosts_in
from r1deploy.planning.layout import list_file
from r1deploy.run import silent


def bring(folder: Path, tree: Path) -> dict[str, R1Error | None]:
    """All of it; returns by host None where it has the tree, or why not."""
    with kept_open() as sockets:
        context = open_context(folder, None, {}).with_sockets(sockets)
        rows = inventory_rows(context.target)
        probed = Probed(hosts_in(rows, context.settings), login=by_name(rows))
        files = Files("tree", str(tree.parent), (tree.name,), list_file(context.settings.cluster, "trees"))
        source, *targets = probed.hosts
        told = Told(print, silent, silent)
        return Bringing(lambda host: context.way(probed, host.name), source, files, told).run(targets)


if __name__ == "__main__":
    failed = [str(error) for error in bring(Path(sys.argv[1]), Path(sys.argv[2])).values() if error]
    sys.exit("\n".join(failed) or None)
