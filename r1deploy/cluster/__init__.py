"""The hosts: hostfile and inventory."""
