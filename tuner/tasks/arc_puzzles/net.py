"""The transformer that solves puzzles: it encodes each pair shown, and decodes all cells of the answer at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tuner.tasks.arc_puzzles.canvas import CLASSES, is_shown
from tuner.tasks.arc_puzzles.puzzle import LARGEST_SIDE


class PuzzleTransformer(nn.Module):
    """Pre-norm encoder and decoder of width `d_model = heads * head_dim` (A. Vaswani et al., 2017, arXiv:1706.03762).

    The encoder sees one pair at a time, a token for each cell with its colour in the input and in the output, so the
    order of the pairs cannot matter. The decoder has a query for each cell of the answer: learned, by row and column,
    plus the test input's colour there, plus the mean over the pairs of what the encoder made of that cell. It attends
    to its queries and to all that is known: encoded pairs and test input. Positions are learned for rows and for
    columns, up to 30, so canvases of any size go through one net.
    """

    def __init__(
        self, heads: int, head_dim: int, encoder_layers: int, decoder_layers: int, d_ff: int, dropout: float
    ) -> None:
        super().__init__()
        counts = {
            "heads": heads,
            "head_dim": head_dim,
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {count}")
        self.d_model = heads * head_dim
        if d_ff < self.d_model:
            raise ValueError(f"d_ff must be at least d_model = heads * head_dim = {self.d_model}, not {d_ff}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {dropout}")
        self.color_in, self.color_out, self.color_test, self.color_query = (
            nn.Embedding(CLASSES, self.d_model) for _ in range(4)
        )
        self.place, self.query = Places(self.d_model), Places(self.d_model)
        self.encoder = nn.ModuleList(EncoderLayer(self.d_model, heads, d_ff, dropout) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(self.d_model, heads, d_ff, dropout) for _ in range(decoder_layers))
        self.pair_norm, self.test_norm, self.last_norm = (nn.LayerNorm(self.d_model) for _ in range(3))
        self.readout = nn.Linear(self.d_model, CLASSES)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits (batch x size x size x 11) of inputs as `canvas.samples_of` gives them."""
        test, shown = inputs["test"], is_shown(inputs["context_in"])
        size, cells = test.shape[-1], test.flatten(-2)
        places = self.place(size)
        pairs = self._encoded(inputs["context_in"].flatten(-2), inputs["context_out"].flatten(-2), places)
        memory = torch.cat([pairs.flatten(1, 2), self.test_norm(self.color_test(cells) + places)], dim=1)
        known = torch.cat(
            [shown.repeat_interleave(size * size, dim=1), torch.ones_like(cells, dtype=torch.bool)], dim=1
        )
        mask = known.to(memory.dtype).log()  # 0 or minus infinity: a CPU adds far faster than it fills by a mask
        answer = self.query(size) + self.color_query(cells) + _mean_of_shown(pairs, shown)
        for layer in self.decoder:
            answer = layer(answer, memory, mask)
        logits: Tensor = self.readout(self.last_norm(answer))
        return logits.reshape(-1, size, size, CLASSES)

    def _encoded(self, before: Tensor, after: Tensor, places: Tensor) -> Tensor:
        """Pairs as colours (batch x pairs x cells, each) encoded one by one: batch x pairs x cells x d_model."""
        tokens = (self.color_in(before) + self.color_out(after) + places).flatten(0, 1)
        for layer in self.encoder:
            tokens = layer(tokens)
        encoded: Tensor = self.pair_norm(tokens)
        return encoded.reshape(*before.shape, self.d_model)


def _mean_of_shown(pairs: Tensor, shown: Tensor) -> Tensor:
    """The mean over the pairs that are there: batch x cells x d_model of batch x pairs x cells x d_model."""
    weights = shown.to(pairs.dtype)[:, :, None, None]
    return (pairs * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class Places(nn.Module):
    """A learned vector for each row and each column, a cell's being the sum of its two."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(LARGEST_SIDE, d_model))
        self.columns = nn.Parameter(torch.randn(LARGEST_SIDE, d_model))

    def forward(self, size: int) -> Tensor:
        """Vectors of a canvas, row by row: (size * size) x d_model."""
        return (self.rows[:size, None] + self.columns[None, :size]).flatten(0, 1)


class Attention(nn.Module):
    """Multi-head attention from `queries` to `memory`."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query, self.to_key, self.to_value, self.out = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """batch x queries x d_model; `mask` (batch x tokens) is added to the scores of `memory`: 0, or -inf to bar."""
        q, k, v = map(self._split, (self.to_query(queries), self.to_key(memory), self.to_value(memory)))
        # Written out, for torch's fused attention cannot be vmapped on the CPU.
        scores = (q / math.sqrt(q.shape[-1])) @ k.mT
        if mask is not None:
            scores = scores + mask[:, None, None, :]
        mixed = scores.softmax(dim=-1) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        """batch x heads x tokens x head_dim of batch x tokens x d_model."""
        return tokens.reshape(len(tokens), tokens.shape[1], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Sequential):
    """d_model - d_ff - d_model, with GELU between."""

    def __init__(self, d_model: int, d_ff: int, dropout: float) -> None:
        super().__init__(nn.Linear(d_model, d_ff), nn.GELU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model))


class EncoderLayer(nn.Module):
    """Tokens attend to one another, then each goes through the feed-forward net; both add to what was there."""

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(2))
        self.attention, self.feed_forward = Attention(d_model, heads), FeedForward(d_model, d_ff, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """batch x tokens x d_model, in and out."""
        seen = self.norms[0](tokens)
        tokens = tokens + self.dropout(self.attention(seen, seen))
        added: Tensor = self.dropout(self.feed_forward(self.norms[1](tokens)))
        return tokens + added


class DecoderLayer(nn.Module):
    """Queries attend to one another, then to what is known, then each goes through the feed-forward net."""

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(3))
        self.among, self.across = Attention(d_model, heads), Attention(d_model, heads)
        self.feed_forward, self.dropout = FeedForward(d_model, d_ff, dropout), nn.Dropout(dropout)

    def forward(self, answer: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """batch x queries x d_model, in and out; `memory` is batch x tokens x d_model, `mask` batch x tokens."""
        seen = self.norms[0](answer)
        answer = answer + self.dropout(self.among(seen, seen))
        answer = answer + self.dropout(self.across(self.norms[1](answer), memory, mask))
        added: Tensor = self.dropout(self.feed_forward(self.norms[2](answer)))
        return answer + added
