"""Augmentation compared with its definition, image by image, and in training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from noisescale.errors import BadInput
from noisescale.training.augmentation import augment, draw_block, largest_shift
from noisescale.training.sampling import index_block

if TYPE_CHECKING:
    from conftest import MakeData, MakeRun, MakeTrainer

SHAPE = (2, 16, 9)


def by_hand(image: Tensor, flip: bool, down: int, right: int) -> Tensor:
    """Return a window of the padded image, mirrored or not."""
    vertical, horizontal = largest_shift(image.shape[1]), largest_shift(image.shape[2])
    wide = nn.ZeroPad2d((horizontal, horizontal, vertical, vertical))(image)
    window = wide[:, down : down + image.shape[1], right : right + image.shape[2]]
    return window.flip(2) if flip else window


@pytest.mark.parametrize("names", [["flip"], ["crop"], ["flip", "crop"]])
def test_every_image_is_shifted_and_mirrored_as_drawn(names: list[str]) -> None:
    draws = draw_block(names, [4, 7], 3, 30, SHAPE)
    images = torch.randn(60, *SHAPE)
    augmented = augment(images, draws)
    flips, downs, rights = (tensor.flatten() for tensor in (draws.flip, draws.down, draws.right))
    for place, image in enumerate(images):
        expected = by_hand(image, bool(flips[place]), int(downs[place]), int(rights[place]))
        assert torch.equal(augmented[place], expected)
    assert flips.any() == ("flip" in names) and not flips.all()
    assert (len(downs.unique()), len(rights.unique())) == ((5, 3) if "crop" in names else (1, 1))


def test_draws_depend_only_on_seed_and_block() -> None:
    one, two = draw_block(["flip"], [4, 7], 3, 30, SHAPE), draw_block(["flip"], [7], 3, 30, SHAPE)
    assert torch.equal(one.flip[1], two.flip[0]) and not torch.equal(one.flip[0], one.flip[1])
    assert not torch.equal(two.flip, draw_block(["flip"], [7], 4, 30, SHAPE).flip)


def test_an_augmented_pack_equals_a_plain_loop_over_the_same_images(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data = make_data(SHAPE)
    base = make_run(family="convnet", width=4, augmentation="flip crop", steps=20, parameterization="own")
    runs = [replace(base, seed=seed) for seed in (1, 2)]
    trainer = make_trainer(runs, data)
    for until in (3, 11, 20):
        trainer.advance(until)
    from plain_loop import build

    for position, run in enumerate(runs):
        model = build(run, data, torch.float64)
        optimizer = torch.optim.SGD(model.parameters(), lr=run.learning_rate)
        for step in range(run.steps):
            block, place = divmod(step, 60 // 8)
            part = slice(8 * place, 8 * place + 8)
            index = index_block("epoch_shuffle", [run.seed], block, 60, 8)[0, part]
            draws = draw_block(["flip", "crop"], [run.seed], block, 60, SHAPE)
            images = [
                by_hand(image, bool(draws.flip[0, row]), int(draws.down[0, row]), int(draws.right[0, row]))
                for row, image in zip(range(part.start, part.stop), data.x_train[index].double(), strict=True)
            ]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.stack(images)), data.y_train[index]).backward()
            optimizer.step()
        for (name, plain), packed in zip(model.named_parameters(), trainer.state.parameters.values(), strict=True):
            torch.testing.assert_close(packed[position], plain.detach(), rtol=1e-9, atol=1e-9, msg=name)


def test_inputs_that_are_not_images_are_refused(
    make_run: MakeRun, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(BadInput, match="training.augmentation: no augmentation, because inputs are not images"):
        make_trainer([make_run(augmentation="flip")], make_data())
