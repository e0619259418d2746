"""The weights on the hosts: typed answers, one judge, transfer between hosts."""
