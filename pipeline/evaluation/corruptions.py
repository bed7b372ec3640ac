"""Corrupted images, to measure how much accuracy a model loses on them: 14 corruptions in five severities.

After Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations", and
Michaelis et al. 2019 for detection, written anew from the definitions. Nothing moves, so boxes and masks stay valid:
there is no elastic transform, and every blur is centred. Needs numpy and OpenCV only: devices have no torch.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from pipeline.errors import PipelineError
from pipeline.preprocess import Array, Image

Corruption = Callable[[Image, int, np.random.Generator], Array | Image]  # (image, severity - 1, rng) -> 0 to 255
Levels = tuple[float, float, float, float, float]  # one per severity

SEVERITIES: Final = range(1, 6)
REFERENCE_SIDE_PX: Final = 512  # lengths below are pixels of an image whose shorter side this is, and grow with it


def corrupt(image: Image, name: str, severity: int, seed: int) -> Image:
    """Corrupt an image; equal arguments give equal pixels.

    Blurs, fog, snow, rain and blocks scale with the shorter side, so that a small and a large version of an image look
    equally bad. Noise and JPEG act on single pixels and on 8 x 8 blocks at any size, as sensors and files do.

    Args:
        image: (H, W, 3) uint8 RGB, both sides at least 10; it is left as it is.
        name: One of `CORRUPTIONS`.
        severity: 1 (visible) to 5 (hard, though a person still recognises what is shown).
        seed: Of the noise, the directions and the weather; give every image its own.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        PipelineError: for an unknown name, or a severity outside 1 to 5.

    """
    if name not in CORRUPTIONS:
        raise PipelineError(f"corruption {name!r} is unknown; the known ones are {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise PipelineError(f"severity of {name} must be one of {', '.join(map(str, SEVERITIES))}, got {severity!r}")
    rng = np.random.default_rng([seed % 2**32, zlib.crc32(name.encode()), severity])
    corrupted = CORRUPTIONS[name](image, severity - 1, rng)
    return np.clip(np.rint(corrupted), 0, 255).astype(np.uint8)


GAUSSIAN_SIGMA: Final[Levels] = (0.05, 0.08, 0.12, 0.18, 0.26)  # of the range


def _gaussian_noise(image: Image, level: int, rng: np.random.Generator) -> Array:
    """Add a sensor's read-out noise."""
    return image + np.float32(255 * GAUSSIAN_SIGMA[level]) * rng.standard_normal(image.shape, np.float32)


SHOT_PHOTONS: Final[Levels] = (60, 30, 16, 9, 5)  # that make a full value
QUANTILES: Final = 1024


def _shot_noise(image: Image, level: int, rng: np.random.Generator) -> Array:
    """Count photons: Poisson noise, drawn as quantiles from a table, eight times faster than `rng.poisson`."""
    photons = SHOT_PHOTONS[level]
    drawn = rng.integers(QUANTILES, size=image.shape, dtype=np.uint16) + np.int32(QUANTILES) * image
    return _poisson_quantiles(photons).ravel()[drawn] * np.float32(255 / photons)


def _poisson_quantiles(photons: float) -> Array:
    """Tabulate the photon counts of every value, evenly spaced in probability; (256, q)."""
    mean = np.maximum(photons * np.arange(256)[:, None] / 255, 1e-9)
    counts = np.arange(math.ceil(photons + 6 * math.sqrt(photons)) + 4)
    log_factorial = np.array([math.lgamma(count + 1) for count in counts])
    cumulative = np.exp(counts * np.log(mean) - mean - log_factorial).cumsum(axis=1)  # (256, counts)
    probability = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.stack([np.searchsorted(row, probability) for row in cumulative]).astype(np.float32)


IMPULSE_SHARE: Final[Levels] = (0.02, 0.04, 0.08, 0.14, 0.22)  # of all values


def _impulse_noise(image: Image, level: int, rng: np.random.Generator) -> Image:
    """Set values to 0 or 255, each half of the time: salt and pepper."""
    draw, half = rng.random(image.shape, np.float32), IMPULSE_SHARE[level] / 2
    return np.where(draw < half, 0, np.where(draw > 1 - half, 255, image)).astype(np.uint8)


DEFOCUS_RADIUS_PX: Final[Levels] = (3, 4.5, 6.5, 9, 12)


def _defocus_blur(image: Image, level: int, _: np.random.Generator) -> Array:
    """Average over a disc, what a lens out of focus makes of a point."""
    return _filtered(image.astype(np.float32), _segment(_scaled(DEFOCUS_RADIUS_PX, level, image, least=0.7), 0, 0))


MOTION_LENGTH_PX: Final[Levels] = (8, 14, 22, 32, 44)


def _motion_blur(image: Image, level: int, rng: np.random.Generator) -> Array:
    """Average along a line in some direction."""
    length = _scaled(MOTION_LENGTH_PX, level, image, least=2)
    return _filtered(image.astype(np.float32), _segment(0.5, length, rng.uniform(0, math.pi)))


ZOOM_SHIFT_PX: Final[Levels] = (5, 9, 14, 20, 27)  # of the middle of the longer borders, to either side


def _zoom_blur(image: Image, level: int, _: np.random.Generator) -> Array:
    """Average over zooms in and out about the centre: of two, then of two half as far apart, and so on."""
    height, width = image.shape[:2]
    zoom = 2 * _scaled(ZOOM_SHIFT_PX, level, image, least=0.5) / min(height, width)  # logarithmic
    blurred, corner = image.astype(np.float32), math.hypot(height, width) / 2
    for halving in range(1, max(math.ceil(math.log2(zoom * corner)), 1) + 1):  # 2^n zooms, a pixel apart
        factor = math.exp(zoom / 2**halving)
        blurred = np.float32(0.5) * (_zoomed(blurred, factor) + _zoomed(blurred, 1 / factor))
    return blurred


FOG_DENSITY: Final[Levels] = (0.3, 0.45, 0.6, 0.72, 0.83)  # share of the light that is the fog's where it is thickest
FOG_LIGHT: Final = 225


def _fog(image: Image, level: int, rng: np.random.Generator) -> Array:
    """Blend into light grey, here more and there less: a plasma fractal."""
    density = np.float32(FOG_DENSITY[level]) * (0.5 + 0.5 * _plasma(image, rng))
    return _blended(image.astype(np.float32), FOG_LIGHT, density)


SNOW_SHARE: Final[Levels] = (0.02, 0.035, 0.055, 0.08, 0.11)  # of the places for a flake
SNOW_WHITENING: Final[Levels] = (0.1, 0.18, 0.26, 0.34, 0.42)
SNOW_FLAKE_PX: Final[Levels] = (4, 4.5, 5, 5.5, 6)
SNOW_STREAK_PX: Final[Levels] = (6, 8, 10, 12, 14)


def _snow(image: Image, level: int, rng: np.random.Generator) -> Array:
    """Whiten, and draw flakes that fall in one direction."""
    size = _scaled(SNOW_FLAKE_PX, level, image, least=1)
    streak = _segment(0.5, _scaled(SNOW_STREAK_PX, level, image, least=1.5), rng.uniform(0.25, 0.75) * math.pi)
    flakes = _filtered(_particles(image, size, SNOW_SHARE[level], rng), streak)[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    white = np.maximum(image, np.minimum(1.5 * grey + 127, 255))  # (H, W, 3)
    return _blended(_blended(image.astype(np.float32), white, SNOW_WHITENING[level]), 255, np.minimum(2 * flakes, 1))


RAIN_SHARE: Final[Levels] = (0.004, 0.007, 0.011, 0.016, 0.022)  # of the places for a drop
RAIN_DARKENING: Final[Levels] = (0.05, 0.12, 0.2, 0.28, 0.36)
RAIN_WIDTH_PX: Final[Levels] = (4, 4, 4, 4, 4)
RAIN_STREAK_PX: Final[Levels] = (24, 32, 40, 48, 56)
RAIN_LIGHT: Final = 200


def _rain(image: Image, level: int, rng: np.random.Generator) -> Array:
    """Darken, and draw thin light streaks, close to vertical."""
    width = _scaled(RAIN_WIDTH_PX, level, image, least=1)
    length = _scaled(RAIN_STREAK_PX, level, image, least=3)
    streak = _segment(0.5, length, rng.uniform(0.4, 0.6) * math.pi)
    drops = _filtered(_particles(image, width, RAIN_SHARE[level], rng), streak)[..., None] * (length / width)
    return _blended(image * np.float32(1 - RAIN_DARKENING[level]), RAIN_LIGHT, np.minimum(0.7 * drops, 0.8))


BRIGHTNESS_ADDED: Final[Levels] = (0.1, 0.2, 0.3, 0.4, 0.5)


def _brightness(image: Image, level: int, _: np.random.Generator) -> Array:
    """Add to the value of HSV."""
    hsv = _to_hsv(image)
    hsv[..., 2] = np.minimum(hsv[..., 2] + np.float32(BRIGHTNESS_ADDED[level]), 1)
    return _from_hsv(hsv)


CONTRAST_KEPT: Final[Levels] = (0.6, 0.45, 0.33, 0.23, 0.15)


def _contrast(image: Image, level: int, _: np.random.Generator) -> Array:
    """Pull every value towards its channel's mean."""
    return _blended(image.astype(np.float32), image.mean(axis=(0, 1)).astype(np.float32), 1 - CONTRAST_KEPT[level])


PIXELATE_BLOCK_PX: Final[Levels] = (5, 7, 10, 13, 18)


def _pixelate(image: Image, level: int, _: np.random.Generator) -> Image:
    """Show blocks of their mean colour."""
    blocks = _grid(image, _scaled(PIXELATE_BLOCK_PX, level, image, least=1.25))
    small = cv2.resize(image, blocks, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)


JPEG_QUALITY: Final = (30, 22, 16, 11, 7)


def _jpeg(image: Image, level: int, _: np.random.Generator) -> Image:
    """Compress as JPEG and decode."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[level]]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


SATURATION_GAIN: Final[Levels] = (1.2, 1.45, 1.8, 2.5, 5)
SATURATION_ADDED: Final[Levels] = (0.02, 0.04, 0.06, 0.09, 0.12)


def _saturate(image: Image, level: int, _: np.random.Generator) -> Array:
    """Multiply the saturation of HSV and add to it; unlike the source, no severity takes colour away."""
    hsv = _to_hsv(image)
    hsv[..., 1] = np.minimum(hsv[..., 1] * SATURATION_GAIN[level] + SATURATION_ADDED[level], 1)
    return _from_hsv(hsv)


def _scaled(lengths_px: Levels, level: int, image: Image, least: float) -> float:
    """Scale a length to the image; where severity 1 would fall below `least` pixels, all severities grow alike."""
    return lengths_px[level] * max(min(image.shape[:2]) / REFERENCE_SIDE_PX, least / lengths_px[0])


def _segment(radius: float, length: float, angle: float) -> Array:
    """Draw a centred line with round ends, a disc at length 0, as an antialiased kernel that sums to 1."""
    reach = math.ceil(radius + length / 2)
    x = np.arange(-reach, reach + 1, dtype=np.float32)
    along = np.abs(x * math.cos(angle) + x[:, None] * math.sin(angle))
    across = x[:, None] * math.cos(angle) - x * math.sin(angle)
    distance = np.hypot(np.maximum(along - length / 2, 0), across)
    kernel = np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)  # (k, k)
    return kernel / kernel.sum()


def _filtered(image: Array, kernel: Array) -> Array:
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def _zoomed(image: Array, factor: float) -> Array:
    height, width = image.shape[:2]
    x, y = (1 - factor) * (width - 1) / 2, (1 - factor) * (height - 1) / 2
    matrix = np.array([[factor, 0, x], [0, factor, y]])
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _grid(image: Image, cell_px: float) -> tuple[int, int]:
    """Count the cells that fit the image: width, height."""
    height, width = image.shape[:2]
    return max(round(width / cell_px), 1), max(round(height / cell_px), 1)


def _plasma(image: Image, rng: np.random.Generator) -> Array:
    """Draw clouds: noise on five grids, each twice as fine as the one before and 0.6 as strong; (H, W, 1) in [0, 1]."""
    clouds = np.zeros(image.shape[:2], np.float32)
    for octave in range(5):
        columns, rows = _grid(image, min(image.shape[:2]) / 2 ** (octave + 1))
        noise = rng.random((rows + 1, columns + 1), np.float32)
        clouds += np.float32(0.6**octave) * cv2.resize(noise, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.normalize(clouds, None, 0, 1, cv2.NORM_MINMAX)[..., None]


def _particles(image: Image, size_px: float, share: float, rng: np.random.Generator) -> Array:
    """Fill this share of a grid's cells, at random; (H, W) in [0, 1], soft edges."""
    columns, rows = _grid(image, size_px)
    filled = (rng.random((rows, columns), np.float32) < share).astype(np.float32)
    return cv2.resize(filled, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _blended(image: Array, other: Array | float, weight: Array | float) -> Array:
    """Move the image towards another by a weight in [0, 1], a number or (H, W, 1)."""
    return image + (other - image) * weight


def _to_hsv(image: Image) -> Array:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)  # (H, W, 3): degrees, [0, 1], [0, 1]


def _from_hsv(hsv: Array) -> Array:
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255


CORRUPTIONS: Final[dict[str, Corruption]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "fog": _fog,
    "snow": _snow,
    "rain": _rain,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
    "saturate": _saturate,
}
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "motion_blur", "zoom_blur"),
    "weather": ("fog", "snow", "rain", "brightness"),
    "digital": ("contrast", "pixelate", "jpeg", "saturate"),
}
