"""A material by its name or from a unit cell file (CIF, extended XYZ) through ASE."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np

from scant.errors import InputError
from scant.physics.lattice import GRAPHENE, Material

BUILT_IN = {GRAPHENE.name: GRAPHENE}


def load_material(name_or_path: str) -> Material:
    """Built-in material, or the honeycomb crystal of a unit cell file; InputError when it is neither."""
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise InputError(
            f"material {name_or_path!r}: neither built in ({', '.join(BUILT_IN)}) nor a unit cell file; "
            "give the path of a CIF or extended XYZ file"
        )
    cell = next(ase.io.iread(path, index=0))
    a, b, gamma = cell.cell.lengths()[0], cell.cell.lengths()[1], cell.cell.angles()[2]
    if len(cell) != 2 or abs(a - b) > 0.02 * a or min(abs(gamma - 60), abs(gamma - 120)) > 1:
        raise InputError(
            f"{path}: {len(cell)} atoms in a cell of {a:.3f} x {b:.3f} A at {gamma:.1f} degrees; "
            "only honeycomb cells (2 atoms, 60 or 120 degrees) can be used"
        )
    return Material(path.stem, tuple(cell.get_chemical_symbols()), float(np.mean([a, b])))
