"""The accelerator chips for the probe, as the vendor's smi tool lists them.

The tool's arguments and the patterns that read its answers are the profile's; no vendor's name stands here.
"""

from __future__ import annotations

import concurrent.futures
import glob
import os
import re
from typing import Any, Mapping, Tuple

from .asking import Refused, output_of
from .plainfiles import read_text

SMI_SECONDS = 20
# More MiB than this no chip has.
MOST = 1 << 40
# Exit code, standard output, standard error.
Said = Tuple[int, str, str]


def look_chips(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the smi tool says of the chips: one row a chip, driver version, problems as ``error``."""
    chip = request["chip"]
    answer: dict[str, Any] = {
        "devices": len(glob.glob(chip["devices"])),
        "pci": pci_devices().count(chip["pci_vendor"]),
        "chips": [],
        "driver": None,
        "error": None,
    }
    tool = next((path for path in chip["smi"] if os.access(path, os.X_OK)), None)
    if tool is None:
        answer["error"] = f"none of {', '.join(chip['smi'])} is there"
        return answer
    try:
        table, query, listing = ask(tool, chip)
    except (OSError, Refused) as error:
        answer["error"] = f"{tool}: {error}"
        return answer
    answer["driver"] = driver_of(table, chip)
    code, rows, errors = query
    if code != 0:
        said = (errors or rows).strip().splitlines()
        answer["error"] = f"{tool} fails: " + (said[-1][:300] if said else f"exit code {code}")
        return answer
    answer["chips"] = chips_of(rows, sick_of(listing, chip), chip)
    return answer


def pci_devices() -> list[str | None]:
    """The vendor's number of each PCI device."""
    return [read_text(path) for path in glob.glob("/sys/bus/pci/devices/*/vendor")]


def ask(tool: str, chip: Mapping[str, Any]) -> list[Said]:
    """The tool's table, its rows of chips and its list, asked side by side; the same question once.

    Raises OSError, Refused: a tool whose chip or driver is broken may print anything, or never end.
    """
    environment = dict(os.environ, LC_ALL="C", **chip["smi_env"])
    questions = [(), tuple(chip["smi_query"]), tuple(chip["smi_list"])]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = {
            words: pool.submit(output_of, [tool, *words], SMI_SECONDS, environment)
            for words in dict.fromkeys(questions)
        }
        return [jobs[words].result() for words in questions]


def driver_of(table: Said, chip: Mapping[str, Any]) -> str | None:
    """The driver's version in the tool's table."""
    version = re.search(chip["smi_version_pattern"], table[1])
    return (version.group(1) or "")[:80] if version else None


def sick_of(listing: Said, chip: Mapping[str, Any]) -> dict[str, str]:
    """``{index: line}`` of the chips that the tool's list calls sick."""
    rows = re.finditer(chip["smi_sick_pattern"] + ".*", listing[1], re.MULTILINE)
    return {row.group(1): " ".join(row.group(0).split())[:80] for row in rows}


def chips_of(rows: str, sick: Mapping[str, str], chip: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a chip. One of which the tool cannot say enough counts, as the same chip twice does.

    It does not count as a healthy one: the row itself could begin with the name of one.
    """
    chips: list[dict[str, Any]] = []
    for row in re.finditer(chip["smi_pattern"], rows, re.MULTILINE):
        known = [one["index"] for one in chips]
        one = chip_of(row.groupdict(), sick)
        if one is None or one["index"] in known:
            name = "not a chip: " + " ".join(row.group(0).split())
            one = {"index": len(known), "name": name[:80], "memory_mib": 0, "used_mib": 0}
        chips.append(one)
    return chips


def chip_of(said: Mapping[str, Any], sick: Mapping[str, str]) -> dict[str, Any] | None:
    """A chip of a row of the tool, or None where the row does not say enough."""
    try:
        return {
            "index": count_of(said["index"]),
            "name": sick.get(said["index"], said["name"])[:80],
            "memory_mib": count_of(said["memory"]),
            "used_mib": count_of(said["used"]),
        }
    except (TypeError, ValueError):
        return None


def count_of(text: str) -> int:
    """A number as a tool says it. Raises ValueError, TypeError: also for one that no machine has."""
    number = int(text)
    if number > MOST:
        raise ValueError(f"{number} is too much")
    return number
