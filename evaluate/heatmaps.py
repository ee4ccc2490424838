"""Where in the frame: the attention of the patch spatial relation module as a picture (Sect. 4.5).

    attention M          column sums w'         mask                    several scales, one frame
    (N, N), row m        (N,)                   (rows, cols), 0..1      (H, W), 0..1
    looks at column n    sum over m             min → 0, max → 1        bilinear, mean, max → 1

A patch that all others look at has a bright column. A mask is relative: its brightest patch is 1 in a quiet snippet
too, so `overlay` fades it by the snippet's score.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import colormaps, get_data_path
from PIL import Image, ImageDraw, ImageFont

from ssrl.errors import UserError

COLORMAP = "inferno"
OPACITY = 0.8  # of the heat where mask and score are 1
QUIET = 0.3  # share of a mask's strength that remains where the score is 0
FLAT = 1e-5  # attention whose column sums differ by less than this share of their size points nowhere


def attention_mask(attention: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The attention mask M' of Sect. 4.5: (..., N, N) → (..., rows, cols) float32, 0..1 within each snippet.

    N is rows * cols, patches row-major. Attention that prefers no patch (a single patch, say) gives zeros.
    Raises UserError where the shape does not fit the grid or a weight is not finite.
    """
    num_patches = rows * cols
    if attention.ndim < 2 or attention.shape[-2:] != (num_patches, num_patches):
        raise UserError(
            f"a {rows}x{cols} grid has attention of shape (..., {num_patches}, {num_patches}), "
            f"not {attention.shape}; take the attention of the same scale as the grid"
        )
    if not np.isfinite(attention).all():
        raise UserError("the attention holds numbers that are not finite; check the features and the checkpoint")
    columns = attention.astype(np.float64).sum(axis=-2)  # (..., N), w'_n
    return _stretched(columns).reshape(*attention.shape[:-2], rows, cols)


def _stretched(columns: np.ndarray) -> np.ndarray:
    """Lowest → 0 and highest → 1 along the last axis; zeros where all are the same. (..., N) float32."""
    lowest = columns.min(axis=-1, keepdims=True)
    spread = columns.max(axis=-1, keepdims=True) - lowest
    points_somewhere = spread > FLAT * np.abs(columns).max(axis=-1, keepdims=True)
    return np.where(points_somewhere, (columns - lowest) / np.where(spread > 0, spread, 1), 0).astype(np.float32)


def combine_masks(masks: Mapping[int, np.ndarray], height: int, width: int) -> np.ndarray:
    """Masks {scale: (rows, cols)} of one snippet → their mean on the frame, (height, width) float32 in 0..1.

    Each mask grows to the frame by bilinear interpolation between the centers of its patches. The brightest place
    of the mean becomes 1; masks that are all zero stay so.
    """
    if not masks:
        raise UserError("there is no mask to combine; the whole-frame scale alone tells no place")
    grown = [_resized(mask, height, width) for _, mask in sorted(masks.items())]
    mean = np.mean(grown, axis=0)
    return mean / mean.max() if mean.max() > 0 else mean


def _resized(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def overlay(frame: np.ndarray, mask: np.ndarray, score: float, label: str = "") -> np.ndarray:
    """A frame (H, W, 3) uint8 under the heat of `mask` (H, W) in 0..1, with its snippet's score as a bar.

    The heat is the brighter and the more opaque the stronger the mask and the higher the score. `label` stands
    beside the score. Raises UserError where shapes, types or the score do not fit.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape[:2] != mask.shape:
        raise UserError(
            f"an overlay needs a frame (H, W, 3) of uint8 and a mask (H, W), "
            f"not {frame.shape} of {frame.dtype} and {mask.shape}"
        )
    if not 0 <= score <= 1:
        raise UserError(f"a score lies in 0..1, not {score}")
    strength = (QUIET + (1 - QUIET) * score) * mask  # (H, W), 0..1
    heat = colormaps[COLORMAP](0.25 + 0.7 * strength)[..., :3] * 255  # (H, W, 3); without its black and white ends
    opacity = (OPACITY * np.sqrt(strength) * mask)[..., None]  # (H, W, 1)
    blended = np.rint(frame * (1 - opacity) + heat * opacity).astype(np.uint8)
    return _with_score_bar(blended, score, label)


def _with_score_bar(picture: np.ndarray, score: float, label: str) -> np.ndarray:
    """Draw `score`, its bar and `label` on a dark plate in the upper left corner. (H, W, 3) uint8."""
    height = picture.shape[0]
    size = max(10, height // 22)  # of the letters, in pixels
    margin, bar_width = size // 2, size * 6
    font = _font(size)
    number = f"{score:.2f}"
    number_width, label_width = (round(font.getlength(text)) for text in (number, label))
    plate_width = 3 * margin + number_width + bar_width + (margin + label_width if label else 0)
    plate_height = size + 2 * margin
    image = Image.fromarray(picture).convert("RGBA")
    plate = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(plate)
    draw.rounded_rectangle((margin, margin, margin + plate_width, margin + plate_height), margin, (12, 14, 20, 190))
    middle = margin + plate_height / 2
    left = 2 * margin
    draw.text((left, middle), number, "white", font, anchor="lm")
    left += number_width + margin
    top, bottom = middle - size * 0.3, middle + size * 0.3
    draw.rectangle((left, top, left + bar_width, bottom), (255, 255, 255, 60))
    if score > 0:
        draw.rectangle((left, top, left + bar_width * score, bottom), _heat_color(score))
    draw.text((left + bar_width + margin, middle), label, (220, 224, 230, 255), font, anchor="lm")
    return np.asarray(Image.alpha_composite(image, plate).convert("RGB"))


def _heat_color(score: float) -> tuple[int, int, int, int]:
    red, green, blue, _ = colormaps[COLORMAP](0.45 + 0.45 * score, bytes=True)
    return int(red), int(green), int(blue), 255


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
