from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch

from models.bench.head import head_onnx
from models.heads import GlossClassifier


def test_it_is_the_head_that_it_says() -> None:
    torch.manual_seed(0)
    head = GlossClassifier(48, 7).eval()
    for parameter in head.parameters():  # norms of other weights than one and zero, too
        torch.nn.init.normal_(parameter, std=0.3)
    content = head_onnx({name: value.numpy() for name, value in head.state_dict().items()})
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    features = torch.randn(3, 5, 48)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    got = session.run(None, {"features": features.numpy(), "mask": mask.numpy()})
    with torch.inference_mode():
        for one, want in zip(got, head(features, mask), strict=True):
            np.testing.assert_allclose(one, want.numpy(), atol=1e-5)
