"""``diag chips``: every chip of all hosts at once, judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from r1deploy.assurance import chipjudge
from r1deploy.assurance.chipjudge import ChipFinding
from r1deploy.assurance.diagrows import ChipRow, Done, Row, Said
from r1deploy.assurance.inside import Place, Work
from r1deploy.assurance.kerneljudge import of_kind
from r1deploy.assurance.partwork import Heard, Site, at_once, said_by
from r1deploy.observe.view import View
from r1deploy.run import Run
from r1deploy.settings.model import Settings

CPU = "cpu"
# Where a CPU plays the chip: seconds on two cores.
SMALL: Mapping[str, Any] = {"side": 512, "speed": 1024, "copy": 64 << 20, "share": 0.5, "memory_seconds": 5.0}
# Of a part's time one chip may take so much: the rest is for the count, and for ending what hangs.
SHARE = 0.75


@dataclass(frozen=True)
class ChipResult:
    """What every host said of its chips, and what is wrong with them."""

    said: Mapping[str, Said]
    findings: Sequence[ChipFinding]

    def chips(self, host: str) -> list[ChipRow]:
        """The chips of a host by their index."""
        return sorted(of_kind(self.said[host].rows, ChipRow), key=lambda row: row.index)

    def sentences(self, level: chipjudge.Level) -> list[str]:
        """The findings of one level."""
        return [one.sentence() for one in self.findings if one.level == level]

    def document(self) -> dict[str, Any]:
        """The findings and a row a chip, as JSON types."""
        rows = [{"host": host, **row.model_dump(exclude={"kind"})} for host in self.said for row in self.chips(host)]
        return {"findings": [asdict(one) for one in self.findings], "chips": rows}


def measure_chips(run: Run, view: View, places: Mapping[str, Place], heard: Heard) -> ChipResult:
    """Every chip of the hosts at once: memory, a product twice, speeds. A host that is lost on the way is a finding."""
    work = work_of(run.settings)

    def one(site: Site) -> Said:
        chips = 0

        def take(row: Row) -> None:
            nonlocal chips
            chips += isinstance(row, ChipRow)
            site.tell(f"memory, products, speeds: {chips} chips are done")

        site.tell("memory, products, speeds")
        return said_by(site, work, take)

    said = at_once(run, view, (places, heard), one)
    device = run.settings.chip.torch_device
    slots = {host.name: host.slots for host in view.desired.hosts if device != CPU}
    return ChipResult(said, judged(said, slots))


def work_of(settings: Settings) -> Work:
    """The order for one host."""
    device, seconds = settings.chip.torch_device, settings.diag.chips_seconds
    order = {"device": device, "deadline": SHARE * seconds, **(SMALL if device == CPU else {})}
    return Work("chipwork", order, seconds)


def judged(said: Mapping[str, Said], slots: Mapping[str, int]) -> list[ChipFinding]:
    """All findings. In: by host what it said, and how many chips PyTorch has to see there."""
    chips = {host: of_kind(each.rows, ChipRow) for host, each in said.items()}
    found = [ChipFinding("error", host, None, "", each.last) for host, each in said.items() if each.last]
    for host, number in slots.items():
        done = of_kind(said[host].rows, Done) if host in said else []
        if done and done[-1].chips not in (0, None, number):
            what = f"PyTorch sees {done[-1].chips} chips, the inventory says {number}"
            found.append(ChipFinding("error", host, None, "", what))
    return found + chipjudge.judge({host: rows for host, rows in chips.items() if rows or not said[host].last})
