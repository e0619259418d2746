"""A bootstrap from nothing on two lab hosts against its critical path, and upgrades of one input."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import docker

from benchmarks import critical
from benchmarks.figures import Cases, Found, Rows
from benchmarks.ownlab import WIPE, OwnLab, own_lab
from benchmarks.rounds import Way, counted, no_counters
from benchmarks.site import R1DEPLOY, must

HOSTS, BUILDER, SLOW = 2, "node1", "node2=100mbit"
MOST_ROUNDS = 3
IMAGE = "r1bench-image:2"
NOTES = [
    "From nothing: no image, no container, none of our files on the hosts. No round is thrown away.",
    "critical_path is the longest chain of what one host does for one step, by the run's own events, and what goes "
    "before and after them: benchmarks/critical.py says what needs what. Both hosts and the controller share this "
    "machine's cores, so what runs at once is slower than it would be alone.",
]


def measure(folder: Path, rounds: int, _: tuple[int, ...], say: Callable[[str], None]) -> Found:
    """Both. In: an empty folder; of more than three rounds three are made."""
    cases: Cases = {}
    with own_lab(folder) as lab:
        for name, links in ((f"{HOSTS}", ()), (f"{HOSTS}, {SLOW}", (SLOW,))):
            say(f"bootstrap, {name} hosts")
            lab.up(HOSTS, *links)
            ways = cases.setdefault(name, {})
            for _number in range(min(rounds, MOST_ROUNDS)):
                from_nothing(lab, ways, say)
        say("upgrades of one input")
        lab.up(HOSTS)
        tarball = other_image(folder)
        for _number in range(min(rounds, MOST_ROUNDS)):
            upgrades(lab, tarball, cases[str(HOSTS)], say)
    return Found(cases, NOTES)


def bootstrap(lab: OwnLab, *words: str) -> dict[str, float]:
    """Run a bootstrap; what it took."""
    argv = [*R1DEPLOY, "bootstrap", "inventory.ini", "--yes", *words]
    return counted(Way([argv], lab.site, env=lab.env), no_counters)


def keep(ways: dict[str, Rows], name: str, row: dict[str, float], say: Callable[[str], None]) -> None:
    """Add a round's numbers to a way."""
    say(f"  {name}: {row['wall']:.2f} s")
    for key, value in row.items():
        ways.setdefault(name, {}).setdefault(key, []).append(round(value, 3))


def from_nothing(lab: OwnLab, ways: dict[str, Rows], say: Callable[[str], None]) -> None:
    """One bootstrap of hosts that have nothing."""
    lab.everywhere(WIPE)
    lab.take_settings()
    row = bootstrap(lab)
    path = critical.of_run(lab.newest_log(), row["wall"], BUILDER)
    say("  " + " → ".join(f"{piece.step} {piece.host}" for piece in path.pieces))
    keep(ways, "bootstrap", row, say)
    keep(ways, "critical_path", {"wall": path.seconds}, say)


def upgrades(lab: OwnLab, tarball: Path, ways: dict[str, Rows], say: Callable[[str], None]) -> None:
    """One upgrade of each input, each from the release that the settings name."""
    lab.everywhere(WIPE)
    lab.take_settings()
    bootstrap(lab)
    keep(ways, "engine argument", bootstrap(lab, "--set", "engine.max_num_seqs=128"), say)
    move_flaggems(lab)
    keep(ways, "FlagGems ref", bootstrap(lab, "--upgrade", "flaggems", "--set", "flaggems.ref=main"), say)
    other = ["--set", f"image.name={IMAGE}", "--set", f"image.tarball={tarball}"]
    keep(ways, "image", bootstrap(lab, "--upgrade", "image", *other), say)


def move_flaggems(lab: OwnLab) -> None:
    """A new commit on the branch ``main`` of the lab's FlagGems."""
    clone = lab.site.parent / f"gems-{time.time_ns()}"
    must(["git", "clone", "-q", str(lab.folder / "upstreams" / "FlagGems.git"), str(clone)], lab.site)
    (clone / "NEWS").write_text(f"{time.time_ns()}\n", encoding="utf-8")
    must(["git", "add", "NEWS"], clone)
    must(["git", "-c", "user.name=bench", "-c", "user.email=bench@invalid", "commit", "-qm", "news"], clone)
    must(["git", "push", "-q", "origin", "HEAD:main"], clone)


def other_image(folder: Path) -> Path:
    """The lab's image with a label more, as a tarball: another id, the same content."""
    client = docker.from_env(timeout=600)
    text = b"FROM baai:v5\nLABEL r1bench=2\n"
    image, _ = client.images.build(fileobj=io.BytesIO(text), tag=IMAGE, rm=True)
    path = folder / "image.tar"
    with path.open("wb") as stream:
        for chunk in image.save(named=IMAGE):
            stream.write(chunk)
    client.images.remove(IMAGE)
    return path
