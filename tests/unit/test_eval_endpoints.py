"""Endpoints as ``eval`` asks them, and where the answers of two of them part."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from r1deploy.assurance import evalendpoint
from r1deploy.assurance.evalagainst import Prompt, aligned, parted
from r1deploy.assurance.evalcompare import first_difference
from r1deploy.assurance.evalendpoint import Asked
from r1deploy.errors import R1Error, UsageError
from r1deploy.run import silent
from r1deploy.serving.evalsides import url_side
from r1deploy.settings.load import load


class Page(BaseHTTPRequestHandler):
    """Answers each path with the bytes that a test gives."""

    pages: dict[str, bytes]

    def log_message(self, form: str, *values: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        body = self.pages.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()


@pytest.fixture
def pages() -> Iterator[tuple[str, dict[str, bytes]]]:
    kind = type("Pages", (Page,), {"pages": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", kind.pages  # type: ignore[attr-defined]
        server.shutdown()


def test_an_endpoint_tells_model_length_and_version(pages: tuple[str, dict[str, bytes]]) -> None:
    url, told = pages
    endpoint = Asked(url, "r1", None, inside=True)
    assert endpoint.models() is None and not endpoint.answers and endpoint.version() == "unknown"
    told["/v1/models"] = b'{"data": [{"id": "r1", "max_model_len": 5120}, {"id": "x"}]}'
    told["/version"] = b'{"version": "0.8.5"}'
    assert endpoint.models() == {"r1": 5120, "x": None} and endpoint.answers and endpoint.version() == "0.8.5"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": 1}', b"\xff", b'{"data": [{"id": 1}]}', b" " * (2 << 20)])
def test_an_endpoint_of_another_shape_is_none(pages: tuple[str, dict[str, bytes]], body: bytes) -> None:
    url, told = pages
    told["/v1/models"] = told["/version"] = body
    assert Asked(url, "r1", None, inside=True).models() is None
    assert Asked(url, "r1", None, inside=True).version() == "unknown"


def event(**delta: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"


def test_pieces_are_those_of_the_stream(pages: tuple[str, dict[str, bytes]]) -> None:
    url, told = pages
    stream = event(role="assistant") + event(reasoning_content="Hm") + event(content="So") + b": a comment\n\n"
    told["/v1/chat/completions"] = stream + b"data: {broken\n\ndata: 7\n\n" + event(content=" 4") + b"data: [DONE]\n\n"
    endpoint = Asked(url, "r1", "k", inside=True)
    assert endpoint.pieces("2 + 2?", 8) == ["Hm", "So", " 4"]
    asked = [Prompt("gsm8k", "main/0", "2 + 2?")]
    assert parted(endpoint, endpoint, asked, silent) == []
    assert parted(endpoint, Asked(f"{url}/gone", "r1", None, inside=True), asked, silent) == []


@pytest.mark.parametrize(
    "body",
    [b"data: " + b"[" * 200_000, event(content="x") * 40_000, b"x" * (2 << 20)],
    ids=["deep", "endless", "one line"],
)
def test_an_answer_that_never_ends_or_is_no_answer_ends_nothing(
    pages: tuple[str, dict[str, bytes]], body: bytes
) -> None:
    url, told = pages
    told["/v1/chat/completions"] = body
    endpoint = Asked(url, "r1", None, inside=True)
    assert parted(endpoint, endpoint, [Prompt("gsm8k", "main/0", "2 + 2?")], silent) == []
    with contextlib.suppress(httpx.HTTPError):
        assert endpoint.pieces("?", 8) == []


def test_an_answer_that_only_trickles_is_given_up(
    pages: tuple[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, told = pages
    told["/v1/models"] = b'{"data": [{"id": "r1"}]}'
    monkeypatch.setattr(evalendpoint, "SLOWEST_ANSWER", -1)
    assert Asked(url, "r1", None, inside=True).models() is None


@pytest.mark.parametrize(
    ("here", "there", "index", "parts"),
    [
        (["a", "b", "c"], ["a", "b", "d"], 2, ("c", "d")),
        (["a", "b", "c"], ["ab", "d"], 2, ("c", "d")),
        (["ab", "c"], ["a", "b", "d"], 1, ("c", "d")),
        (["abc"], ["abd"], 0, ("abc", "abd")),
        (["a"], ["a", "b"], 1, ("", "b")),
        (["a", "b"], ["a"], 1, ("b", "")),
        ([], ["x"], 0, ("", "x")),
    ],
)
def test_the_piece_in_which_two_answers_part(
    here: list[str], there: list[str], index: int, parts: tuple[str, str]
) -> None:
    found = first_difference("gsm8k", "q", *aligned(here, there))
    assert found and (found.index, found.here, found.there) == (index, *parts)
    assert first_difference("gsm8k", "q", *aligned(here, ["".join(here)])) is None


@pytest.mark.parametrize(
    "url",
    [
        "h100:8000",
        "ftp://h/",
        "http://me:secret@h/v1",
        "",
        "http:///v1",
        "http://[::1",
        "http://h/v1?key=secret",
        "http://h/v1#secret",
        "http://a b/v1",
        "http://h/\x1b[2J",
    ],
)
def test_a_url_that_is_no_endpoint_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError) as caught:
        url_side(load(tmp_path, {}, {}).settings, url)
    assert caught.value.code == "EVAL_URL" and "secret" not in f"{caught.value.message}{caught.value.fix}"


def test_another_endpoint_gets_its_own_key(pages: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    url, told = pages
    with pytest.raises(R1Error) as caught:
        url_side(load(tmp_path, {}, {}).settings, f"{url}/v1")
    assert caught.value.code == "EVAL_SILENT"
    told["/v1/models"] = b'{"data": [{"id": "other"}]}'
    (tmp_path / "key").write_text("the key of the other\n")
    (tmp_path / "key").chmod(0o600)
    side = url_side(load(tmp_path, {"eval.against_key_file": "key"}, {}).settings, f"{url}/v1/")
    found = side.reach()
    assert (side.url, side.release, found.model, found.key) == (url, "", "other", "the key of the other")
    assert "the key of" not in repr(found)
