"""Whether it is right: what the hosts measured, read strictly and judged. Pure: no host is asked here."""
