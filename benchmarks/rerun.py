"""A re-run with nothing to do: r1deploy, plain parallel ssh with the same probe, pyinfra, the exported roles.

The hosts are this machine's own sshd on loopback addresses, so the hosts' work runs on the controller's cores too: that
is the same for all ways. `plan` is what is measured: it looks and compares, as a bootstrap with nothing to do does. On
these hosts a bootstrap would find work, since nothing can be deployed to them. Of the exported roles only `host` has
nothing to do here; the other eight would add to it.

From 64 to 256 hosts the probe is a sleep, and its answer one that was given before: 256 real ones would measure how
this machine plays 256 hosts.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import pyinfra_program
from benchmarks.figures import Cases, Found
from benchmarks.loopback import Farm, farm
from benchmarks.rounds import Turns, Way, in_turn
from benchmarks.site import R1DEPLOY, must, write_pyinfra, write_site
from r1deploy import shipping
from r1deploy.lab.thismachine import ensure_engine
from r1deploy.observe.probing import request_of
from r1deploy.settings.model import Settings

SIZES = (2, 16, 64)
SIMULATED = (64, 256)
ANSIBLE_UP_TO = 16
PYTHON = "/usr/bin/python3"
SLEEP_SECONDS = 0.2
ALTERED = "r1guest.py"
CLASSIC = ("-o", "KexAlgorithms=curve25519-sha256")
# The probe's answer is there before, and costs this machine next to nothing; every other script is Python's.
SLEEPING = """\
#!/bin/sh
[ "$3" = probe ] || exec {python} "$@"
read -r archive order
head -c $((archive + order)) > /dev/null
sleep {seconds}
exec cat {answer}
"""
NOTES = [
    "r1deploy is `r1deploy plan`: it looks at all hosts and compares, as a bootstrap with nothing to do.",
    "ssh is one plain ssh a host, all at once, with the same probe; ssh_warm goes through connections that are open; "
    "ssh_classic is ssh without the post-quantum key exchange.",
    f"pyinfra {pyinfra_program.VERSION} does the same checks as facts; it compares nothing.",
    "ansible is ansible-playbook with what `r1deploy export` wrote, the role `host` alone: the other eight steps would "
    "add to it.",
    f"Cases with *sleep*: the probe sleeps {SLEEP_SECONDS} s on the host and costs it nothing.",
    "One altered byte of a file on the hosts was named by `plan` for every host, before the rounds of each size.",
]


def measure(folder: Path, rounds: int, sizes: tuple[int, ...], say: Callable[[str], None]) -> Found:
    """All sizes. In: an empty folder; how many hosts, those of SIMULATED above the largest of SIZES with a sleep."""
    cases: Cases = {}
    turns = Turns(rounds, say)
    pyinfra = pyinfra_program.ensure()
    # All ways ask it; pyinfra fails where none answers. It is left as the lab leaves it: `r1deploy lab down` ends it.
    ensure_engine(True, say)
    for count in [size for size in SIZES if size in sizes]:
        say(f"re-run, {count} hosts")
        with hosts(folder / str(count), count) as bench, bench.masters() as pids:
            bench.see_altered_byte()
            cases[str(count)] = in_turn(bench.ways(pyinfra, pids), turns)
    if max(SIMULATED) in sizes:
        for count in SIMULATED:
            name = str(count) if count > max(SIZES) else f"{count} sleep"
            say(f"re-run, {name} hosts, the probe sleeps")
            with hosts(folder / f"{count}-sleep", count) as bench:
                bench.put_to_sleep()
                cases[name] = in_turn({"r1deploy": bench.r1deploy(), "ssh": bench.ssh()}, turns)
    return Found(cases, NOTES)


class Bench:
    """The hosts of one size, a cluster's folder for them, and the ways to look at them."""

    def __init__(self, farm: Farm, settings: Settings) -> None:
        self.farm, self.settings = farm, settings
        self.site, self.export = farm.folder / "site", farm.folder / "export"
        self.python = PYTHON

    def ways(self, pyinfra: Path | None, masters: list[int]) -> dict[str, Way]:
        """All ways for hosts with the real probe. In: pids of the open connections."""
        ways = {"r1deploy": self.r1deploy(), "ssh": self.ssh()}
        ways["ssh_warm"] = self.ssh("-o", f"ControlPath={self.farm.folder}/cm-%h", also=masters)
        ways["ssh_classic"] = self.ssh(*CLASSIC)
        if pyinfra:
            write_pyinfra(self.farm, self.site)
            ways["pyinfra"] = Way([[str(pyinfra), "-y", "hosts.py", "checks.py"]], self.site)
        if len(self.farm.addresses) <= ANSIBLE_UP_TO:
            ways["ansible"] = Way([self.playbook()], self.export)
        return ways

    def r1deploy(self) -> Way:
        """Look at all hosts and say what would change."""
        return Way([[*R1DEPLOY, "plan"]], self.site)

    def ssh(self, *options: str, also: list[int] | None = None) -> Way:
        """The same probe through one plain ssh a host, all at once; without options each has its own connection."""
        command = shipping.command(self.python, "probe")
        chosen = options or ("-o", "ControlPath=none")
        argvs = [[*self.farm.ssh(address, *chosen), command] for address in self.farm.addresses]
        return Way(argvs, self.site, [self.parcel(address) for address in self.farm.addresses], also=also or ())

    def parcel(self, address: str) -> Path:
        """What the probe of a host reads, in a file."""
        path = self.farm.folder / f"parcel-{address}"
        if not path.exists():
            order = request_of(self.settings, ()) | {"address": address, "numbers": []}
            path.write_bytes(shipping.parcel("probe", order))
        return path

    def playbook(self, *more: str) -> list[str]:
        """The exported roles: what of them can have nothing to do here."""
        return [str(Path(sys.executable).with_name("ansible-playbook")), "site.yml", "--tags", "host", *more]

    def converge(self) -> None:
        """Bring the step `host` to where nothing is to do: all hosts share the one folder."""
        must([*R1DEPLOY, "export", str(self.export)], self.site)
        must(self.playbook("--limit", "node1"), self.export)

    def see_altered_byte(self) -> None:
        """Nothing is checked less: one byte of a file on the hosts is altered and `plan` names it. Ends the program."""
        self.converge()
        path = Path(self.settings.state_dir) / "bin" / ALTERED
        whole = path.read_bytes()
        before = self.hosts_that_differ()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        after = self.hosts_that_differ()
        path.write_bytes(whole)
        wanted = {f"node{number}" for number, _ in enumerate(self.farm.addresses, 1)}
        if before or after != wanted:
            sys.exit(
                f"the altered byte was not found: {sorted(before)} before, {sorted(after)} of {sorted(wanted)} after"
            )

    def hosts_that_differ(self) -> set[str]:
        """Hosts of which `plan` says that the file is not as it should be."""
        document = json.loads(must([*R1DEPLOY, "plan", "--json"], self.site))
        return {row["host"] for row in document["changes"] if row["field"] == f"bin/{ALTERED}"}

    def put_to_sleep(self) -> None:
        """The hosts' Python answers the probe with a sleep and the answer of one real probe."""
        first = self.farm.addresses[0]
        argv = [*self.farm.ssh(first), shipping.command(PYTHON, "probe")]
        done = subprocess.run(argv, input=self.parcel(first).read_bytes(), capture_output=True, check=True)
        answer, python = self.farm.folder / "answer", self.farm.folder / "python"
        answer.write_bytes(done.stdout)
        script = SLEEPING.format(python=PYTHON, seconds=SLEEP_SECONDS, answer=shlex.quote(str(answer)))
        python.write_text(script, encoding="utf-8")
        python.chmod(0o755)
        self.python = str(python)
        inventory = self.site / "inventory.ini"
        text = inventory.read_text(encoding="utf-8")
        inventory.write_text(f"{text}[cluster:vars]\nansible_python_interpreter={python}\n", encoding="utf-8")

    @contextlib.contextmanager
    def masters(self) -> Iterator[list[int]]:
        """An open connection to every host; their pids."""
        control = ("-o", "ControlMaster=yes", "-o", f"ControlPath={self.farm.folder}/cm-%h", "-N")
        argvs = [self.farm.ssh(address, *control) for address in self.farm.addresses]
        running = [subprocess.Popen(argv, stdin=subprocess.DEVNULL) for argv in argvs]
        try:
            for address in self.farm.addresses:
                must(
                    ["sh", "-c", f"for _ in $(seq 100); do test -S cm-{address} && exit; sleep 0.1; done; exit 1"],
                    self.farm.folder,
                )
            yield [process.pid for process in running]
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(20)


@contextlib.contextmanager
def hosts(folder: Path, count: int) -> Iterator[Bench]:
    """So many hosts, and a cluster's folder for them."""
    folder.mkdir()
    with farm(folder, count) as made:
        yield Bench(made, write_site(made, folder / "site"))
