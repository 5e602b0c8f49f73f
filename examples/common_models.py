"""Models as public code writes them, with their data: each is swept by a spec of a few lines in this folder.

    cd examples && noisescale sweep user_gpt.toml --out ../runs/user_gpt

Nothing in it knows of noisescale. Every factory takes a width, the shape of one input, and the number of outputs.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

HEADS = 2


class GPT(nn.Module):
    """A decoder that returns the logits and the loss if it gets targets, and else the logits of the last token."""

    def __init__(self, width: int, length: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(GPTBlock(width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        hidden = self.drop(self.tokens(idx) + self.places(torch.arange(idx.shape[1], device=idx.device)))
        for block in self.blocks:
            hidden = block(hidden)
        if targets is None:
            return self.head(self.norm(hidden[:, [-1]])), None
        logits = self.head(self.norm(hidden))
        return logits, functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class EveryToken(nn.Module):
    """The logits of every token: the GPT gets some targets, and its loss is not used."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt

    def forward(self, idx: Tensor) -> Tensor:
        return self.gpt(idx, idx)[0]


class GPTBlock(nn.Module):
    """Causal attention and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, hidden: Tensor) -> Tensor:
        examples, length, width = hidden.shape
        query, key, value = (
            part.view(examples, length, HEADS, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(hidden)).split(width, 2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(examples, length, width))
        return hidden + self.mlp(self.norm2(hidden))


def gpt(width: int, shape: tuple[int, ...], vocabulary: int) -> nn.Module:
    """Build the decoder."""
    return EveryToken(GPT(width, shape[0], vocabulary))


class Encoder(nn.Module):
    """Torch's encoder, with the mean over tokens as features."""

    def __init__(self, width: int, length: int, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, HEADS, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.tokens(tokens) + self.places.weight
        return self.head(self.encoder(hidden).mean(1))


def encoder(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build the classifier."""
    return Encoder(width, shape[0], shape.vocabulary, classes)  # type: ignore[attr-defined]


class Recurrent(nn.Module):
    """A GRU that reads tokens, and its last state as features."""

    def __init__(self, width: int, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.tokens, self.gru = nn.Embedding(vocabulary, width), nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.tokens(tokens))
        return self.head(states[:, -1])


def recurrent(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build the recurrent network."""
    return Recurrent(width, shape.vocabulary, classes)  # type: ignore[attr-defined]


def words() -> tuple[np.ndarray, ...]:
    """Sequences of 12 tokens of 8 kinds, labelled by which of the first two kinds is more frequent."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(8, size=(6000, 12))
    counts = np.stack([(tokens == kind).sum(1) for kind in (0, 1)], 1)
    tokens, counts = tokens[counts[:, 0] != counts[:, 1]], counts[counts[:, 0] != counts[:, 1]]
    labels = counts.argmax(1)
    return tokens[:3000], labels[:3000], tokens[3000:4000], labels[3000:4000]


class UNet(nn.Module):
    """A small U-Net that returns the restored image and its features by name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.Sequential(
            nn.GroupNorm(2, 2 * width), nn.ReLU(), nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        )
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.leave = nn.Conv2d(2 * width, 1, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        above = functional.relu(self.enter(images))
        below = self.middle(functional.relu(self.down(above)))
        joined = torch.cat([above, functional.relu(self.up(below))], 1)
        return {"features": below, "pixels": self.leave(joined).flatten(1)}


def unet(width: int, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Build the U-Net."""
    return UNet(width)


def noisy_digits() -> tuple[np.ndarray, ...]:
    """Images of digits with noise, and the pixels without it."""
    images = load_digits().images.astype(np.float32)[:, None] / 16
    noisy = images + np.random.default_rng(0).normal(scale=0.3, size=images.shape).astype(np.float32)
    pixels = images.reshape(len(images), -1)
    return noisy[:1400], pixels[:1400], noisy[1400:], pixels[1400:]


class Table(nn.Module):
    """A table of categories and numbers: embeddings, batch normalization and dropout."""

    def __init__(self, width: int, columns: int, outputs: int) -> None:
        super().__init__()
        self.kinds = nn.Embedding(6, 4)
        self.layers = nn.Sequential(
            nn.Linear(4 + columns - 1, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(width, outputs),
        )

    def forward(self, rows: Tensor) -> Tensor:
        kind, numbers = rows[:, 0].long(), rows[:, 1:]
        return self.layers(torch.cat([self.kinds(kind), numbers], 1))


def table(width: int, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Build the network for tables."""
    return Table(width, shape[0], outputs)


def rows() -> tuple[np.ndarray, ...]:
    """A category and five numbers; the label depends on both."""
    generator = np.random.default_rng(0)
    kind = generator.integers(6, size=3000)
    numbers = generator.normal(size=(3000, 5)).astype(np.float32)
    slopes = generator.normal(size=(6, 5))
    labels = ((numbers * slopes[kind]).sum(1) + generator.normal(scale=0.5, size=3000) > 0).astype(int)
    table = np.concatenate([kind[:, None], numbers], 1).astype(np.float32)
    return table[:2000], labels[:2000], table[2000:], labels[2000:]


class Pretrained(nn.Module):
    """A frozen backbone with a new head. The backbone has random features in place of pretrained ones."""

    def __init__(self, width: int, inputs: int, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 64), nn.ReLU())
        self.backbone.requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def pretrained(width: int, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build the network with a frozen backbone."""
    return Pretrained(width, int(np.prod(shape)), classes)
