"""Films of the dynamics: the image beside the sheet in perspective, with time, uncertainty and the course of the ripple.

The artists are made once and only their data change: a frame of 750 atoms costs about 0.1 s, against 1 s for a new figure.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from scant.analysis.bonds import frame_bonds
from scant.analysis.neighbours import FrameAtoms
from scant.analysis.ripples import frame_ripple
from scant.errors import InputError
from scant.report.maps import scale_bar
from scant.report.style import BLUE, GREEN, GREY, SEQUENTIAL, STYLE, robust_limits

DPI = 100
ENCODING = "-crf 20 -threads 1 -flags:v +bitexact -fflags +bitexact -movflags +faststart -f mp4"
TILT_RAD = np.radians(52.0)
TURN_RAD = np.radians(-18.0)


@dataclass(frozen=True)
class FilmFrame:
    """One picture of the film: image (y, x) in electrons; atoms None where the frame was not reconstructed."""

    number: int
    image_e: np.ndarray
    atoms: FrameAtoms | None
    status: str = "ok"


@dataclass(frozen=True)
class FilmScale:
    """What stays the same over the film, so that colours and sizes can be compared between frames."""

    pixel_size_angstrom: float
    image_limits_e: tuple[float, float]
    height_limit_angstrom: float
    exaggeration: float = 2.5


def film_scale(images_e: Iterable[np.ndarray], heights_angstrom: np.ndarray, pixel_size_angstrom: float) -> FilmScale:
    """Scales from a few images and from heights relative to their frames' means (NaN or empty: flat)."""
    finite = np.abs(heights_angstrom[np.isfinite(heights_angstrom)])
    return FilmScale(pixel_size_angstrom, robust_limits(*images_e), float(np.percentile(finite, 99.5)) if finite.size else 1.0)


def write_movie(path: Path, frames: Iterable[np.ndarray], fps: float = 10.0) -> int:
    """H.264 (yuv420p) film from (y, x, 3) uint8 pictures; returns their number. The same pictures give the same bytes.

    An odd side is padded by one row or column, as the format asks for even ones. The file appears when it is whole.
    Raises InputError without frames, or for pictures of another shape or type.
    """
    partial = path.with_name(path.name + ".partial")
    writer, shape, count = None, None, 0
    try:
        for picture in frames:
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or shape not in (None, picture.shape):
                raise InputError(f"{path}: picture {count} is {picture.dtype} {picture.shape}; expected uint8 {shape or '(y, x, 3)'}")
            even = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
            if writer is None:
                shape, writer = picture.shape, _encoder(partial, even.shape, fps)
            writer.send(np.ascontiguousarray(even))
            count += 1
    finally:
        if writer is not None:
            writer.close()
    if count == 0:
        raise InputError(f"{path}: no pictures for a film; check that frames were reconstructed")
    partial.replace(path)
    return count


def _encoder(path: Path, shape: tuple[int, ...], fps: float) -> Generator[None, np.ndarray, None]:
    # One thread and bitexact: x264 splits frames by thread count, and the container would note the encoder's build.
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (shape[1], shape[0]),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=ENCODING.split(),
    )
    writer.send(None)
    return writer


def render_dynamics(
    frames: Iterable[FilmFrame], scale: FilmScale, name: str, last_frame: int, frame_time_ms: float | None
) -> Iterator[np.ndarray]:
    """Pictures (720, 1280, 3) uint8 of the film, one per frame, as the frames come; they are numbered where the frame time is not known."""
    with rc_context(STYLE | {"font.size": 11.0, "axes.labelsize": 11.0, "axes.titlesize": 12.0}):
        stage = _Stage(scale, name, last_frame, frame_time_ms)
    for frame in frames:
        stage.show(frame)
        yield stage.picture()


class _Stage:
    """The figure and its artists: image above left, sheet above right, rms height below."""

    def __init__(self, scale: FilmScale, name: str, last_frame: int, frame_time_ms: float | None) -> None:
        self._scale, self._name = scale, name
        self._step: float
        self._step, self._when, label = (frame_time_ms, "t = {:.4g} ms", "time (ms)") if frame_time_ms else (1, "frame {}", "frame")
        self._figure = Figure(figsize=(12.8, 7.2), dpi=DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self._figure)
        self._image_axes = self._figure.add_axes((0.02, 0.29, 0.355, 0.63))
        self._sheet_axes = self._figure.add_axes((0.385, 0.25, 0.53, 0.69))
        self._course_axes = self._figure.add_axes((0.075, 0.095, 0.84, 0.135))
        self._image_axes.set_axis_off()
        self._sheet_axes.set_axis_off()
        self._title = self._figure.text(0.02, 0.955, "", fontsize=14, weight="bold", parse_math=False)
        self._facts = self._figure.text(0.915, 0.955, "", fontsize=11, ha="right", color="0.25")
        self._absent = self._figure.text(0.65, 0.6, "", ha="center", color=GREY, fontsize=13, parse_math=False)
        self._bonds = LineCollection([], colors="0.55", linewidths=1.0)
        self._sheet_axes.add_collection(self._bonds)
        limit = scale.height_limit_angstrom
        look: dict[str, Any] = {"cmap": SEQUENTIAL, "vmin": -limit, "vmax": limit, "edgecolors": "0.2", "linewidths": 0.3}
        self._points = self._sheet_axes.scatter([], [], c=[], **look)
        self._image: AxesImage | None = None
        self._centre = np.zeros(2)
        bar = self._figure.colorbar(self._points, cax=self._figure.add_axes((0.935, 0.32, 0.011, 0.55)))
        bar.set_label(f"height z (Å), drawn {scale.exaggeration:g} times too large")
        bar.outline.set_visible(False)
        self._course = np.empty((0, 3))
        self._line = self._course_axes.plot([], [], color=GREEN)[0]
        self._dot = self._course_axes.plot([], [], "o", color=BLUE, markersize=5)[0]
        last = max(last_frame, 1) * self._step
        self._course_axes.set(xlim=(0, last), ylim=(0, 0.8 * limit), xlabel=label, ylabel="rms height (Å)")
        self._band = self._course_axes.fill_between([], [], [], color=GREEN, alpha=0.3, linewidth=0)

    def show(self, frame: FilmFrame) -> None:
        """Bring the artists to this frame."""
        self._title.set_text(f"{self._name}   {self._when.format(frame.number * self._step)}")
        self._show_image(frame.image_e)
        self._show_sheet(frame)
        self._show_course(frame)

    def picture(self) -> np.ndarray:
        """What is shown now as (720, 1280, 3) uint8."""
        self._canvas.draw()
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def _show_image(self, image_e: np.ndarray) -> None:
        if self._image is not None:
            self._image.set_data(image_e)
            return
        height, width = (side * self._scale.pixel_size_angstrom for side in image_e.shape)
        low, high = self._scale.image_limits_e
        self._image = self._image_axes.imshow(image_e, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0))
        scale_bar(self._image_axes, width, height)
        reach = 0.63 * max(width, height)
        self._sheet_axes.set(xlim=(-reach, reach), ylim=(-0.73 * reach, 0.73 * reach))
        points_per_angstrom = self._sheet_axes.get_position().width * 12.8 * 72 / (2 * reach)
        self._points.set_sizes([max((0.8 * points_per_angstrom) ** 2, 1.0)])
        self._centre = np.array([width / 2, height / 2])

    def _show_sheet(self, frame: FilmFrame) -> None:
        atoms = frame.atoms
        drawn = atoms is not None and atoms.ids.size > 0
        for artist in (self._points, self._bonds, self._facts):
            artist.set_visible(drawn)
        self._absent.set_text("" if drawn else f"no structure for this frame ({frame.status})")
        if atoms is None or not drawn:
            return
        height = atoms.xyz_angstrom[:, 2] - atoms.xyz_angstrom[:, 2].mean() if atoms.has_heights else np.zeros(atoms.ids.size)
        seen, depth = _project(atoms.xyz_angstrom[:, :2] - self._centre, self._scale.exaggeration * height)
        order = np.argsort(depth)
        self._points.set_offsets(seen[order])
        self._points.set_array(height[order])
        self._bonds.set_segments(seen[frame_bonds(atoms).pairs])
        self._facts.set_text(_facts(atoms))

    def _show_course(self, frame: FilmFrame) -> None:
        rms, sigma, _ = frame_ripple(frame.atoms) if frame.atoms is not None else (None, None, None)
        known = np.array([np.nan if value is None else value for value in (rms, sigma)])
        self._course = np.vstack([self._course, [frame.number * self._step, *known]])
        time, course, spread = self._course.T
        self._line.set_data(time, course)
        self._dot.set_data(time[-1:], course[-1:])
        self._band.set_data(time, course - spread, course + spread)


def _project(xy_angstrom: np.ndarray, z_angstrom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 2) on the screen, seen obliquely without perspective, and the depth (n,), larger nearer the viewer.

    x runs to the right and y towards the viewer as in the image beside it, and z is drawn upwards.
    """
    cos, sin = np.cos(TURN_RAD), np.sin(TURN_RAD)
    across, towards = (xy_angstrom @ np.array([[cos, sin], [-sin, cos]])).T
    screen = np.column_stack([across, z_angstrom * np.sin(TILT_RAD) - towards * np.cos(TILT_RAD)])
    return screen, towards * np.sin(TILT_RAD) + z_angstrom * np.cos(TILT_RAD)


def _facts(atoms: FrameAtoms) -> str:
    medians = [np.median(values[np.isfinite(values)]) if np.isfinite(values).any() else np.nan for values in atoms.sigma_angstrom.T]
    text = f"{atoms.ids.size} atoms   median σ: x {medians[0]:.3f} Å, y {medians[1]:.3f} Å"
    return text + (f", z {medians[2]:.2f} Å" if np.isfinite(medians[2]) else "   heights not determined")
