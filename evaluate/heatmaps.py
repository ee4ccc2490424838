"""Heatmaps: the attention of the patch spatial relation module over the frame (Sect. 4.5).

    attention M          column sums w'         mask                    several scales, one frame
    (N, N), row m        (N,)                   (rows, cols), 0..1      (H, W), 0..1
    attends to column n  sum over m             min → 0, max → 1        bilinear, mean, max → 1

A patch that all others attend to has a bright column. Masks are relative: the brightest patch is 1 even in a quiet
snippet, so `draw_overlay` fades the mask by the snippet's score.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw
from scipy import ndimage

from ssrl.errors import UserError
from ssrl.media.fonts import load_font

COLORMAP = "inferno"
OPACITY = 0.8  # of the heat where mask and score are 1
QUIET = 0.3  # fraction of a mask's strength that remains where the score is 0
TRACE_ROWS = 120  # on which traced contributions are added up: they are smooth
SMOOTHING, SMOOTHING_MOMENTS = 0.05, 0.5  # of traced contributions: of the frame's height; in moments
FLAT = 1e-5  # column sums whose relative spread is below this prefer no patch


def compute_attention_mask(attention: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The attention mask M' of Sect. 4.5: (..., N, N) → (..., rows, cols) float32, 0..1 within each snippet.

    N is rows * cols, patches row-major. Attention that prefers no patch (a single patch, say) gives zeros.
    Raises a UserError if the shape does not match the grid or a weight is not finite.
    """
    num_patches = rows * cols
    if attention.ndim < 2 or attention.shape[-2:] != (num_patches, num_patches):
        raise UserError(
            f"a {rows}x{cols} grid has attention of shape (..., {num_patches}, {num_patches}), "
            f"not {attention.shape}; use the attention of the grid's own scale"
        )
    if not np.isfinite(attention).all():
        raise UserError("the attention is not finite; check the features and the checkpoint")
    columns = attention.astype(np.float64).sum(axis=-2)  # (..., N), w'_n
    return _normalize(columns).reshape(*attention.shape[:-2], rows, cols)


def _normalize(columns: np.ndarray) -> np.ndarray:
    """Min-max normalize along the last axis; zeros where all values are the same. (..., N) float32."""
    lowest = columns.min(axis=-1, keepdims=True)
    spread = columns.max(axis=-1, keepdims=True) - lowest
    has_peak = spread > FLAT * np.abs(columns).max(axis=-1, keepdims=True)
    return np.where(has_peak, (columns - lowest) / np.where(spread > 0, spread, 1), 0).astype(np.float32)


def combine_masks(masks: Mapping[int, np.ndarray], height: int, width: int) -> np.ndarray:
    """Average the masks {scale: (rows, cols)} of one snippet over the frame: (height, width) float32 in 0..1.

    Each mask is upsampled to the frame by bilinear interpolation between its patch centers. The maximum of the mean is
    scaled to 1; masks that are all zero stay zero.
    """
    if not masks:
        raise UserError("no masks to combine; localization needs a scale with more than one patch")
    mean: np.ndarray = np.mean([_resize(mask, height, width) for _, mask in sorted(masks.items())], axis=0)
    if mean.max() > 0:
        mean /= mean.max()
    return mean


def combine_traces(traces: Mapping[int, np.ndarray], height: int, width: int) -> np.ndarray:
    """Add up contributions by place, {scale: (f, y, x)}, over the frame: (f, height, width) float32.

    Every scale is spread evenly over the pixels of its cells and smoothed, and the maximum of each of the f moments is
    scaled to 1; moments without contributions stay zero. Scales with fewer moments repeat theirs.
    """
    moments = max(len(trace) for trace in traces.values())
    rows = min(height, TRACE_ROWS)
    cols = max(1, round(rows * width / height))
    total = np.zeros((moments, rows, cols), np.float32)
    for trace in traces.values():
        density = trace.shape[1] * trace.shape[2] / (rows * cols)
        for moment in range(moments):
            total[moment] += density * _resize(trace[moment * len(trace) // moments], rows, cols)
    sigma = SMOOTHING * rows
    smooth = ndimage.gaussian_filter(total, (SMOOTHING_MOMENTS, sigma, sigma), mode="nearest")
    highest = smooth.max(axis=(1, 2), keepdims=True)
    heat = np.divide(smooth, highest, out=np.zeros_like(smooth), where=highest > 0)
    return heat if rows == height else np.stack([_resize(each, height, width).clip(0, 1) for each in heat])


def _resize(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def draw_overlay(frame: np.ndarray, mask: np.ndarray, score: float, label: str = "") -> np.ndarray:
    """Blend the heatmap of `mask` (H, W), 0..1, over a frame (H, W, 3) uint8, with its snippet's score as a bar.

    The stronger the mask and the higher the score, the brighter and the more opaque the heatmap. `label` is drawn
    beside the score. Raises a UserError for shapes, types or a score that do not fit.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape[:2] != mask.shape:
        raise UserError(
            f"an overlay needs a frame (H, W, 3) of uint8 and a mask (H, W), "
            f"not {frame.shape} of {frame.dtype} and {mask.shape}"
        )
    if not 0 <= score <= 1:
        raise UserError(f"a score must lie in 0..1, not {score}")
    strength = (QUIET + (1 - QUIET) * score) * mask  # (H, W), 0..1
    heat = colormaps[COLORMAP](0.25 + 0.7 * strength)[..., :3] * 255  # (H, W, 3); without the colormap's ends
    opacity = (OPACITY * np.sqrt(strength) * mask)[..., None]  # (H, W, 1)
    blended = np.rint(frame * (1 - opacity) + heat * opacity).astype(np.uint8)
    return _draw_score_bar(blended, score, label)


def _draw_score_bar(picture: np.ndarray, score: float, label: str) -> np.ndarray:
    """Draw `score`, its bar and `label` on a dark plate in the upper left corner. (H, W, 3) uint8."""
    height = picture.shape[0]
    size = max(10, height // 22)  # of the font, in pixels
    margin, bar_width = size // 2, size * 6
    font = load_font(size)
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
        draw.rectangle((left, top, left + bar_width * score, bottom), _get_heat_color(score))
    draw.text((left + bar_width + margin, middle), label, (220, 224, 230, 255), font, anchor="lm")
    return np.asarray(Image.alpha_composite(image, plate).convert("RGB"))


def _get_heat_color(score: float) -> tuple[int, int, int, int]:
    red, green, blue, _ = colormaps[COLORMAP](0.45 + 0.45 * score, bytes=True)
    return int(red), int(green), int(blue), 255
