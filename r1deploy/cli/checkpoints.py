"""Verbs about the checkpoint: weights pull, verify, push."""

from __future__ import annotations

from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Json, Set, app
from r1deploy.cli.outcome import report
from r1deploy.ui import lines

weights_app = typer.Typer(help="The checkpoint on the hosts: pull it, verify it, push it.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("verify")
def weights_verify(folder: Folder = HERE, json: Json = False, sets: Set = None) -> None:
    """Check every shard on every host: index, sizes, tensors, sha256; what did not change is not read again."""
    from r1deploy.cli.opening import open_run
    from r1deploy.ui.transfer import Transfer
    from r1deploy.verbs.weights import verify

    report(verify(open_run(folder, None, sets, Transfer("hash"))), json)


@weights_app.command("pull")
def weights_pull(
    folder: Folder = HERE,
    host: Annotated[str | None, typer.Option(help="Host that downloads; by default the head.")] = None,
    json: Json = False,
    sets: Set = None,
) -> None:
    """Download the checkpoint from the hub on one host; goes on where it was interrupted."""
    from r1deploy.cli.opening import open_run
    from r1deploy.ui.transfer import Transfer
    from r1deploy.units import size_of
    from r1deploy.verbs.weights import pull

    done = pull(open_run(folder, None, sets, Transfer("pull")), host)
    lines.say(f"{done.host}: {done.files} files, {size_of(done.downloaded)} of {size_of(done.bytes)} downloaded")
    report(done.findings, json)


@weights_app.command("push")
def weights_push(
    folder: Folder = HERE,
    source: Annotated[
        str | None, typer.Option("--from", help="Host to read from; by default the first that has it whole.")
    ] = None,
    json: Json = False,
    sets: Set = None,
) -> None:
    """Bring the checkpoint to the hosts that do not see it, all at once; goes on where it was interrupted."""
    from dataclasses import asdict

    from r1deploy.cli.opening import open_run
    from r1deploy.ui.transfer import Transfer
    from r1deploy.units import size_of
    from r1deploy.verbs.weights import push

    done = push(open_run(folder, None, sets, Transfer("push")), source)
    if json:
        lines.document(asdict(done))
        return
    if done.shared:
        lines.show(f"{', '.join(done.shared)}: the same folder as on {done.source} (a share), nothing to bring.")
    if done.targets:
        lines.show(
            f"{', '.join(done.targets)}: {done.files} files, {size_of(done.bytes)}, as on {done.source}, verified."
        )
