import os
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data.scenes import make_scene
from pipeline.errors import PipelineError
from pipeline.evaluation.corruptions import CORRUPTIONS, KINDS, SEVERITIES, corrupt
from pipeline.preprocess import Image

RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "fog", "snow", "rain")
every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)
every_severity = pytest.mark.parametrize("severity", SEVERITIES)


def scene(size_px: int = 128) -> Image:
    return make_scene(0, "test", 3, size_px).image


def textured(height: int, width: int, grey: bool) -> Image:
    values = np.random.default_rng(0).integers(40, 200, (height, width, 1 if grey else 3), dtype=np.uint8)
    return np.repeat(values, 3, axis=2) if grey else values


def flat(value: int) -> Image:
    return np.full((128, 128, 3), value, dtype=np.uint8)


def difference(image: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(np.abs(image.astype(np.float64) - other).mean())


def test_corruptions__every_one_is_of_one_kind() -> None:
    assert len(CORRUPTIONS) == 14
    assert sorted(name for names in KINDS.values() for name in names) == sorted(CORRUPTIONS)


@every_corruption
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [(10, 10), (11, 37), (97, 64), (301, 10)])
def test_corrupt__keeps_shape_type_and_input(name: str, grey: bool, size: tuple[int, int]) -> None:
    image = textured(*size, grey)
    before = image.copy()
    for severity in SEVERITIES:
        corrupted = corrupt(image, name, severity, seed=0)
        assert corrupted.shape == image.shape
        assert corrupted.dtype == np.uint8
        assert not np.shares_memory(corrupted, image)
        np.testing.assert_array_equal(image, before)


@every_corruption
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [(10, 10), (11, 37), (128, 128)])
def test_corrupt__least_severity_changes_the_image(name: str, grey: bool, size: tuple[int, int]) -> None:
    image = textured(*size, grey)
    assert difference(corrupt(image, name, 1, seed=0), image) > 0.5


@pytest.mark.parametrize("value", [0, 255])
def test_corrupt__noise_does_not_wrap_around(value: int) -> None:
    assert difference(corrupt(flat(value), "gaussian_noise", 5, seed=0), flat(value)) < 40


@every_corruption
def test_corrupt__is_deterministic_in_seed(name: str) -> None:
    first = corrupt(scene(), name, 3, seed=7)
    np.testing.assert_array_equal(corrupt(scene(), name, 3, seed=7), first)
    assert np.array_equal(corrupt(scene(), name, 3, seed=8), first) == (name not in RANDOM)


def test_corrupt__draws_anew_for_each_severity() -> None:
    noise = [corrupt(flat(128), "gaussian_noise", severity, seed=0).ravel().astype(float) for severity in (1, 2)]
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05


def test_corrupt__is_the_same_in_every_process() -> None:
    code = (
        "import numpy as np; from pipeline.evaluation.corruptions import corrupt;"
        "print(corrupt(np.full((10, 10, 3), 100, np.uint8), 'gaussian_noise', 1, 0).tolist())"
    )
    environment = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    outputs = [subprocess.check_output([sys.executable, "-c", code], env=variables) for variables in environment]
    assert outputs[0] == outputs[1]


@every_corruption
@pytest.mark.parametrize("size_px", [128, 320])
def test_corrupt__grows_with_severity(name: str, size_px: int) -> None:
    image = scene(size_px)
    differences = [difference(corrupt(image, name, severity, seed=0), image) for severity in SEVERITIES]
    assert np.diff(differences).min() > 0, differences
    assert differences[4] > 1.2 * differences[0], differences


@pytest.mark.parametrize("name", ["defocus_blur", "zoom_blur", "pixelate", "fog", "snow", "rain"])
@every_severity
def test_corrupt__small_and_large_images_suffer_alike(name: str, severity: int) -> None:
    small = scene(128)
    large = cv2.resize(small, (640, 640), interpolation=cv2.INTER_CUBIC)
    shrunk = cv2.resize(corrupt(large, name, severity, seed=0), (128, 128), interpolation=cv2.INTER_AREA)
    corrupted = corrupt(small, name, severity, seed=0)
    assert difference(shrunk, small) == pytest.approx(difference(corrupted, small), rel=0.2)
    assert difference(shrunk, corrupted) < 0.5 * difference(corrupted, small)


def test_corrupt__fog_is_the_same_cloud_at_every_size() -> None:
    small, large = (corrupt(np.zeros((side, side, 3), np.uint8), "fog", 5, seed=0) for side in (128, 640))
    shrunk = cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
    assert difference(shrunk, small) < 0.1 * small.std()


@pytest.mark.parametrize("name", KINDS["blur"])
@pytest.mark.parametrize("shape", [(128, 128), (127, 180)])
@every_severity
def test_corrupt__blur_moves_nothing(name: str, shape: tuple[int, int], severity: int) -> None:
    image = np.zeros((*shape, 3), dtype=np.uint8)
    image[30:37, 82:89] = 255  # centre (33, 85)
    for seed in range(3):
        blurred = corrupt(image, name, severity, seed)[..., 0].astype(np.float64)
        rows, columns = np.indices(shape)
        centre = [(blurred * rows).sum() / blurred.sum(), (blurred * columns).sum() / blurred.sum()]
        np.testing.assert_allclose(centre, [33, 85], atol=0.5)
        assert difference(blurred, image[..., 0]) > 0.01
        assert blurred.sum() == pytest.approx(255 * 49, rel=0.03)


@pytest.mark.parametrize("name", [*KINDS["blur"], "pixelate", "jpeg", "contrast"])
def test_corrupt__flat_image_stays_flat(name: str) -> None:
    np.testing.assert_allclose(corrupt(flat(100), name, 5, seed=0), 100, atol=4 if name == "jpeg" else 1)


def test_corrupt__gaussian_noise_has_the_same_deviation_everywhere() -> None:
    for value in (100, 150):
        noise = corrupt(flat(value), "gaussian_noise", 1, seed=0) - float(value)
        assert abs(noise.mean()) < 0.5
        assert noise.std() == pytest.approx(255 * 0.05, rel=0.02)


@pytest.mark.parametrize(("severity", "photons"), [(1, 60), (3, 16), (5, 5)])
@pytest.mark.parametrize("value", [20, 60])
def test_corrupt__shot_noise_has_the_moments_of_poisson(severity: int, photons: int, value: int) -> None:
    noisy = corrupt(flat(value), "shot_noise", severity, seed=0).astype(np.float64)
    assert noisy.mean() == pytest.approx(value, rel=0.03)
    assert noisy.var() == pytest.approx(value * 255 / photons, rel=0.06)


def test_corrupt__impulse_noise_leaves_most_values() -> None:
    noisy = corrupt(flat(100), "impulse_noise", 5, seed=0)
    shares = [(noisy == value).mean() for value in (0, 100, 255)]
    np.testing.assert_allclose(shares, [0.11, 0.78, 0.11], atol=0.01)


@pytest.mark.parametrize(("severity", "blocks"), [(1, (51, 102)), (5, (14, 28))])
def test_corrupt__pixelate_shows_blocks(severity: int, blocks: tuple[int, int]) -> None:
    pixelated = corrupt(textured(64, 128, grey=False), "pixelate", severity, seed=0)
    assert tuple(np.unique(pixelated, axis=axis).shape[axis] for axis in (0, 1)) == blocks


def test_corrupt__brightness_raises_the_mean() -> None:
    means = [scene().mean(), *(corrupt(scene(), "brightness", severity, seed=0).mean() for severity in SEVERITIES)]
    assert np.diff(means).min() > 5


def test_corrupt__contrast_lowers_the_deviation_and_keeps_the_mean() -> None:
    images = [scene(), *(corrupt(scene(), "contrast", severity, seed=0) for severity in SEVERITIES)]
    assert np.diff([image.std(axis=(0, 1)).mean() for image in images]).max() < -0.5
    np.testing.assert_allclose([image.mean() for image in images], images[0].mean(), atol=0.5)


def test_corrupt__saturate_raises_the_saturation() -> None:
    images = [scene(), *(corrupt(scene(), "saturate", severity, seed=0) for severity in SEVERITIES)]
    assert np.diff([cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1].mean() for image in images]).min() > 0


def test_corrupt__jpeg_keeps_red_red() -> None:
    image = flat(0)
    image[..., 0] = 200
    np.testing.assert_allclose(corrupt(image, "jpeg", 1, seed=0), image, atol=12)


@pytest.mark.parametrize(("name", "severity"), [("jpg", 1), ("", 3), ("JPEG", 5)])
def test_corrupt__unknown_name_lists_the_known(name: str, severity: int) -> None:
    with pytest.raises(PipelineError, match=r"gaussian_noise, .*saturate"):
        corrupt(scene(), name, severity, seed=0)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_corrupt__severity_out_of_range_lists_the_known(severity: int) -> None:
    with pytest.raises(PipelineError, match=rf"jpeg must be one of 1, 2, 3, 4, 5, got {severity}"):
        corrupt(scene(), "jpeg", severity, seed=0)
