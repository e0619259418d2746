"""Parts of the long tests: together they are all of them, each about as large, and a file's order stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import shard_of

FILES = st.lists(st.integers(1, 80), min_size=1, max_size=20)


@given(FILES, st.integers(1, 12))
def test_parts_are_disjoint_and_whole(sizes: list[int], of: int) -> None:
    names = [f"tests/lab/test_{file}.py::test_{n}" for file, size in enumerate(sizes) for n in range(size)]
    parts = [shard_of(names, number, of) for number in range(of)]
    assert sum(map(len, parts)) == len(names) and set().union(*parts) == set(names)
    most = -(-len(names) // (2 * of))
    assert max(map(len, parts)) - min(map(len, parts)) <= most


def test_a_part_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        shard_of(["tests/lab/test_a.py::test"], 3, 3)
