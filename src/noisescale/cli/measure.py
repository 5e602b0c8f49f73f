"""`noisescale measure`: gradient noise and curvature of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noisescale.cli.arguments import AsJson
from noisescale.cli.json_output import print_json
from noisescale.streams import output_as_errors


def measure_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="package.module:name of a model or a function that builds it.")
    ],
    data: Annotated[str, typer.Option(help="The name of a data set, or package.module:function that returns arrays.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights, written by torch.save(model.state_dict(), path).")
    ] = None,
    loss: Annotated[
        str,
        typer.Option(help="cross_entropy, mse, binary_cross_entropy, or package.module:function."),
    ] = "cross_entropy",
    ignore_index: Annotated[int | None, typer.Option(help="Label of targets that do not count.")] = None,
    outputs: Annotated[
        str | None, typer.Option(help="Entry of the model's outputs, if it returns a dictionary, a tuple or an object.")
    ] = None,
    examples: Annotated[int, typer.Option(min=2, help="Largest number of training examples, drawn at random.")] = 1024,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the choice of examples and of random probes.")
    ] = 0,
    as_given: Annotated[bool, typer.Option("--as-given", help="Do not shift and scale the inputs.")] = False,
    key: Annotated[
        str | None, typer.Option(help="Key of the weights in the checkpoint (default: the usual ones).")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Width, for a factory as a sweep takes it.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure this quantity, by its name in --json. Can be repeated.")
    ] = None,
    max_products: Annotated[
        int, typer.Option(min=1, help="Largest number of products with a matrix, for each quantity.")
    ] = 1000,
    as_json: AsJson = False,
) -> int:
    """Measure the gradient noise and curvature of a model, with standard errors."""
    from noisescale.datasets import DatasetOptions, load_dataset
    from noisescale.measure import load_model, measure_model
    from noisescale.report import MeasurementLines, measured_tables, print_tables
    from noisescale.user_code import contained

    with output_as_errors():
        multi_label = loss == "binary_cross_entropy" and ":" in data
        loaded = load_dataset(DatasetOptions(data, standardize=False if as_given else None, multi_label=multi_label))
        shape = (loaded.input_shape, loaded.num_classes)
        loaded_model = load_model(model, checkpoint, key=key, width=width, data=shape, outputs=outputs)
        with MeasurementLines() as lines, contained():
            measurement = measure_model(
                loaded_model, loaded, loss=loss, examples=examples, seed=seed, ignore_index=ignore_index,
                only=only or (), max_products=max_products, on_progress=lines.show,
            )  # fmt: skip
    if as_json:
        print_json(measurement.as_json())
    else:
        print_tables(measured_tables(measurement))
    return 0
