"""The smi tool's answer as the profiles describe it: nothing but the profile knows what a vendor prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1deploy.lab import places
from r1deploy.onhost import chips
from r1deploy.planning.observed import Chips
from r1deploy.settings import profiles
from r1deploy.settings.load import from_profile
from tests.onhost.making import put

HEAD = """mx-smi  version: 2.2.4

Attached GPUs                                     : 2
+---------------------------------------------------------------------------------+
| MX-SMI 2.2.4                        Kernel Mode Driver Version: 2.15.9          |
| MACA Version: 2.32.0.6              BIOS Version: 1.25.1.0                      |
|------------------------------------+---------------------+----------------------+
"""
FOOT = """
+---------------------------------------------------------------------------------+
| Process:                                                                        |
|  GPU                    PID         Process Name                 GPU Memory     |
|  0                      4711        python3                      51200          |
+---------------------------------------------------------------------------------+
"""
# Three generations of the tool: the first has no state, the last has columns more.
OLD = """| 0           MXC550                 | 0000:2a:00.0        | 0%                   |
| 31C         44W                    | 810/65536 MiB       |                      |
+------------------------------------+---------------------+----------------------+
| 1           MXC550                 | 0000:3a:00.0        | 0%                   |
| 31C         46W                    | 810/65536 MiB       |                      |"""
MIDDLE = """| 0           MetaX C550             | 0000:0f:00.0        | 0%                   |
| 29C         53W / 450W             | 858/65536 MiB       | Available            |
+------------------------------------+---------------------+----------------------+
| 1           MetaX C550             | 0000:34:00.0        | 0%                   |
| 29C         53W / 450W             | 858/65536 MiB       | Available            |"""
NEW = """| 0       MetaX C550             Off | 0000:38:00.0        | 0%            Native |
| 44C     71W / 450W              P9 | 986/65536 MiB       | Available            |
+------------------------------------+---------------------+----------------------+
| 1       MetaX C550              On | 0000:3b:00.0        | 0%            Native |
| 44C     71W / 450W              P9 | 986/65536 MiB       | Available            |"""


def look(folder: Path, profile: str, text: str, **more: Any) -> Chips:
    """What the probe makes of a tool that prints a text, whatever it is asked."""
    put(folder / "table", text)
    tool = put(folder / "smi", f"#!/bin/sh\ncat {folder}/table\n")
    tool.chmod(0o755)
    chip = {**from_profile(profile).chip.model_dump(), "smi": [str(tool)], **more}
    return Chips.model_validate(chips.look_chips({"chip": chip}))


@pytest.mark.parametrize(("rows", "used"), [(OLD, 810), (MIDDLE, 858), (NEW, 986)], ids=["old", "middle", "new"])
def test_two_lines_a_chip(tmp_path: Path, rows: str, used: int) -> None:
    found = look(tmp_path, "metax-c550", HEAD + rows + FOOT)
    assert (found.driver, found.error) == ("2.15.9", None)
    assert [(row.index, row.memory_mib, row.used_mib) for row in found.chips] == [(0, 65536, used), (1, 65536, used)]
    prefixes = tuple(from_profile("metax-c550").chip.name_prefixes)
    assert all(row.name.startswith(prefixes) for row in found.chips)
    assert all(len(row.name) < 12 for row in found.chips), "no column more in the name"


@pytest.mark.parametrize(
    ("good", "bad"),
    [("| 858/65536 MiB       | Available            |", "| 858/65536 MiB       | Unavailable          |"),
     ("| 858/65536 MiB       | Available ", "| N/A                 | Available ")],
    ids=["state", "memory"],
)  # fmt: skip
def test_a_sick_chip_has_no_chips_name(tmp_path: Path, good: str, bad: str) -> None:
    text = HEAD + MIDDLE + FOOT
    cut = text.rindex(good)
    found = look(tmp_path, "metax-c550", text[:cut] + bad + text[cut + len(good) :])
    prefixes = tuple(from_profile("metax-c550").chip.name_prefixes)
    assert [row.name.startswith(prefixes) for row in found.chips] == [True, False]


def test_the_same_command_runs_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    put(tmp_path / "table", HEAD + MIDDLE)
    tool = put(tmp_path / "counting", f"#!/bin/sh\necho x >> {count}\ncat {tmp_path}/table\n")
    tool.chmod(0o755)
    assert len(look(tmp_path, "metax-c550", HEAD + MIDDLE, smi=[str(tool)]).chips) == 2
    assert count.read_text() == "x\n"


@pytest.mark.parametrize("name", profiles.names())
def test_text_of_another_tool_is_no_healthy_chip(tmp_path: Path, name: str) -> None:
    prefixes = tuple(from_profile(name).chip.name_prefixes)
    found = look(tmp_path, name, "command not found\n\n| 0 | 1 | 2 |\nerror, error, error, error\n")
    assert found.driver is None
    assert [row for row in found.chips if row.name.startswith(prefixes)] == []


def test_the_labs_stand_in_prints_what_the_profile_reads(tmp_path: Path) -> None:
    """Run as it is; where the machine is no lab host nothing tells it of sick chips."""
    source = places.standins() / "host/opt/mxdriver/bin/mx-smi"
    tool = put(tmp_path / "mx-smi", source.read_text(encoding="utf-8").replace("/dev/r1lab", f"{tmp_path}/r1lab"))
    tool.chmod(0o755)
    found = look(tmp_path, "metax-c550", "", smi=[str(tool)])
    assert [(row.index, row.name, row.memory_mib, row.used_mib) for row in found.chips] == [
        (number, "MetaX C550", 65536, 858) for number in range(8)
    ]
    put(tmp_path / "r1lab-chips.json", '{"count": 7, "unknown": [3], "used": {"5": 60000}}')
    found = look(tmp_path, "metax-c550", "", smi=[str(tool)])
    assert [row.used_mib for row in found.chips if row.name == "MetaX C550"] == [858, 858, 858, 858, 60000, 858]
    assert found.chips[3].name.startswith("| 3 MetaX")
