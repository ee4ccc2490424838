"""OpenVINO without its telemetry, which reports every conversion to its makers from a process that it forks.

Nothing leaves a user's machine, and a fork beside running threads can hang. Where the telemetry package cannot be
imported, OpenVINO takes a stub of its own.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails

import openvino  # noqa: E402

__all__ = ["openvino"]
