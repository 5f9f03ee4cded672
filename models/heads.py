"""Heads: the features of a window in; gloss logits, attention and an embedding out.

    features (B, T, D) + mask (B, T) -> [heads] -> HeadOutput -> offline.export -> head.onnx

The mask is true for real steps; features elsewhere change nothing. The embedding is the input of
the last layers: windows of the same sign lie near each other in it, even for signs that the head
was not trained on (`models.few_shot`). `GlossClassifier` and `AttentiveProbe` take any encoder's
features, `LandmarkClassifier` the rows of `models.landmarks.layout`.
Torch is needed to train and to export only: in service `models.classifier` runs the ONNX file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.landmarks import layout
from models.landmarks.posture import (
    FEATURES,
    HAND_FLAGS,
    describe,
    fill_gaps,
    hide_lowered,
)

# PyTorch's own shortcut for TransformerEncoderLayer builds the whole attention matrix: over 2,048
# tokens, 1,024 wide, it takes 1.6 times as long and half a GB more a clip (torch 2.13, a CPU).
torch.backends.mha.set_fastpath_enabled(False)

_MOST_HEADS = 16
_ROWS = 2**14  # described at once: 0.1 GB
_LAG = 2  # steps: a feature's movement is its change since then


class HeadOutput(NamedTuple):
    """The output of every head."""

    logits: Tensor  # B, K
    attention: Tensor  # B, T; sums to 1 over the real steps
    embedding: Tensor  # B, E; unit length


class GlossClassifier(nn.Module):
    """Attention over time, then two narrowing layers: for encoders with rich features."""

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

    def forward(self, features: Tensor, mask: Tensor) -> HeadOutput:
        features = features.masked_fill(~mask[..., None], 0.0)  # B, T, D
        attention = _softmax_over_time(self.score(features), mask)  # B, T, 1
        pooled = (attention.transpose(1, 2) @ features).squeeze(1)  # B, D
        return HeadOutput(self.classify(pooled), attention.squeeze(-1), _unit_length(pooled))


class AttentiveProbe(nn.Module):
    """V-JEPA 2's attentive probe: self-attention blocks, then one learnt query over all steps.

    Its authors evaluate frozen encoders with it (Assran et al. 2025, "V-JEPA 2", appendix on
    probes: 16 heads, 4 blocks, MLP four times as wide). It adds no position encoding, as V-JEPA 2's
    features hold their position; it treats rows without one (landmarks) as an unordered set, so
    use `LandmarkClassifier` for them.

    `attention_heads` per block: by default 16, which divides all of V-JEPA 2's widths, or the
    largest number below that divides `dim`. `norm_eps` keeps its norms from division by zero.

    Raises:
        ValueError: `attention_heads` does not divide `dim`.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        dropout: float = 0.0,
        blocks: int = 3,
        attention_heads: int | None = None,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        heads = attention_heads or max(n for n in range(1, _MOST_HEADS + 1) if dim % n == 0)
        if dim % heads:
            raise ValueError(f"{heads} attention heads do not divide {dim} features")
        self.settings = {
            "kind": "attentive",
            "dim": dim,
            "classes": classes,
            "dropout": dropout,
            "blocks": blocks,
            "attention_heads": heads,
            "norm_eps": norm_eps,
        }
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, heads, 4 * dim, dropout, "gelu", norm_eps, batch_first=True, norm_first=True
            )
            for _ in range(blocks)
        )
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.before = nn.LayerNorm(dim, norm_eps)
        self.look = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.after = nn.Sequential(
            nn.LayerNorm(dim, norm_eps), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, classes))
        self._init_weights()

    @torch.no_grad()
    def _init_weights(self) -> None:
        """Small weights, smaller in deeper blocks, as V-JEPA 2 initialises its probe."""
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.trunc_normal_(weight, std=0.02)
        pairs = [
            (block.get_submodule("self_attn.out_proj"), block.get_submodule("linear2"))
            for block in self.blocks
        ]
        pairs.append((self.look.out_proj, self.after[-1]))
        for depth, pair in enumerate(pairs, 1):
            for layer in pair:
                layer.get_parameter("weight").div_((2 * depth) ** 0.5)

    def forward(self, features: Tensor, mask: Tensor) -> HeadOutput:
        x = features.masked_fill(~mask[..., None], 0.0)  # B, T, D
        # Without a mask a GPU has a faster kernel. In training alone: a graph has no such choice.
        padding = None if self.training and bool(mask.all()) else ~mask
        for block in self.blocks:
            x = block(x, src_key_padding_mask=padding)
        x = self.before(x)
        # Not len(x): that would fix the batch in an exported graph.
        query = self.query.expand(x.shape[0], -1, -1)  # B, 1, D
        seen, attention = self.look(query, x, x, key_padding_mask=padding)  # B, 1, D; B, 1, T
        pooled = query + seen
        pooled = (pooled + self.after(pooled)).squeeze(1)  # B, D
        return HeadOutput(self.classify(pooled), attention.squeeze(1), _unit_length(pooled))


class LandmarkClassifier(nn.Module):
    """Convolutions and one attention layer over landmark rows, for signs with few examples.

    The encoder's rows are points only: hand shapes, their distances to the face and to each other
    and their movement are computed from them here. At inference the output is the mean over the
    rows and the mirrored rows, so that a left-handed signer gets the same one.
    """

    def __init__(
        self,
        dim: int = layout.DIM,
        classes: int = 2,
        dropout: float = 0.3,
        width: int = 128,
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
        """Set mean and scale of the computed features from training rows (N, D)."""
        count, total, squares = torch.zeros(3, FEATURES, dtype=torch.float64)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            for seen in (part, self.mirrored(part)):
                values, present = (x[0].double() for x in describe(hide_lowered(seen)[None]))
                count += present.sum(0)
                total += (values * present).sum(0)
                squares += (values.square() * present).sum(0)
        mean = total / count.clamp(min=1.0)
        spread = (squares / count.clamp(min=1.0) - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(1 / spread.clamp(min=0.02))

    def mirrored(self, rows: Tensor) -> Tensor:
        return rows[..., self.mirror_index] * self.mirror_sign

    def forward(self, features: Tensor, mask: Tensor) -> HeadOutput:
        features = features.masked_fill(~mask[..., None], 0.0)
        if self.training:
            return self._classify(features, mask)
        # Rows and mirrored rows in one batch: half the graph to export, and one pass to run.
        twice = torch.cat([features, self.mirrored(features)])
        both = self._classify(twice, torch.cat([mask, mask]))
        logits, attention, embedding = (torch.unflatten(part, 0, (2, -1)).mean(0) for part in both)
        return HeadOutput(logits, attention, _unit_length(embedding))

    def _classify(self, rows: Tensor, mask: Tensor) -> HeadOutput:
        rows = fill_gaps(hide_lowered(rows))
        values, present = describe(rows)
        values = ((values - self.mean) * self.scale).clamp(-4, 4) * present  # B, T, F
        real = mask[..., None].to(values.dtype)  # B, T, 1
        still = torch.zeros_like(values[:, :_LAG])
        before = torch.cat([still, values[:, :-_LAG]], 1)[:, : values.shape[1]]
        both = torch.cat([still, (present * real)[:, :-_LAG]], 1)[:, : values.shape[1]]
        moved = (values - before) * present * both
        flags = torch.cat([rows[..., layout.SEEN], present[..., HAND_FLAGS]], -1)
        x = self.norm(self.project(torch.cat([values, moved, flags], -1)))  # B, T, W
        x = self.drop(_relu(x, self.training))
        for block in self.blocks:
            x = block(x, real)
        x = self.last(self.attend(x, mask), real)
        attention = _softmax_over_time(self.score(x), mask)  # B, T, P
        pooled = (attention.transpose(1, 2) @ x).flatten(1)  # B, P * W
        return HeadOutput(self.out(self.mix(pooled)), attention.mean(-1), pooled)


class _ConvBlock(nn.Module):
    """Depthwise convolution over 5 steps, then pointwise, with a residual connection."""

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
        result: Tensor = x + self.drop(self.outer(_relu(self.inner(mixed), self.training)))
        return result


class _ChannelDropout(nn.Module):
    """Drops a channel for the whole window: steps are too similar to drop single ones."""

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
        projected = self.ask(self.norm(x)).unflatten(-1, (3, self._heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None, None, :], -1e4).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).flatten(-2)
        result: Tensor = x + self.drop(self.out(mixed))
        return result


class HeadEnsemble(nn.Module):
    """Several trained heads as one: the mean of their logits for the first `glosses` classes.

    All further classes of the heads (signs outside the vocabulary, no sign at all) are merged into
    one last logit, idle: (glosses + 1) logits. Without further classes there is no idle logit.
    """

    def __init__(self, heads: Sequence[nn.Module], glosses: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self._glosses = glosses
        self._idle = classes > glosses

    def forward(self, features: Tensor, mask: Tensor) -> HeadOutput:
        outputs = [head(features, mask) for head in self.heads]
        logits = torch.stack([output[0] for output in outputs]).mean(0)  # B, K
        attention = torch.stack([output[1] for output in outputs]).mean(0)  # B, T
        embedding = torch.cat([output[2] for output in outputs], 1)  # B, E of each
        if self._idle:
            others = logits[:, self._glosses :].logsumexp(1, keepdim=True)
            logits = torch.cat([logits[:, : self._glosses], others], 1)
        return HeadOutput(logits, attention, _unit_length(embedding))


def _softmax_over_time(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores (B, T, P) -> weights that sum to 1 over the real steps."""
    return scores.masked_fill(~mask[..., None], -1e4).softmax(1)


def _relu(x: Tensor, training: bool) -> Tensor:
    if not training:
        return F.relu(x)
    # What relu keeps for its gradient, torch.compile writes number by number: this takes a third.
    x = x.float()
    return (x + x.abs()) / 2


def _unit_length(vectors: Tensor) -> Tensor:
    """(B, E) at length 1."""
    return F.normalize(vectors, dim=1, eps=1e-6)


Head = GlossClassifier | AttentiveProbe | LandmarkClassifier
_KINDS = {"gloss": GlossClassifier, "attentive": AttentiveProbe, "landmarks": LandmarkClassifier}
HEADS = tuple(_KINDS)


def make_head(settings: Mapping[str, Any]) -> Head:
    """A new, untrained head from the `settings` of another.

    Raises:
        ValueError: there is no such head, or it takes no such setting.
    """
    kind = str(settings.get("kind"))
    if kind not in HEADS:
        raise ValueError(f"no head of kind {kind!r}: use {', '.join(HEADS)}")
    try:
        head: Head = _KINDS[kind](**{name: v for name, v in settings.items() if name != "kind"})
        return head
    except TypeError as exc:
        raise ValueError(f"head {kind!r}: {exc}") from exc


def last_layer(head: Head) -> nn.Linear:
    """The layer whose output are the logits."""
    layers = head.out if isinstance(head, LandmarkClassifier) else head.classify
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    return last
