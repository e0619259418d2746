"""The hub's own client in a process of its own: its prints and threads stay there.

The text of this file goes to ``python -c`` (``hub.ask``): it imports nothing of the package. Arguments: what, and the
order as JSON; ``client`` in it is the folder with the client's packages. The answer is one marked line of JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any, Callable, Mapping

MARK = "r1:"
MOST_CAUSES = 6
Order = Mapping[str, Any]


def answer(**row: Any) -> None:
    """One line; in front of it an end of what the client may have begun."""
    print("\n" + MARK + json.dumps(row), flush=True)


def listed_huggingface(order: Order) -> dict[str, Any]:
    """The commit of a revision, and its files."""
    hub = importlib.import_module("huggingface_hub")
    info = hub.HfApi().model_info(order["repo"], revision=order["revision"], files_metadata=True)
    rows = [
        {
            "name": file.rfilename,
            "size": file.size,
            "sha256": file.lfs.sha256 if file.lfs else None,
            "sha1": None if file.lfs else file.blob_id,
        }
        for file in info.siblings
    ]
    return {"revision": info.sha, "files": rows}


def got_huggingface(order: Order) -> None:
    """Download."""
    hub = importlib.import_module("huggingface_hub")
    hub.snapshot_download(
        order["repo"], revision=order["revision"], local_dir=order["path"], max_workers=order["workers"]
    )


def listed_modelscope(order: Order) -> dict[str, Any]:
    """The revision, and its files."""
    api = importlib.import_module("modelscope.hub.api")
    files = api.HubApi().get_model_files(order["repo"], revision=order["revision"], recursive=True)
    rows = [
        {"name": row["Path"], "size": row["Size"], "sha256": row.get("Sha256") or None, "sha1": None}
        for row in files
        if row["Type"] != "tree"
    ]
    return {"revision": order["revision"], "files": rows}


def got_modelscope(order: Order) -> None:
    """Download."""
    download = importlib.import_module("modelscope.hub.snapshot_download")
    download.snapshot_download(
        order["repo"], revision=order["revision"], local_dir=order["path"], max_workers=order["workers"]
    )


DONE: dict[tuple[str, str], Callable[[Order], Any]] = {
    ("listed", "huggingface"): listed_huggingface,
    ("got", "huggingface"): got_huggingface,
    ("listed", "modelscope"): listed_modelscope,
    ("got", "modelscope"): got_modelscope,
}


def causes_of(error: BaseException | None) -> list[str]:
    """An error and what caused it, the outermost first."""
    chain: list[str] = []
    while error is not None and len(chain) < MOST_CAUSES:
        chain.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return chain


def main(what: str, text: str) -> int:
    """Do it and answer; the exit code."""
    order = json.loads(text)
    sys.path.insert(0, order["client"])
    try:
        answer(done=DONE[what, order["hub"]](order))
    except BaseException as error:  # any: whoever asks decides what it means
        status = getattr(getattr(error, "response", None), "status_code", None)
        answer(error=causes_of(error), status=status)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
