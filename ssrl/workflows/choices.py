"""What requests may ask for by name."""

from typing import Literal

Runtime = Literal["auto", "openvino", "torch-compile", "torch"]
Precision = Literal["auto", "float32", "bfloat16"]
Decoder = Literal["auto", "pyav", "decord"]  # of video files; folders of frames need none
Protocol = Literal["true", "released"]  # true frame counts, or padded ones as in common ground-truth files
Where = Literal["contribution", "attention"]  # heatmaps of what raised the score, or of where PSR looks (Fig. 6)
