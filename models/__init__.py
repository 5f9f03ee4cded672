"""What the live and the offline half share: types, windows, encoders, heads, bundles."""

import sys
from typing import Any

# Importing OpenVINO sends a message to Google Analytics, unasked. It does without where the package
# that sends is missing. Here, since all of ours import `models` before it.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("openvino_telemetry", None)
