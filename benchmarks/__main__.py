"""Run parts of the benchmark and write the results: ``python -m benchmarks [PART ...]``; ``make bench``."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results, tables
from benchmarks.loopback import need_root
from benchmarks.machine import run_of

HERE = Path(__file__).resolve().parent
PARTS = tuple(tables.TITLES)


def main() -> None:
    """Measure part by part; each is written when it is done, and the others' numbers stay."""
    asked = arguments()
    need_root()
    # Its hosts and its lab end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))
    for part in asked.parts or PARTS:
        started, run = time.monotonic(), run_of(asked.rounds)
        with tempfile.TemporaryDirectory(prefix="r1bench-") as name:
            found = importlib.import_module(f"benchmarks.{part}").measure(Path(name), asked.rounds, asked.sizes, told)
        path = asked.out / "results.json"
        document = results.merged(results.read(path), part, found, run)
        results.write(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        results.write(asked.out / "RESULTS.md", tables.page(document))
        told(f"{part}: {time.monotonic() - started:.0f} s, written to {asked.out}")


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all unless named", metavar="PART")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=sizes, default=(2, 4, 8, 16, 64, 256), help="of the hosts that a part has")
    parser.add_argument("--out", type=Path, default=HERE)
    return parser.parse_args()


def sizes(text: str) -> tuple[int, ...]:
    """``2,16`` → (2, 16)."""
    return tuple(map(int, text.split(",")))


def told(text: str) -> None:
    """Say how far it is."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
