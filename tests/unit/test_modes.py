"""Ways of serving: what they answer, that a new one is one class, and that no setting of the engine gets lost."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from r1deploy import content, render
from r1deploy.cluster.host import Host
from r1deploy.errors import ConfigError
from r1deploy.modes import is_known, mode_of
from r1deploy.modes.base import MODES, Mode, Source
from r1deploy.observe.context import settings_in
from r1deploy.planning.recorded import Record
from r1deploy.planning.release import release_of
from r1deploy.planning.whatserves import needs_ray
from r1deploy.render import Material
from r1deploy.settings.model import Engine, Settings
from tests.unit.test_render import HOSTS, INPUTS, NICS, PROFILE, settings_of
from tests.unit.test_serving import RECORD

BUILT_IN = ("flagscale", "ray+vllm", "vllm")


class WithSpeed(Engine):
    """The engine's settings with one more field, as somebody adds it."""

    speculative_tokens: int = Field(3, description="a new argument of the engine")


def files(wanted: Settings, hosts: tuple[Host, ...] = HOSTS) -> dict[str, str]:
    """The head's files."""
    material = Material(wanted, hosts, release_of(wanted, INPUTS), INPUTS, NICS)
    return {name: data.decode() for name, data in render.render(material).files[hosts[0].name].items()}


def in_mode(name: str, engine: Engine | None = None) -> Settings:
    wanted = settings_of(service={"mode": name})
    return wanted.model_copy(update={"engine": engine}) if engine else wanted


def arguments_of(name: str, wanted: Settings) -> dict[str, Any]:
    """The engine's arguments as they stand in the rendered files."""
    hosts = HOSTS[: mode_of(name).most_hosts]
    found = files(wanted, hosts)
    if "serve.sh" not in found:
        (text,) = [text for file, text in found.items() if file.startswith("serve/")]
        arguments: dict[str, Any] = yaml.safe_load(text)[0]["engine_args"]
        return arguments
    (line,) = [line for line in found["serve.sh"].splitlines() if line.startswith("nohup vllm serve ")]
    words = shlex.split(line.removesuffix("\\"))[3:]
    rows: dict[str, Any] = {"model": words[0]}
    for flag, value in zip(words[1:], [*words[2:], "--"], strict=True):
        if flag.startswith("--"):
            rows[flag.removeprefix("--").replace("-", "_")] = True if value.startswith("--") else yaml.safe_load(value)
    return rows


@pytest.mark.parametrize("name", sorted(MODES))
def test_every_setting_of_the_engine_reaches_it_whatever_the_mode(name: str) -> None:
    """A field that somebody adds to the settings' schema is in the files of all modes."""
    engine = WithSpeed.model_validate({**PROFILE.engine.model_dump(), "extra": {"seed": 7}})
    found = arguments_of(name, in_mode(name, engine))
    wanted = engine.model_dump(exclude={"extra"}) | engine.extra
    assert {key: found.get(key) for key in wanted} == wanted and wanted["speculative_tokens"] == 3


@pytest.mark.parametrize("name", sorted(MODES))
def test_a_flag_that_is_off_is_not_passed(name: str) -> None:
    engine = PROFILE.engine.model_copy(update={"trust_remote_code": False})
    assert "trust_remote_code" not in arguments_of(name, in_mode(name, engine))


@pytest.mark.parametrize("name", sorted(MODES))
def test_each_mode_has_its_play_and_its_templates(name: str) -> None:
    mode = mode_of(name)
    assert (content.PLAYBOOKS / mode.play).is_file()
    for host in HOSTS[: mode.most_hosts]:
        for source in mode.files(in_mode(name), host):
            assert (content.TEMPLATES / source.template).is_file()


def test_no_mode_is_asked_for_by_name_outside_of_its_class() -> None:
    """No comparison with a mode's name in the program, the roles or the plays."""
    top = Path(render.__file__).parent
    sources = [path for path in top.rglob("*.py") if "standins" not in path.parts and "modes" not in path.parts]
    sources += [path for folder in (content.PLAYBOOKS, content.ROLES) for path in folder.rglob("*.yml")]
    words = [f"{sign} {quote}{name}{quote}" for sign in ("==", "!=") for quote in "'\"" for name in BUILT_IN]
    assert [f"{path}: {word}" for path in sources for word in words if word in path.read_text(encoding="utf-8")] == []


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fourth way of serving: one class, its template, its play."""
    templates = tmp_path / "templates"
    templates.mkdir()
    for path in content.TEMPLATES.iterdir():
        (templates / path.name).symlink_to(path)
    (templates / "toy.sh.j2").write_text("exec toy --port {{ engine.port }} {{ arguments | join(' ') }}\n")
    monkeypatch.setattr(content, "TEMPLATES", templates)

    class Toy(Mode):
        name = "toy"
        play = "serve_toy.yml"
        alone = "toys do not share"

        def files(self, settings: Settings, host: Host) -> Iterator[Source]:
            if host.is_head:
                yield Source("toy.sh", "toy.sh.j2", {"arguments": list(self.arguments(settings.engine))})

        def needs_ray(self, hosts: int) -> bool:
            return False

    yield "toy"
    del MODES["toy"]


def test_a_fourth_mode_is_one_class(toy: str) -> None:
    wanted = in_mode("flagscale").model_copy(
        update={"service": PROFILE.service.model_copy(update={"mode": toy})},
    )
    found = files(wanted)
    assert found["toy.sh"].startswith(f"exec toy --port {PROFILE.engine.port} model served_model_name")
    assert set(found) == {"toy.sh", "env.sh", "release.json"}
    record = Record.model_validate_json(found["release.json"])
    assert record.mode == toy and not needs_ray(record)
    assert mode_of(record.mode).ports(wanted) == {"engine.port": PROFILE.engine.port}


def test_a_record_of_a_mode_that_nobody_knows_is_no_record() -> None:
    """A host's word is data."""
    assert not is_known("toy")
    with pytest.raises(ValueError, match="no way of serving"):
        Record.model_validate({**RECORD, "mode": "toy"})


def test_what_the_modes_differ_in() -> None:
    rows = {
        name: (mode.trusts, mode.most_hosts, mode.needs_ray(1), mode.needs_ray(2), len(mode.ports(PROFILE)))
        for name, mode in MODES.items()
    }
    assert rows == {
        "flagscale": (True, None, False, True, 1),
        "ray+vllm": (False, None, True, True, 2),
        "vllm": (False, 1, False, False, 1),
    }


def test_the_material_of_a_configuration_is_what_its_name_hangs_on() -> None:
    """Every part of it moves the id but the release, whose folder the files name."""
    material = Material(PROFILE, HOSTS, release_of(PROFILE, INPUTS), INPUTS, NICS)
    whole = render.render(material).id
    for change in ({"hosts": HOSTS[:2]}, {"nics": {**NICS, "node1": "other0"}}, {"api_key": "k"}):
        assert render.render(dataclasses.replace(material, **change)).id != whole  # type: ignore[arg-type]


def test_a_mode_that_nobody_knows_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "r1deploy.yaml").write_text("service:\n  mode: nobodys\n")
    with pytest.raises(ConfigError) as caught:
        settings_in(tmp_path, {})
    said = f"{caught.value.message} {' '.join(caught.value.evidence)}"
    assert caught.value.code == "SETTINGS_VALUE" and "r1deploy.yaml:2" in said
    assert "one of flagscale, ray+vllm, vllm" in said
