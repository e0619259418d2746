"""The wheel: everything of the repository that belongs in it and nothing else, and it works away from a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import r1deploy

TOP = Path(__file__).resolve().parents[2]
ONHOST = sorted((TOP / "r1deploy" / "onhost").glob("*.py"))
CONTENT = ("LICENSE", "README.md", "galaxy.yml", "inventory", "meta", "playbooks", "plugins", "roles", "templates")
# What git ignores, laid where a build could pick it up.
JUNK = (
    "r1deploy/__pycache__/junk.pyc",
    "r1deploy/lab/standins/vllm/build/junk.o",
    "r1deploy/lab/standins/flagscale/dist/junk.whl",
    "playbooks/.ansible/junk",
    "plugins/modules/__pycache__/junk.pyc",
    "roles/host/files/__pycache__/r1guest.pyc",
    ".venv/junk",
    "demo/junk",
)


def git_files() -> list[str]:
    """Files of the checkout that git knows or would know."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(argv, cwd=TOP, capture_output=True, check=True)
    return sorted({name for name in done.stdout.decode().split("\0") if name and (TOP / name).exists()})


def shipped() -> dict[str, str]:
    """Path in the wheel → path in the repository, of all that belongs in it."""
    found = {}
    for name in git_files():
        first = name.split("/")[0]
        if (TOP / name).is_dir():  # a link: what it leads to is there too
            found.update({f"r1deploy/_content/{name}/{path.name}": f"{name}/{path.name}" for path in ONHOST})
        elif first == "r1deploy":
            found[name] = name
        elif first in CONTENT:
            found[f"r1deploy/_content/{name}"] = name
    return found


def copied(folder: Path) -> Path:
    """A copy of the checkout in which ignored files lie about."""
    copy = folder / "copy"
    for name in git_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, copy / name, follow_symlinks=False)
    for name in JUNK:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("junk", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of such a copy."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = copied(folder)
    argv = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(copy)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; its dependencies are those of the running one, so nothing is downloaded."""
    folder = tmp_path_factory.mktemp("venv") / "venv"
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    argv = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*argv, "install", "--no-deps", "--no-index", str(wheel)], check=True, timeout=120)
    # Behind its own packages on the path; .pth files of that folder (an editable r1deploy) are not followed.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def bare(*argv: str | Path, cwd: str = "/") -> subprocess.CompletedProcess[str]:
    """Run a command in / with nothing in its environment."""
    return subprocess.run(
        ["env", "-i", *map(str, argv)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_holds_what_git_holds_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert names == set(shipped())


@pytest.mark.parametrize(
    "name",
    [
        "r1deploy/_content/playbooks/bootstrap.yml",
        "r1deploy/_content/playbooks/ansible.cfg",
        "r1deploy/_content/galaxy.yml",
        "r1deploy/_content/meta/runtime.yml",
        "r1deploy/_content/plugins/action/r1_inventory.py",
        "r1deploy/_content/plugins/modules/r1_tree.py",
        "r1deploy/_content/plugins/module_utils/onhost/trees.py",
        "r1deploy/onhost/probe.py",
        "r1deploy/_content/roles/host/files/r1trust.py",
        "r1deploy/_content/roles/service/tasks/script.yml",
        "r1deploy/_content/roles/config/meta/argument_specs.yml",
        "r1deploy/_content/templates/env.sh.j2",
        "r1deploy/settings/profiles/iluvatar-bi-v150.yaml",
        "r1deploy/lab/standins/flagscale/.gitignore",
        "r1deploy/lab/standins/host/usr/local/sbin/r1lab-init",
    ],
)
def test_it_holds_one_of_each_kind(wheel: Path, name: str) -> None:
    """Beside the comparison with git, so that an error in that one is seen."""
    with zipfile.ZipFile(wheel) as archive:
        assert name in archive.namelist()


def test_programs_stay_programs(venv: Path) -> None:
    (site,) = venv.glob("lib/python*/site-packages")
    lost = [
        name for name, source in shipped().items() if os.access(TOP / source, os.X_OK) > os.access(site / name, os.X_OK)
    ]
    assert lost == []
    assert any(os.access(TOP / source, os.X_OK) for source in shipped().values())


def test_bytes_are_the_same(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name, source in shipped().items():
            assert archive.read(name) == (TOP / source).read_bytes(), name


def test_content_is_inside_of_site_packages(venv: Path) -> None:
    names = ("TOP", "PLAYBOOKS", "ROLES", "TEMPLATES", "HELPERS")
    code = f"from r1deploy import content; [print(getattr(content, name)) for name in {names}]"
    done = bare(venv / "bin" / "python", "-c", code)
    assert done.returncode == 0, done.stderr
    (site,) = venv.glob("lib/python*/site-packages")
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert paths[0] == site / "r1deploy" / "_content"
    assert len(paths) == 5 and all(path.is_dir() and path.is_relative_to(site) for path in paths)


def test_version(venv: Path) -> None:
    done = bare(venv / "bin" / "r1deploy", "--version")
    assert (done.returncode, done.stderr) == (0, "") and r1deploy.__version__ in done.stdout


def test_init_then_config_from_the_root_folder(venv: Path, tmp_path: Path) -> None:
    folder, hostfile = tmp_path / "mine", tmp_path / "hosts"
    hostfile.write_text("10.0.0.1 slots=16 type=gpu\n10.0.0.2 slots=16 type=gpu\n", encoding="utf-8")
    before = set(os.listdir("/"))
    done = bare(venv / "bin" / "r1deploy", "init", "--dir", folder, hostfile)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "inventory.ini", "r1deploy.yaml"]
    done = bare(venv / "bin" / "r1deploy", "config", "--sources", "--dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(row for row in done.stdout.splitlines() if "engine.port" in row)
    assert "9010" in line and "iluvatar-bi-v150.yaml:" in line, "the value and where it comes from"
    assert any(" r1deploy.yaml:" in row for row in done.stdout.splitlines()), "what the user decides"
    assert set(os.listdir("/")) == before


def test_renders_away_from_a_checkout(venv: Path) -> None:
    code = """
from r1deploy.cluster.host import Host
from r1deploy.planning.release import Inputs, release_of
from r1deploy.render import Material, render
from r1deploy.settings.load import from_profile
settings = from_profile("iluvatar-bi-v150")
inputs = Inputs(None, "1" * 40, "2" * 40, {})
hosts = (Host("a", "10.0.0.1", 16, is_head=True),)
print(sorted(render(Material(settings, hosts, release_of(settings, inputs), inputs, {"a": "eth0"})).files["a"]))
"""
    done = bare(venv / "bin" / "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "'env.sh', 'hostfile.txt'" in done.stdout


def test_ansible_finds_the_collection_of_the_wheel(venv: Path, tmp_path: Path) -> None:
    """Every play's roles and modules, and the plugin that imports r1deploy: run for a host that is this machine."""
    code = f"""
from pathlib import Path
from r1deploy import content
print(content.collections_path(Path({str(tmp_path)!r})), content.PLAYBOOKS)
"""
    search, playbooks = bare(venv / "bin" / "python", "-c", code).stdout.split()
    code = "import sys; from ansible.cli.playbook import main; sys.exit(main())"
    (tmp_path / "inventory").write_text("[cluster]\nnode1 ansible_connection=local\n", encoding="utf-8")
    words = (f"ANSIBLE_COLLECTIONS_PATH={search}", f"HOME={tmp_path}", venv / "bin" / "python", "-c", code)
    plays = sorted(Path(playbooks).glob("*.yml"))
    done = bare(*words, "--syntax-check", "-i", tmp_path / "inventory", *plays)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = ("-i", tmp_path / "inventory", "-e", f"r1_inventory_out={tmp_path / 'read'}")
    done = bare(*words, *asked, f"{playbooks}/inventory.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"name": "node1"' in (tmp_path / "read").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_wheels_of_a_bundle_install_without_an_index(tmp_path: Path) -> None:
    """What ``bundle create --with-python`` gathers is enough for a new environment."""
    from r1deploy.verbs.bundle import wheels

    place = tmp_path / "python"
    assert len(wheels(place)) > 20
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    own = tmp_path / "venv" / "bin"
    pip = [str(own / "pip"), "install", "-q", "--disable-pip-version-check", "--no-index", "--find-links", str(place)]
    subprocess.run([*pip, "r1deploy"], check=True, cwd=tmp_path)
    (tmp_path / "hostfile.txt").write_text("10.0.0.1 slots=16 type=gpu\n")
    clean = (f"PATH={own}:/usr/bin:/bin", f"HOME={tmp_path}")
    for line in ("r1deploy --help", "r1deploy lab status", "ansible-playbook --version", "r1deploy init hostfile.txt"):
        done = bare(*clean, *line.split(), cwd=str(tmp_path))
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "r1deploy.yaml").is_file() and (tmp_path / "inventory.ini").is_file()
