"""Pi bands of one block's structures: local density of states, charges, bond orders and pseudo-magnetic field, each with sigma."""

from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.ledger import failure_table, refuse_many_failures
from scant.io.logs import say
from scant.io.structures import read_table, write_table
from scant.io.workers import map_frames
from scant.provenance import record
from scant.stages.calibration import read_json
from scant.stages.electrons import ElectronTask, electron_tables


def electrons(inputs, outputs, params, block, threads):
    start, stop = parse_label(block)
    calibration = read_json(inputs.calibration)
    frames = read_table(inputs.atoms)["frame"].unique().sort().to_list()
    task = ElectronTask(
        inputs.atoms, inputs.samples, calibration["lattice_constant_angstrom"], calibration["lattice"]["rotation_rad"]
    )  # fmt: skip
    done, lost = map_frames(task, frames, stage="electrons", n_workers=threads, **params.workers)
    atoms, bonds, sums = electron_tables(done)
    provenance = record("electrons", seed=params.seed, params={}, code=params.code)
    write_table(outputs.atoms, atoms, provenance)
    write_table(outputs.bonds, bonds, provenance)
    write_table(outputs.sums, sums, provenance)
    write_table(outputs.failures, failure_table(lost), provenance)
    say(f"electrons: {len(atoms) - atoms['ldos_per_ev'].null_count()} of {len(atoms)} atoms, {len(bonds)} bonds")
    refuse_many_failures(lost, stop - start, params.max_failed_fraction)


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        electrons(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block, snakemake.threads)  # noqa: F821
