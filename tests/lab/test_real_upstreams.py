"""The main job on the real FlagScale, where a clone of it is given: R1DEPLOY_LAB_UPSTREAM_FLAGSCALE=URL#COMMIT."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.site import Site

pytestmark = [pytest.mark.lab, pytest.mark.long]
GIVEN = os.environ.get("R1DEPLOY_LAB_UPSTREAM_FLAGSCALE")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not GIVEN:
        pytest.skip("R1DEPLOY_LAB_UPSTREAM_FLAGSCALE names no FlagScale: the real one is not part of this repository")
    found = Site(tmp_path_factory.mktemp("real-upstream"), "upstream")
    try:
        found.ok("lab", "up", "--upstream", f"FlagScale={GIVEN}")
        found.take_settings()
        yield found
    finally:
        found.leave()


def test_the_real_flagscale_serves(site: Site) -> None:
    assert "Ready to serve." in site.ok("bootstrap", "inventory.ini", "--yes")
    said = site.ok("serve")
    assert "Ray: 2/2 nodes, 32 chips" in said
    assert "stand-in engine" in " ".join(said.split())
    assert site.ok("stop").startswith("Stopped.")
