"""What a release is made of, as texts: what changes a release is named, nothing else, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from r1deploy.observe.view import between
from r1deploy.planning.recorded import Active, Record
from r1deploy.planning.settingtexts import causes, changed, texts_of
from r1deploy.serving import switching
from r1deploy.settings import redact
from r1deploy.settings.model import Settings
from tests.plans.test_plans import put
from tests.unit.test_render import HOSTS, PROFILE, release, rendered, settings_of
from tests.unit.test_serving import ACTIVE
from tests.unit.test_switching import OLD, serving_now, view, with_files

NAME = "aaaaaaaaaaaa/bbbbbbbbbbbb"
# What a value becomes that no field takes in another form.
OTHERS = {
    "service.mode": "ray+vllm",
    "weights.hub": "huggingface",
    "patch.commit": "f" * 40,
    "chip.torch_device": "cpu",
    "container.shm_size": "1g",
}


def leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def other(path: str, value: Any) -> Any:
    """Another value of the same kind."""
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value - 1 if value > 1 else value / 2 if isinstance(value, float) else value + 1
    if isinstance(value, list):
        return [*value, "another"]
    if isinstance(value, dict):
        return {"another": "/1"}
    return f"{value}1"


def made(settings: Settings) -> tuple[Any, ...]:
    """All that a release and its configuration come to, in each way of serving."""
    modes = [settings.service.mode, "ray+vllm"]
    data = [settings.model_copy(update={"service": settings.service.model_copy(update={"mode": m})}) for m in modes]
    return (release(settings), *(rendered(row, HOSTS).id for row in data))


def test_what_makes_another_release_is_told_and_nothing_else() -> None:
    """Each setting in turn. slots: it stands in the hosts, which are made of inventory and settings."""
    base, wrong, tried = made(PROFILE), {}, 0
    for path, value in leaves(PROFILE.model_dump()):
        if value is None or path.split(".")[0] in ("slots", "image", "flaggems", "flagscale"):
            continue
        data = PROFILE.model_dump()
        put(data, path, other(path, value))
        changed_settings = Settings.model_validate(data)
        tried += 1
        named = bool(changed(texts_of(PROFILE), texts_of(changed_settings)))
        if named != (made(changed_settings) != base):
            wrong[path] = named
    assert wrong == {} and tried > 60


def test_a_setting_that_came_or_went() -> None:
    more = settings_of(engine={"extra": {"dtype": "bfloat16"}, "max_num_seqs": 7})
    assert changed(texts_of(PROFILE), texts_of(more)) == {
        "engine.max_num_seqs": f"{PROFILE.engine.max_num_seqs} → 7",
        "engine.extra.dtype": "not set → bfloat16",
    }
    assert changed(texts_of(more), texts_of(PROFILE))["engine.extra.dtype"] == "bfloat16 → not set"


def test_no_secret_is_among_them_and_long_texts_are_short() -> None:
    redact.remember("remembered-secret")
    extra = {"hf_token": "hidden-by-name", "model_url": "s3://me:hidden-login@host/x", "note": "a remembered-secret"}
    texts = texts_of(settings_of(engine={"extra": {**extra, "long": "x" * 5000}}, env={"SOME_KEY": "hidden-too"}))
    said = json.dumps(texts)
    assert not [word for word in ("hidden-by-name", "hidden-login", "remembered-secret", "hidden-too") if word in said]
    assert "engine.extra.note" in texts and len(texts["engine.extra.long"]) < 200
    assert len(said) < 6000, "every host says it at every look"


FILES = {"serve/x.yaml": "1", "env.sh": "1"}
NEW_FILES = {"serve/x.yaml": "2", "env.sh": "2"}


def test_a_named_setting_stands_in_the_place_of_its_file() -> None:
    old, new = with_files("b", FILES), with_files("c", NEW_FILES).model_copy(update={"port": 9011})
    was = {"engine.max_num_seqs": "256", "engine.port": "9010"}
    now = {"engine.max_num_seqs": "128", "engine.port": "9011"}
    said = causes(old, new, was, now)
    assert said[:2] == ("engine.max_num_seqs: 256 → 128", "engine.port: 9010 → 9011")
    assert said[2:] == tuple(f"env or an interface: another env.sh on {row.name}" for row in old.hosts)
    assert causes(old, new, None, now) == causes(old, new, was, None) != said, "as an older r1deploy says it"
    assert "port: 9010 → 9011" in causes(old, new, None, now)


@pytest.mark.parametrize("broken", [None, [], {NAME: 1}, {NAME: {"a": 1}}, {NAME: {"a": "x" * 5000}}])
def test_an_active_json_without_settings_or_with_broken_ones_is_one(broken: Any) -> None:
    assert Active.model_validate({**ACTIVE, "settings": broken}).settings == {}
    assert Active.model_validate(ACTIVE).settings == {}
    many = {NAME: {str(number): "1" for number in range(5000)}}
    assert Active.model_validate({**ACTIVE, "settings": many}).settings == {}


def looked(wanted: Record, kept: dict[str, Any]) -> Any:
    """A view whose settings ask for ``wanted``, while OLD serves with what is kept of its settings."""
    serving = serving_now()
    assert serving.active
    active = Active.model_validate({**serving.active.model_dump(), "settings": kept})
    found = view(serving.__class__(active, OLD, health=200))
    found.desired.name, found.desired.settings = f"{wanted.release}/{wanted.config}", PROFILE
    return found


def test_a_switch_keeps_the_settings_of_both_and_going_back_too() -> None:
    wanted = OLD.model_copy(update={"config": "cccccccccccc"})
    before = {**texts_of(PROFILE), "engine.max_num_seqs": "99999"}
    found = looked(wanted, {NAME: before, "gone/gone": before})
    active = found.plan.serving.active
    assert between(found, OLD, wanted) == (f"engine.max_num_seqs: 99999 → {PROFILE.engine.max_num_seqs}",)
    rows = switching.active_of(found, wanted, active)["settings"]
    assert rows == {NAME: before, "aaaaaaaaaaaa/cccccccccccc": texts_of(PROFILE)}
    back = looked(OLD, rows)
    assert set(switching.active_of(back, wanted, active)["settings"]) == set(rows)
    assert switching.active_of(looked(wanted, {}), OLD, None)["settings"] == {}
