"""What a Docker Engine (26.1) says when a pull fails, as it was seen, and what becomes of it."""

from __future__ import annotations

import json

import pytest

from r1deploy.ansible.events import Event
from r1deploy.ansible.failures import failure_of

NAME = "cannot pull 127.0.0.1:5055/vendor/tiny:v1: "


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("unauthorized", "REGISTRY_AUTH"),
        ('Head "http://127.0.0.1:5055/v2/vendor/tiny/manifests/v1": no basic auth credentials', "REGISTRY_AUTH"),
        ("manifest unknown", "REGISTRY_TAG"),
        ("toomanyrequests: You have reached your pull rate limit.", "REGISTRY_LIMIT"),
        ('Get "http://127.0.0.1:5999/v2/": dial tcp 127.0.0.1:5999: connect: connection refused', "REGISTRY_NO_ROUTE"),
        ('Get "https://r.invalid/v2/": dial tcp: lookup r.invalid: no such host', "REGISTRY_NO_ROUTE"),
        ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "DISK_FULL"),
    ],
)
def test_the_engines_words_name_the_cause(said: str, code: str) -> None:
    event = Event("failed", "image", "Pull it where there is no tarball", "node1", {"msg": NAME + said})
    found = failure_of(event)
    assert found.code == code
    assert found.fix
    assert any(said in line for line in found.evidence)


def test_an_unknown_traceback_is_named_by_its_last_line() -> None:
    said = "Traceback (most recent call last):\n  File x\nRuntimeError: the versions differ"
    event = Event("failed", "service", "Start Ray", "node2", {"msg": said})
    assert failure_of(event).message == "RuntimeError: the versions differ"


def test_a_known_cause_is_shown_without_the_traceback_after_it() -> None:
    tail = ["a", "b", "cmdline: git apply x", "stderr: patch does not apply", "Traceback (most recent call last):", "z"]
    job = json.dumps({"error": "unpatch.py: exit code 1", "tail": tail})
    found = failure_of(Event("failed", "patch", "Run the job unpatch", "node1", {"msg": job}))
    assert (found.code, found.evidence) == ("PATCH_UNFIT", tuple(tail[:4]))
