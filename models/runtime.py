"""ONNX Runtime, told to keep quiet. The one place that imports it; everybody else imports it from here.

Its official builds since 1.29 send usage events to their maker and leave a session file in the temporary folder,
unless an environment variable forbids it before the library is imported. Who runs this program, and when, is
nobody's business.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime  # noqa: TID251 - after the variable is set

__all__ = ["onnxruntime"]
