"""The U-Net learns from simulated images, on the CPU and in little time; what it needs is said when it is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scant.errors import ConfigError, DeviceError, InputError
from scant.imaging.denoise.anscombe import destabilise
from scant.imaging.denoise.unet import torch_device, train_unet, unet_denoise
from scant.physics.lattice import GRAPHENE
from scant.physics.optics import Optics
from scant.rng import stream
from scant.stages.training import PairSettings, noisy_and_clean, scene, scene_image, training_batches

SETTINGS = PairSettings(GRAPHENE, Optics(80.0, -130000.0, -45.0, 10.0, 52.2), 0.2, 320.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    pytest.importorskip("torch", reason="PyTorch is not installed: `make setup-unet`")
    return train_unet(training_batches(SETTINGS, 8, seed=1), 40, seed=1)


def frame(number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(7, "test-unet", number)
    return noisy_and_clean(scene_image(scene(SETTINGS, rng, 2), SETTINGS, rng), SETTINGS, 1.0, rng)


def test_the_clean_image_is_what_the_inverse_takes_back():
    rng = stream(7, "test-unet", 0)
    relative = scene_image(scene(SETTINGS, rng, 2), SETTINGS, rng)
    noisy, clean = noisy_and_clean(relative, SETTINGS, 1.0, rng)
    np.testing.assert_allclose(destabilise(clean, read_noise_e=0.5, excess_noise=1.0), relative * 320.0, atol=0.02)
    assert (noisy - clean).std() == pytest.approx(1.0, abs=0.02)
    assert abs((noisy - clean).mean()) < 0.03


def test_noise_goes_after_forty_steps(weights):
    """Measured 8 dB after 40 steps, 13 dB after 800."""
    noisy, clean = frame(3)
    denoised = unet_denoise(noisy, weights)
    assert denoised.shape == noisy.shape
    assert 10 * np.log10(((noisy - clean) ** 2).mean() / ((denoised - clean) ** 2).mean()) > 5


def test_training_again_gives_the_same_weights_bit_by_bit(weights):
    again = train_unet(training_batches(SETTINGS, 8, seed=1), 3, seed=1)
    for name, value in train_unet(training_batches(SETTINGS, 8, seed=1), 3, seed=1).items():
        np.testing.assert_array_equal(value, again[name])


def test_a_gpu_that_pytorch_has_not_is_refused_and_auto_takes_what_there_is():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: `make setup-unet`")
    assert torch_device("cpu") == "cpu"
    if torch.cuda.is_available():
        assert torch_device("gpu") == torch_device("auto") == "gpu"
    else:
        assert torch_device("auto") == "cpu"
        with pytest.raises(DeviceError, match=r"PyTorch .* finds none"):
            torch_device("gpu")


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives(weights):
    if torch_device("auto") != "gpu":
        pytest.skip("PyTorch finds no GPU")
    noisy, _ = frame(5)
    np.testing.assert_allclose(unet_denoise(noisy, weights, "gpu"), unet_denoise(noisy, weights), atol=0.02)


def test_tiles_leave_no_seam(weights, monkeypatch):
    noisy, _ = frame(4)
    whole = unet_denoise(noisy, weights)
    monkeypatch.setattr("scant.imaging.denoise.unet.TILE_PX", 64)
    np.testing.assert_allclose(unet_denoise(noisy, weights), whole, atol=0.02)


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(InputError, match="train it again"):
        unet_denoise(np.ones((32, 32), np.float32), {"first.0.weight": np.zeros(3)})


def test_missing_pytorch_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="`make setup-unet`"):
        unet_denoise(np.ones((32, 32), np.float32), {})
