"""OpenVINO without its telemetry, which reports every conversion to the vendor from a forked process.

Nothing should leave the user's machine, and a fork beside running threads can hang. If the telemetry package cannot be
imported, OpenVINO falls back to its own stub.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes its import fail

import openvino  # noqa: E402

__all__ = ["openvino"]
