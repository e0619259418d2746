"""A real cluster on one machine: hosts with their own sshd, Docker Engine and address.

What stands in for what cannot be had (chips, weights, the vendor's image, the
upstream repositories) lives under ``standins/`` and says so on its face.
Importing this package costs nothing: the Docker SDK and cryptography are
imported by the calls that need them.
"""

from __future__ import annotations

from r1deploy.lab.labcluster import Lab, LabHost
from r1deploy.lab.laberrors import LabError, WheelsMissing

__all__ = ["Lab", "LabError", "LabHost", "WheelsMissing"]
