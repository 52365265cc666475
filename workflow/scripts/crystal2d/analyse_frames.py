"""Bonds, strain, curvature, pyramidalisation, ripples and defects of one block's structures."""

from scant.analysis.bonds import sampled_bond_table
from scant.analysis.defects import defect_table
from scant.analysis.rigidity import ripple_power_table
from scant.analysis.surface import surface_table
from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import read_table, write_table
from scant.provenance import record
from scant.stages.calibration import read_json
from scant.stages.products import atoms_in_2d, bonds_with_orders


def analyse_frames(inputs, outputs, params, block):
    calibration = read_json(inputs.calibration)
    atoms = read_table(inputs.atoms)
    if calibration["optics"] is None:
        atoms = atoms_in_2d(atoms, read_table(inputs.ids, parse_label(block)), calibration["pixel_size_angstrom"], calibration["species"])
    provenance = record("analyse", seed=params.seed, params={}, code=params.code)
    samples = read_table(inputs.samples) if inputs.samples else None
    bonds = bonds_with_orders(sampled_bond_table(atoms, samples), read_table(inputs.orders) if inputs.orders else None)
    write_table(outputs.atoms, atoms, provenance)
    write_table(outputs.bonds, bonds, provenance)
    write_table(outputs.surface, surface_table(atoms, calibration["lattice_constant_angstrom"], samples), provenance)
    write_table(outputs.ripples, ripple_power_table(atoms, samples), provenance)
    defects = defect_table(atoms, calibration["lattice_constant_angstrom"])
    write_table(outputs.defects, defects, provenance)
    say(f"analyse: {len(atoms)} atoms, {len(bonds)} bonds, {len(defects)} defects")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        analyse_frames(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block)  # noqa: F821
