"""Write the first files of a cluster."""

from __future__ import annotations

from pathlib import Path

from r1deploy.settings import profiles
from r1deploy.settings.example import annotated
from r1deploy.verbs.inventory import inventory_of

# What no git should have: the vendor's key, and what r1deploy remembers here.
IGNORED = ("/.r1deploy/", "/key/", "private_key.pem")


def init(folder: Path, source: Path | None, profile: str | None) -> list[str]:
    """Write r1deploy.yaml, inventory.ini and .gitignore where they are not there. Returns what was done.

    In: None for the default profile.
    Raises ConfigError for a hostfile or profile that cannot be used, before anything is written.
    """
    files = {"r1deploy.yaml": annotated(profile or profiles.default())}
    if source is not None:
        files["inventory.ini"] = inventory_of(source)
    files[".gitignore"] = "\n".join(IGNORED) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, text in files.items():
        path = folder / name
        if path.exists():
            rows.append(f"kept {path}: it is there already")
        else:
            path.write_text(text, encoding="utf-8")
            rows.append(f"wrote {path}")
    held = (folder / ".gitignore").read_text(encoding="utf-8", errors="replace").splitlines()
    missing = [line for line in IGNORED if line not in held]
    if missing:
        rows.append(f"add to {folder / '.gitignore'}, so that no key gets into git: {' '.join(missing)}")
    first = "" if (folder / "inventory.ini").exists() else "r1deploy init HOSTFILE, or write inventory.ini; "
    rows.append(f"next: {first}look at r1deploy.yaml, then r1deploy preflight")
    return rows
