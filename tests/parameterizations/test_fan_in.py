from __future__ import annotations

import pytest
from torch import nn

from noisescale.errors import BadInput
from noisescale.parameterizations import describe_parameters


def test_a_parameter_that_does_not_train_is_refused_by_name() -> None:
    module, reference = (nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2)) for width in (4, 8))
    module[0].weight.requires_grad_(False)
    with pytest.raises(BadInput, match=r"register '0\.weight' as a buffer"):
        describe_parameters(module, reference)
