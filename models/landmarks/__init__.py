"""The landmark encoder: MediaPipe's networks find body and hands; a row of numbers a frame."""
