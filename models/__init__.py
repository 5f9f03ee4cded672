"""What the live and the offline half share: types, windows, encoders, heads, bundles.

Importing it, which all our packages do first, keeps the libraries below from sending usage data.
"""

import os
import sys
from typing import Any

os.environ |= {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: would also keep a device id in ~/.cache
    "HF_HUB_DISABLE_TELEMETRY": "1",  # transformers
    "RAY_USAGE_STATS_ENABLED": "0",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
# OpenVINO has no such variable; it does without where the package that sends is missing.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("openvino_telemetry", None)
