"""preflight + plan + apply + verify, to "ready to serve"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from r1deploy.ansible.folder import run_folder
from r1deploy.ansible.runner import Play
from r1deploy.errors import ApplyError
from r1deploy.fanout.spreading import Load, Told, spread
from r1deploy.fanout.treetravel import bring_trees, receivers
from r1deploy.inputs.key import key_file, prove_key
from r1deploy.inputs.locking import password_file
from r1deploy.inputs.tarball import prove_tarball
from r1deploy.inputs.upstream import prove_upstreams
from r1deploy.observe.blocking import refuse_blocked, refuse_unreachable
from r1deploy.observe.view import View, limited, lock_of, look
from r1deploy.onhost.enginesocket import SOCKET
from r1deploy.planning.planner import Plan
from r1deploy.planning.rolevars import BUILDS, Brought, Half, groups, host_vars, role_vars
from r1deploy.planning.steps import STEPS
from r1deploy.run import Run
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock
from r1deploy.sshprocess import SshProcess
from r1deploy.units import size_of

NEED_KEY = {"patch"}


@dataclass(frozen=True)
class Options:
    """How a bootstrap is asked for."""

    upgrade: frozenset[str] = frozenset()
    limit: str | None = None
    skip_unreachable: bool = False


@dataclass(frozen=True)
class Done:
    """What came of it: the plan that was applied, and the view after it."""

    applied: Plan
    view: View


def bootstrap(run: Run, options: Options, confirm: Callable[[View], None]) -> Done:
    """Converge every host. In: ``confirm`` shows the plan and may refuse it.

    Raises ApplyError with the failed host's own last lines, or where a difference is left.
    """
    view = considered(run, options)
    if not view.plan.changes:
        lockfile_write(run, view)
        return Done(view.plan, view)
    confirm(view)
    with run.hold(view, "bootstrap"):
        return converge(run, options, agreed(run, options, view, confirm))


def check(run: Run, options: Options) -> View:
    """What ``bootstrap`` would do, verified as far as that changes nothing; whoever holds the cluster."""
    return considered(run, options, at_once=True)


def considered(run: Run, options: Options, *, at_once: bool = False) -> View:
    """Resolve, once a run; probe, plan, and prove what the plan needs. Changes nothing.

    In: ``at_once``, whether it is no matter that another run holds the cluster; else that is told before what takes
    long. Raises UnreachableError, PreflightError, UsageError, LockedError.
    """
    view = survey(run, options, lock_of(run.context, options.upgrade, run.say))
    if view.plan.changes and not at_once:
        run.refuse_held(view)
    prove(run, view)
    return view


def survey(run: Run, options: Options, lock: Lock) -> View:
    """Probe and plan what a lock asks for; nothing is resolved. Raises as ``considered`` does."""
    view = look(run.context, lock)
    if options.skip_unreachable:
        refuse_headless(run, view)
    else:
        refuse_unreachable(view.probed)
    view = limited(view, options.limit)
    if view.plan.changes:
        refuse_blocked(view.plan.blockers("bootstrap"))
    return view


def refuse_headless(run: Run, view: View) -> None:
    """Go on without the hosts that do not answer, and name them; never without the head or the builder."""
    needed = {view.desired.head.name, view.desired.builder.name}
    if needed & view.probed.failures.keys():
        refuse_unreachable(view.probed)
    for name, failure in view.probed.failures.items():
        run.say(f"skipped {name}: {failure.message} ({failure.code})")


def prove(run: Run, view: View) -> None:
    """The commits, the tarball and the key that a plan needs can be had and are right. Raises PreflightError."""
    steps = {row.step for row in view.plan.changes}
    if {"sources", "patch"} & steps:
        run.say(prove_upstreams(run.settings, view.lock))
    if view.plan.hosts_of("image"):
        run.say(prove_tarball(run.settings, view.lock.image))
    if NEED_KEY & steps:
        run.say(prove_key(run.settings, view.lock.patch.ciphertexts if view.lock.patch else {}))


def agreed(run: Run, options: Options, view: View, confirm: Callable[[View], None]) -> View:
    """What is there now that the cluster is held, for the lock that was agreed to.

    Another run may have come between: where the plan is another one, it is shown and asked for again.
    """
    now = survey(run, options, view.lock)
    if now.plan.changes and now.plan.changes != view.plan.changes:
        run.say("The hosts changed since the plan was made. This is the plan now:")
        prove(run, now)
        confirm(now)
    return now


def converge(run: Run, options: Options, view: View) -> Done:
    """Apply and look again until nothing differs. Raises ApplyError."""
    first = view.plan
    lockfile_write(run, view)
    if view.desired.image_id is None:
        apply(run, view, ("host", "image"))
        view = survey(run, options, view.lock)
        lockfile_write(run, view)
    # Twice at the most: a stopped container hides what is installed in it until it runs.
    for _ in range(2):
        if not view.plan.changes:
            return Done(first, view)
        apply(run, view, STEPS)
        view = survey(run, options, view.lock)
    if view.plan.changes:
        raise left_over(run, view.plan)
    return Done(first, view)


def lockfile_write(run: Run, view: View) -> None:
    """Record what was resolved, where it is not recorded yet."""
    if lockfile.read(run.context.lock_path) != view.lock:
        lockfile.write(run.context.lock_path, view.lock)


def left_over(run: Run, plan: Plan) -> ApplyError:
    """Ansible said it did all; the probe says otherwise, and the probe is right."""
    rows = [f"{row.host} {row.step}: {row.field}: {row.current} → {row.desired}" for row in plan.changes]
    return ApplyError(
        "STILL_DIFFERS", f"{len(rows)} differences are left after all steps", evidence=rows[:15], log=run.log
    )


def apply(run: Run, view: View, steps: tuple[str, ...]) -> None:
    """Run the steps that have work. Raises ApplyError."""
    load = load_of(view) if "image" in steps else None
    if load:
        if view.plan.hosts_of("host"):
            play(run, view, ("host",))
        bring_image(run, view, load)
        steps = tuple(step for step in steps if step != "host")
    if receivers(view, steps):
        built = steps[: steps.index("vllm") + 1]
        if any(view.plan.hosts_of(step) for step in built if step not in BUILDS) or builds(view, steps):
            play(run, view, built, "build")
        bring_trees(run, view, steps)
        play(run, view, (*BUILDS, *steps[len(built) :]), "bring")
    else:
        play(run, view, steps)


def builds(view: View, steps: tuple[str, ...]) -> bool:
    """Whether the builder has to build."""
    return any(view.desired.builder.name in view.plan.hosts_of(step) for step in BUILDS if step in steps)


def play(run: Run, view: View, steps: tuple[str, ...], half: Half = "both") -> None:
    """The playbook of these steps. Raises ApplyError."""
    desired, observed = view.desired, view.probed.observed
    with run_folder() as folder:
        files = folder / "files"
        view.rendered.write(files)
        with_key = bool(view.plan.hosts_of("patch")) and "patch" in steps
        brought = brought_for(view, str(folder / "staging"), with_key)
        wanted = Play(
            "bootstrap.yml",
            groups=groups(desired, view.plan, steps, half),
            variables=role_vars(desired, brought, observed),
            host_vars=host_vars(desired, view.plan, observed, str(files)),
            folder=folder,
        )
        run.apply(desired, wanted)


def load_of(view: View) -> Load | None:
    """The tarball for the hosts that lack the image; None where none lacks it, or it comes from a registry."""
    image, locked = view.desired.settings.image, view.lock.image
    if not view.plan.hosts_of("image") or image.tarball is None or locked is None or locked.tarball_sha256 is None:
        return None
    path = Path(image.tarball)
    sink = {"socket": SOCKET, "name": image.name}
    return Load(path, path.stat().st_size, locked.tarball_sha256, sink)


def bring_image(run: Run, view: View, load: Load) -> None:
    """The tarball, from host to host into the engines of those that lack the image; the role then finds it right.

    Raises ApplyError of the first host that failed, after all have ended.
    """
    lacking, builder, head = view.plan.hosts_of("image"), view.desired.builder.name, view.desired.head.name
    # The builder first: the steps after it wait for it most.
    hosts = sorted((row for row in view.desired.hosts if row.name in lacking), key=lambda row: row.name != builder)
    ways = {host.name: SshProcess(run.context.login(view.probed, host.name)) for host in hosts}
    run.at("image")
    names = ", ".join(host.name for host in hosts)
    run.say(f"image: {load.path.name} ({size_of(load.size)}) goes from host to host: {names}")
    ended = spread(ways, hosts, load, Told(run.say, run.bar, lambda: run.refuse_lost(head)))
    errors = [error for error in ended.values() if error is not None]
    if errors:
        first, *others = errors
        fix = first.fix or "mend the cause and run the same command again: finished work is kept"
        evidence = [*first.evidence, *(other.message for other in others)]
        raise ApplyError(first.code, first.message, host=first.host, evidence=evidence, fix=fix, log=run.log)


def brought_for(view: View, staging: str, with_key: bool) -> Brought:
    """What the controller brings. In: whether the path of the vendor's key is given (its content never is)."""
    settings, lock = view.desired.settings, view.lock
    key = key_file(settings) if with_key else None
    return Brought(
        staging,
        key_file=str(key or ""),
        password_file=str(password_file(settings) or ""),
        tarball_sha256=(lock.image.tarball_sha256 if lock.image else None) or "",
        ciphertexts=lock.patch.ciphertexts if lock.patch else {},
    )
