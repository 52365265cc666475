"""The configuration: frozen models from which config/default.yaml, config/schema.json and the key table are generated.

Every stage has one leaf; a rule is given its leaf alone, so that a change elsewhere reruns nothing of it.
"""

from __future__ import annotations

import math
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scant.addresses import scheduler_problem
from scant.errors import ConfigError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
DatasetName = Annotated[str, Field(pattern=NAME_PATTERN)]
MAX_CONFIG_BYTES = 1_000_000


class Leaf(BaseModel):
    """Base of all models: unknown keys, NaN and later changes are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Acquisition(Leaf):
    """One `acquisition.yaml`: what the microscopist knows of a movie. Metadata in the file is read first, this overrides."""

    material: str = Field("graphene", description="built-in material or a unit cell file (CIF, extended XYZ)")
    movie: str = Field(description="movie file, .zarr folder or a glob of single frames, relative to acquisition.yaml")
    dark: str | None = Field(None, description="dark reference, raw counts")
    flat: str | None = Field(None, description="flat reference, raw counts, not dark-subtracted")
    truth: str | None = Field(None, description="known structures (extended XYZ) of a simulated movie: scored in the report")
    voltage_kV: float | None = Field(None, ge=10, le=400, description="acceleration voltage; without it the run ends at localisation")
    cs_um: float | None = Field(None, ge=-5000, le=5000, description="spherical aberration")
    defocus_angstrom: float | None = Field(
        None, ge=-5000, le=5000, description="nominal defocus; underfocus positive, overfocus negative (bright atoms at a negative Cs)"
    )
    focal_spread_angstrom: float = Field(10.0, ge=0, le=200, description="standard deviation of the defocus")
    objective_aperture_mrad: float | None = Field(None, gt=1, le=200, description="objective aperture, half angle")
    pixel_size_angstrom: float | None = Field(
        None, gt=0.01, lt=2, description="pixel size; checked against the lattice, taken from it when absent"
    )
    dose_e_per_angstrom2: float | None = Field(None, gt=0, le=1e7, description="nominal dose per frame")
    frame_time_ms: float | None = Field(None, gt=0, le=1e6, description="exposure of one frame")
    gain_adu_per_electron: float | None = Field(None, gt=0, le=1e5, description="measured by photon transfer when absent")


class IngestSettings(Leaf):
    chunk_bytes: int = Field(4_194_304, ge=65_536, le=268_435_456, description="size of a Zarr chunk before compression")
    max_frames: Annotated[int, Field(ge=1, le=10**7)] | None = Field(None, description="only the first so many frames: a first look")
    max_bytes: int = Field(10**12, ge=10**6, description="largest decoded movie that is accepted (guards against decompression bombs)")


class CalibrateSettings(Leaf):
    n_frames: int = Field(200, ge=3, le=5000, description="evenly spread frames for the median and MAD over time")
    flat_degree: int = Field(3, ge=0, le=6, description="degree of the polynomial flat when no flat reference is given")
    optics_frames: int = Field(6, ge=1, le=64, description="frames from which the optics are fitted")
    minimum_correlation: float = Field(
        0.03, ge=0, le=1, description="model and data must correlate at least so much, else refinement is refused"
    )


class CorrectSettings(Leaf):
    hit_threshold_sigma: float = Field(6.0, ge=4, le=50, description="X-ray hit: so many standard deviations above its surroundings")


class AverageSettings(Leaf):
    window: Annotated[int, Field(ge=1, le=101)] | Literal["auto"] = Field(
        "auto", description="frames in the sliding mean, odd, 1 to 101; 1 = off; auto: 5, and up to 25 below 8e3 e/A^2 per frame"
    )
    device: Literal["cpu", "auto", "gpu"] = Field(
        "cpu",
        description="where frames are corrected and averaged, half of this stage's time; a GPU is first tried against the CPU, whose "
        "image it gives but for hits at the very threshold; auto: a GPU where there is one",
    )

    @field_validator("window")
    @classmethod
    def _odd(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value % 2 == 0:
            raise ValueError(f"window {value} must be odd: 1, 3, 5 ...")
        return value


class DenoiseSettings(Leaf):
    method: Literal["bm3d", "pypi-bm3d", "ksvd", "unet", "none"] = Field(
        "bm3d",
        description="own BM3D, PyPI bm3d (non-commercial licence), a dictionary learned from the movie (K-SVD), "
        "a U-Net trained on simulated images (PyTorch), or none",
    )
    coarse_pixels: bool = Field(
        False,
        description="bm3d with known optics: on pixels as coarse as the aperture allows; 4 dB more gain in a quarter of the time, but 2 "
        "to 5 dB less within 1 A of a vacancy",
    )
    bm3d_device: Literal["cpu", "auto", "gpu"] = Field(
        "cpu",
        description="where own BM3D runs; a GPU is first tried against the CPU, whose image it gives but for pixels where rounding tips a "
        "choice; auto: a GPU where there is one",
    )
    across_frames: bool = Field(
        False,
        description="bm3d: each frame with those of its averaging window, in groups of patches across all of them, instead of their mean; "
        "as good on what stays, and a little more is kept of what changes from frame to frame; 3.5 times the time",
    )

    @property
    def takes_windows(self) -> bool:
        """Whether frames are denoised together with the others of their averaging window."""
        return self.method == "bm3d" and self.across_frames


class TrainSettings(Leaf):
    """The U-Net, for denoise.method: unet and compare_denoisers."""

    pairs: Annotated[int, Field(ge=4, le=1_000_000)] | Literal["auto"] = Field(
        "auto", description="simulated images to train on; auto: 10,000 on a GPU, 256 on the CPU"
    )
    steps: Annotated[int, Field(ge=10, le=1_000_000)] | Literal["auto"] = Field(
        "auto", description="training steps of 16 crops; auto: 10,000 on a GPU, 800 on the CPU (6 minutes)"
    )


class LocaliseSettings(Leaf):
    lattice_margin_angstrom: float = Field(
        5.0, ge=2, le=5, description="atoms this far outside the view belong to the model; detection reaches no farther than 5"
    )


class LinkSettings(Leaf):
    radius_angstrom: float = Field(0.7, gt=0.1, lt=1.2, description="largest move of an atom between frames after drift")


class AnnealSettings(Leaf):
    potential: Literal["lcbop", "tersoff"] = Field("lcbop", description="interatomic potential of the prior")
    temperature_k: float = Field(300.0, ge=50, le=1500, description="temperature of the sample in the prior")
    tau_start: float = Field(8.0, ge=1, le=1e4, description="first temperature of the schedule; 1 is the posterior")
    n_temperatures: int = Field(10, ge=1, le=200, description="geometric steps from tau_start towards 1")
    moves_per_temperature: int = Field(1, ge=1, le=10_000, description="Hamiltonian moves at each temperature, on the window mean")
    burn_in: int = Field(5, ge=0, le=100_000, description="moves at tau = 1, on the frame itself, that are not counted")
    n_samples: int = Field(10, ge=8, le=1_000_000, description="moves at tau = 1 whose mean and spread are the estimate")
    leapfrog_steps: int = Field(16, ge=1, le=200, description="gradient evaluations in one move")
    n_chains: int = Field(6, ge=1, le=64, description="independent chains per frame; their disagreement enters sigma")
    stop_r_hat: float = Field(1.1, ge=1, le=2, description="sampling ends early where the chains agree so well (split R-hat); 1: never")
    frames_per_batch: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        "auto", description="frames annealed as one batch; auto: 1 on the CPU, what fits into free memory on a GPU"
    )
    link_frames: bool = Field(True, description="other frames of the averaging window enter the likelihood (Ornstein-Uhlenbeck)")
    motion_angstrom: float = Field(
        0.26, gt=0, le=5, description="linked frames: least rms motion of heights about the shared ripple; more where images ask for it"
    )
    relaxation_frames: float = Field(1.6, ge=0, le=1e6, description="linked frames: how long that motion lasts; 0: less than a frame")


class ValidateSettings(Leaf):
    potential: Literal["tersoff", "rebo", "lcbop", "airebo"] = Field("tersoff", description="LAMMPS potential of the judge")
    temperature_k: float = Field(300.0, ge=10, le=1500, description="temperature of the Nose-Hoover thermostat")
    length_ps: float = Field(2.0, gt=0, le=1000, description="length of the NVT run; 50 for papers")
    timestep_fs: float = Field(1.5, gt=0, le=2, description="time step")


class DoseSettings(Leaf):
    doses_e_per_angstrom2: tuple[float, ...] = Field(
        (100.0, 200.0, 400.0, 1000.0, 2300.0, 4600.0, 8000.0, 27000.0), min_length=2, max_length=32, description="doses of the twins"
    )
    twins: int = Field(2, ge=1, le=1000, description="independent simulated twins, each seen at every dose")
    view_angstrom: float = Field(24.0, ge=12, le=400, description="edge of a twin's square view (never more than the dataset's)")
    criterion_angstrom: float = Field(0.87, gt=0, le=5, description="3D RMSD that marks the threshold (Zhang et al.: 0.87 A)")
    n_bootstrap: int = Field(1000, ge=50, le=100_000, description="bootstrap draws for the threshold's interval")


class ReportSettings(Leaf):
    viewer_frames: int = Field(24, ge=1, le=60, description="frames in the page's 3D viewer")
    movie_frames: int = Field(240, ge=1, le=5000, description="frames in dynamics.mp4, evenly spread; dynamics.gif has at most 45 of them")
    frames_per_second: int = Field(8, ge=1, le=60, description="speed of dynamics.mp4 and dynamics.gif")


class SimulateSettings(Leaf):
    """A movie made by scant itself: a thermal sheet by LAMMPS, the image by the forward model, a full detector."""

    n_frames: int = Field(8, ge=1, le=100_000, description="frames")
    size_px: int = Field(128, ge=48, le=4096, description="edge of the square view")
    pixel_size_angstrom: float = Field(0.2, ge=0.05, le=0.5, description="pixel size")
    voltage_kv: float = Field(80.0, ge=10, le=400, description="acceleration voltage")
    cs_um: float = Field(-13.0, ge=-5000, le=5000, description="spherical aberration")
    defocus_angstrom: float = Field(-45.0, ge=-5000, le=5000, description="defocus, underfocus positive")
    focal_spread_angstrom: float = Field(10.0, ge=0, le=200, description="standard deviation of the defocus")
    objective_aperture_mrad: float = Field(52.2, gt=1, le=200, description="objective aperture")
    dose_e_per_angstrom2: float = Field(8000.0, gt=0, le=1e7, description="dose per frame")
    frame_time_ms: float = Field(1.0, gt=0, le=1e6, description="exposure")
    gain_adu_per_electron: float = Field(6.0, gt=0, le=1e5, description="gain")
    offset_adu: float = Field(100.0, ge=0, le=1e4, description="offset")
    read_noise_e: float = Field(0.5, ge=0, le=100, description="read noise")
    n_bad_pixels: int = Field(40, ge=0, le=100_000, description="stuck pixels")
    hits_per_frame: float = Field(1.0, ge=0, le=1000, description="mean number of X-ray hits")
    drift_angstrom_per_frame: float = Field(0.02, ge=0, le=5, description="drift")
    astigmatism_x_angstrom: float = Field(0.0, ge=-500, le=500, description="two-fold astigmatism along x")
    astigmatism_y_angstrom: float = Field(0.0, ge=-500, le=500, description="two-fold astigmatism along the diagonal")
    envelope_b_angstrom2: float = Field(0.0, ge=0, le=20, description="detector transfer and fast motion: exp(-B k^2 / 4)")
    defocus_error_angstrom: float = Field(0.0, ge=-100, le=100, description="added to the defocus that acquisition.yaml states")
    potential: Literal["lcbop", "tersoff", "rebo", "airebo"] = Field("lcbop", description="LAMMPS potential that moves the atoms")
    n_vacancies: int = Field(1, ge=0, le=1000, description="vacancies in the view")
    n_stone_wales: int = Field(0, ge=0, le=1000, description="rotated bonds in the view")
    rotation_deg: float = Field(7.0, ge=-180, le=180, description="rotation of the lattice")
    temperature_k: float = Field(300.0, ge=10, le=1500, description="temperature of the sheet")


class Config(Leaf):
    """The whole configuration. Every key has a default; `datasets` and `results` are what most users give."""

    datasets: dict[DatasetName, str] = Field({}, description="name: path of its acquisition.yaml")
    simulate: dict[DatasetName, SimulateSettings] = Field(
        {}, description="name: settings of a movie to simulate; `demo` when nothing is given"
    )
    results: str = Field("results", min_length=1, description="folder of the products")
    seed: int = Field(1, ge=0, lt=2**63, description="seed of every random stream")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="where annealing and the U-Net run; gpu without a GPU is an error")
    frame_timeout_s: int = Field(14400, ge=1, le=10**6, description="a frame that takes longer is stopped and counts as failed")
    scheduler_address: str | None = Field(
        None, description="an existing Dask scheduler on loopback or behind tls://; none: each job its own"
    )
    block_frames: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        "auto", description="frames of one job, rounded up to whole Zarr chunks; auto: 64, of small frames in a long movie up to 512"
    )
    max_failed_fraction: float = Field(0.1, ge=0, le=1, description="a block with more failed frames than this fails as a whole")
    keep: tuple[Literal["averaged", "denoised"], ...] = Field((), description="stacks that are not deleted at the end")
    ingest: IngestSettings = IngestSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    correct: CorrectSettings = CorrectSettings()
    average: AverageSettings = AverageSettings()
    denoise: DenoiseSettings = DenoiseSettings()
    train: TrainSettings = TrainSettings()
    localise: LocaliseSettings = LocaliseSettings()
    link: LinkSettings = LinkSettings()
    anneal: AnnealSettings = AnnealSettings()
    validate_: ValidateSettings = Field(ValidateSettings(), alias="validate")
    dose: DoseSettings = DoseSettings()
    report: ReportSettings = ReportSettings()

    @field_validator("scheduler_address")
    @classmethod
    def _no_open_port(cls, address: str | None) -> str | None:
        if address is not None and (problem := scheduler_problem(address)):
            raise ValueError(problem)
        return address

    @model_validator(mode="before")
    @classmethod
    def _demo_when_nothing_is_given(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("datasets") and not values.get("simulate"):
            return {**values, "simulate": {"demo": {}}}
        return values

    @model_validator(mode="after")
    def _names_once(self) -> Config:
        twice = set(self.datasets) & set(self.simulate)
        if twice:
            raise ValueError(f"dataset {sorted(twice)[0]!r} is both given and simulated; rename one")
        return self

    @property
    def names(self) -> list[str]:
        return [*self.datasets, *self.simulate]


def parse_config(values: dict[str, Any]) -> Config:
    """Config from a mapping; ConfigError lists every wrong key with its value and what is allowed."""
    return _validated(Config, values, "configuration", "see config/README.md for the keys")


def load_acquisition(path: str | Path) -> Acquisition:
    """The acquisition.yaml of a dataset; ConfigError names file, key, value and what is allowed."""
    return _validated(Acquisition, read_yaml(path), str(path), "mend the file and run again")


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, where YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [(self.construct_object(key, deep=True), key.start_mark.line + 1) for key, _ in node.value]
        first: dict[Any, int] = {}
        for key, line in keys:
            if isinstance(key, str) and first.setdefault(key, line) != line:
                raise yaml.YAMLError(f"`{key}` stands on line {first[key]} and again on line {line}; keep one of them")
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A mapping from a YAML file without tags, aliases (alias bombs) or keys given twice, at most 1 MB; ConfigError otherwise."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; check the path under `datasets:`")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: {path.stat().st_size} bytes; a YAML file here has at most {MAX_CONFIG_BYTES}")
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ConfigError(f"{path}: YAML aliases (*name) are not accepted; write the values out")
        values = yaml.load(text, _OnceLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}; write `key: value` lines in UTF-8") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(values).__name__}")
    return values


def _meant(model: type[Leaf], place: tuple[int | str, ...]) -> str:
    """The key of the same place that an unknown one is probably a slip of."""
    for part in place[:-1]:
        known = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
        kinds = (known.get(str(part)), *get_args(known.get(str(part))))
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Leaf)), model)
    keys = {(info.alias or name).lower(): info.alias or name for name, info in model.model_fields.items()}
    close = get_close_matches(str(place[-1]).lower(), keys, 1, 0.75)
    return f"; did you mean {keys[close[0]]}?" if close else ""


def _validated(model: type[Leaf], values: dict[str, Any], where: str, remedy: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"]) or "(whole)"
            value = item.get("input")
            shown = "NaN" if isinstance(value, float) and math.isnan(value) else repr(value)[:80]
            meant = _meant(model, item["loc"]) if item["type"] == "extra_forbidden" else ""
            lines.append(f"  {key}: {item['msg']} (found {shown}){meant}")
        raise ConfigError(f"{where}: {len(lines)} problem(s); {remedy}\n" + "\n".join(lines)) from error
