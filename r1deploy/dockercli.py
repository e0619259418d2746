"""The Docker client on a host, told which engine it talks to.

One engine for all: the socket, whatever root's docker context or environment there say. The probe
asks the socket itself; Ansible's modules get it from the plays' ``module_defaults``.
"""

from __future__ import annotations

SOCKET = "unix:///var/run/docker.sock"
# What would lead the client elsewhere, or make it speak TLS or another version to the socket.
STEERING = (
    "DOCKER_API_VERSION",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_CUSTOM_HEADERS",
    "DOCKER_HOST",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
)


def docker(*words: str) -> list[str]:
    """argv that runs ``docker WORDS...`` on a host, on the engine of the socket."""
    unset = [word for name in STEERING for word in ("-u", name)]
    return ["env", *unset, "docker", "--host", SOCKET, *words]
