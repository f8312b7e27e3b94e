"""Prints what placement needs on the MiniMalloc instances (in the folder EDGEC_DATA) and on random graphs.

ratio: size to lower bound, the largest sum of live bytes. The instances are known to fit 1,048,576 bytes, which is
given as the goal. Beside it two simpler ways: greedy takes the largest first, first fit takes items as they are born;
each at the lowest free offset. With a number as argument: the instances so many times more, their rows shuffled, which
leads the search elsewhere: how much its time is a matter of luck.
"""
from __future__ import annotations

import csv
import os
import random
import sys
import time
from pathlib import Path

from edgec.pieces import Item, Part, load
from edgec.placement import first_fit, place

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("EDGEC_DATA", ROOT.parent / "shared" / "data"))
CAPACITY = 1_048_576
WORK = 20_000_000


def instance(path: Path) -> list[Item]:
    """One item per row of a CSV file with lower and upper (moments, the second exclusive) and size in bytes."""
    with path.open(newline="", encoding="utf-8") as f:
        return [Item((Part(0, int(r["size"]), int(r["lower"]), int(r["upper"]) - 1),), 1) for r in csv.DictReader(f)]


def random_items(count: int, seed: int, width: int = 8) -> list[Item]:
    """Buffers as a network's: most live for a few steps, one in eight for many; sizes from 16 bytes to 16 KB."""
    rng = random.Random(seed)
    found = []
    for k in range(count):
        start = rng.randrange(max(1, 4 * count // width))
        length = rng.randrange(1, 4 * width) if k % 8 == 0 else rng.randrange(1, width)
        found.append(Item((Part(0, 16 * rng.randrange(1, 1025), start, start + length - 1),), 16))
    return found


def measure(label: str, items: list[Item], goal: int) -> None:
    bound = load(items)[0]
    by_size = sorted(range(len(items)), key=lambda k: -items[k].size)
    by_birth = sorted(range(len(items)), key=lambda k: items[k].start)
    greedy, plain = first_fit(items, by_size).size, first_fit(items, by_birth).size
    start = time.perf_counter()
    p = place(items, goal, WORK)
    seconds = time.perf_counter() - start
    proof = "" if goal else "optimal" if p.size == p.bound else f"within {100 * (p.size / p.bound - 1):.2f} %"
    print(f"{label:10} {len(items):5} {bound:9,} {p.size:9,} {p.size / bound:6.3f} {seconds:7.2f} s {p.work:10,}   "
          f"{greedy / bound:6.3f} {plain / bound:9.3f}   {proof}", flush=True)


def spread(label: str, items: list[Item], times: int) -> None:
    seconds, fit = [], 0
    for seed in range(1, times + 1):
        shuffled = random.Random(seed).sample(items, len(items))
        start = time.perf_counter()
        fit += place(shuffled, CAPACITY, WORK).size <= CAPACITY
        seconds.append(time.perf_counter() - start)
    print(f"{label:10} {fit} of {times} fit, {min(seconds):.2f} to {max(seconds):.2f} s", flush=True)


def main() -> None:
    print(f"{'':10} items     bound     bytes  ratio      time       work   greedy first fit")
    files = sorted((DATA / "minimalloc").glob("*.csv"))
    for path in files:
        measure(path.name.split(".")[0], instance(path), CAPACITY)
    for path in files if len(sys.argv) > 1 else ():
        spread(f"{path.name.split('.')[0]} shuffled", instance(path), int(sys.argv[1]))
    if not files:
        print(f"no MiniMalloc instances in {DATA / 'minimalloc'}: set EDGEC_DATA")
    for count in (30, 100, 300):
        for seed in range(3):
            measure(f"random {seed}", random_items(count, seed), 0)


if __name__ == "__main__":
    main()
