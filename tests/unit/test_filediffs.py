"""``plan -v`` and the inside of files: what is read where, what is shown of it, what is never."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.errors import UnreachableError
from r1deploy.observe import formertexts
from r1deploy.onhost.filetexts import LIMIT, text_of
from r1deploy.planning.filediffs import FileDiff, diff_of, formers, shown_lines
from r1deploy.planning.recorded import Record
from r1deploy.render import RECORD, SECRET
from r1deploy.settings import redact
from r1deploy.settings.model import Settings
from r1deploy.ui import difflines
from r1deploy.verbs import plan
from tests.manyhosts import names
from tests.unit.test_render import HOSTS, PROFILE, release, rendered, settings_of

NAMES = [host.name for host in HOSTS]
OUTSIDE = "/var/lib/r1deploy/releases"


def config_of(settings: Settings, **more: Any) -> tuple[Record, dict[str, dict[str, str]]]:
    """The record of a configuration, and its files' texts by host."""
    found = rendered(settings, **more)
    texts = {host: {name: data.decode() for name, data in files.items()} for host, files in found.files.items()}
    return Record.model_validate_json(texts["node1"][RECORD]), texts


class Cluster:
    """Hosts that have configurations, and a view that wants one of them."""

    def __init__(self, wanted: Settings, *there: tuple[Record, dict[str, dict[str, str]]], **more: Any) -> None:
        self.record = there[0][0] if there else None
        self.rendered = rendered(wanted, **more)
        self.texts: dict[str, dict[str, str]] = {name: {} for name in NAMES}
        self.asked: list[tuple[str, Sequence[str]]] = []
        configs: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
        for record, texts in there:
            for name in NAMES:
                folder = f"{OUTSIDE}/{record.release}/config/{record.config}"
                self.texts[name] |= {f"{folder}/{file}": text for file, text in texts[name].items()}
                sums = {file: (f"sum of {text}", "0644") for file, text in texts[name].items()}
                configs[name].setdefault(record.release, {})[record.config] = sums
        self.view: Any = self.view_of(wanted, configs)

    def view_of(self, wanted: Settings, configs: dict[str, dict[str, Any]]) -> Any:
        """As much of a view as the diffs take."""
        identity, name = self.rendered.id, release(wanted).id
        desired = SimpleNamespace(
            config_id=identity,
            release=SimpleNamespace(id=name),
            hosts=HOSTS,
            layout=SimpleNamespace(
                config=lambda release, config: f"{OUTSIDE}/{release}/config/{config}",
                release=lambda release: f"{OUTSIDE}/{release}",
            ),
            config_dir=f"{OUTSIDE}/{name}/config/{identity}",
            release_dir=f"{OUTSIDE}/{name}",
            head=SimpleNamespace(name="node1"),
            settings=SimpleNamespace(cluster="c"),
            configs={
                host: {file: SimpleNamespace(sha256=f"sum of {data.decode()}") for file, data in files.items()}
                for host, files in self.rendered.files.items()
            },
        )
        observed = {
            host: SimpleNamespace(
                state=SimpleNamespace(
                    releases={name: SimpleNamespace(configs=rows) for name, rows in mine.items()}, active=None
                )
            )
            for host, mine in configs.items()
        }
        serving = SimpleNamespace(record=self.record)
        return SimpleNamespace(
            desired=desired,
            rendered=self.rendered,
            probed=SimpleNamespace(observed=observed),
            plan=SimpleNamespace(serving=serving),
        )

    def diffs(self, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], FileDiff]:
        """By host and file."""

        def answer(link: Any, paths: Sequence[str]) -> dict[str, str | None]:
            self.asked.append((link.name, paths))
            return {path: self.texts[link.name].get(path) for path in paths}

        login = SimpleNamespace(jump=None, arguments=())
        context = SimpleNamespace(login=lambda _, host: SimpleNamespace(**vars(login), host=host))
        monkeypatch.setattr(formertexts, "texts_on", answer)
        found = plan.diffs(SimpleNamespace(context=context), self.view)  # type: ignore[arg-type]
        return {(row.host, row.file): row for row in found}


FEWER = settings_of(engine={"max_num_seqs": 128})


def test_a_changed_setting_is_one_line_of_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(FEWER, config_of(PROFILE))
    found = cluster.diffs(monkeypatch)
    assert set(found) == {("node1", "serve/deepseek_r1.yaml")}, "a file that only names its folder has no difference"
    lines = found["node1", "serve/deepseek_r1.yaml"].lines
    assert [row for row in lines if row[0] in "+-"] == ["-    max_num_seqs: 256", "+    max_num_seqs: 128"]
    assert len(lines) <= 5
    assert [host for host, _ in cluster.asked] == ["node1"], "the others are not asked"
    assert not [path for _, paths in cluster.asked for path in paths if path.endswith(RECORD)]


def test_of_a_long_command_the_flag_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = {"mode": "ray+vllm"}
    cluster = Cluster(settings_of(engine={"max_num_seqs": 128}, service=ray), config_of(settings_of(service=ray)))
    lines = cluster.diffs(monkeypatch)["node1", "serve.sh"].lines
    assert [row for row in lines if row[0] in "+-"] == ["---max-num-seqs 256", "+--max-num-seqs 128"]


def test_a_file_that_somebody_edited_is_compared_with_what_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    record, texts = config_of(PROFILE)
    texts["node2"]["env.sh"] += "export EVIL=\x1b[2J\n"
    texts["node3"][RECORD] = texts["node3"][RECORD].replace("9010", "9011")
    found = Cluster(PROFILE, (record, texts)).diffs(monkeypatch)
    assert set(found) == {("node2", "env.sh"), ("node3", RECORD)}
    assert found["node2", "env.sh"].edited and found["node2", "env.sh"].lines[-1] == "-export EVIL=\x1b[2J"
    rows = difflines.diff_lines([found["node2", "env.sh"]])
    assert rows[0] == "  diff      env.sh on node2, edited by hand" and rows[-1] == "    -export EVIL=\\x1b[2J"


def test_a_new_cluster_and_a_converged_one_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for cluster in (Cluster(PROFILE), Cluster(PROFILE, config_of(PROFILE))):
        assert cluster.diffs(monkeypatch) == {} and cluster.asked == []
    unknown = Cluster(FEWER, config_of(PROFILE)).view
    unknown.desired.config_id = None
    assert list(formers(unknown.desired, unknown.probed.observed, None)) == []


def test_a_host_that_gives_nothing_is_said_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(settings_of(env={"MORE": "1"}), config_of(PROFILE))
    kept = cluster.texts["node2"]
    cluster.texts["node2"] = {}
    found = cluster.diffs(monkeypatch)
    assert found["node2", "env.sh"].why == "its text could not be read" and found["node1", "env.sh"].lines
    cluster.texts["node2"] = kept

    def away(link: Any, _: Sequence[str]) -> Any:
        raise UnreachableError("SSH_DOWN", f"{link.name} is away")

    context: Any = SimpleNamespace(login=lambda _, host: SimpleNamespace(host=host, jump=None, arguments=()))
    monkeypatch.setattr(formertexts, "texts_on", away)
    rows = list(formers(cluster.view.desired, cluster.view.probed.observed, cluster.record))
    assert set(formertexts.read_formers(context, cluster.view.probed, rows).values()) == {None}


def test_no_secret_is_read_or_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    redact.remember("known-secret-value")
    old = {"env": {"HF_TOKEN": "former-secret", "NOTE": "known-secret-value"}}
    old["engine"] = {"extra": {"api_key": "former-key", "override": '{"auth": "former-auth"}', "x": "1"}}  # type: ignore[dict-item]
    new = {"env": {"HF_TOKEN": "later-secret", "NOTE": "none"}, "engine": {"extra": {"api_key": "later-key", "x": "2"}}}
    for mode in ("flagscale", "ray+vllm"):
        both = [settings_of(**row, service={"mode": mode}) for row in (old, new)]
        cluster = Cluster(both[1], config_of(both[0], api_key="former-api-key"), api_key="later-api-key")
        found = cluster.diffs(monkeypatch)
        assert found["node1", SECRET].why == "it holds a secret"
        assert not [path for _, paths in cluster.asked for path in paths if path.endswith(SECRET)]
        said = "\n".join([line for row in found.values() for line in row.lines])
        secrets = ("former-secret", "later-secret", "former-key", "later-key", "former-auth", "known-secret", "api-key")
        assert not [word for word in secrets[:-1] if word in said], said
        assert "(hidden)" in said and ('x: "2"' in said or "--x 2" in said), said


def test_a_secret_of_several_words_is_hidden_whole() -> None:
    command = "run " + "x" * 100 + """ --api-key 'one --two '"'"' --three' --seed 1 --note "a \\" --b" 'open --end"""
    parts = list(shown_lines(command))
    assert parts[1:] == ["--api-key (hidden)", "--seed 1", """--note "a \\" --b" 'open""", "--end"]


def test_a_difference_that_is_hidden_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(settings_of(env={"HF_TOKEN": "later"}), config_of(settings_of(env={"HF_TOKEN": "former"})))
    found = cluster.diffs(monkeypatch)
    assert {row.why for row in found.values()} == {"it differs in what is not shown"} and len(found) == len(HOSTS)


def diff(host: str, *lines: str) -> FileDiff:
    return FileDiff(host, "env.sh", edited=False, lines=lines)


def test_equal_differences_stand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    many = [diff(name, "@@ -1 +1 @@", f" # Environment of {name}", "+export A=1") for name in names(64)]
    odd = diff("node65", "+export B=1")
    assert difflines.diff_lines([*many, odd]) == [
        "  diff      env.sh on node[01-64] (said of node01)",
        "    @@ -1 +1 @@",
        "     # Environment of node01",
        "    +export A=1",
        "  diff      env.sh on node65",
        "    +export B=1",
    ]
    each = difflines.diff_lines([diff(name, f"+export A={at}") for at, name in enumerate(names(64))])
    assert len(each) == 9 and each[-1] == "  diff      env.sh: 60 hosts more, each with a difference of its own"


def test_a_long_difference_ends_and_a_long_line_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = difflines.diff_lines([diff("node01", *(f"+export A{at}=1" for at in range(500)))])
    assert len(rows) == 42 and rows[-1] == "    … 460 lines more"
    rows = difflines.diff_lines([diff("node01", "+" + "x" * 200)])
    assert max(map(len, rows)) == 80 and "".join(row[5:] for row in rows[1:]) == "x" * 200
    assert all(row.startswith("    +") for row in rows[1:])


def test_texts_that_differ_in_an_end_of_line_only() -> None:
    assert diff_of("a\n", "a") == () and diff_of("a\nb\n", "a\nc\n")[-2:] == ("-b", "+c")


class Says:
    """A link on which a host says something."""

    def __init__(self, said: str) -> None:
        self._said, self.deadline, self.closed = said, None, False

    def module(self, name: str, order: Any) -> Any:
        assert name == "filetexts" and order == {"paths": ["/a"]}
        return self

    def finish_input(self) -> None:
        pass

    def refuse_late(self) -> None:
        assert self.deadline

    def read(self) -> Any:
        yield self._said.encode()

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("said", "texts"),
    [
        ('noise\nr1:{"kind": "done", "texts": {"/a": "x", "/b": null}}\n', {"/a": "x", "/b": None}),
        ("", {}),
        ("r1:[]", {}),
        ('r1:{"texts": {"/a": 1}}', {}),
        ("r1:" + "[" * 100000, {}),
        ("r1:" + json.dumps({"texts": {"/a": "x" * (LIMIT + 1)}}), {}),
        ("r1:" + json.dumps({"texts": {str(at): "x" for at in range(1000)}}), {}),
    ],
    ids=["an answer", "none", "a list", "a number", "deep", "long", "many"],
)
def test_what_a_host_answers_is_data(said: str, texts: dict[str, Any]) -> None:
    link: Any = Says(said)
    assert formertexts.texts_on(link, ["/a"]) == texts and link.closed


def test_a_file_on_the_host_is_plain_and_short(tmp_path: Any) -> None:
    (tmp_path / "a").write_bytes(b" a\xff\n")
    (tmp_path / "long").write_bytes(b"x" * (LIMIT + 1))
    assert text_of(str(tmp_path / "a")) == " a\ufffd\n"
    assert text_of(str(tmp_path / "long")) is text_of(str(tmp_path / "gone")) is text_of(str(tmp_path)) is None
