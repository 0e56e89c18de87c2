"""Draws one house number as a street photograph would show it: the pictures of ``housenumbers``.

Everything random comes from the generator that is passed in, so a picture depends on nothing else:
not on the pictures before it and not on how many processes draw.
"""

import colorsys
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter, ImageFont

VERSION = 1  # part of the cache key and digest: raise it when a picture changes
SIDE = 32  # of the finished picture, in pixels, as in SVHN
CANVAS = 80  # side of the wall that the number is painted on before it is photographed
DIGIT = 36  # height of a digit on the canvas
CROP = 50  # side of the part of the canvas that becomes the picture: digits fill about 70 % of it

# From matplotlib's own folder: always there and read by path, so no font cache is built.
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono"),
    *("DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)

# Streets are numbered from 1, so low first digits are common (Benford's law), in SVHN too.
FIRST_DIGIT = np.log10(np.arange(2, 11))  # cumulative share of 1 to 9
LENGTHS = np.array([0.12, 0.50, 0.80, 0.95, 1])  # cumulative share of one to five digits
HUES = (0.02, 0.05, 0.09, 0.12, 0.4, 0.6, 0.63)  # brick, wood, brass, sand, green, blues
ACROSS = np.linspace(-1, 1, CANVAS, dtype=np.float32)


def draw_series(seed: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures ``start`` to ``stop`` (not included) of the series that ``seed`` names.

    Returns:
        uint8 (stop - start, 32, 32, 3) pictures and uint8 (stop - start,) labels.
    """
    drawn = [draw(np.random.default_rng([seed, index])) for index in range(start, stop)]
    images, labels = zip(*drawn, strict=True)
    return np.stack(images), np.array(labels, dtype=np.uint8)


def draw(rng: Generator) -> tuple[np.ndarray, int]:
    """One picture: a digit in the middle, the rest of its number at the sides.

    Returns:
        The picture, uint8 (32, 32, 3), red, green, blue; and the digit in its middle, 0 to 9.
    """
    number, middle = _number(rng)
    mask = _lettering(rng, number, middle)
    return _photograph(rng, _paint(rng, mask)), number[middle]


def _number(rng: Generator) -> tuple[list[int], int]:
    """A house number as its digits, and the place of the digit that is the label."""
    length = 1 + int(np.searchsorted(LENGTHS, rng.random()))
    first = 1 + int(np.searchsorted(FIRST_DIGIT, rng.random()))
    rest = rng.integers(0, 10, length - 1).tolist()
    return [first, *rest], int(rng.integers(length))


def _lettering(rng: Generator, number: list[int], middle: int) -> np.ndarray:
    """How much of each canvas pixel the digits cover: float32 (80, 80) in 0..1."""
    font = _font(FONTS[int(rng.integers(len(FONTS)))])
    image = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(image)
    spacing = rng.uniform(0.9, 1.25)
    steps = [spacing * font.getlength(str(digit)) for digit in number]
    slope = rng.normal(0, 0.06)  # numbers are seldom screwed to the wall quite level
    left = (CANVAS - steps[middle]) / 2 - sum(steps[:middle])
    for digit, step in zip(number, steps, strict=True):
        x = left + step / 2
        y = (CANVAS + DIGIT) / 2 + slope * (x - CANVAS / 2) + rng.normal(0, 0.5)
        if -DIGIT < x < CANVAS + DIGIT:
            pen.text((x, y), str(digit), fill=255, font=font, anchor="ms")
        left += step
    if rng.random() < 0.25:  # a thicker stroke: plastic letters, worn paint
        image = image.filter(ImageFilter.MaxFilter(3))
    return np.asarray(image, dtype=np.float32) / 255


def _paint(rng: Generator, mask: np.ndarray) -> np.ndarray:
    """The wall with the number on it, in daylight: float32 (80, 80, 3), about 0..1."""
    wall, text = _colours(rng)
    canvas = np.empty((CANVAS, CANVAS, 3), dtype=np.float32)
    canvas[:] = wall
    _surroundings(rng, canvas)
    if rng.random() < 0.3:  # raised digits throw a shadow, or catch the light
        shift = tuple(int(step) for step in rng.integers(-3, 4, 2))
        shadow = np.roll(mask, shift, axis=(0, 1))[..., None]
        sign = 1 if rng.random() < 1 / 3 else -1
        canvas += shadow * np.float32(sign * rng.uniform(0.1, 0.35))
    canvas += mask[..., None] * (text - canvas)
    stains = rng.normal(0, rng.uniform(0, 0.09), (5, 5)).astype(np.float32)
    canvas += _enlarged(stains)[..., None]
    tilt_x, tilt_y = rng.normal(0, 0.12, 2).astype(np.float32)
    canvas *= (1 + tilt_x * ACROSS[None, :] + tilt_y * ACROSS[:, None])[..., None]
    return canvas


def _colours(rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours of the wall and of the number on it, float32 (3,), from faint contrast to stark."""
    contrast = 0.1 + 0.6 * rng.beta(1.1, 1.8)
    darker = rng.uniform(0.05, 0.95 - contrast)
    pair = (darker, darker + contrast)
    wall, text = pair if rng.random() < 0.5 else pair[::-1]
    return _colour(rng, wall), _colour(rng, text)


def _colour(rng: Generator, luma: float) -> np.ndarray:
    """A colour of the given brightness (BT.601, 0..1); most are greyish, some are paint."""
    vivid = rng.uniform(0.3, 0.8) if rng.random() < 0.2 else rng.beta(1, 8)
    hue = HUES[int(rng.integers(len(HUES)))] + rng.normal(0, 0.03)
    tint = np.array(colorsys.hsv_to_rgb(hue % 1, vivid, 1), dtype=np.float32)
    tint -= tint @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.float32(luma) + tint * np.float32(min(luma, 1 - luma) * 1.6)


def _surroundings(rng: Generator, canvas: np.ndarray) -> None:
    """Draws over the wall what stands around a number: the end of its plaque, joints, a frame."""
    kind = rng.random()
    half = CANVAS / 2
    if kind < 0.3:  # a plaque: beyond it begins another colour
        outside = _colour(rng, rng.uniform(0.05, 0.95))
        top, bottom, left, right = half + rng.uniform(21, 50, 4)
        if rng.random() < 0.25:
            rows, columns = np.ogrid[-half:half, -half:half]
            beyond = (rows / (top - half + 6)) ** 2 + (columns / (right - half + 9)) ** 2 > 1
            canvas[beyond] = outside
        else:
            canvas[: max(0, int(CANVAS - top))] = outside
            canvas[int(bottom) :] = outside
            canvas[:, : max(0, int(CANVAS - left))] = outside
            canvas[:, int(right) :] = outside
    elif kind < 0.5:  # joints between boards or bricks
        gap, start = int(rng.integers(14, 40)), int(rng.integers(14))
        shade = np.float32(rng.normal(0, 0.15))
        canvas[start::gap] += shade
        canvas[start + 1 :: gap] += shade
    elif kind < 0.6:  # the edge of a post or a door
        side = 1 if rng.random() < 0.5 else -1
        edge = int(half + side * rng.uniform(16, 26))
        canvas[:, edge : edge + int(rng.integers(2, 9))] += np.float32(rng.normal(0, 0.3))


def _photograph(rng: Generator, canvas: np.ndarray) -> np.ndarray:
    """Seen at an angle, out of focus, by a coarse and noisy sensor: uint8 (32, 32, 3)."""
    image = Image.fromarray(_bytes(canvas))
    # How many pixels the camera spent on the digit: most SVHN digits were enlarged to 32 x 32.
    pixels = int(np.exp(rng.uniform(np.log(12), np.log(44))))
    image = image.transform((48, 48), Image.Transform.QUAD, _view(rng), resample=Image.Resampling.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(rng.gamma(2, 0.5)))
    image = image.resize((pixels, pixels), Image.Resampling.BILINEAR)
    noise = rng.standard_normal((pixels, pixels, 1), dtype=np.float32) * rng.gamma(1.5, 2)
    noisy = (np.asarray(image, dtype=np.float32) + noise).clip(0, 255)
    image = Image.fromarray(noisy.astype(np.uint8))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _view(rng: Generator) -> list[float]:
    """The four canvas points that become the picture's corners, from top left anticlockwise."""
    zoom = np.exp(rng.normal(0, 0.11))
    width = CROP / 2 * zoom * np.exp(rng.normal(0.16, 0.17))  # narrow and wide lettering
    height = CROP / 2 * zoom
    corners = np.array([[-width, -height], [-width, height], [width, height], [width, -height]])
    corners += rng.normal(0, 2.2, (4, 2))  # perspective
    angle, shear = rng.normal(0, 0.12, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lean = np.array([[1, shear], [0, 1]])
    centre = CANVAS / 2 + rng.normal(0, 2.2, 2)  # people drew SVHN's boxes by hand
    return list((corners @ (turn @ lean).T + centre).ravel())


def _enlarged(coarse: np.ndarray) -> np.ndarray:
    """A coarse grid, smoothly enlarged to the canvas: float32 (80, 80)."""
    return np.asarray(Image.fromarray(coarse).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))


def _bytes(image: np.ndarray) -> np.ndarray:
    return (image.clip(0, 1) * 255).astype(np.uint8)


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    """A font in the size at which its zero is ``DIGIT`` pixels high."""
    import matplotlib  # its folder of fonts, nothing of its plotting

    path = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf")
    trial = ImageFont.truetype(path, DIGIT, layout_engine=ImageFont.Layout.BASIC)
    _, top, _, bottom = trial.getbbox("0")
    size = DIGIT * DIGIT / (bottom - top)
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
