"""What was found on copies of the checkpoint, as findings: headers and sizes, sums, one copy against another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from r1deploy.checkpoint.copies import FIXES, Answer, Hosts, Order, where
from r1deploy.cluster.host import Host
from r1deploy.errors import PreflightError
from r1deploy.onhost.sums import parse_sums
from r1deploy.planning.findings import Check, failed, passed
from r1deploy.planning.observed import Weights
from r1deploy.planning.shardfindings import few, judged
from r1deploy.settings.model import Settings
from r1deploy.units import size_of
from r1deploy.voice import Progress

AGAIN = "r1deploy weights pull, or r1deploy weights push from a good host"


def manifest_of(settings: Settings) -> dict[str, str] | None:
    """The sums that the settings name. Raises PreflightError MANIFEST_INVALID."""
    if settings.weights.manifest is None:
        return None
    path = Path(settings.weights.manifest)
    try:
        sums: dict[str, str] = parse_sums(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PreflightError("MANIFEST_INVALID", f"{path}: {error}", fix=FIXES["MANIFEST_INVALID"]) from None
    return sums


def prove(hosts: Hosts, host: Host, sums: Mapping[str, str] | None, hashing: bool, progress: Progress) -> Answer:
    """Verify on one host. In: sums that the files must have; whether to hash without any."""
    request = {"sums": sums, "hash": hashing, "source": hosts.settings.weights.manifest}
    return hosts.do(host, Order("verify", request, progress=progress))


def judge(path: str, group: Sequence[Host], answer: Answer) -> Iterator[Check]:
    """Findings on one copy: names and sizes of what is wrong. In: its folder; the hosts that see it; what one said."""
    host = where(group)
    verdict = judged(Weights.model_validate(answer["weights"]), path)
    if verdict.code is not None:
        yield failed(verdict.code, "weights", verdict.said, verdict.fix or AGAIN).at(host)
        return
    yield passed("weights", verdict.said).at(host)
    yield judge_sums(path, answer).at(host)


def judge_sums(path: str, answer: Answer) -> Check:
    """The finding on the sums of a copy."""
    name, source = "weights sha256", answer["source"]
    if not answer["sums"]:
        return passed(name, "no manifest, one copy: headers and sizes only (weights.manifest)")
    bad = [f"{file} has another sha256" for file in answer["differ"]] + [f"no {file}" for file in answer["absent"]]
    if bad:
        return failed("WEIGHTS_DAMAGED", name, f"{path}: {few(bad)} ({source})", AGAIN)
    if answer["unlisted"]:
        said = f"{source} does not name {few(answer['unlisted'])}"
        return failed("MANIFEST_INVALID", name, said, "ask for the whole manifest")
    by = f" as in {source}" if source else ", no manifest"
    took = f"{size_of(answer['hashed'])} read in {answer['seconds']:.0f} s"
    return passed(name, f"{len(answer['sums'])} files{by}; {took}")


def differing(groups: Sequence[Sequence[Host]], answers: Mapping[str, Answer]) -> Iterator[Check]:
    """Copies that are whole by themselves and hold other bytes than the first one."""
    whole = [group for group in groups if answers[group[0].name]["sums"]]
    for group in whole[1:]:
        one, two = answers[whole[0][0].name]["sums"], answers[group[0].name]["sums"]
        names = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
        if names:
            fix = f"r1deploy weights push --from {whole[0][0].name}, if that one is right"
            said = f"{few(names)} differ from {where(whole[0])}'s"
            yield failed("WEIGHTS_DIFFER", "same weights", said, fix).at(where(group))
        else:
            yield passed("same weights", f"the same bytes as on {where(whole[0])}").at(where(group))
