"""The truth of a simulated movie as extended XYZ: atoms whose centre lies in the view, raw-frame coordinates; scant's own or another's."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np

from scant.errors import InputError
from scant.physics.simulate import TrueFrame, View

CELL_HEIGHT_ANGSTROM = 40.0


def write_truth(path: str, frames: list[TrueFrame], view: View) -> None:
    """One block per frame with `frame=N` and the drift in its comment line; columns species, pos, id."""
    edge = view.size_angstrom - view.pixel_size_angstrom
    lattice = f"{view.size_angstrom} 0.0 0.0 0.0 {view.size_angstrom} 0.0 0.0 0.0 {CELL_HEIGHT_ANGSTROM}"
    with Path(path).open("w") as handle:
        for n, frame in enumerate(frames):
            inside = np.all((frame.positions[:, :2] >= 0) & (frame.positions[:, :2] <= edge), axis=1)
            handle.write(f"{inside.sum()}\n")
            handle.write(f'Lattice="{lattice}" Properties=species:S:1:pos:R:3:id:I:1 frame={n} ')
            handle.write(f'drift_x={frame.drift_angstrom[0]:.6f} drift_y={frame.drift_angstrom[1]:.6f} pbc="F F F"\n')
            for species, (x, y, z), atom in zip(frame.species[inside], frame.positions[inside], frame.ids[inside]):
                handle.write(f"{species} {x:.6f} {y:.6f} {z:.6f} {atom}\n")


def read_truth(path: str) -> dict[int, np.ndarray]:
    """Frame -> positions (N, 3) of any extended XYZ whose comment lines say `frame=N` (else counted); InputError when it cannot be read."""
    try:
        return {int(block.info.get("frame", n)): block.positions for n, block in enumerate(ase.io.iread(path, format="extxyz"))}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{path}: not an extended XYZ file of structures ({error}); mend `truth:` in acquisition.yaml or leave it out"
        ) from error
