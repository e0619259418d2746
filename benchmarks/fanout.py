"""An image and a tree of many files to lab hosts whose links are the limit: r1deploy and what people do by hand.

The image is 128 MiB that cannot be compressed, the tree 20 000 files of 4 KiB. Each host's link and the controller's
are limited, so that two cores are enough for eight hosts.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import yaml

from benchmarks.counters import bridge_of, sent_mib, written_mib
from benchmarks.figures import Cases, Found
from benchmarks.machine import TOP
from benchmarks.ownlab import NETWORK, WIPE, OwnLab, own_lab
from benchmarks.rounds import Around, Turns, Way, in_turn
from benchmarks.site import R1DEPLOY

SIZES = (2, 4, 8)
LINK, LINK_BITS = "50mbit", 50_000_000
IMAGE, IMAGE_MIB = "r1bench-fanout:1", 128
FILES, FILE_BYTES = 20_000, 4096
TREE = "/var/tmp/r1bench-tree"
MOST_ROUNDS = 2
ANSIBLE = str(Path(sys.executable).with_name("ansible-playbook"))
STEP = "image"
Tasks = list[dict[str, Any]]
NOTES = [
    f"Links of the hosts and of the controller: {LINK}, tc tbf. No round is thrown away.",
    "limit is the time in which a link carries the image, or the tree, once.",
    "by hand: the tarball goes into `ssh HOST docker load`, the tree through `tar | ssh HOST tar`; one after another, "
    "or all at once.",
    "r1deploy is the step `image` of a bootstrap, from the first to the last event of it: the image of this benchmark "
    "has no shell, so that the bootstrap ends after it. Its CPU is that of the whole command. The tree goes from the "
    "first host, where a bootstrap would have built it, to the others; by hand it goes to all.",
    "MiB sent leave the controller. MiB written are the pages written on this machine by all hosts together, those of "
    "the engines' stores too: the difference to *by hand* is what a way writes besides.",
]


def measure(folder: Path, rounds: int, sizes: tuple[int, ...], say: Callable[[str], None]) -> Found:
    """All sizes. In: an empty folder; of more than two rounds two are made."""
    cases: Cases = {}
    image, tree = folder / "image.tar", folder / "tree"
    make_image(image)
    make_tree(tree)
    rounds = min(rounds, MOST_ROUNDS)
    with own_lab(folder) as lab:
        for count in [size for size in SIZES if size in sizes]:
            lab.up(count, LINK)
            lab.take_settings()
            bridge = bridge_of(f"{NETWORK}.1")
            turns = Turns(rounds, say, warm_up=False, counters=functools.partial(counters, bridge))
            for what, ways, size in (
                ("image", image_ways(lab, image), image.stat().st_size),
                ("tree", tree_ways(lab, tree), FILES * FILE_BYTES),
            ):
                say(f"{what} to {count} hosts")
                limit = {"limit": {"wall": [size * 8 / LINK_BITS] * rounds}}
                cases[f"{what}, {count} hosts"] = limit | in_turn(ways, turns)
    return Found(cases, NOTES)


def counters(bridge: str) -> dict[str, float]:
    """What is counted beside wall and CPU."""
    return {"sent_mib": sent_mib(bridge), "written_mib": written_mib()}


def make_image(path: Path) -> None:
    """Write the tarball of an image of one file that cannot be compressed."""
    layer, size = io.BytesIO(), IMAGE_MIB * 2**20
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = size
        archive.addfile(entry, io.BytesIO(os.urandom(size)))
    client = docker.from_env(timeout=600)
    repository, _, tag = IMAGE.partition(":")
    client.api.import_image_from_data(layer.getvalue(), repository=repository, tag=tag)
    with path.open("wb") as stream:
        for chunk in client.images.get(IMAGE).save(named=IMAGE):
            stream.write(chunk)
    client.images.remove(IMAGE)


def make_tree(folder: Path) -> None:
    """Write the files, a hundred to a folder."""
    for number in range(FILES):
        path = folder / f"{number // 100:03d}" / f"{number:05d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(FILE_BYTES))


def image_ways(lab: OwnLab, image: Path) -> dict[str, Way]:
    """The image to all hosts of the lab. Each way begins without it, and ends the program where a host lacks it."""
    addresses = list(lab.hosts().values())
    loads = [[*lab.ssh(address), "docker load -q"] for address in addresses]
    around = Around(
        lambda: lab.everywhere(f"{WIPE}\nsync"),
        lambda: lab.everywhere(f"docker image inspect {IMAGE}"),
    )
    play: Tasks = [
        {"ansible.builtin.copy": {"src": str(image), "dest": "/var/tmp/r1bench.tar", "mode": "0600"}},
        {"ansible.builtin.command": {"argv": ["docker", "load", "-q", "-i", "/var/tmp/r1bench.tar"]}},
        {"ansible.builtin.file": {"path": "/var/tmp/r1bench.tar", "state": "absent"}},
    ]
    return {
        "r1deploy": ours(lab, image, around),
        "by hand, one after another": Way([one_after_another(loads, f"cat {image}")], lab.site, around=around),
        "by hand, all at once": Way(loads, lab.site, [image] * len(loads), around=around),
        "ansible copy": Way([playbook(lab, "copy", play)], lab.site, around=around),
    }


def ours(lab: OwnLab, image: Path, around: Around) -> Way:
    """The step of a bootstrap that brings the image; how the bootstrap ends is no matter."""
    settings = ["--set", f"image.name={IMAGE}", "--set", f"image.tarball={image}", "--upgrade", "image"]
    argv = [*R1DEPLOY, "bootstrap", "inventory.ini", "--yes", *settings]

    def before() -> None:
        around.before()
        (lab.site / "r1deploy.lock").unlink(missing_ok=True)

    def seconds() -> float:
        return step_seconds(lab.newest_log(), STEP)

    return Way([argv], lab.site, codes=(), env=lab.env, around=Around(before, around.after), wall=seconds)


def step_seconds(rows: list[Any], step: str) -> float:
    """From the first to the last event of a step. Ends the program where the log has none."""
    times = [row["time"] for row in rows if row.get("step") == step]
    return float(max(times) - min(times)) if times else sys.exit(f"the run did not come to the step {step}")


def tree_ways(lab: OwnLab, tree: Path) -> dict[str, Way]:
    """The tree to all hosts of the lab. Each way begins without it."""
    addresses = list(lab.hosts().values())
    unpack = f"mkdir -p {TREE} && tar -x -C {TREE}"
    pack = f"tar -c -C {tree} ."
    argvs = [[*lab.ssh(address), unpack] for address in addresses]
    around = Around(
        lambda: lab.everywhere(f"rm -rf {TREE}; sync"),
        lambda: lab.everywhere(f'test "$(find {TREE} -type f | wc -l)" = {FILES}'),
    )
    play: Tasks = [{"ansible.posix.synchronize": {"src": f"{tree}/", "dest": TREE, "archive": True}}]
    ours = [sys.executable, "-m", "benchmarks.bringtree", str(lab.site), TREE]
    first = [*lab.ssh(addresses[0]), unpack]
    built = Around(lambda: (around.before(), subprocess.run(piped(first, pack), check=True)), around.after)
    return {
        "r1deploy": Way([ours], TOP, around=built),
        "by hand, one after another": Way([one_after_another(argvs, pack)], lab.site, around=around),
        "by hand, all at once": Way([piped(argv, pack) for argv in argvs], lab.site, around=around),
        "ansible synchronize": Way([playbook(lab, "synchronize", play)], lab.site, around=around),
    }


def piped(argv: list[str], source: str) -> list[str]:
    """A shell's command that feeds a command from another."""
    return ["sh", "-c", f'{source} | "$@"', "sh", *argv]


def one_after_another(argvs: list[list[str]], source: str) -> list[str]:
    """One command that feeds each from the same source, in turn; it fails with the first."""
    rows = [f"{source} | {shlex.join(argv)}" for argv in argvs]
    return ["sh", "-ec", "\n".join(rows)]


def playbook(lab: OwnLab, name: str, tasks: Tasks) -> list[str]:
    """A play of a user's own on all hosts at once."""
    path = lab.site / f"{name}.yml"
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    path.write_text(yaml.safe_dump([play]), encoding="utf-8")
    return [ANSIBLE, "-i", "inventory.ini", "--forks", "16", "-e", json.dumps(dict(login(lab))), path.name]


def login(lab: OwnLab) -> Iterator[tuple[str, str]]:
    """Variables that let Ansible in."""
    yield "ansible_user", "root"
    yield "ansible_ssh_private_key_file", f"{lab.folder}/ssh/id_ed25519"
    yield "ansible_ssh_common_args", f"-o UserKnownHostsFile={lab.folder}/ssh/known_hosts"
