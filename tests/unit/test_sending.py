"""What forbids a push of the weights, and how its errors are said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.checkpoint import sending
from r1deploy.checkpoint.sending import hidden, lacking, ours, refuse_no_room, wrong_in
from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, PreflightError

HOST = Host("node2", "192.0.2.2", 8)
MIB = 1 << 20


def look(free: int, **sizes: int) -> Any:
    return {"node2": {"free": free, "sizes": sizes}}


def test_room_is_needed_for_what_is_not_there_yet() -> None:
    sizes = {"a": 5 * MIB, "b": 3 * MIB}
    refuse_no_room("/m", [HOST], sizes, look(3 * MIB, a=5 * MIB))
    refuse_no_room("/m", [HOST], sizes, look(2 * MIB, a=5 * MIB, **{".r1part-1": MIB}))
    with pytest.raises(PreflightError, match=r"node2: 8\.0 MiB are to come, 7\.0 MiB are free for /m"):
        refuse_no_room("/m", [HOST], sizes, look(7 * MIB, a=4 * MIB))


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        ("STEP_FAILED", "WEIGHTS_COPY_FAILED", ApplyError),
        ("WEIGHTS_BUSY", "WEIGHTS_BUSY", PreflightError),
        ("DISK_FULL", "DISK_FULL", ApplyError),
    ],
)
def test_an_error_of_the_relay_is_said_as_one_of_the_weights(code: str, said: str, kind: type[Exception]) -> None:
    error = ours(ApplyError(code, "node2: weights: no", host="node2", evidence=["x"]))
    assert type(error) is kind and error.code == said and error.fix
    assert (error.message, error.host, error.evidence) == ("node2: weights: no", "node2", ("x",))


def test_caches_and_partial_files_are_not_sent() -> None:
    names = [".cache/x", ".gitattributes", "sub/.r1part-1", "a.json", "sub/b.safetensors"]
    assert [name for name in names if not hidden(name)] == ["a.json", "sub/b.safetensors"]


def test_who_holds_the_same_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what has the right sizes is hashed."""
    cluster = [Host(f"node{number}", f"192.0.2.{number}", 8) for number in (2, 3, 4)]
    asked: list[str] = []

    def prove(_: object, host: Host, *__: object) -> Any:
        asked.append(host.name)
        differ = ["a"] if host.name == "node3" else []
        return {"differ": differ, "absent": [], "weights": {"missing": [], "bad": []}}

    monkeypatch.setattr(sending, "prove", prove)
    hosts: Any = SimpleNamespace(
        run=SimpleNamespace(bar=None), on_each=lambda rows, do: {host.name: do(host) for host in rows}
    )
    looks = {"node2": {"sizes": {"a": 5, "mine": 1}}, "node3": {"sizes": {"a": 5}}, "node4": {"sizes": {"a": 4}}}
    left = lacking(hosts, cluster, {"a": 5}, looks, {"a": "0"})
    assert [host.name for host in left] == ["node3", "node4"] and asked == ["node2", "node3"]


def test_a_file_is_named_once_however_it_is_wrong() -> None:
    weights = {"missing": ["c"], "bad": ["a", "d"]}
    assert wrong_in({"differ": ["a"], "absent": ["b"], "weights": weights}) == ["a", "b", "c", "d"]
