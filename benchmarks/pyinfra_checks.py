"""The checks of r1deploy's probe as pyinfra's own facts, as somebody who uses pyinfra would write them.

Facts only, no operation: whatever pyinfra would do beyond looking is not counted.
"""

from pyinfra import host
from pyinfra.facts import docker, files, hardware, server

STATE = "/var/lib/r1deploy"
CONTAINER = "flagrelease_bi"
SMI = "/usr/local/corex/bin/ixsmi"
ENGINE_PORT = 9010


def soft(command: str) -> str:
    """A command that may fail: an absent tool is an answer, too."""
    return f"{command} 2>&1 || true"


# Who the host is.
host.get_fact(server.Hostname)
host.get_fact(server.Kernel)
host.get_fact(server.Arch)
host.get_fact(server.Date)
host.get_fact(server.Command, soft("cat /etc/machine-id /proc/sys/kernel/random/boot_id"))
host.get_fact(server.Command, soft("sudo -n true"))
for tool in ("git", "rsync", "ssh-keygen", "python3"):
    host.get_fact(server.Which, tool)
host.get_fact(server.Command, soft("python3 -c 'import requests'"))
# Network, memory, disks.
host.get_fact(hardware.NetworkDevices)
host.get_fact(hardware.Memory)
host.get_fact(server.Command, soft(f"getent hosts $(hostname); grep -i :{ENGINE_PORT:04X} /proc/net/tcp*"))
host.get_fact(server.Command, soft(f"df -k / {STATE}"))
# Chips.
host.get_fact(server.Command, soft("ls /dev/iluvatar*; cat /sys/bus/pci/devices/*/vendor"))
for arguments in ("", "-L", "--format=csv,noheader --query-gpu=index,name,memory.total,memory.used"):
    host.get_fact(server.Command, soft(f"{SMI} {arguments}"))
# The engine, the image, our containers.
host.get_fact(docker.DockerSystemInfo)
host.get_fact(docker.DockerImages)
host.get_fact(docker.DockerContainer, CONTAINER)
# Our folder.
for folder in ("", "/bin", "/trees", "/releases", "/trust"):
    host.get_fact(files.Directory, STATE + folder)
host.get_fact(files.FindFiles, f"{STATE}/releases")
for path in ("bin/r1guest.py", "bin/r1trust.py", "active.json", "trust/id_ed25519.pub", "trust/known_hosts"):
    host.get_fact(files.Sha256File, f"{STATE}/{path}")
host.get_fact(server.Command, soft("cat /etc/ssh/ssh_host_*_key.pub"))
host.get_fact(server.Command, soft("grep r1deploy: ~/.ssh/authorized_keys"))
# What runs, what it serves, the weights.
host.get_fact(server.Command, soft("ps -eo pid,args"))
host.get_fact(server.Command, soft(f"curl -s -m 3 http://127.0.0.1:{ENGINE_PORT}/health"))
host.get_fact(files.FindFiles, "/mnt/share/models")
