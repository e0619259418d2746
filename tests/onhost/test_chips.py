"""What the smi tool says, or fails to say, of one vendor's chips; ``test_probe_chips`` reads each profile's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1deploy.onhost.chips import look_chips
from r1deploy.planning.observed import Chips
from r1deploy.settings.load import from_profile
from tests.onhost.making import put

CHIP = from_profile("iluvatar-bi-v150").chip


ROW = "{0}, Iluvatar BI-V150, 32768 MiB, 64 MiB"
TABLE = "| IX-ML: 4.1.0   Driver Version: 4.1.0   CUDA Version: 10.2 |"


def smi(folder: Path, rows: str, names: str = "", table: str = TABLE, code: int = 0, stderr: str = "") -> Path:
    """A tool that prints what the vendor's prints."""
    for name, text in (("rows", rows), ("names", names), ("table", table), ("stderr", stderr)):
        put(folder / name, text)
    script = f"""#!/bin/sh
case "$*" in
  "") cat {folder}/table ;;
  -L) cat {folder}/names ;;
  *) cat {folder}/rows; cat {folder}/stderr >&2; exit {code} ;;
esac
"""
    path = put(folder / "ixsmi", script)
    path.chmod(0o755)
    return path


def chips(tool: Path | str, **more: object) -> Chips:
    request = {"chip": {**CHIP.model_dump(), "smi": ["/nowhere/ixsmi", str(tool)], **more}}
    return Chips.model_validate(look_chips(request))


def test_healthy_chips(tmp_path: Path) -> None:
    names = "\n".join(f"GPU {number}: Iluvatar BI-V150 (UUID: GPU-{number})" for number in range(3))
    found = chips(smi(tmp_path, "\n".join(ROW.format(number) for number in range(3)), names))
    assert (found.driver, found.error) == ("4.1.0", None)
    assert [(row.index, row.name, row.memory_mib, row.used_mib) for row in found.chips] == [
        (number, "Iluvatar BI-V150", 32768, 64) for number in range(3)
    ]


def test_sick_chip_by_its_uuid(tmp_path: Path) -> None:
    names = "GPU 0: Iluvatar BI-V150 (UUID: GPU-1)\nGPU 1: Iluvatar BI-V150 (UUID: GPU-?????)\n"
    found = chips(smi(tmp_path, f"{ROW.format(0)}\n{ROW.format(1)}\n", names))
    assert found.chips[0].name == "Iluvatar BI-V150"
    assert found.chips[1].name.startswith("GPU 1:") and not found.chips[1].name.startswith(tuple(CHIP.name_prefixes))


@pytest.mark.parametrize(
    "row", ["1, GPU-?????, [Unknown Error], [Unknown Error]", "GPU-?????", "Unable to read 1", ",,,"]
)
def test_row_that_is_no_chip_counts_as_a_sick_one(tmp_path: Path, row: str) -> None:
    found = chips(smi(tmp_path, f"{ROW.format(0)}\n{row}\n"))
    assert len(found.chips) == 2 and found.error is None
    assert not found.chips[1].name.startswith(tuple(CHIP.name_prefixes))


def test_missing_tool(tmp_path: Path) -> None:
    found = chips(tmp_path / "ixsmi")
    assert found.chips == () and "none of /nowhere/ixsmi" in (found.error or "")


def test_tool_that_fails_says_why(tmp_path: Path) -> None:
    tool = smi(tmp_path, "", code=3, stderr="noise\nNVML: driver not loaded\n")
    assert chips(tool).error == f"{tool} fails: NVML: driver not loaded"
    assert chips(smi(tmp_path, "", code=3)).error == f"{tool} fails: exit code 3"


def test_tool_that_cannot_be_run(tmp_path: Path) -> None:
    tool = put(tmp_path / "ixsmi", "#!/no/such/interpreter\n")
    tool.chmod(0o755)
    assert (chips(tool).error or "").startswith(f"{tool}: ")


def test_table_without_a_version(tmp_path: Path) -> None:
    found = chips(smi(tmp_path, ROW.format(0), table="no table today"))
    assert found.driver is None and len(found.chips) == 1


def test_device_nodes_are_counted(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"iluvatar{number}", "")
    assert chips("/nowhere", devices=f"{tmp_path}/iluvatar[0-9]*").devices == 3


FIELDS = st.one_of(
    st.text(max_size=8), st.integers().map(str), st.sampled_from(["GPU-?????", "32768 MiB", "[N/A]", "²"])
)
LINES = st.lists(st.lists(FIELDS, max_size=6).map(", ".join), max_size=5).map("\n".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(LINES.map(str.encode), st.binary(max_size=80)), st.one_of(LINES.map(str.encode), st.binary(max_size=40))
)
def test_whatever_the_tool_prints_there_is_no_exception(rows: bytes, names: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tool = smi(Path(folder), "")
        (Path(folder) / "rows").write_bytes(rows)
        (Path(folder) / "names").write_bytes(names)
        (Path(folder) / "table").write_bytes(names)
        found = chips(tool)
        json.dumps(found.model_dump())
