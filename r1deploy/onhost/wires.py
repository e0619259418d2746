"""``diag network`` on a host, without anything of the image: one host listens, the others reach it.

The order (JSON): ``op`` is ``listen`` or ``reach``; the rest stands in ``orders``. Rows of ``listen``: ``listening``,
``done``; of ``reach``: ``port`` (one each), ``route``, ``delay``, ``flow`` (one and many streams), ``path``, ``done``.
"""

from __future__ import annotations

import json
import sys

from .orders import LISTEN, REACH, order_of
from .wirelisten import listen
from .wirereach import reach


def main(text: str) -> int:
    """Listen or reach; the exit code. Raises ValueError for an order that is none."""
    defaults, work = (LISTEN, listen) if json.loads(text).get("op") == "listen" else (REACH, reach)
    order = order_of(defaults, text)
    if not order["token"]:
        raise ValueError("an order without a token: anybody could talk")
    return work(order)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "{}"))
