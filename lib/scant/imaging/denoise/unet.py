"""Denoising by a small U-Net trained on simulated images of the dataset's own optics; the one file that imports PyTorch.

Ronneberger, Fischer and Brox, MICCAI 2015 (LNCS 9351, 234), on variance-stabilised images, predicting the noise (Zhang et al., IEEE
Trans. Image Process. 26, 3142, 2017). It knows what it was shown: a structure that no training image held is its weak point, which is
why `compare_denoisers` looks at vacancies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from scant.errors import ConfigError, DeviceError, InputError
from scant.imaging.denoise.bm3d_filter import check_finite

CHANNELS = (24, 48, 96)
LEARNING_RATE = 2e-3
TILE_PX, HALO_PX = 480, 16
REMEDY = "run `make setup-unet` (PyTorch, optional), or choose another denoise.method"

Floats = npt.NDArray[np.float32]
Weights = Mapping[str, npt.NDArray[Any]]


def torch_device(device: str) -> str:
    """'cpu' or 'gpu' for 'cpu', 'gpu' or 'auto', by what PyTorch can use. Raises DeviceError for 'gpu' where it finds none."""
    torch = _torch()
    usable = torch.cuda.is_available()
    if device == "gpu" and not usable:
        raise DeviceError(
            f"device: gpu was asked for, but PyTorch {torch.__version__} finds none: install its CUDA build, or set `device: auto` or `cpu`"
        )
    return "gpu" if usable and device != "cpu" else "cpu"


def train_unet(
    batches: Iterator[tuple[Floats, Floats]], n_steps: int, seed: int, device: str = "cpu", threads: int = 1
) -> dict[str, npt.NDArray[Any]]:
    """Weights after one step per batch of noisy and clean stabilised images (b, y, x) each, sides multiples of 4.

    device: 'cpu' or 'gpu'. The same seed and batches give the same weights on the same device and threads. Raises ConfigError without
    PyTorch.
    """
    torch = _torch()
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    place = "cuda" if device == "gpu" else "cpu"
    network = _network(torch).to(place).train()
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=n_steps)
    for _, (noisy, clean) in zip(range(n_steps), batches):
        given, wanted = (torch.from_numpy(np.ascontiguousarray(part, np.float32))[:, None].to(place) for part in (noisy, clean))
        level = given.mean(dim=(2, 3), keepdim=True)
        loss = ((network(given - level) - (wanted - level)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def unet_denoise(image: npt.NDArray, weights: Weights, device: str = "cpu") -> Floats:
    """Denoised image (y, x) float32 of a stabilised image (noise sd 1), in tiles that overlap by more than the network's reach.

    Raises InputError for pixels that are not finite or weights of another network, ConfigError without PyTorch.
    """
    check_finite(image)
    torch = _torch()
    torch.set_num_threads(1)
    network = _network(torch)
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    except RuntimeError as error:
        raise InputError(f"the U-Net's weights do not fit this network ({str(error).splitlines()[0]}); train it again") from error
    network = network.to("cuda" if device == "gpu" else "cpu").eval()
    level = float(np.mean(image))
    height, width = image.shape
    padded = np.pad(np.asarray(image - level, np.float32), [(HALO_PX, HALO_PX + -side % 4) for side in image.shape], mode="reflect")
    out = np.empty((height, width), np.float32)
    with torch.no_grad():
        for y in range(0, height, TILE_PX):
            for x in range(0, width, TILE_PX):
                tile = padded[y : y + TILE_PX + 2 * HALO_PX, x : x + TILE_PX + 2 * HALO_PX]
                rows, columns = (side - side % 4 for side in tile.shape)
                given = torch.from_numpy(np.ascontiguousarray(tile[:rows, :columns]))[None, None].to(next(network.parameters()).device)
                found = network(given)[0, 0].cpu().numpy()
                target = out[y : y + TILE_PX, x : x + TILE_PX]
                target[:] = found[HALO_PX : HALO_PX + target.shape[0], HALO_PX : HALO_PX + target.shape[1]]
    return out + np.float32(level)


def _torch() -> Any:
    try:
        import torch
    except ImportError as missing:
        raise ConfigError(f"the denoising method 'unet' needs PyTorch, which is not installed: {REMEDY}") from missing
    return torch


def _network(torch: Any) -> Any:
    """Two levels down and up, two 3 x 3 convolutions each, skips joined; the input less what the network calls noise."""
    nn = torch.nn

    def block(n_in: int, n_out: int) -> Any:
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1, padding_mode="reflect"), nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1, padding_mode="reflect"), nn.ReLU(),
        )  # fmt: skip

    class UNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a, b, c = CHANNELS
            self.first, self.second, self.bottom = block(1, a), block(a, b), block(b, c)
            self.raise_second, self.raise_first = nn.ConvTranspose2d(c, b, 2, 2), nn.ConvTranspose2d(b, a, 2, 2)
            self.join_second, self.join_first = block(2 * b, b), block(2 * a, a)
            self.noise = nn.Conv2d(a, 1, 1)

        def forward(self, image: Any) -> Any:
            pool = nn.functional.max_pool2d
            fine = self.first(image)
            middle = self.second(pool(fine, 2))
            coarse = self.bottom(pool(middle, 2))
            middle = self.join_second(torch.cat([self.raise_second(coarse), middle], dim=1))
            fine = self.join_first(torch.cat([self.raise_first(middle), fine], dim=1))
            return image - self.noise(fine)

    return UNet()
