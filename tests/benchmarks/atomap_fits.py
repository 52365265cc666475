"""Atomap's fits of Gaussian atoms, for `preprocessing.py`, in an environment of their own: atomap asks for an older NumPy.

usage: atomap_fits.py IN.npz OUT.npy      IN: counts (y, x) and start (n, 2) in px; OUT: fitted (x, y); prints the CPU seconds
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
import atomap.api  # noqa: E402, F401  (its modules import each other, in this order alone)
from atomap.sublattice import Sublattice  # noqa: E402


def main() -> None:
    given = np.load(sys.argv[1])
    sublattice = Sublattice(given["start"], given["counts"])
    sublattice.find_nearest_neighbors()
    start = time.process_time()
    sublattice.refine_atom_positions_using_2d_gaussian(show_progressbar=False)
    print(time.process_time() - start)
    np.save(sys.argv[2], np.array(sublattice.atom_positions))


if __name__ == "__main__":
    main()
