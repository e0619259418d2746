"""The endpoints that eval asks: what serves on the cluster, and one by its URL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from r1deploy.assurance.evalendpoint import Asked
from r1deploy.errors import GateError, UsageError
from r1deploy.observe.view import View, lock_of_any, look
from r1deploy.planning.recorded import Record
from r1deploy.planning.shardfindings import Memory, memory_of
from r1deploy.run import Run, silent
from r1deploy.serving.answers import endpoint_of, key_on_head
from r1deploy.settings.model import Settings
from r1deploy.settings.secretfile import read_secret


@dataclass(frozen=True)
class Side:
    """One endpoint that is asked. ``check`` raises where it is no longer what it was at the start.

    ``release`` is "" where it is none of ours; ``memory`` that of the chips behind it, where it is known.
    """

    url: str
    release: str
    reach: Callable[[], Asked]
    check: Callable[[], None]
    memory: Memory | None = None


@contextlib.contextmanager
def cluster_side(run: Run) -> Iterator[Side]:
    """What serves on the cluster. Raises GateError EVAL_SILENT."""
    view = look(run.context, lock_of_any(run.context, silent))
    record = _record(view)
    with run.head(view) as remote:
        key = key_on_head(run.layout, record, remote)
    with contextlib.ExitStack() as stack:

        def reach() -> Asked:
            stack.close()
            endpoint = endpoint_of(run.settings.service, record, key, stack.enter_context(run.head(view)))
            endpoint.health()
            return Asked(endpoint.reached, record.model, key, inside=True)

        def check() -> None:
            now = _record(look(run.context, lock_of_any(run.context, silent)))
            if _name(now) != _name(record):
                message = f"{_name(now)} serves now, and {_name(record)} at the start: the answers are of both"
                raise GateError("EVAL_CHANGED", message, fix="ask again while one release serves: r1deploy eval")

        yield Side(reach().url, _name(record), reach, check, memory_behind(view))


def memory_behind(view: View) -> Memory | None:
    """The chips' memory with the weights in it; None where no host sees them."""
    copies = [host.weights for host in view.probed.observed.values() if host.weights and host.weights.exists]
    largest = max(copies, key=lambda weights: weights.bytes, default=None)
    return memory_of(view.desired.settings, largest.bytes, largest.layers) if largest else None


def _record(view: View) -> Record:
    """The record of what serves. Raises GateError EVAL_SILENT."""
    serving = view.plan.serving
    if serving.record is None or serving.serves is False:
        raise GateError("EVAL_SILENT", "nothing serves that could be asked", fix="r1deploy serve; r1deploy status")
    return serving.record


def _name(record: Record) -> str:
    return f"{record.release}/{record.config}"


def _base(url: str) -> str | None:
    """A URL without ``/v1``. None: it is none, or something of it might be a secret, which is kept nowhere."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    more = parsed.userinfo or "?" in url or "#" in url
    if parsed.scheme not in ("http", "https") or not parsed.host or " " in url or more:
        return None
    return str(parsed).rstrip("/").removesuffix("/v1")


def url_side(settings: Settings, url: str) -> Side:
    """An endpoint by its URL. Raises UsageError EVAL_URL, GateError EVAL_SILENT."""
    base = _base(url)
    if base is None:
        fix = "--against http://HOST:PORT/v1; its key in the file of eval.against_key_file"
        message = "--against: a URL of an OpenAI endpoint, without a login and a query, is expected"
        raise UsageError("EVAL_URL", message, fix=fix)
    path = settings.eval.against_key_file
    key = read_secret(path, "eval.against_key_file", "API_KEY_MISSING") if path else None
    models = Asked(base, "", key, inside=False).models()
    if not models:
        raise GateError("EVAL_SILENT", f"{base} gives no list of models", fix=f"curl {base}/v1/models; its key?")
    asked = Asked(base, next(iter(models)), key, inside=False)
    return Side(base, "", lambda: asked, lambda: None)
