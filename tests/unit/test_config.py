"""The configuration: defaults, refusals with the key and the range, generated files in step, environments like the lock."""

from __future__ import annotations

import re

import pytest
import yaml
from scant import columns, config_docs, environments
from scant.config import load_acquisition, parse_config, read_yaml
from scant.errors import ConfigError
from scant.stages.denoisers import REAL, SIMULATED


def test_nothing_given_means_the_demo():
    assert parse_config({}).names == ["demo"]
    assert parse_config({"datasets": {"a": "x.yaml"}}).names == ["a"]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"anneal": {"temperatur_k": 300}}, "anneal.temperatur_k"),
        ({"anneal": {"temperature_k": float("nan")}}, "anneal.temperature_k"),
        ({"average": {"window": 4}}, "average.window"),
        ({"block_frames": 0}, "block_frames"),
        ({"datasets": {"../up": "x.yaml"}}, "datasets"),
        ({"datasets": {"a": "x.yaml"}, "simulate": {"a": {}}}, "rename one"),
    ],
)
def test_refusals_name_the_key(values, key):
    with pytest.raises(ConfigError, match=re.escape(key)):
        parse_config(values)


def test_models_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse_config({}).seed = 2


def test_generated_files_are_in_step(repository):
    assert config_docs.main([str(repository / "config")]) == 0
    assert environments.main([str(repository / "envs")]) == 0
    assert columns.main([str(repository / "workflow")]) == 0
    defaults = yaml.safe_load((repository / "config/default.yaml").read_text())
    assert parse_config(defaults) == parse_config({})


@pytest.mark.parametrize("generated", [config_docs, columns])
def test_out_of_step_is_noticed(tmp_path, generated):
    assert generated.main([str(tmp_path)]) == 1
    assert generated.main(["--fix", str(tmp_path)]) == 0
    assert generated.main([str(tmp_path)]) == 0


def test_tables_made_on_request_are_documented_as_they_are():
    assert list(columns.TABLES["denoisers.parquet"].columns) == list(SIMULATED)
    assert list(columns.TABLES["denoisers_real.parquet"].columns) == list(REAL)


def test_acquisition_names_file_key_and_value(tmp_path):
    path = tmp_path / "acquisition.yaml"
    path.write_text("movie: m.tif\nvoltage_kV: 80000\n")
    with pytest.raises(ConfigError, match=r"acquisition\.yaml.*\n.*voltage_kV.*400.*80000"):
        load_acquisition(path)
    with pytest.raises(ConfigError, match="no such file"):
        load_acquisition(tmp_path / "gone.yaml")


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x\n", "a: !!python/object:os.system x\n", "a: [1", "- 1\n- 2\n"])
def test_hostile_yaml_is_refused(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        read_yaml(path)


def test_a_key_given_twice_is_refused_with_both_lines(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("movie: a.tif\ndefocus_angstrom: -45\n\ndefocus_angstrom: 45\n")
    with pytest.raises(ConfigError, match=r"`defocus_angstrom` stands on line 2 and again on line 4; keep one"):
        load_acquisition(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"datasets": {"a": "x"}, "anneal": {"n_chain": 4}}, "anneal.n_chain: .*did you mean n_chains\\?"),
        ({"simulate": {"demo": {"voltage_kV": 80}}}, "simulate.demo.voltage_kV: .*did you mean voltage_kv\\?"),
        ({"datasets": {"a": "x"}, "nonsense": 1}, r"nonsense: [^;]*\(found 1\)$"),
    ],
)
def test_a_slip_of_a_key_is_named(values, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(values)


def test_a_slip_in_acquisition_is_named(tmp_path):
    (tmp_path / "acquisition.yaml").write_text("movie: a.tif\ndefocus_angstrm: -4\nvoltage_kv: 80\n")
    with pytest.raises(ConfigError) as refused:
        load_acquisition(tmp_path / "acquisition.yaml")
    assert "did you mean defocus_angstrom?" in str(refused.value) and "did you mean voltage_kV?" in str(refused.value)
