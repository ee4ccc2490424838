"""Make shanghaitech_abnormal_test.json from the dataset's own masks: python -m tests.data.make_shanghaitech ROOT

ROOT holds test_frame_mask/<id>.npy, or testing/test_frame_mask/<id>.npy; the ids are those of the bundled split.
"""

import json
import sys
from pathlib import Path

from ssrl.datasets import load_catalog


def main(root: Path) -> None:
    dataset = load_catalog("shanghaitech", root, annotations=root)
    rows = {
        video.id: {"num_frames": video.num_frames, "anomalies": video.anomalies}
        for video in dataset.videos
        if video.split == "test" and video.label
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    Path(__file__).with_name("shanghaitech_abnormal_test.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
