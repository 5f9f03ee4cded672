"""Heads: the features of a window in; gloss logits, attention and an embedding out.

Every head is called the same way, `head(features (B, T, D), mask (B, T)) -> Answer`; the mask is
true where a step is real; what stands elsewhere changes nothing. The embedding is what the last
layers see: windows of one sign lie near each other in it, of signs too that the head was not
trained on (`models.lexicon`).
`GlossClassifier` and `AttentiveProbe` (`models.probe`) take any encoder's features,
`LandmarkClassifier` the rows of `models.landmarks.layout`.
Torch is only needed to train and to export: in service `models.classifier` runs the ONNX file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.answer import Answer as Answer
from models.answer import softmax_over_time, unit
from models.landmarks import layout
from models.landmarks.posture import FEATURES, HAND_FLAGS, describe
from models.probe import AttentiveProbe

HEADS = ("gloss", "attentive", "landmarks")

_LAG = 2  # steps: movement is the difference to what was that long ago


class GlossClassifier(nn.Module):
    """Attention over time, then two narrowing layers: for encoders whose features say a lot."""

    def __init__(self, dim: int, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.settings = {"kind": "gloss", "dim": dim, "classes": classes, "dropout": dropout}
        self.score = nn.Linear(dim, 1)
        self.classify = nn.Sequential(
            nn.Linear(dim, 512),
            nn.LayerNorm(512),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(512, 256),
            nn.LayerNorm(256),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(256, classes),
        )

    def forward(self, features: Tensor, mask: Tensor) -> Answer:
        features = features.masked_fill(~mask[..., None], 0.0)  # B, T, D
        attention = softmax_over_time(self.score(features), mask)  # B, T, 1
        pooled = (attention.transpose(1, 2) @ features).squeeze(1)  # B, D
        return Answer(self.classify(pooled), attention.squeeze(-1), unit(pooled))


class LandmarkClassifier(nn.Module):
    """Convolutions and one attention layer over landmark rows, for signs seen a few times only.

    Shapes of the hands, their distances to the face and to each other and their movement are
    derived from the rows in here, so that an encoder gives nothing but points. At inference the
    answer is the mean over the rows and the mirrored rows: a left-handed signer gets the same one.
    """

    def __init__(
        self,
        dim: int = layout.DIM,
        classes: int = 2,
        dropout: float = 0.3,
        width: int = 96,
        blocks: int = 3,
        pools: int = 4,
    ) -> None:
        super().__init__()
        if dim != layout.DIM:
            raise ValueError(f"landmark rows have {layout.DIM} numbers, not {dim}")
        self.settings = {
            "kind": "landmarks",
            "dim": dim,
            "classes": classes,
            "dropout": dropout,
            "width": width,
            "blocks": blocks,
            "pools": pools,
        }
        self.register_buffer("mirror_index", torch.from_numpy(layout.mirror_index()), False)
        self.register_buffer("mirror_sign", torch.from_numpy(layout.mirror_sign()), False)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.project = nn.Linear(2 * FEATURES + 4, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_ConvBlock(width, dropout) for _ in range(blocks))
        self.attend = _SelfAttention(width, 4, dropout)
        self.last = _ConvBlock(width, dropout)
        self.score = nn.Linear(width, pools)
        self.mix = nn.Linear(width * pools, width)
        self.out = nn.Sequential(
            nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, classes)
        )
        self.drop = _ChannelDropout(dropout)

    mirror_index: Tensor
    mirror_sign: Tensor
    mean: Tensor
    scale: Tensor

    @torch.no_grad()
    def fit_scale(self, rows: Tensor) -> None:
        """Take mean and spread of the derived features from training rows (N, D)."""
        rows = torch.cat([rows, self.mirrored(rows)])
        values, present = describe(rows[None])
        seen = present.sum(1).clamp(min=1.0)  # 1, F
        self.mean.copy_(((values * present).sum(1) / seen)[0])
        spread = (((values - self.mean) * present).square().sum(1) / seen)[0].sqrt()
        self.scale.copy_(1 / spread.clamp(min=0.02))

    def mirrored(self, rows: Tensor) -> Tensor:
        return rows[..., self.mirror_index] * self.mirror_sign

    def forward(self, features: Tensor, mask: Tensor) -> Answer:
        features = features.masked_fill(~mask[..., None], 0.0)
        if self.training:
            return self._one_way(features, mask)
        # Both ways in one batch: half the graph to export, and one pass to run.
        twice = torch.cat([features, self.mirrored(features)])
        both_ways = self._one_way(twice, torch.cat([mask, mask]))
        logits, attention, embedding = (
            torch.unflatten(part, 0, (2, -1)).mean(0) for part in both_ways
        )
        return Answer(logits, attention, unit(embedding))

    def _one_way(self, rows: Tensor, mask: Tensor) -> Answer:
        values, present = describe(rows)
        values = ((values - self.mean) * self.scale).clamp(-4, 4) * present  # B, T, F
        real = mask[..., None].to(values.dtype)  # B, T, 1
        still = torch.zeros_like(values[:, :_LAG])
        before = torch.cat([still, values[:, :-_LAG]], 1)[:, : values.shape[1]]
        both = torch.cat([still, (present * real)[:, :-_LAG]], 1)[:, : values.shape[1]]
        moved = (values - before) * present * both
        flags = torch.cat([rows[..., layout.SEEN], present[..., HAND_FLAGS]], -1)
        x = self.norm(self.project(torch.cat([values, moved, flags], -1)))  # B, T, W
        x = self.drop(F.relu(x))
        for block in self.blocks:
            x = block(x, real)
        x = self.last(self.attend(x, mask), real)
        attention = softmax_over_time(self.score(x), mask)  # B, T, P
        pooled = (attention.transpose(1, 2) @ x).flatten(1)  # B, P * W
        return Answer(self.out(self.mix(pooled)), attention.mean(-1), pooled)


class Committee(nn.Module):
    """Several trained heads as one, which answers for the first `glosses` classes only.

    Whatever else the heads were taught (signs outside the vocabulary, no sign at all) becomes the
    one last logit, idle, so that (glosses + 1) logits come out. Without further classes: no idle.
    """

    def __init__(self, heads: Sequence[nn.Module], glosses: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self._glosses = glosses
        self._idle = classes > glosses

    def forward(self, features: Tensor, mask: Tensor) -> Answer:
        answers = [head(features, mask) for head in self.heads]
        logits = torch.stack([answer[0] for answer in answers]).mean(0)  # B, K
        attention = torch.stack([answer[1] for answer in answers]).mean(0)  # B, T
        embedding = torch.cat([answer[2] for answer in answers], 1)  # B, E of each
        if self._idle:
            others = logits[:, self._glosses :].logsumexp(1, keepdim=True)
            logits = torch.cat([logits[:, : self._glosses], others], 1)
        return Answer(logits, attention, unit(embedding))


Head = GlossClassifier | AttentiveProbe | LandmarkClassifier


def make_head(settings: Mapping[str, Any]) -> Head:
    """A new head from what another's `settings` said.

    Raises:
        ValueError: there is no such head, or it takes no such setting.
    """
    kind, args = settings.get("kind"), {k: v for k, v in settings.items() if k != "kind"}
    try:
        if kind == "gloss":
            return GlossClassifier(**args)
        if kind == "attentive":
            return AttentiveProbe(**args)
        if kind == "landmarks":
            return LandmarkClassifier(**args)
    except TypeError as exc:
        raise ValueError(f"head {kind!r}: {exc}") from exc
    raise ValueError(f"no head of kind {kind!r}: take {', '.join(HEADS)}")


def last_layer(head: Head) -> nn.Linear:
    """The layer that gives the logits."""
    layers = head.out if isinstance(head, LandmarkClassifier) else head.classify
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    return last


# --- blocks ---------------------------------------------------------------------------------------


class _ConvBlock(nn.Module):
    """Depthwise over 5 steps, then pointwise; added to what came in."""

    _REACH = 2  # steps to either side

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.depth = nn.Parameter(torch.randn(2 * self._REACH + 1, width) * 0.3)
        self.bias = nn.Parameter(torch.zeros(width))
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.drop = _ChannelDropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        steps = x.shape[1]
        y = F.pad(self.norm(x) * real, (0, 0, self._REACH, self._REACH))
        # Shifted sums: on a CPU several times faster to train than a depthwise Conv1d.
        mixed = self.bias
        for shift, weight in enumerate(self.depth):
            mixed = mixed + y[:, shift : shift + steps] * weight
        answer: Tensor = x + self.drop(self.outer(F.relu(self.inner(mixed))))
        return answer


class _ChannelDropout(nn.Module):
    """Drops a channel for the whole window: time steps are too alike for dropping single ones."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self._share == 0:
            return x
        keep = torch.rand(x.shape[0], 1, x.shape[2], device=x.device) >= self._share
        return x * (keep / (1 - self._share))


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.drop = _ChannelDropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # B, T, 3 * W -> three of B, H, T, W / H
        asked = self.ask(self.norm(x)).unflatten(-1, (3, self._heads, -1))
        query, key, value = asked.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None, None, :], -1e4).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).flatten(-2)
        answer: Tensor = x + self.drop(self.out(mixed))
        return answer
