"""The film in short as an animated GIF, which mail, slides and web pages show without a player."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from scant.errors import InputError

GIF_FRAMES = 45  # as the film of Zhang et al.
MOST_BYTES = 10_000_000
WIDTHS_PX = (800, 640, 480, 320)
COLOURS = 255
PALETTE_PICTURES = 3


def pass_on(pictures: Iterable[np.ndarray], chosen: Collection[int], kept: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The pictures (y, x, 3) uint8 as they come; those whose numbers are chosen are also put into `kept`, 800 px wide at most."""
    for number, picture in enumerate(pictures):
        if number in chosen:
            kept.append(np.asarray(_narrowed(Image.fromarray(picture), WIDTHS_PX[0])))
        yield picture


def write_gif(path: Path, pictures: Sequence[np.ndarray], fps: float = 10.0) -> int:
    """Endless GIF from (y, x, 3) uint8 pictures; returns its bytes. The same pictures give the same bytes.

    It is made narrower, from 800 down to 320 px, until it has at most 10 MB. All pictures share one palette, so that colours do not
    flicker. The file appears when it is whole. Raises InputError without pictures.
    """
    if not len(pictures):
        raise InputError(f"{path}: no pictures for an animation; check that frames could be corrected")
    partial = path.with_name(path.name + ".partial")
    try:
        for width in WIDTHS_PX:
            _encode(partial, [_narrowed(Image.fromarray(picture), width) for picture in pictures], fps)
            if partial.stat().st_size <= MOST_BYTES:
                break
        size = partial.stat().st_size
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return size


def _narrowed(image: Image.Image, width_px: int) -> Image.Image:
    if image.width <= width_px:
        return image
    return image.resize((width_px, round(image.height * width_px / image.width)), Image.Resampling.LANCZOS)


def _encode(path: Path, images: list[Image.Image], fps: float) -> None:
    spread = np.unique(np.linspace(0, len(images) - 1, PALETTE_PICTURES).astype(int))
    palette = Image.fromarray(np.vstack([np.asarray(images[n]) for n in spread])).quantize(COLOURS)
    # Without dithering: its noise would double the size of smooth areas.
    indexed = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    indexed[0].save(path, format="GIF", save_all=True, append_images=indexed[1:], duration=round(1000 / fps), loop=0, optimize=False)
