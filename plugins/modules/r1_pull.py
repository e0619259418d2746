#!/usr/bin/python
"""Ansible module: pull an image over the Docker Engine's socket, with a login that leaves no trace."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: r1_pull
short_description: Pull an image, with a login that is never stored
description:
  - Asks the Docker Engine over its socket. The login goes with that one request in the header
    C(X-Registry-Auth); there is no C(docker login), no C(config.json) and nothing in an argument.
  - Fails with the engine's own words, after C(cannot pull NAME:).
  - In check mode the registry is not asked. An image that is there counts as the newest.
options:
  name:
    description: Name and tag of the image.
    type: str
    required: true
  username:
    description: Login to the registry; empty for none.
    type: str
    default: ''
  password:
    description: Password or token for O(username).
    type: str
    default: ''
  socket:
    description: The engine's socket.
    type: path
    default: /var/run/docker.sock
  timeout:
    description: Seconds without a word from the engine after which the pull counts as failed.
    type: int
    default: 600
author:
  - r1deploy
"""

EXAMPLES = r"""
- name: Pull the vendor's image
  r1deploy.cluster.r1_pull:
    name: registry.example.com/vendor/image:v5
    username: robot
    password: "{{ lookup('ansible.builtin.file', '/root/token') }}"
"""

RETURN = r"""
id:
  description: Id of the image after the pull.
  type: str
  returned: success
"""

import base64
import contextlib
import http.client
import json
from typing import Any
from urllib.parse import quote, urlencode

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.r1deploy.cluster.plugins.module_utils.onhost.enginesocket import Engine


class Refused(Exception):
    """What the engine said when it did not do what it was asked."""


def split(name: str) -> tuple[str, str, str]:
    """``(registry, repository, tag)`` of an image's name; without a tag the engine would pull all of them."""
    first = name.split("/")[0]
    registry = first if "/" in name and ("." in first or ":" in first or first == "localhost") else "docker.io"
    if "@" in name:
        return registry, name, ""
    last = name.rsplit("/", 1)[-1]
    if ":" not in last:
        return registry, name, "latest"
    repository, _, tag = name.rpartition(":")
    return registry, repository, tag


def identity(engine: Any, name: str) -> str | None:
    """Id of the image of that name, or None."""
    engine.request("GET", f"/images/{quote(name, safe='/:@')}/json")
    answer = engine.getresponse()
    body = answer.read()
    return str(json.loads(body)["Id"]) if answer.status == 200 else None


def pull(engine: Any, name: str, username: str, password: str) -> None:
    """Pull; raises Refused with the engine's words."""
    registry, repository, tag = split(name)
    headers = {"Content-Length": "0"}
    if username:
        login = {"username": username, "password": password, "serveraddress": registry}
        headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps(login).encode()).decode()
    query = {"fromImage": repository, "tag": tag}
    engine.request("POST", "/images/create?" + urlencode(query), headers=headers)
    answer = engine.getresponse()
    if answer.status != 200:
        body = answer.read().decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            body = json.loads(body)["message"]
        raise Refused(body.strip() or f"HTTP {answer.status}")
    # One JSON document a line; an error can come after many lines of progress.
    for line in answer:
        row = json.loads(line) if line.strip() else {}
        if "error" in row:
            raise Refused((row.get("errorDetail") or {}).get("message") or row["error"])


def main() -> None:
    """Module entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "socket": {"type": "path", "default": "/var/run/docker.sock"},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    what = f"cannot pull {wanted['name']}"
    engine = Engine(wanted["socket"], wanted["timeout"])
    try:
        before = identity(engine, wanted["name"])
        if module.check_mode:
            # Only the registry knows whether a tag has moved, and to ask it takes the login.
            module.exit_json(changed=before is None, id=before or "")
        pull(engine, wanted["name"], wanted["username"], wanted["password"])
        after = identity(engine, wanted["name"])
    except Refused as error:
        module.fail_json(msg=f"{what}: {error}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        module.fail_json(msg=f"{what}: the Docker Engine broke off: {error}")
    if after is None:
        module.fail_json(msg=f"{what}: the engine says it did, but has no such image")
    module.exit_json(changed=before != after, id=after)


if __name__ == "__main__":
    main()
