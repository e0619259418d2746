"""The lab: a real cluster on this machine."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from r1deploy.cli.app import app
from r1deploy.ui import lines

if TYPE_CHECKING:
    from r1deploy.lab import Lab

lab_app = typer.Typer(help="A real cluster on this machine, to try things out.", no_args_is_help=True)
app.add_typer(lab_app, name="lab")


class Engine(enum.StrEnum):
    """The engines of r1deploy.lab.engines, named here so that --help needs no lab."""

    light = "light"
    vllm = "vllm"


@lab_app.command("up")
def lab_up(
    hosts: Annotated[int, typer.Option(help="How many hosts.", min=1)] = 2,
    install: Annotated[bool, typer.Option(help="Install and start what is missing on this machine.")] = False,
    engine: Annotated[
        Engine, typer.Option(help="light: a stand-in; vllm: the real one on CPUs, with real Ray.")
    ] = Engine.light,
    upstream: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=URL[#COMMIT]", help="A real FlagScale (or vllm) for the stand-in."),
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[HOST=]RATE",
            help="Limit every host's link and what this machine sends, or one host's; RATE as tc writes it: 50mbit.",
        ),
    ] = None,
) -> None:
    """Bring the lab up; what is there already is left as it is. Without --link no link is limited."""

    def bring(lab: Lab) -> None:
        from r1deploy.lab import links

        limits = links.parse(link or ())
        lab.up(hosts, install, lines.say, engine.value, upstream or ())
        if link:
            lab.limit(limits, lines.say)

    with_lab(bring)


@lab_app.command("down")
def lab_down() -> None:
    """Remove the lab's hosts; cached images stay."""
    with_lab(lambda lab: lab.down(lines.say))


@lab_app.command("status")
def lab_status() -> None:
    """Print the state of the lab as JSON."""
    with_lab(lambda lab: lines.document(lab.status()))


def with_lab(do: Callable[[Lab], object]) -> None:
    """Run an action of the lab; its error becomes one of ours."""
    from r1deploy.errors import ApplyError
    from r1deploy.lab import Lab, LabError

    try:
        do(Lab())
    except LabError as error:
        raise ApplyError("LAB_FAILED", error.what, evidence=error.evidence.splitlines()[-8:], fix=error.fix) from error
