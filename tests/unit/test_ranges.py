"""Names of many hosts in a few words: whatever they are called, none is lost or invented."""

from __future__ import annotations

import random
import re

import pytest

from r1deploy.cluster.ranges import WIDEST, ranges, spoken


def node(*numbers: int, width: int = 2) -> list[str]:
    return [f"node{number:0{width}}" for number in numbers]


def spelled(text: str) -> list[str]:
    """The names that a text of ``ranges`` stands for."""
    fits = re.fullmatch(r"(.*)\[(.*)\](.*)", text)
    if not fits:
        return [text]
    head, inside, tail = fits.groups()
    names = []
    for part in inside.split(","):
        first, _, last = part.partition("-")
        names += [f"{head}{str(n).zfill(len(first))}{tail}" for n in range(int(first), int(last or first) + 1)]
    return names


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["node1"], "node1"),
        (["node1", "node2"], "node1, node2"),
        (node(*range(2, 33)), "node[02-32]"),
        (node(*range(1, 17), *range(18, 33)), "node[01-16,18-32]"),
        (node(7, 3, 5), "node[03,05,07]"),
        (node(*range(8, 13), width=1), "node[8-12]"),
        (node(*range(98, 102), width=2), "node[98-101]"),
        (["node1", "node02", "node3"], "node[1,02,3]"),
        (["head", *node(1, 2, 3), "spare"], "head, node[01-03], spare"),
        ([f"node{n}.rack2.example.org" for n in range(1, 5)], "node[1-4].rack2.example.org"),
        (["n1.a.org", "n2.a.org", "n3.a.org", "n1.b.org", "n2.b.org", "n3.b.org"], "n[1-3].a.org, n[1-3].b.org"),
        ([f"rack{r}-node{n}" for r in (1, 2) for n in (1, 2, 3)], "rack1-node[1-3], rack2-node[1-3]"),
        ([f"gpu{n}-ib" for n in range(3)], "gpu[0-2]-ib"),
        ([f"10.0.0.{n}" for n in (9, 10, 11)], "10.0.0.[9-11]"),
        (["fe80::1", "fe80::2", "fe80::3"], "fe80::1, fe80::2, fe80::3"),
        (["alpha", "beta", "gamma"], "alpha, beta, gamma"),
        (["a", "b", "c", "d", "e", "f", *node(1, 2, 3)], "a, b, c, d, e, f and 3 more"),
        (node(1, 1, 1, 2), "node01, node02"),
    ],
)
def test_names_in_a_few_words(names: list[str], text: str) -> None:
    assert spoken(names) == text


def test_all_of_them_where_that_is_asked_for() -> None:
    assert spoken(["a", "b", "c", "d", "e", "f", "g", "h"], most=None) == "a, b, c, d, e, f, g, h"


def test_every_second_host_of_many_still_wraps() -> None:
    parts = ranges(node(*range(1, 256, 2), width=3))
    assert sum(count for _, count in parts) == 128
    assert max(len(text) for text, _ in parts) <= WIDEST + len("node[]") + len("001-003")


def test_whatever_the_names_are_none_is_lost_or_invented() -> None:
    dice = random.Random(12)
    for _ in range(300):
        names = {
            f"{dice.choice(['n', 'node', 'r1-'])}{dice.randrange(120):0{dice.randrange(1, 4)}}{dice.choice(['', '.x'])}"
            for _ in range(dice.randrange(40))
        }
        found = ranges(sorted(names))
        said = [name for text, _ in found for name in spelled(text)]
        assert sorted(said) == sorted(names)
        assert [count for _, count in found] == [len(spelled(text)) for text, _ in found]
