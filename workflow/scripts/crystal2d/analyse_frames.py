"""Bonds, strain, curvature and pyramidalisation of one block's structures."""

from scant.analysis.bonds import bond_table
from scant.analysis.curvature import curvature_table
from scant.analysis.pyramidalisation import pyramidalisation_table
from scant.analysis.strain import strain_table
from scant.io.logs import say, stage_log
from scant.io.structures import read_table, write_table
from scant.provenance import record
from scant.stages.calibration import read_json
from scant.stages.products import atoms_in_2d


def analyse_frames(inputs, outputs, params):
    calibration = read_json(inputs.calibration)
    atoms = read_table(inputs.atoms)
    if calibration["optics"] is None:
        atoms = atoms_in_2d(atoms, read_table(inputs.ids), calibration["pixel_size_angstrom"], calibration["species"])
    provenance = record("analyse", seed=params.seed, params={}, code=params.code)
    bonds = bond_table(atoms, estimate="posterior_mean")
    surface = strain_table(atoms, calibration["lattice_constant_angstrom"])
    for table in (curvature_table(atoms), pyramidalisation_table(atoms)):
        surface = surface.join(table, on=["frame", "id"], how="left")
    write_table(outputs.atoms, atoms, provenance)
    write_table(outputs.bonds, bonds, provenance)
    write_table(outputs.surface, surface, provenance)
    say(f"analyse: {len(atoms)} atoms, {len(bonds)} bonds")


if __name__ == "__main__":
    with stage_log(snakemake.log[0]):  # noqa: F821
        analyse_frames(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
