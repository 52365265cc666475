"""Errors that say what to do: where (file, frame), what was found (with unit), what is allowed, the next step."""

from __future__ import annotations

from dataclasses import dataclass


class ScantError(Exception):
    """Base of every error raised on purpose: `error.code` goes into the failure ledger."""

    code = "error"


class InputError(ScantError):
    """A file, frame or number given by the user cannot be used."""

    code = "input"


class ConfigError(InputError):
    """The configuration or an acquisition.yaml is wrong."""

    code = "config"


class DataIntegrityError(ScantError):
    """Stored data are missing or damaged: a chunk, a checksum, a row count."""

    code = "integrity"


class CalibrationError(ScantError):
    """A calibration could not be determined, or model and data do not match."""

    code = "calibration"


class SimulationError(ScantError):
    """LAMMPS refused, lost atoms or exploded."""

    code = "simulation"


class DeviceError(ScantError):
    """The device asked for is not there, or ran out of memory."""

    code = "device"


@dataclass(frozen=True)
class FrameFailure:
    """One row of failures.parquet: a frame that a stage could not finish, while the others went on."""

    frame: int
    stage: str
    cause: str
    message: str
    remedy: str
