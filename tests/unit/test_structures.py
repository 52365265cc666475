"""Extended XYZ as ASE reads it, and tables with their provenance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
import polars as pl
import pytest
from scant.errors import DataIntegrityError, InputError
from scant.io.structures import (
    FieldOfView,
    concat_tables,
    read_extxyz,
    read_provenance,
    read_table,
    stream_table,
    write_extxyz,
    write_table,
)

FIELD = FieldOfView(height_px=100, width_px=250, pixel_size_angstrom=0.2, frame_time_ms=1.25)


def atoms(frames: list[int], n: int = 30) -> pl.DataFrame:
    rng = np.random.default_rng(frames[0])
    size = len(frames) * n
    columns = {"frame": np.repeat(frames, n), "id": np.tile(np.arange(n), len(frames)), "species": ["C", "B", "Si"] * (size // 3)}
    columns |= {"x_angstrom": rng.uniform(0, 49.8, size), "y_angstrom": rng.uniform(0, 19.8, size), "z_angstrom": rng.normal(0, 2, size)}
    columns |= {f"sigma_{a}_angstrom": rng.uniform(0.01, 0.5, size) for a in "xyz"}
    return pl.DataFrame(columns | {"flag": rng.integers(0, 4, size)})


def test_ase_reads_every_column_frame_and_cell(tmp_path: Path) -> None:
    path = str(tmp_path / "s.extxyz")
    tables = [atoms([0, 1]), atoms([3, 10])]
    assert write_extxyz(path, tables, FIELD) == 4
    blocks = ase.io.read(path, ":")
    assert [b.info["frame"] for b in blocks] == [0, 1, 3, 10]
    assert [b.info["time_ms"] for b in blocks] == [0.0, 1.25, 3.75, 12.5]
    table = pl.concat(tables)
    for block in blocks:
        rows = table.filter(pl.col("frame") == block.info["frame"])
        np.testing.assert_allclose(block.positions, rows.select("x_angstrom", "y_angstrom", "z_angstrom").to_numpy(), atol=5.1e-6)
        assert block.get_chemical_symbols() == rows["species"].to_list()
        np.testing.assert_array_equal(block.arrays["id"], rows["id"])
        np.testing.assert_array_equal(block.arrays["flag"], rows["flag"])
        np.testing.assert_allclose(block.arrays["sigma_z"], rows["sigma_z_angstrom"], atol=5.1e-6)
        np.testing.assert_allclose(block.cell.lengths(), [50.0, 20.0, 40.0])
        assert not block.pbc.any()


def test_round_trip_through_our_own_reader(tmp_path: Path) -> None:
    path = str(tmp_path / "s.extxyz")
    table = atoms([2, 4])
    write_extxyz(path, [table], FIELD)
    back = read_extxyz(path)
    for column in table.columns:
        if table[column].dtype.is_float():
            np.testing.assert_allclose(back[column], table[column], atol=5.1e-6)
        else:
            assert back[column].to_list() == table[column].to_list()
    np.testing.assert_allclose(back["time_ms"], table["frame"].to_numpy() * 1.25)


def test_only_atoms_whose_centre_is_in_the_field_are_written(tmp_path: Path) -> None:
    edges = [(-0.11, 5.0), (-0.09, 5.0), (49.89, 5.0), (49.91, 5.0), (5.0, -0.11), (5.0, 19.89), (5.0, 19.91)]
    table = (
        atoms([0]).head(len(edges)).with_columns(x_angstrom=pl.Series([e[0] for e in edges]), y_angstrom=pl.Series([e[1] for e in edges]))
    )
    write_extxyz(str(tmp_path / "s.extxyz"), [table], FIELD)
    assert read_extxyz(str(tmp_path / "s.extxyz"))["id"].to_list() == [1, 2, 5]


def test_unknown_sigma_stays_unknown(tmp_path: Path) -> None:
    table = atoms([0]).with_columns(sigma_z_angstrom=pl.Series([None, float("nan")] + [0.1] * 28))
    write_extxyz(str(tmp_path / "s.extxyz"), [table], FIELD)
    assert np.isnan(ase.io.read(tmp_path / "s.extxyz").arrays["sigma_z"][:2]).all()


def test_unordered_double_or_broken_tables_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.extxyz"
    for tables, message in (
        ([atoms([4]), atoms([3])], "frame 3 comes after frame 4"),
        ([atoms([4]), atoms([4])], "frame 4 comes after frame 4"),
        ([atoms([0]).drop("flag")], "lacks flag"),
        ([atoms([0]).with_columns(species=pl.lit("C 1 2"))], "element symbols"),
    ):
        with pytest.raises(InputError, match=message):
            write_extxyz(str(path), tables, FIELD)
    assert list(tmp_path.iterdir()) == []


def test_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.extxyz"
    write_extxyz(str(path), [atoms([0, 1])], FIELD)
    path.write_text(path.read_text()[:-300])
    with pytest.raises(DataIntegrityError, match="frame 1: expected 30 atoms"):
        read_extxyz(str(path))


def test_table_with_provenance(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    write_table(path, atoms([1]), {"seed": 3, "versions": {"scant": "0.1"}})
    assert read_table(path).equals(atoms([1]))
    assert read_provenance(path) == {"seed": 3, "versions": {"scant": "0.1"}}
    Path(path).write_bytes(Path(path).read_bytes()[:-20])
    with pytest.raises(DataIntegrityError, match=r"t\.parquet"):
        read_table(path)


def test_a_table_written_part_by_part_is_that_of_the_whole_and_a_broken_one_leaves_nothing(tmp_path: Path) -> None:
    target, schema = str(tmp_path / "ids.parquet"), {"frame": pl.Int64, "id": pl.Int64}
    parts = [pl.DataFrame({"frame": [n] * n, "id": range(n)}, schema=schema) for n in range(4)]
    assert stream_table(target, schema, iter(parts), {"seed": 1}) == 6
    assert read_table(target).equals(pl.concat(parts)) and read_provenance(target) == {"seed": 1}
    assert read_table(target, (2, 3)).equals(parts[2])
    assert stream_table(target, schema, iter([]), {}) == 0 and read_table(target).schema == schema

    def broken() -> Iterator[pl.DataFrame]:
        yield parts[3]
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        stream_table(target, schema, broken(), {})
    assert read_table(target).height == 0 and [path.name for path in tmp_path.iterdir()] == ["ids.parquet"]


def test_tables_join_in_the_given_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.parquet") for i in range(4)]
    for i, path in enumerate(paths):
        write_table(path, atoms([i]), {})
    target = str(tmp_path / "all.parquet")
    assert concat_tables(paths, target, {"config": "x"}) == 120
    assert read_table(target).equals(pl.concat([atoms([i]) for i in range(4)]))
    assert read_provenance(target) == {"config": "x"}
    write_table(paths[2], atoms([2]).drop("flag"), {})
    with pytest.raises(DataIntegrityError, match=r"2\.parquet"):
        concat_tables(paths, target, {})
