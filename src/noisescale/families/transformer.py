"""Transformer: pre-norm blocks of attention and an MLP, learned positions, GELU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from noisescale.errors import BadInput
from noisescale.input_shapes import vocabulary_of

# Rows of weights that compute the queries of attention.
QUERY_ROWS = ("blocks.*.attention.qkv.weight[:1/3]",)
# The hidden layer of each MLP is this many times as wide (Vaswani et al. 2017, section 3.3).
MLP_RATIO = 4


def transformer(
    width: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    heads: int,
    dropout: float = 0.0,
    tied: bool = False,
    read_out: str | None = None,
) -> nn.Module:
    """Build embeddings, `depth` blocks, a last normalization and a linear read-out.

    Each block adds attention(norm(h)) and mlp(norm(h)) to h. With outputs for each token, a token attends to itself and
    the tokens before it; otherwise to all.

    Args:
        width: Size of a token's vector.
        input_shape: Shape of one example: (T,) for tokens, or (C, T) for a sequence of T vectors.
        num_classes: Number of outputs.
        depth: Number of blocks.
        heads: Number of heads, a divisor of the width.
        dropout: Probability of dropout of embeddings, of attention and of what a block adds.
        tied: Whether the read-out is the embedding of tokens.
        read_out: "tokens" for outputs [B, T, K], "mean" for outputs [B, K] of the mean over tokens. None for "tokens"
            if inputs are tokens, and "mean" otherwise.

    Returns:
        The network.

    Raises:
        BadInput: The heads do not divide the width, inputs are no sequences, or a tied read-out does not fit.
    """
    vocabulary = vocabulary_of(input_shape)
    if len(input_shape) != (1 if vocabulary is not None else 2):
        required = "sequences: tokens of shape (T,), or vectors of shape (C, T)"
        raise BadInput("model.family", f"{required} for 'transformer'", input_shape)
    if width % heads:
        raise BadInput("model.heads", f"a divisor of the width {width}", heads)
    read_out = read_out or ("mean" if vocabulary is None else "tokens")
    if tied and not (vocabulary == num_classes and read_out == "tokens"):
        required = "false, unless the outputs are the tokens of the inputs"
        raise BadInput("model.tied", required, "true")
    return Transformer(width, input_shape, num_classes, depth, heads, dropout, tied, read_out)


class Transformer(nn.Module):
    """The network that `transformer` builds. Its arguments are described there."""

    def __init__(
        self,
        width: int,
        input_shape: tuple[int, ...],
        num_classes: int,
        depth: int,
        heads: int,
        dropout: float,
        tied: bool,
        read_out: str,
    ) -> None:
        super().__init__()
        self.vocabulary, self.heads, self.read_out_kind = vocabulary_of(input_shape), heads, read_out
        if self.vocabulary is None:
            self.embedding: nn.Module = nn.Linear(input_shape[0], width)
        else:
            self.embedding = nn.Embedding(self.vocabulary, width)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.positions = nn.Embedding(input_shape[-1], width)
        nn.init.normal_(self.positions.weight, std=width**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout, read_out == "tokens") for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.read_out = nn.Linear(width, num_classes, bias=False)
        if tied:
            assert isinstance(self.embedding, nn.Embedding)
            self.read_out.weight = self.embedding.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute outputs [B, T, K] or [B, K] from tokens [B, T] or vectors [B, C, T]."""
        embedded = self.embedding(inputs if self.vocabulary is not None else inputs.mT)
        hidden = self.norm(self.blocks(self.dropout(embedded + self.positions.weight)))
        return self.read_out(hidden if self.read_out_kind == "tokens" else hidden.mean(1))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Adds attention(norm(h)) to h, then mlp(norm(h))."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout, causal)
        self.up, self.down = nn.Linear(width, MLP_RATIO * width), nn.Linear(MLP_RATIO * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute the next h from h, shape [B, T, width]."""
        hidden = hidden + self.dropout(self.attention(self.norm1(hidden)))
        mixed = self.down(functional.gelu(self.up(self.norm2(hidden))))
        return hidden + self.dropout(mixed)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention softmax(QKᵀ/√d)V with d = width/heads."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads, self.probability, self.causal = heads, dropout, causal
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix tokens, shape [B, T, width]."""
        examples, length, width = hidden.shape
        parts = self.qkv(hidden).view(examples, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        probability = self.probability if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=probability, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(examples, length, width))  # type: ignore[no-any-return]


def transformer_of(module: nn.Module) -> Transformer | None:
    """Return the module if it is a transformer of this family without hooks, so that its formula is known."""
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    return module if type(module) is Transformer and not hooked else None
