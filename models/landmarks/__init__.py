"""The landmark encoder: MediaPipe's networks look for body and hands, a row of numbers a frame."""
