"""Which sign a clip shows, by head.onnx alone: python read_head.py head.onnx rows.npy"""

import json
import sys

import numpy as np
import onnxruntime as ort

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
glosses, steps = json.loads(about["glosses"]), int(about["steps"])
rows = np.load(sys.argv[2]).astype(np.float32)  # T, D: raw, nothing is normalised
if about["steps_are"] == "frames":  # windows as livegloss cuts them; before the clip its first row
    hop = max(1, int(np.ceil(float(about["hop_s"]) * float(about["fps"]) - 1e-6)))
    ends = np.arange(0, len(rows), hop)[:, None]
    rows = rows[(ends - np.arange(steps)[::-1]).clip(min=0)]  # N, T, D
else:
    rows = rows.reshape(-1, steps if len(rows) % steps == 0 else len(rows), rows.shape[1])
inputs = {"features": rows, "mask": np.ones(rows.shape[:2], bool)}
logits = session.run(["logits"], inputs)[0].astype(np.float64) / float(about["temperature"])
p = np.exp(logits - logits.max(1, keepdims=True))
p /= p.sum(1, keepdims=True)  # N, K
signing = p[:, : len(glosses)] + 0.02 / len(glosses)  # no window rules a gloss out alone
idle = p[:, len(glosses) :].sum(1, keepdims=True)  # no known sign: such a window hardly counts
weights = 1 - idle + 0.001
clip = (weights * np.log(signing / signing.sum(1, keepdims=True))).sum(0) / weights.sum()
clip = np.exp(clip - clip.max()) / np.exp(clip - clip.max()).sum()
print(json.dumps([[glosses[i], round(float(clip[i]), 4)] for i in np.argsort(-clip)[:5]]))
