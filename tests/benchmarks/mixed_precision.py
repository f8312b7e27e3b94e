"""Prints what mixed precision recovers of a network that is hard on purpose: two channels of each inner tensor are 300
times the others, and what would undo that (equalisation) is left out.

python tests/benchmarks/mixed_precision.py [--max-drop 0.005]
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from test_mixed import EXAMPLES, PLAIN, accuracy, hard, prices, quiet  # noqa: E402

from edgec import compare  # noqa: E402
from edgec.data import load  # noqa: E402
from edgec.quantisation import mixed  # noqa: E402
from edgec.quantisation.quantise import quantise_model  # noqa: E402
from edgec.quantisation.recipe import IMPROVEMENTS, Recipe  # noqa: E402
from edgec.quantisation.simulate import float_values  # noqa: E402


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--max-drop", type=float, default=0.005, help="of accuracy, on the calibration samples")
    most = p.parse_args().max_drop
    g = hard()
    calibration, test = (load(EXAMPLES / f"digits_{part}.npz", g) for part in ("calib", "test"))
    done = quantise_model(g, calibration, PLAIN)
    bits, trials = mixed.choose_widths(done, calibration, "int8", {}, most, lambda q: True, prices, None, quiet)
    chosen = quantise_model(g, calibration, Recipe("minmax", without=IMPROVEMENTS, bits=bits))
    exact = compare.accuracy(float_values(g, test, g.outputs)[g.outputs[0]], test.labels)
    int8, mix = (accuracy(q.graph, test) for q in (done, chosen))
    print(f"float {100 * exact:.2f} %, int8 {100 * int8:.2f} %, mixed {100 * mix:.2f} % of {len(test)} samples: "
          f"{(mix - int8) / (exact - int8):.1%} of the loss recovered")
    for node, width in bits.items():
        print(f"  {node}: {width}")
    print(f"  {len(trials)} assignments tried; the others of {len(done.plan.linear(done.float))} layers are 8x8")


if __name__ == "__main__":
    main()
