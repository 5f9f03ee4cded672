"""What the live and the offline half share: types, windows, encoders, heads, bundles."""

import sys
from typing import Any

# Importing OpenVINO sends a message to Google Analytics, unasked, and so does NNCF. Both do without
# it where the package that sends is missing. Here, since all of ours import `models` before them.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("openvino_telemetry", None)
