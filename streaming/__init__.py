"""The live half: camera -> WebRTC -> ring -> window -> batch -> recogniser -> signs -> page."""
