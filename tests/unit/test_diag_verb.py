"""``diag`` from its command to what is printed, with hosts that say what real accelerators said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1deploy.assurance import inside, partwork
from r1deploy.assurance.diagkept import PartResult
from r1deploy.assurance.network import NetworkResult
from r1deploy.cli import main, opening
from r1deploy.observe.view import View
from r1deploy.verbs import diag as verb
from tests.diagfakes import LOST, Answer, Ended, FakeRun, Order, Script, recorded, row, view_of, works

Diag = Callable[..., tuple[int, str, str]]


OWN = {"plain": "pytorch", "plain_forward": "pytorch_forward"}
RIGHT = {**OWN, "gems": "flaggems502_off", "gems_forward": "flaggems502_off_forward"}
OFF = {"off": "flaggems502_off", "off_forward": "flaggems502_off_forward"}
BROKEN = {**OWN, **OFF, "gems": "flaggems502", "gems_forward": "flaggems502_forward"}
SEED = {**OWN, **OFF, "gems": "flaggems22", "gems_forward": "flaggems22_forward"}
LATER = {**OWN, **OFF, "gems": "flaggems30", "gems_forward": "flaggems22_forward"}


def shuffled(script: Script) -> Script:
    """On node2 the operators end in another order."""

    def other(host: str, module: str, order: Order) -> list[Answer]:
        *rows, done = script(host, module, order)
        return [*(reversed(rows) if host == "node2" else rows), done]

    return other


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[PartResult]:
    """What was kept; on the way it became JSON."""
    results: list[PartResult] = []

    def keep(run: Any, view: View, result: PartResult) -> Path:
        results.append(result)
        path = tmp_path / f"{result.part}.json"
        path.write_text(json.dumps(result.document), encoding="utf-8")
        return path

    monkeypatch.setattr(verb, "keep", keep)
    monkeypatch.setattr(verb, "measure_network", lambda *_: NetworkResult({}, [], [], [], ["not measured here"]))
    return results


@pytest.fixture
def diag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kept: list[PartResult]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command on a fake cluster: its exit code, and what it said on both streams."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(faked: FakeRun, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(opening, "open_run", lambda *_, **__: faked)
        monkeypatch.setattr(verb, "lock_of_any", lambda *_: None)
        monkeypatch.setattr(verb, "look", lambda *_: faked.view)
        code = main.run(["diag", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def flat(text: str) -> str:
    """Text in one line."""
    return " ".join(text.split())


def test_what_is_right_is_said_so_with_the_file_of_each_number(diag: Diag, kept: list[PartResult]) -> None:
    run = FakeRun(view_of(), works(**RIGHT))
    code, out, _ = diag(run, "kernels")
    assert (code, run.result) == (0, "ok"), out
    assert "Nothing is wrong." in out and "FAIL" not in out
    assert "node1: FlagGems 5.0.2, Triton 3.6.0, PyTorch 2.11.0+cu130, NVIDIA H100 80GB HBM3" in flat(out)
    assert "the same verdicts on node2" in flat(out)
    assert out.count("index_select.strided") == 1 and "kernels.json" in out
    assert all(len(line) <= 80 or line.lstrip().startswith("file /") for line in out.splitlines()), out
    assert [one.part for one in kept] == ["kernels"] and kept[0].chips == {"node1": 2, "node2": 2}


def test_all_parts_run_in_their_order_and_one_that_errs_keeps_no_other_from_running(diag: Diag) -> None:
    def script(host: str, module: str, order: Order) -> list[Answer]:
        if module == "chipwork" and host == "node2":
            return [*recorded("chips_h100"), row("done", chips=1, seconds=9.0)]
        return works(**RIGHT)(host, module, order)

    run = FakeRun(view_of(), script)
    code, out, err = diag(run)
    assert code == 6 and run.result == "DIAG_CHIP"
    assert run.steps == ["chips", "kernels", "network"]
    assert "FAIL node2: PyTorch sees 1 chips, the inventory says 2" in flat(out)
    assert out.index("chips\n") < out.index("kernels\n") < out.index("network\n")
    assert err.count("Error: DIAG_CHIP: chips: node2: PyTorch sees 1 chips, the inventory says 2") == 1
    # The count of this run's chips is what the kernels are spread over.
    assert next(order["chips"] for module, order in run.asked("node2") if module == "kernels") == 1


def test_chips_are_judged_across_hosts_and_their_speeds_shown(diag: Diag) -> None:
    code, out, _ = diag(FakeRun(view_of(), works()), "chips")
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.startswith("  node")]
    assert rows[0] == ["node1", "0", "767.0", "4086.3", "124.0", "GiB", "NVIDIA", "H200"]
    assert len(rows) == 4
    damaged = [line.replace("cd0144db", "cd0144dc") for line in map(str, recorded("chips_h200_two"))]
    said = {"node1": recorded("chips_h200_two"), "node2": [recorded("chips_h200_two")[0], *damaged[1:]]}
    code, out, _ = diag(FakeRun(view_of(), lambda host, *_: said[host]), "chips")
    assert code == 6
    name = "node2, chip 1 (GPU-xxxxxxxx-xxxx-xxxx-xxxx-000000000001)"
    assert f"FAIL {name}: its product in bf16 differs from that of 3 equal chips" in flat(out)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            SEED,
            "FAIL node1, node2: 34 operators: 'JITFunction' object has no attribute 'arg_defaults': FlagGems 2.2 does "
            "not fit Triton 3.6.0",
        ),
        (LATER, "operators: function takes exactly 25 arguments (21 given): FlagGems 3.0 does not fit Triton 3.6.0"),
        (BROKEN, "FAIL node1, node2: 5 operators: no end within 80 s"),
        (BROKEN, "2 operators: Triton Error [CUDA]: an illegal memory access was encountered"),
        (BROKEN, "index_select.strided is wrong in fp32: the error is"),
        (BROKEN, "the whole pass with FlagGems in bf16: CUDA error: an illegal memory access was encountered"),
    ],
    ids=["the seed's", "a later main", "hangs", "breaks its process", "wrong", "the pass"],
)
def test_the_failures_of_real_flaggems_are_named(diag: Diag, files: dict[str, str], sentence: str) -> None:
    run = FakeRun(view_of(), shuffled(works(**files)))
    code, out, err = diag(run, "kernels")
    assert flat(out).count(sentence) == 1, "equal findings of two hosts are one"
    assert (code, run.result) == (6, "DIAG_KERNEL") and "Error: DIAG_KERNEL: " in err


def test_what_to_switch_off_is_verified_by_running_again(diag: Diag, kept: list[PartResult]) -> None:
    run = FakeRun(view_of(), works(**BROKEN))
    _, out, _ = diag(run, "kernels", "--host", "node1")
    said = flat(out)
    assert "node1: with 9 functions of FlagGems switched off all is right, verified by running again" in said
    assert "VLLM_FL_FLAGOS_BLACKLIST: addmm,addmm_out,index_add" in said
    assert "flagos_blacklist: - addmm - addmm_out" in said
    asked = [(module, order["flaggems"], len(order["unused"])) for module, order in run.asked("node1")]
    assert asked == [
        ("kernels", False, 0), ("forward", False, 0), ("kernels", True, 0), ("forward", True, 0), ("kernels", True, 9),
        ("forward", True, 9),
    ]  # fmt: skip
    assert run.asked("node2") == [] and kept[0].chips == {"node1": 2}
    document = kept[0].document["hosts"]["node1"]
    assert document["helps"] is True and document["rounds"] == 1 and len(document["switch_off"]) == 9
    assert len(kept[0].document["rows"]["node1"]) == 3


def test_what_does_not_help_is_not_advised(diag: Diag) -> None:
    """The same failures again, whatever is switched off: three rounds at the most."""
    stubborn = {**BROKEN, "off": "flaggems502", "off_forward": "flaggems502_forward"}
    run = FakeRun(view_of(), works(**stubborn))
    code, out, _ = diag(run, "kernels", "--host", "node1")
    assert code == 6 and "it is still not right" in flat(out) and "BLACKLIST" not in out
    assert sum(module == "kernels" for module, _ in run.asked("node1")) == 3, "the list is what it was: no further run"


def test_rounds_end(diag: Diag) -> None:
    """Each round another function errs."""
    names = iter(["mm", "bmm", "cat", "topk", "gather"])

    def script(host: str, module: str, order: Order) -> list[Answer]:
        if module == "forward" or not order["flaggems"]:
            return works(**BROKEN)(host, module, order)
        name = next(names)
        about = {"dtype": "bf16", "tokens": 1, "bound": 0.01, "from_flaggems": True, "error": None, "seconds": 1.0}
        served = {"ended": "done", "flaggems": True, "from_flaggems": True, "enabling": 1.0, "last": ""}
        switches = [{"base": name, "names": [name]}]
        return [
            row("case", operator=name, verdict="failed", last="TypeError: no", **about),
            row("operator", operator=name, switches=switches, **served),
            row("done", seconds=1.0, operators=1),
        ]

    run = FakeRun(view_of(), script)
    assert diag(run, "kernels", "--host", "node1")[0] == 6
    unused = [order["unused"] for module, order in run.asked("node1") if module == "kernels" and order["flaggems"]]
    assert unused == [[], ["mm"], ["bmm", "mm"], ["bmm", "cat", "mm"]]


def test_what_the_environment_switches_off_stays_off(diag: Diag) -> None:
    settings = {"env.VLLM_FL_FLAGOS_BLACKLIST": "mm, addmm,$(reboot)"}
    run = FakeRun(view_of(settings), works(**OWN, **OFF))
    assert diag(run, "kernels")[0] == 0
    assert [order["unused"] for _, order in run.asked("node1")] == [[], [], ["addmm", "mm"], ["addmm", "mm"]]


@pytest.mark.parametrize(
    ("observed", "settings", "wanted"),
    [
        ({}, {}, [1, 1009, 8192]),
        ({}, {"engine.extra": {"max_num_batched_tokens": 4096}}, [1, 1009, 4096]),
        ({}, {"engine.extra": {"max_num_batched_tokens": 10**6}}, [1, 1009, 16384]),
        ({}, {"diag.tokens": [7]}, [7]),
    ],
)
def test_tokens_come_from_the_settings(
    diag: Diag, observed: dict[str, Any], settings: dict[str, Any], wanted: list[int]
) -> None:
    run = FakeRun(view_of(settings), works(**RIGHT))
    diag(run, "kernels")
    order = dict(run.asked("node1"))["kernels"]
    assert order["tokens"] == wanted and order["device"] == "cuda" and order["deadline"] == 90


def test_on_a_cpu_everything_is_small(diag: Diag) -> None:
    run = FakeRun(view_of({"chip.torch_device": "cpu"}), works(**RIGHT, chips="chips_h100"))
    assert diag(run)[0] == 0, "how many chips the CPU plays nobody says"
    asked = dict(run.asked("node1"))
    assert asked["chipwork"]["side"] == 512 and asked["chipwork"]["device"] == "cpu"
    assert asked["kernels"]["chips"] == 1


def test_an_image_without_flaggems_compares_pytorchs_own_only(diag: Diag) -> None:
    def script(host: str, module: str, order: Order) -> list[Answer]:
        if not order["flaggems"]:
            return works(**OWN)(host, module, order)
        last = "ModuleNotFoundError: No module named 'flag_gems'"
        about = {"ended": "failed", "flaggems": True, "from_flaggems": False, "switches": [], "enabling": None}
        return [row("operator", operator="mm", last=last, **about), *recorded("flaggems22")]

    run = FakeRun(view_of(), script)
    code, out, _ = diag(run, "kernels")
    assert code == 0 and "warn node1: the image has no FlagGems: PyTorch's own kernels only" in flat(out)
    assert [module for module, _ in run.asked("node1")] == ["kernels", "forward", "kernels"], "it is ended at once"


@pytest.mark.parametrize("part", ["chips", "kernels"])
def test_an_image_without_pytorch_is_named(diag: Diag, part: str) -> None:
    said = "Traceback\nModuleNotFoundError: No module named 'torch'\n"
    chips = [row("done", chips=0, seconds=1.0, last="ModuleNotFoundError: No module named 'torch'")]
    run = FakeRun(view_of(), lambda host, module, order: list(chips) if part == "chips" else Ended([], 1, said))
    code, out, _ = diag(run, part)
    assert code == 6 and "FAIL node1" in out and "the image has no PyTorch (No module named 'torch')" in flat(out)
    assert "FlagGems" not in out and len(run.asked("node1")) == 1


@pytest.mark.parametrize("part", ["chips", "kernels"])
def test_a_host_that_is_lost_is_a_finding_and_what_it_said_is_kept(
    diag: Diag, kept: list[PartResult], part: str
) -> None:
    def script(host: str, module: str, order: Order) -> list[Answer]:
        whole = works(**RIGHT)(host, module, order)
        return [*whole[:2], LOST] if host == "node2" else whole

    run = FakeRun(view_of(), script)
    code, out, _ = diag(run, part)
    assert code == 6 and "node2: " in out and "interrupted: the link is down" in flat(out)
    assert len(run.asked("node2")) == 1, "nothing more is asked of it"
    assert len(run.asked("node1")) == (1 if part == "chips" else 4)
    rows = kept[0].document["rows"]["node2"]
    assert len(rows if part == "chips" else rows[0]["operators"]["rows"]) == 2


def test_a_part_that_ends_before_its_end_is_not_right(diag: Diag) -> None:
    run = FakeRun(view_of(), lambda host, module, order: recorded("chips_h200_two")[:-1])
    code, out, _ = diag(run, "chips")
    assert code == 6 and "FAIL node1: it ended before its end" in flat(out)


def test_rows_that_cannot_be_understood_are_counted(diag: Diag) -> None:
    run = FakeRun(view_of(), lambda *_: [row("chip", index="\x1b[2J"), *recorded("chips_h200_two")])
    code, out, _ = diag(run, "chips")
    assert code == 6 and "1 of its rows cannot be understood" in flat(out) and "\x1b" not in out


def test_rows_without_an_end_are_not_kept(diag: Diag, kept: list[PartResult], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partwork, "MOST_ROWS", 2)
    code, out, _ = diag(FakeRun(view_of(), works()), "chips")
    assert code == 6 and "of its rows cannot be understood" not in out and "it said more than 2 rows" in flat(out)
    assert [len(rows) for rows in kept[0].document["rows"].values()] == [2, 2]


def test_a_deadline_is_a_finding(diag: Diag, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr(inside.time, "monotonic", lambda: float(next(clock)))
    code, out, _ = diag(FakeRun(view_of(), works()), "chips", "--host", "node1")
    assert code == 6 and f"FAIL node1: {inside.TOO_MUCH}" in flat(out)


def test_json_is_one_document(diag: Diag) -> None:
    code, out, _ = diag(FakeRun(view_of(), works(**BROKEN)), "all", "--json")
    document = json.loads(out)
    assert code == 6 and document["ok"] is False and document["schema"] == 1
    assert document["error"]["code"] == "DIAG_KERNEL" and document["error"]["exit_code"] == 6
    assert list(document["parts"]) == ["chips", "kernels", "network"]
    host = document["parts"]["kernels"]["hosts"]["node1"]
    assert {"operator", "from_flaggems", "error_without", "error_with", "verdict", "seconds", "last"} <= set(
        host["table"][0]
    )
    assert {"verdict", "operators", "last"} <= set(host["findings"][0])
    assert host["switches"]["VLLM_FL_FLAGOS_BLACKLIST"].split(",") == host["switch_off"]
    assert "rows" not in json.dumps(list(document["parts"]["kernels"]))
