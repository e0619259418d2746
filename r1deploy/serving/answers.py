"""Real answers of the service: one is asked for, and when the last one came is remembered.

The gate's own is in active.json on the hosts, for everybody. Those that `serve` and `status --probe` get later stay on
this machine: neither of the two changes anything on the hosts.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shlex
from pathlib import Path

from r1deploy.connection import Remote
from r1deploy.journal import state_home
from r1deploy.planning.layout import Layout
from r1deploy.planning.recorded import Record
from r1deploy.planning.whatserves import Serving
from r1deploy.render import SECRET
from r1deploy.serving.endpoint import Address, Endpoint
from r1deploy.serving.gate import Passed
from r1deploy.settings import redact
from r1deploy.settings.model import Service, Settings

TOKEN_SECONDS = 60


def now() -> str:
    """The time, as active.json and the memory of answers hold it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def endpoint_of(service: Service, record: Record, api_key: str | None, remote: Remote) -> Endpoint:
    """The API of a record's head; over SSH where its address does not answer from here."""
    return Endpoint(Address(record.hosts[0].address, record.port, record.model), service, api_key, remote.forward)


def key_on_head(layout: Layout, record: Record, remote: Remote) -> str | None:
    """The API key that a configuration was written with: a former release has its own."""
    if SECRET not in record.hosts[0].files:
        return None
    folder = layout.config(record.release, record.config)
    code, text = remote.run(f"cat {shlex.quote(f'{folder}/{SECRET}')}")
    if code != 0:
        return None
    key = shlex.split(text.strip().removeprefix("export VLLM_API_KEY="))[0]
    redact.remember(key)
    return key


def ask(settings: Settings, record: Record, remote: Remote) -> Passed | None:
    """A running service proves itself: health, model and one token. None where it does not."""
    key = key_on_head(Layout(settings.state_dir), record, remote)
    endpoint = endpoint_of(settings.service, record, key, remote)
    if endpoint.health() != 200 or record.model not in (endpoint.models() or []):
        return None
    answer = endpoint.complete(TOKEN_SECONDS)
    if answer is None or not answer.real:
        return None
    remember(settings.cluster, record)
    return Passed(f"{endpoint.url}/v1", record.model, answer, ())


def memory(cluster: str) -> Path:
    """Where this machine keeps the time of the last answer that it got."""
    return state_home() / "answers" / f"{cluster}.json"


def remember(cluster: str, record: Record) -> None:
    """Keep that an answer came now; a folder that cannot be written costs the memory only."""
    path = memory(cluster)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(json.dumps({"name": f"{record.release}/{record.config}", "time": now()}), encoding="utf-8")


def last_answer(cluster: str, serving: Serving) -> str | None:
    """When the last real answer of what is active came, as far as the hosts or this machine know."""
    times = [serving.active.answered] if serving.active else []
    try:
        remembered = json.loads(memory(cluster).read_text(encoding="utf-8"))
        times += [remembered["time"]] if remembered["name"] == serving.name else []
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no answer came to this machine yet, or the file is of somebody else's making
    read = [time for time in map(read_time, times) if time is not None]
    return max(read).isoformat(timespec="seconds") if read else None


def read_time(text: object) -> datetime.datetime | None:
    """A time with its zone; None where a text is none."""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
