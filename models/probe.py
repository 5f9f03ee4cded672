"""V-JEPA 2's attentive probe: the head with which its authors score a frozen encoder.

Three self-attention blocks look from step to step, then one learnt query looks at all of them
(Assran et al. 2025, 'V-JEPA 2', appendix on probes: 16 heads, 4 blocks, MLP four times as wide).
A step's place is not added: V-JEPA 2's features carry it. Rows that don't (landmarks) are read as a
bag of steps here, so take `LandmarkClassifier` for them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.answer import Answer, unit

_MOST_HEADS = 16


class AttentiveProbe(nn.Module):
    """One query over steps that have seen each other, then one linear layer.

    `attention_heads` is how many a block has: by default 16, as all of V-JEPA 2's widths
    allow, or the most below that divide `dim`.

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
        }
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(blocks)
        )
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.before = nn.LayerNorm(dim)
        self.look = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.after = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, classes))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Small weights, smaller the deeper a block lies, as V-JEPA 2 starts its probe."""
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

    def forward(self, features: Tensor, mask: Tensor) -> Answer:
        x = features.masked_fill(~mask[..., None], 0.0)  # B, T, D
        for block in self.blocks:
            x = block(x, src_key_padding_mask=~mask)
        x = self.before(x)
        # Not len(x): that would fix the batch in an exported graph.
        query = self.query.expand(x.shape[0], -1, -1)  # B, 1, D
        seen, attention = self.look(query, x, x, key_padding_mask=~mask)  # B, 1, D; B, 1, T
        pooled = query + seen
        pooled = (pooled + self.after(pooled)).squeeze(1)  # B, D
        return Answer(self.classify(pooled), attention.squeeze(1), unit(pooled))
