"""The sections `[dataset]` and `[model]` of a spec. Each key states its row of the reference page, docs/spec.md."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

from pydantic import Field

from noisescale.datasets import KNOWN_DATASETS, DatasetOptions
from noisescale.families import ACTIVATIONS, FAMILIES, NORMALIZATIONS, READ_OUTS, ModelOptions, complete
from noisescale.sweeps.axes import LARGEST_INTEGER
from noisescale.sweeps.spec_values import (
    MOST_STEM,
    SEEDS_BELOW,
    Blocks,
    Count,
    NamePatterns,
    OutputEntry,
    Patterns,
    RateMultipliers,
    Section,
    Standardization,
    choices,
    key,
    one_of,
)


class DatasetSection(Section):
    """The data. Every run of a sweep sees the same subset, split and label noise."""

    name: str = key(
        choices(KNOWN_DATASETS) + ', or `"package.module:function"`',
        "the data set. language is a synthetic language whose entropy is known, and text is a file of yours: models "
        "predict the next token. Your function takes no argument and returns `(x_train, y_train, x_test, y_test)`, "
        "with inputs of shape [N, D], [N, C, L], [N, C, H, W] or tokens [N, T], or a dictionary of arrays [N, …], and "
        "with integer labels [N], integer labels of each token [N, T], or real-valued targets [N] or [N, K]; or it "
        "returns `(train, test)`, both torch data sets or loaders",
        "MNIST-1D: Greydanus, Kobak, arXiv:2011.14439",
    )
    train_size: Count | None = key(
        "whole number above 0",
        "number of training examples, before the validation split; all if not given. `mnist1d` has 4,000 published "
        "examples and generates more, up to 1,000,000. `language` generates any number, 4,096 if not given. Of `text` "
        "these are the first examples",
        default=None,
    )
    test_size: Count | None = key(
        "whole number above 0",
        "number of test examples; all if not given. `mnist1d` has 1,000 published examples and generates more, up to "
        "1,000,000. `language` generates any number, 1,024 if not given. Of `text` these are the examples at the end "
        "of the file, a tenth of all if not given",
        default=None,
    )
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = key(
        "number from 0 to below 1",
        "fraction of the training examples that becomes the validation set and is not trained on. Of `text` and "
        "`language` these are the last ones",
        default=0.0,
    )
    label_noise: Annotated[float, Field(ge=0, lt=1)] = key(
        "number from 0 to below 1",
        "fraction of the training labels that is redrawn uniformly over the classes. It needs class labels, and is 0 "
        "if `grid.label_noise` is given",
        default=0.0,
    )
    data_seed: Annotated[int, Field(ge=0, lt=SEEDS_BELOW)] = key(
        "whole number from 0 to below 2^32",
        "seed of the choice of examples, the validation split and the label noise, and of the table and the examples "
        "of `language`",
        default=0,
    )
    standardize: Standardization = key(
        '`true`, `false`, `"columns"`',
        "how inputs are shifted and scaled to mean 0 and deviation 1 over the training set: each channel, nothing, or "
        "each column of vectors [N, D]. If not given, as with true; but whole numbers [N, T] of your function (not "
        "bytes, booleans or a DataFrame) are tokens, which stay as they are. With true or columns they are numbers",
        default=None,
    )
    vocabulary: Count | None = key(
        "whole number above 0",
        "V, the number of kinds of tokens, which are 0 to V − 1. If not given, 16 for `language`, and else the largest "
        "token of your data + 1. Where it is given, bytes and DataFrames of whole numbers are tokens too",
        default=None,
    )
    context: Count | None = key(
        "whole number above 0",
        "T, the number of tokens of an example of `text` or `language`; 64 if not given",
        default=None,
    )
    path: str | None = key(
        "path of a file in UTF-8",
        "the text of `text`, whose bytes are the tokens (V = 256). It is cut into windows of T bytes, one after "
        "another, whose targets are the next bytes; the last windows are the test set, the windows before it the "
        "validation set. The file may be larger than the memory. A relative path begins in the current folder",
        default=None,
    )
    order: Count | None = key(
        "whole number above 0",
        "k, the number of tokens on which the next token of `language` depends; 2 if not given",
        default=None,
    )
    multi_label: bool = key(
        "true or false",
        "true if each target of your function is 0 or 1 and states whether a label applies, with any number of labels "
        "[N] or [N, K]. A model then has an output for each label. It is implied by the loss `binary_cross_entropy`",
        default=False,
    )

    def options(self, label_noise: float, train_size: int | None = None) -> DatasetOptions:
        """Return the options of the data set at one fraction of redrawn labels.

        Args:
            label_noise: The fraction.
            train_size: Number of training examples in place of that of the section.
        """
        size = self.train_size if train_size is None else train_size
        return DatasetOptions(**{**self.model_dump(), "label_noise": label_noise, "train_size": size})


class ModelSection(Section):
    """The family of networks and its options. Widths belong to the grid."""

    family: str = key(
        choices(FAMILIES) + ' or `"package.module:factory"`',
        "the network. Your factory is a function `(width, input_shape, num_classes) -> nn.Module`; the shape is a "
        "dictionary of shapes for a dictionary of inputs. Without "
        "`grid.width` it is a function `(input_shape, num_classes)` or `()`, or a module",
        "resnet: He, Zhang, Ren, Sun 2016",
    )
    depth: Annotated[int, Field(gt=0, le=1000)] = key(
        "whole number from 1 to 1000",
        "number of hidden layers of an MLP, or of convolutions of a convnet",
        default=ModelOptions.depth,
    )
    activation: str = key(
        choices(ACTIVATIONS),
        "activation after every hidden layer; built-in families only",
        default=ModelOptions.activation,
    )
    normalization: Annotated[str, one_of(NORMALIZATIONS)] = key(
        choices(NORMALIZATIONS),
        "normalization before every activation; built-in families only. A resnet without normalization uses SkipInit",
        "De, Smith 2020 for SkipInit",
        default=ModelOptions.normalization,
    )
    groups: Count | None = key(
        "whole number above 0",
        "number of groups of `group` normalization, a divisor of the channels; 2 if not given",
        default=ModelOptions.groups,
    )
    ghost_size: Annotated[int, Field(ge=2, le=LARGEST_INTEGER)] | None = key(
        "whole number of at least 2",
        "number of examples that `ghost_batch` normalizes together; 64 if not given. Smaller batches are normalized "
        "as a whole",
        "Smith, Elsen, De 2020",
        default=ModelOptions.ghost_size,
    )
    blocks: Blocks | None = key(
        "list of whole numbers above 0",
        "number of residual blocks in each stage of a resnet; [1, 1] if not given",
        default=ModelOptions.blocks,
    )
    stem: Annotated[int, Field(gt=0, le=MOST_STEM)] | None = key(
        "whole number above 0",
        "number of channels of a resnet's first convolution; the width if not given",
        "Zagoruyko, Komodakis 2016",
        default=ModelOptions.stem,
    )
    scale_invariant: bool = key(
        "true or false",
        "true puts a normalization without affine parameters after every weight layer and fixes a random read-out",
        "Li, Lyu, Arora 2020",
        default=ModelOptions.scale_invariant,
    )
    heads: Count | None = key(
        "whole number above 0",
        "number of heads of a transformer, a divisor of every width; 4 if not given",
        "Vaswani et al. 2017",
        default=ModelOptions.heads,
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = key(
        "number from 0 to below 1",
        "probability of dropout of a transformer: of embeddings, of attention, and of what a block adds. It is drawn "
        "from the run's seed",
        "Srivastava et al. 2014",
        default=ModelOptions.dropout,
    )
    tied: bool = key(
        "true or false",
        "whether the read-out of a transformer is its embedding of tokens. Only for the parameterization own: the "
        "others give an embedding and a read-out different rates, which one tensor cannot have",
        "Press, Wolf 2017",
        default=ModelOptions.tied,
    )
    read_out: Annotated[str, one_of(READ_OUTS)] | None = key(
        choices(READ_OUTS),
        "whether a transformer has outputs for each token, which then attends to the tokens before it, or for their "
        "mean (if not given, tokens for inputs that are tokens, and mean for vectors); and whether the read-out of a "
        "convnet or resnet takes the mean over positions (if not given) or, with flatten, all of them",
        default=ModelOptions.read_out,
    )
    outputs: OutputEntry | None = key(
        "string, or whole number of at least 0",
        "the entry that the loss takes if your module returns a dictionary, an object or a tuple: a key, an attribute "
        "or an index",
        default=None,
    )
    query_rows: Patterns | None = key(
        'list of patterns such as `"blocks.*.qkv.weight[:1/3]"`',
        "for mup: the rows of weights that compute the queries of attention. Their multiplier turns the factor "
        "1/√d_head into 1/d_head",
        "Yang, Hu 2021",
        default=None,
    )

    rate_multipliers: RateMultipliers | None = key(
        'table such as `{ "backbone.*" = 0.1 }`',
        "factors of the learning rate by pattern of parameter names (`*` and `?` match any characters), on top of the "
        "parameterization's rate multipliers. They are the same for every optimizer",
        default=None,
    )

    checkpoint: str | None = key(
        "path of a file that `torch.save` or a training tool wrote",
        "weights from which every run starts, by name (fine-tuning). The names and shapes must be those of the model. "
        'It needs the parameterization `"own"` and one model: one width, or none',
        default=None,
    )
    reinitialize: NamePatterns | None = key(
        'list of patterns such as `"head.*"`',
        "weights that do not start from `model.checkpoint`, but are drawn by the model from the seed of each run",
        default=None,
    )

    def options(self, *, fixed: bool = False) -> ModelOptions:
        """Return the options with the defaults of the family filled in; refuse what the family does not take.

        Args:
            fixed: Whether the spec has one fixed model without a width.
        """
        names = [f.name for f in fields(ModelOptions) if f.name != "fixed"]
        return complete(ModelOptions(**{name: getattr(self, name) for name in names}, fixed=fixed))
