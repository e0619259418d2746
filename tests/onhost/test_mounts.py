"""What the container finds at a path, and a checkpoint as the container sees it (field.md 4.8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1deploy.onhost.mounts import place_inside
from r1deploy.onhost.weightsfolder import look_from_inside
from r1deploy.planning.observed import Weights
from tests.onhost.making import put_checkpoint as checkpoint

NAMES = ["a.safetensors", "b.safetensors"]


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """What is mounted as /data1, with a whole checkpoint in models/R1; a folder beside it is not mounted."""
    checkpoint(tmp_path / "share" / "models" / "R1", NAMES)
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "share"


def volumes(share: Path) -> list[tuple[str, str]]:
    return [("/dev", "/dev"), (str(share), "/data1")]


def seen(share: Path, model: str = "models/R1") -> Weights:
    return Weights.model_validate(look_from_inside(str(share / model), f"/data1/{model}", volumes(share)))


def whole(found: Weights) -> bool:
    return found.exists and found.config and found.shards == 2 and not (found.missing or found.bad or found.outside)


def test_a_folder_without_links(share: Path) -> None:
    assert whole(seen(share))


def test_a_folder_that_is_a_link_to_a_place_that_is_not_mounted(share: Path) -> None:
    other = share.parent / "elsewhere" / "R1"
    (share / "models" / "R1").rename(other)
    (share / "models" / "R1").symlink_to(other)
    found = seen(share)
    assert (found.exists, found.outside) == (False, {".": str(other)})
    assert found.path == str(share / "models" / "R1")


def test_a_parent_that_is_such_a_link(share: Path) -> None:
    (share / "models").rename(share.parent / "elsewhere" / "models")
    (share / "models").symlink_to("../elsewhere/models")
    # One level up from /data1 is the container's own top: not the folder beside the mounted one.
    assert seen(share).outside == {".": "/elsewhere/models/R1"}


@pytest.mark.parametrize("link", ["real", "../models/real", "/data1/models/real"])
def test_links_that_stay_inside(share: Path, link: str) -> None:
    """The last one leads nowhere on the host; in the container it does."""
    (share / "models" / "R1").rename(share / "models" / "real")
    (share / "models" / "R1").symlink_to(link)
    assert whole(seen(share))


def test_single_shards(share: Path) -> None:
    folder = share / "models" / "R1"
    for name, target in (("a.safetensors", share.parent / "elsewhere"), ("b.safetensors", share / "blobs")):
        target.mkdir(exist_ok=True)
        (folder / name).rename(target / name)
    (folder / "a.safetensors").symlink_to(share.parent / "elsewhere" / "a.safetensors")
    (folder / "b.safetensors").symlink_to("../../blobs/b.safetensors")
    found = seen(share)
    assert found.outside == {"a.safetensors": str(share.parent / "elsewhere" / "a.safetensors")}
    (folder / "a.safetensors").unlink()
    (share.parent / "elsewhere" / "a.safetensors").rename(share / "blobs" / "a.safetensors")
    (folder / "a.safetensors").symlink_to("/data1/blobs/a.safetensors")
    assert whole(seen(share)), "as the hub's cache lays them, or as they were linked inside of the container"


def test_the_mounted_folder_may_be_a_link(share: Path) -> None:
    share.rename(share.parent / "elsewhere" / "share")
    share.symlink_to(share.parent / "elsewhere" / "share")
    assert whole(seen(share))


def test_a_volume_inside_of_another_one_hides_it(share: Path) -> None:
    inner = str(share.parent / "elsewhere")
    pairs = [*volumes(share), (inner, "/data1/models/R1/inner")]
    assert place_inside("/data1/models/R1/inner/x", pairs) == (f"{inner}/x", "/data1/models/R1/inner/x")
    assert place_inside("/data1/models/R1/x", pairs)[0] == str(share / "models" / "R1" / "x")


def test_links_in_a_circle_end(share: Path) -> None:
    (share / "one").symlink_to("two")
    (share / "two").symlink_to("one")
    assert place_inside("/data1/one", volumes(share)) == (None, "/data1/one")


def test_what_is_not_there_is_no_link(share: Path) -> None:
    found = seen(share, "models/typo")
    assert (found.exists, found.outside) == (False, {})
