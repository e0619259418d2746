"""What a Docker Engine (26.1) says when a pull fails, as it was seen, and what becomes of it."""

from __future__ import annotations

import pytest

from r1deploy.runner.events import Event, failure_of

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
