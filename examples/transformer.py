"""A small transformer on images of digits: a model of one's own, swept over width in every parameterization.

    cd examples && noisescale sweep transformer.toml --out ../runs/transformer

Nothing in it knows of noisescale. Width is the size of a token; the number of heads stays, so a head grows with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

HEADS, BLOCKS = 2, 2


class Attention(nn.Module):
    """Every token looks at every other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        examples, places, width = tokens.shape
        heads = self.qkv(tokens).view(examples, places, 3, HEADS, width // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // HEADS)
        mixed = torch.softmax(scores, -1) @ value
        return self.out(mixed.transpose(1, 2).reshape(examples, places, width))


class Block(nn.Module):
    """Attention and an MLP, each on normalized tokens and added to them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Transformer(nn.Module):
    """Rows of an image as tokens, blocks, the mean token, a linear read-out."""

    def __init__(self, width: int, side: int, num_classes: int) -> None:
        super().__init__()
        self.side = side
        self.embed = nn.Linear(side, width)
        self.place = nn.Embedding(side, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(width)
        self.read_out = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images.reshape(-1, self.side, self.side)) + self.place.weight
        return self.read_out(self.norm(self.blocks(tokens)).mean(1))


def model(width: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """What a sweep calls: a fresh module of this width."""
    return Transformer(width, math.isqrt(math.prod(input_shape)), num_classes)
