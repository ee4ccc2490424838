"""The font of all that is drawn over frames: Matplotlib's, which is always at hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from matplotlib import get_data_path
from PIL import ImageFont


@cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, `size` in pixels."""
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
