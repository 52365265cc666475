"""Motion of the atoms by id: fluctuation about the mean place, mean squared displacement, height correlation in time.

The atoms table is in raw-frame coordinates, a drifting sample drifts in it: `without_drift` takes the common motion out.
"""

from __future__ import annotations

import polars as pl

from scant.analysis.neighbours import POSITION, SIGMA

AXES = ("x", "y", "z")
# Heights that are null in every row may come without a type, which admits no arithmetic.
MEASURES = pl.col(*POSITION, *SIGMA).cast(pl.Float64)


def without_drift(atoms: pl.DataFrame | pl.LazyFrame, n_rounds: int = 4) -> pl.LazyFrame:
    """The atoms with each frame's common shift (x, y, z) removed; frames that share no atom stay where they are.

    Atoms leave the field of view with the drift, so an atom's mean place and a frame's shift depend on each other;
    they are solved for in turn (alternating least squares).
    """
    table = atoms.lazy().with_columns(MEASURES).collect()
    for _ in range(n_rounds):
        # Two steps: a window inside a window would be evaluated within the groups of the outer one.
        table = table.with_columns((pl.col(name) - pl.col(name).mean().over("id")).alias(f"offset_{name}") for name in POSITION)
        shifts = (pl.col(f"offset_{name}").mean().over("frame").fill_null(0.0) for name in POSITION)
        table = table.with_columns((pl.col(name) - shift) for name, shift in zip(POSITION, shifts))
    return table.drop(f"offset_{name}" for name in POSITION).lazy()


def motion_by_atom(atoms: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Per id: n_frames, mean_{x,y,z}_angstrom, fluctuation_{x,y,z}_angstrom (sd over time) and noise_{x,y,z}_angstrom.

    The noise is the rms sigma of the estimates: a fluctuation below it is not motion.
    """
    columns = [pl.len().alias("n_frames")]
    for axis, position, sigma in zip(AXES, POSITION, SIGMA):
        columns += [
            pl.col(position).mean().alias(f"mean_{axis}_angstrom"),
            pl.col(position).std().alias(f"fluctuation_{axis}_angstrom"),
            (pl.col(sigma) ** 2).mean().sqrt().alias(f"noise_{axis}_angstrom"),
        ]
    return atoms.lazy().with_columns(MEASURES).group_by("id").agg(columns).sort("id").collect()


def displacement_table(atoms: pl.DataFrame | pl.LazyFrame, lags: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)) -> pl.DataFrame:
    """Per lag in frames: mean squared displacement in the plane and along z, its noise, the height correlation.

    Columns: lag, n_pairs, msd_xy_angstrom2, msd_z_angstrom2, noise_xy_angstrom2, noise_z_angstrom2 (what independent
    errors of both frames add), z_correlation (of an atom's height about its mean, 1 at equal heights). Lags without a
    pair of frames are left out.
    """
    mean = pl.col("z_angstrom").mean().over("id")
    table = atoms.lazy().select("id", "frame", MEASURES).with_columns(dz=pl.col("z_angstrom") - mean)
    rows = [_lag_row(table, lag) for lag in lags]
    return pl.concat(rows).collect().filter(pl.col("n_pairs") > 0)


def _lag_row(table: pl.LazyFrame, lag: int) -> pl.LazyFrame:
    later = table.with_columns(frame=pl.col("frame") - lag)
    pair = table.join(later, on=["id", "frame"], suffix="_later")
    step = {axis: pl.col(name + "_later") - pl.col(name) for axis, name in zip(AXES, POSITION)}
    noise = {axis: pl.col(name + "_later") ** 2 + pl.col(name) ** 2 for axis, name in zip(AXES, SIGMA)}
    power = (pl.col("dz") ** 2 + pl.col("dz_later") ** 2).mean() / 2
    return pair.select(
        pl.lit(lag, dtype=pl.Int64).alias("lag"),
        pl.len().cast(pl.Int64).alias("n_pairs"),
        (step["x"] ** 2 + step["y"] ** 2).mean().alias("msd_xy_angstrom2"),
        (step["z"] ** 2).mean().alias("msd_z_angstrom2"),
        (noise["x"] + noise["y"]).mean().alias("noise_xy_angstrom2"),
        noise["z"].mean().alias("noise_z_angstrom2"),
        ((pl.col("dz") * pl.col("dz_later")).mean() / power).alias("z_correlation"),
    )
