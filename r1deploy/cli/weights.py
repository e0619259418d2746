"""Verbs about the checkpoint: weights pull, verify, push."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Json, Set, app, flags_of
from r1deploy.ui import lines

if TYPE_CHECKING:
    from r1deploy.planning.findings import Check

weights_app = typer.Typer(help="The checkpoint on the hosts: pull it, verify it, push it.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("verify")
def weights_verify(folder: Folder = HERE, json: Json = False, sets: Set = None) -> None:
    """Check every shard on every host: index, sizes, tensors, sha256; what did not change is not read again."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.weights import verify as act
    from r1deploy.ui.transfer import Transfer

    report(act(open_context(folder, None, flags_of(sets)), Transfer("hash").update, lines.say), json)


@weights_app.command("pull")
def weights_pull(
    folder: Folder = HERE,
    host: Annotated[str | None, typer.Option(help="Host that downloads; by default the head.")] = None,
    json: Json = False,
    sets: Set = None,
) -> None:
    """Download the checkpoint from the hub on one host; goes on where it was interrupted."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.weights import pull as act
    from r1deploy.ui.transfer import Transfer
    from r1deploy.units import size_of

    done = act(open_context(folder, None, flags_of(sets)), host, Transfer("pull").update, lines.say)
    lines.say(f"{done.host}: {done.files} files, {size_of(done.downloaded)} of {size_of(done.bytes)} downloaded")
    report(list(done.checks), json)


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

    from r1deploy.actions.context import open_context
    from r1deploy.actions.weights import push as act
    from r1deploy.ui.transfer import Transfer
    from r1deploy.units import size_of

    done = act(open_context(folder, None, flags_of(sets)), source, Transfer("push").update, lines.say)
    if json:
        lines.document(asdict(done))
        return
    if done.shared:
        lines.show(f"{', '.join(done.shared)}: the same folder as on {done.source} (a share), nothing to bring.")
    if done.targets:
        lines.show(
            f"{', '.join(done.targets)}: {done.files} files, {size_of(done.bytes)}, as on {done.source}, verified."
        )


def report(checks: list[Check], json: bool, whole: str = "cluster") -> None:
    """Print findings; exit code 5 where one failed. In: the word for what has no host."""
    failed = [check for check in checks if not check.ok]
    if json:
        lines.document({"ok": not failed, "checks": lines.check_rows(checks)})
    else:
        lines.show(*lines.check_lines(checks, True, whole), lines.verdict(checks))
    if failed:
        raise typer.Exit(5)
