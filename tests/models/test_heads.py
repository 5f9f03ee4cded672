"""Heads: masks, mirrored rows, and exported graphs that agree with torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from models.heads import (
    AttentiveProbe,
    GlossClassifier,
    HeadEnsemble,
    LandmarkClassifier,
    make_head,
)
from models.landmarks import layout
from offline.exporting.head_export import to_onnx
from offline.exporting.litert import to_litert

_CLASSES = 5


def _rows(batch: int, steps: int, seed: int = 0) -> Tensor:
    """Landmark rows with a hand that comes and goes."""
    rows = torch.randn(batch, steps, layout.DIM, generator=torch.Generator().manual_seed(seed))
    rows[..., layout.SEEN] = (rows[..., layout.SEEN] > 0).float()
    rows[:, : steps // 3, layout.LEFT_HAND] = 0
    rows[:, : steps // 3, layout.LEFT_SEEN] = 0
    return rows


def _landmarks() -> LandmarkClassifier:
    torch.manual_seed(0)
    head = LandmarkClassifier(classes=_CLASSES, width=32)
    head.fit_scale(_rows(1, 50)[0])
    return head.eval()


def _gloss() -> GlossClassifier:
    torch.manual_seed(0)
    return GlossClassifier(layout.DIM, _CLASSES).eval()


def _attentive() -> AttentiveProbe:
    torch.manual_seed(0)
    return AttentiveProbe(layout.DIM, _CLASSES).eval()


@pytest.fixture(params=[_landmarks, _gloss, _attentive])
def head(request: pytest.FixtureRequest) -> nn.Module:
    made: nn.Module = request.param()
    return made


def test_each_clip_gets_logits_and_attention_over_its_steps(head: nn.Module) -> None:
    mask = torch.ones(3, 12, dtype=torch.bool)
    mask[1, 7:] = False
    logits, attention, embedding = head(_rows(3, 12), mask)
    assert logits.shape == (3, _CLASSES)
    assert attention.shape == (3, 12)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(attention.sum(1), torch.ones(3), atol=1e-5)
    assert attention[1, 7:].abs().max() < 1e-6


def test_padding_changes_nothing_whatever_stands_there(head: nn.Module) -> None:
    rows = _rows(2, 10)
    bare, _, embedding = head(rows, torch.ones(2, 10, dtype=torch.bool))
    padded = torch.cat([rows, 1e3 * _rows(2, 6, seed=1)], 1)
    mask = torch.arange(16).expand(2, 16) < 10
    with_padding, attention, padded_embedding = head(padded, mask)
    assert torch.allclose(bare, with_padding, atol=1e-5)
    assert torch.allclose(embedding, padded_embedding, atol=1e-5)
    assert attention[:, 10:].abs().max() < 1e-6


def test_a_clip_gets_the_same_output_alone_and_in_a_batch(head: nn.Module) -> None:
    rows, mask = _rows(4, 9), torch.ones(4, 9, dtype=torch.bool)
    for together, alone in zip(head(rows, mask), head(rows[2:3], mask[2:3]), strict=True):
        assert torch.allclose(together[2:3], alone, atol=1e-5)


def test_a_left_handed_signer_gets_the_same_output() -> None:
    head, rows, mask = _landmarks(), _rows(3, 12), torch.ones(3, 12, dtype=torch.bool)
    mirrored = torch.from_numpy(layout.mirrored(rows.numpy()))
    assert not torch.equal(rows, mirrored)
    for one, other in zip(head(rows, mask), head(mirrored, mask), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_one_step_is_enough(head: nn.Module) -> None:
    logits, attention, _ = head(_rows(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert torch.isfinite(logits).all()
    assert attention.tolist() == [[1.0]]


def test_rows_without_anybody_give_finite_logits() -> None:
    logits, *_ = _landmarks()(torch.zeros(1, 8, layout.DIM), torch.ones(1, 8, dtype=torch.bool))
    assert torch.isfinite(logits).all()


def test_the_gloss_classifier_has_its_layers() -> None:
    names = [type(layer).__name__ for layer in GlossClassifier(1408, 300).classify]
    block = ["Linear", "LayerNorm", "GELU", "Dropout"]
    assert names == [*block, *block, "Linear"]
    assert GlossClassifier(1408, 300).score.weight.shape == (1, 1408)


def test_an_ensemble_folds_all_further_classes_into_idle() -> None:
    head, rows, mask = _landmarks(), _rows(2, 9), torch.ones(2, 9, dtype=torch.bool)
    every_class = head(rows, mask)[0].softmax(1)
    folded = HeadEnsemble([head], glosses=2, classes=_CLASSES)(rows, mask)[0].softmax(1)
    assert folded.shape == (2, 3)
    assert torch.allclose(folded[:, :2], every_class[:, :2], atol=1e-6)
    assert torch.allclose(folded[:, 2], every_class[:, 2:].sum(1), atol=1e-6)


def test_an_ensemble_puts_the_embeddings_of_its_heads_side_by_side() -> None:
    heads, rows, mask = (
        [_landmarks(), _landmarks()],
        _rows(2, 9),
        torch.ones(2, 9, dtype=torch.bool),
    )
    both = HeadEnsemble(heads, _CLASSES, _CLASSES)(rows, mask).embedding
    parts = torch.cat([head(rows, mask).embedding for head in heads], 1)
    assert torch.allclose(both, parts / 2**0.5, atol=1e-6)


def test_an_ensemble_without_further_classes_has_no_idle() -> None:
    head, rows, mask = _gloss(), _rows(2, 9), torch.ones(2, 9, dtype=torch.bool)
    logits, *_ = HeadEnsemble([head, head], _CLASSES, _CLASSES)(rows, mask)
    assert torch.allclose(logits, head(rows, mask)[0], atol=1e-6)


def test_the_probe_has_the_blocks_of_v_jepa_2_s() -> None:
    probe = AttentiveProbe(1408, 300)
    assert len(probe.blocks) == 3
    assert probe.settings["attention_heads"] == 16
    assert probe.query.shape == (1, 1, 1408)


@pytest.mark.parametrize(("dim", "heads"), [(1024, 16), (1280, 16), (1408, 16), (154, 14), (7, 7)])
def test_the_probe_takes_the_most_heads_up_to_16_that_divide_the_width(
    dim: int, heads: int
) -> None:
    assert AttentiveProbe(dim, 2, blocks=0).settings["attention_heads"] == heads


def test_the_probe_learns_which_step_counts() -> None:
    """One step of each clip tells its class; attention ends up there."""
    torch.manual_seed(0)
    probe = AttentiveProbe(16, 2, blocks=1)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3)
    labels, where = torch.randint(2, (64,)), torch.randint(6, (64,))
    rows = 0.1 * torch.randn(64, 6, 16)
    rows[torch.arange(64), where, labels] += 3
    mask = torch.ones(64, 6, dtype=torch.bool)
    for _ in range(60):
        loss = nn.functional.cross_entropy(probe(rows, mask).logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    output = probe.eval()(rows, mask)
    assert (output.logits.argmax(1) == labels).all()


@pytest.mark.parametrize("made", [_landmarks, _attentive])
def test_onnx_agrees_with_torch_for_any_batch_and_length(made: Callable[[], nn.Module]) -> None:
    head = HeadEnsemble([made()], glosses=3, classes=_CLASSES).eval()
    content = to_onnx(head, layout.DIM)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    for batch, steps in ((1, 32), (3, 7), (2, 1)):
        rows = _rows(batch, steps)
        mask = torch.arange(steps).expand(batch, steps) < max(1, steps - 2)
        with torch.inference_mode():
            want = head(rows, mask)
        names = ["logits", "attention", "embedding"]
        got = session.run(names, {"features": rows.numpy(), "mask": mask.numpy()})
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-5)
    # By LiteRT too: exporting is what takes the time here.
    rows, mask = _rows(1, 16), torch.arange(16)[None] < 11
    with torch.inference_mode():
        want = head(rows, mask)
    run = Interpreter(model_content=to_litert(content, 16)).get_signature_runner()
    output = run(features=rows.numpy(), mask=mask.numpy())
    for name, wanted in want._asdict().items():
        np.testing.assert_allclose(output[name], wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "crystal ball"}, "no head of kind"),
        ({"kind": "gloss", "dim": 4, "classes": 2, "colour": 1}, "colour"),
        ({"kind": "attentive", "dim": 8, "classes": 2, "attention_heads": 3}, "do not divide"),
        ({"kind": "landmarks", "dim": 7, "classes": 2}, "154"),
    ],
)
def test_settings_that_make_no_head_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_head(settings)
