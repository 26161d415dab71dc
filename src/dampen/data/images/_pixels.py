"""One image file: the properties of its header and values, and its pixels as bytes of a wanted size."""

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from dampen.errors import InputError

# by content: other formats of Pillow's call programs (EPS) or have nothing to do with the endings that are read
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # more than 8 bits: Pillow would cut, not scale
_BYTES_SWAPPED = {
    f"{mode};16{order}": f"{mode};16{'L' if order == 'B' else 'B'}" for mode in ("RGB", "RGBA") for order in "BLN"
}  # N is the machine's own order, taken as little-endian
_MOST_PIXELS = 64_000_000  # of one image: 256 MB while it is decoded
_LARGE = 4_000_000  # pixels from which on images are decoded one after the other
_ONE_LARGE = threading.Lock()
_WHITE = (255, 255, 255)
_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # those that exchange height and width


class NoImage(Exception):
    """A file is not a readable image; the message has the reason."""


@dataclass(frozen=True)
class Look:
    """What is to be known of an image before its pixels are taken.

    Args:
        size: height and width in pixels, after turning.
        grey: whether it has no colours.
        top: the largest value of an image of more than 8 bits, else None.
        fractions: whether that image holds fractions, not whole numbers.
        transparent: whether some pixels are not opaque.
        frames: whether there are more frames than one.
    """

    size: tuple[int, int]
    grey: bool
    top: float | None = None
    fractions: bool = False
    transparent: bool = False
    frames: bool = False


def look(path: Path) -> Look:
    """Return what an image's header declares, and its values where these are needed.

    Raises:
        NoImage: the file can't be read, or holds too many pixels.
    """
    try:
        with _opened(path) as image, _in_memory(image):
            deep = _deep(image, path)  # first: other questions decode a PNG
            height, width = image.height, image.width
            if image.format != "TIFF" and _orientation(image) in _SIDEWAYS:  # Pillow turns TIFF by itself
                height, width = width, height
            frames = image.format in ("GIF", "TIFF", "WEBP", "PNG") and bool(getattr(image, "is_animated", False))
            top = None
            if deep is not None:
                values, _ = deep
                if not np.isfinite(values).all() or values.min() < 0:
                    raise NoImage("it holds values that are negative or no numbers")
                top = float(values.max())
            grey, fractions = image.mode in _GREY, image.mode == "F"
            if deep is None:
                transparent = _has_transparency(image) and _opacity(image) is not None
            else:
                transparent = deep[1] is not None and float(deep[1].min()) < 1
            return Look((height, width), grey, top, fractions, transparent, frames)
    except NoImage:
        raise
    except Exception as e:  # Pillow's plug-ins raise anything on a damaged file
        raise NoImage(_word(e)) from None


def pixels(path: Path, colour: bool, size: tuple[int, int], top: float | None) -> UInt8[np.ndarray, "C H W"]:
    """Return an image's pixels: turned by its EXIF orientation, laid on white, as bytes, resized.

    Args:
        path: the file.
        colour: whether three channels are wanted, or one.
        size: the wanted height and width.
        top: the value that is white in images of more than 8 bits.

    Raises:
        NoImage: the file can't be read.
    """
    height, width = size
    try:
        with _opened(path) as image, _in_memory(image):
            deep = _deep(image, path)
            eight = _on_white(image) if deep is None else _eight_bits(*deep, top or 255.0)
            turn = _TURNS.get(_orientation(image))
            if turn is not None:
                eight = eight.transpose(turn)
            eight = eight.convert("RGB" if colour else "L")
            if eight.size != (width, height):
                eight = eight.resize((width, height), Image.Resampling.BILINEAR)
            array = np.asarray(eight, dtype=np.uint8)
    except NoImage:
        raise
    except Exception as e:
        raise NoImage(_word(e)) from None
    return array.transpose(2, 0, 1) if colour else array[None]


def white(looks: list[Look]) -> float | None:
    """Return the value that is white in images of more than 8 bits: the largest that as many bits as they use can hold.

    Fractions up to 1 have white at 1, up to 255 at 255, else at their largest. None where no image has so many bits.

    Raises:
        InputError: some hold fractions and others whole numbers.
    """
    deep = [seen for seen in looks if seen.top is not None]
    if not deep:
        return None
    if len({seen.fractions for seen in deep}) > 1:
        raise InputError("some images hold fractions and others whole numbers of 16 bits; save all of one kind")
    top = max(seen.top or 0.0 for seen in deep)
    if deep[0].fractions:
        return next((limit for limit in (1.0, 255.0) if top <= limit), top)
    return float(2 ** max(8, int(top).bit_length()) - 1)


def _opened(path: Path) -> Image.Image:
    image = Image.open(path, formats=_FORMATS)
    if image.width * image.height > _MOST_PIXELS:
        size = f"{image.width}x{image.height}"
        image.close()
        raise NoImage(f"{size} pixels are more than {_MOST_PIXELS // 1_000_000} million: make it smaller")
    return image


def _in_memory(image: Image.Image) -> AbstractContextManager[Any]:
    """Return what lets other images be decoded at the same time, unless this one needs much memory."""
    return _ONE_LARGE if image.width * image.height > _LARGE else nullcontext()


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(0x112, 1)
    except Exception:  # damaged EXIF is ignored; the pixels are there
        return 1
    return orientation if orientation in range(1, 9) else 1


def _swapped(image: Image.Image) -> list[Any] | None:
    """Return the tiles of an image of 16 bits a colour with their bytes swapped; None of other images.

    Pillow takes the high byte of each colour. Read with swapped bytes, an image gives the low ones.
    """
    tiles = []
    for tile in getattr(image, "tile", []):
        args = tile[3]
        mode = args if isinstance(args, str) else args[0] if args else None
        if mode not in _BYTES_SWAPPED:
            return None
        new = _BYTES_SWAPPED[mode]
        args = new if isinstance(args, str) else (new, *args[1:])
        tiles.append(tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args))
    return tiles or None


def _deep(
    image: Image.Image, path: Path
) -> tuple[Float32[np.ndarray, "H W ..."], Float32[np.ndarray, "H W"] | None] | None:
    """Return the values of an image of more than 8 bits, and its pixels' opacity from 0 to 1; None of other images."""
    tiles = _swapped(image)
    if tiles is None and image.mode not in _DEEP:
        return None
    if tiles is None:
        values = np.asarray(image, dtype=np.float32)
        key = image.info.get("transparency")
        opacity = (values != key).astype(np.float32) if isinstance(key, int) else None
        return values, opacity
    values = np.asarray(image, dtype=np.float32) * 256
    with _opened(path) as low:
        low.tile = tiles  # type: ignore[attr-defined]
        values += np.asarray(low, dtype=np.float32)
    if values.shape[2] == 3:
        return values, None
    opacity = values[..., 3] / max(float(values[..., 3].max()), 1.0)
    return values[..., :3], opacity


def _eight_bits(
    values: Float32[np.ndarray, "H W ..."], opacity: Float32[np.ndarray, "H W"] | None, top: float
) -> Image.Image:
    values = np.clip(values / np.float32(top), 0, 1)
    if opacity is not None:
        if values.ndim == 3:
            opacity = opacity[..., None]
        values = values * opacity + (1 - opacity)
    return Image.fromarray((values * 255).astype(np.uint8))


def _has_transparency(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _opacity(image: Image.Image) -> Image.Image | None:
    """Return the opacity of an image's pixels, None where all are opaque."""
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image without transparency: what lies under transparent pixels is hidden from people, and here too."""
    image.load()
    alpha = _opacity(image) if _has_transparency(image) else None
    if alpha is None:
        return image
    mode = "L" if image.mode in _GREY else "RGB"
    ground = Image.new(mode, image.size, 255 if mode == "L" else _WHITE)
    ground.paste(image.convert("RGBA").convert(mode), mask=alpha)
    return ground


def _word(e: Exception) -> str:
    message = (str(e).splitlines() or [type(e).__name__])[0]
    if "cannot identify image file" in message:
        return "no known format"
    return message[:100] or type(e).__name__
