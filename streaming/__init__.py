"""The live half: camera -> WebRTC -> ring -> window -> batch -> recogniser -> signs -> page."""

import models  # noqa: F401  (before any library that would send usage data)
