"""Placement: valid for items of any shape, optimal or honest about it, the same every time, good on hard instances."""
from __future__ import annotations

import sys
from itertools import combinations, permutations
from pathlib import Path

import pytest
from conftest import DATA
from hypothesis import given, settings, strategies as st

from edgec.pieces import Item, Part, load
from edgec.placement import WORK, first_fit, place

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import placement as benchmark  # noqa: E402


@st.composite
def plain(draw, most=7, align=1):
    """Buffers of one part, often several of a size or of a time."""
    found = []
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, 6))
        found.append(Item((Part(0, draw(st.integers(1, 9)), start, start + draw(st.integers(0, 3))),), align))
    return found


@st.composite
def shaped(draw):
    """Items whose parts come and go one by one, with holes in space and in time, of any alignment."""
    found = []
    for _ in range(draw(st.integers(1, 8))):
        parts, at = [], 0
        for _ in range(draw(st.integers(1, 4))):
            size, start = draw(st.integers(1, 40)), draw(st.integers(0, 9))
            parts.append(Part(at, size, start, start + draw(st.integers(0, 5))))
            at += size + draw(st.sampled_from((0, 0, 3)))
        found.append(Item(tuple(parts), draw(st.sampled_from((1, 4, 4, 16)))))
    return found


def assert_valid(items, p):
    assert len(p.offsets) == len(items)
    for i, at in zip(items, p.offsets, strict=True):
        assert at >= 0 and at % i.align == 0
    assert p.size == max(at + i.size for i, at in zip(items, p.offsets, strict=True))
    for (i, at), (j, bt) in combinations(zip(items, p.offsets, strict=True), 2):
        for a in i.parts:
            for b in j.parts:
                together = a.start <= b.end and b.start <= a.end
                below, above = at + a.offset + a.size <= bt + b.offset, bt + b.offset + b.size <= at + a.offset
                assert not together or below or above
    assert load(items)[0] <= p.bound <= p.size


def smallest(items):
    """By all orders: the lowest-first order of a best placement gives one as good."""
    return min(first_fit(items, order).size for order in permutations(range(len(items))))


@settings(max_examples=60, deadline=None)
@given(plain(6))
def test_small_sets_are_optimal_and_proved(items):
    p = place(items)
    assert_valid(items, p)
    assert p.size == p.bound == smallest(items)


@settings(max_examples=30, deadline=None)
@given(plain(6, align=4))
def test_optimal_in_units_of_the_alignment(items):
    p = place(items)
    assert_valid(items, p)
    assert -(-p.size // 4) == -(-p.bound // 4) == -(-smallest(items) // 4)


@settings(max_examples=100, deadline=None)
@given(shaped())
def test_any_shape_is_placed_validly(items):
    assert_valid(items, place(items, work=2000))


@settings(max_examples=20, deadline=None)
@given(shaped(), st.integers(0, 100))
def test_a_goal_is_enough(items, more):
    goal = place(items, work=2000).size + more
    p = place(items, goal, 2000)
    assert_valid(items, p)
    assert p.size <= goal


def test_a_bound_above_the_load_is_proved():
    """The four parts of a pinwheel: no moment holds more than 4 bytes, and 4 are not enough."""
    shapes = ((1, 0, 2), (2, 0, 0), (1, 1, 3), (2, 3, 3), (1, 0, 3), (2, 2, 2), (2, 1, 1))
    items = [Item((Part(0, size, start, end),), 1) for size, start, end in shapes]
    p = place(items)
    assert_valid(items, p)
    assert p.size == p.bound == smallest(items)


def test_the_same_every_time_and_within_its_work():
    for seed in range(3):
        items = benchmark.random_items(120, seed)
        a, b = place(items), place(list(items))
        assert a == b and a.work < 2 * WORK
        assert_valid(items, a)
        assert a.size == a.bound


def test_parts_that_interlock():
    """A tensor born row by row under one that dies row by row: together little more than the larger."""
    dying = Item(tuple(Part(10 * r, 10, 0, r) for r in range(8)), 4)
    born = Item(tuple(Part(10 * r, 10, r + 1, 9) for r in range(8)), 4)
    p = place([dying, born])
    assert_valid([dying, born], p)
    assert p.size <= 84


def test_nothing_to_place():
    assert place([]).size == place([]).bound == 0


@pytest.mark.parametrize("name", ["B", "F", "K"])
def test_known_hard_instances_fit(name):
    path = DATA / "minimalloc" / f"{name}.1048576.csv"
    if not path.exists():
        pytest.skip(f"no instances at {path.parent}: set EDGEC_DATA beside EDGEC_MODELS")
    items = benchmark.instance(path)
    p = place(items, benchmark.CAPACITY, 10 * WORK)
    assert_valid(items, p)
    assert p.size <= benchmark.CAPACITY
