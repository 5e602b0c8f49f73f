"""Park, Sohl-Dickstein, Le, Smith 2019: the best normalized noise scale grows with width.

ε is the learning rate, B the batch size and g the noise scale. The normalized noise scale ḡ is g in the NTK
parameterization, and g·width/σ0² in the standard parameterization. σ0² is the variance factor of the initial weights.
"""

from __future__ import annotations

from functools import partial

from noisescale.claims.claim import Claim
from noisescale.claims.experiments import (
    best_batch,
    equal_noise,
    noise_over_widths,
    peaks_over_widths,
    stable_rates,
)
from noisescale.claims.studies.batch_norm import CONVOLUTIONAL_NETWORKS, RESIDUAL_NETWORKS
from noisescale.claims.studies.stability import STABLE_RATES, STANDARD_STABLE_RATES
from noisescale.claims.studies.widths import OVER_WIDTHS, OVER_WIDTHS_AT_EQUAL_EPOCHS, STANDARD_OVER_WIDTHS

_DIFFERS = (
    "We train MLPs with one hidden layer on MNIST-1D. The paper trains MLPs, convolutional networks and residual "
    "networks on images."
)
_claim = partial(Claim, paper="park2019")

CLAIMS = (
    _claim(
        id="C1.1",
        statement="The best batch size is proportional to the learning rate.",
        statistic="Slopes of log B_opt on log ε, at equal epochs and at equal ε·steps",
        criterion="Both 95% intervals lie within 1 ± 0.5, which excludes 0, ½ and 3/2.",
        source="read",
        experiment=best_batch.best_batch,
        minutes=9.4,
        differs=_DIFFERS,
    ),
    _claim(
        id="C1.2",
        statement="Below the largest stable rate, test accuracy late in training is a function of ε/B alone.",
        statistic="Change of accuracy from ε = 1 to ε = 4 at equal ε/B, for the ε/B whose change is farthest from "
        "passing the test. Control: the change from one ε/B to another.",
        criterion="At each of four values of ε/B, the accuracies are equivalent within max(½ point, a quarter of the "
        "control). The 95% interval of the control excludes 0.",
        source="read",
        experiment=equal_noise.collapse,
        minutes=9.0,
        differs=f"{_DIFFERS} We take 2/λ_max at initialization as the largest stable rate, as for squared error. Runs "
        "with larger rates also train successfully. We report them as well. The verdict does not depend on them. "
        "Earlier rounds used rates from 2 to 8 in the criterion.",
    ),
    _claim(
        id="C1.3",
        statement="In the NTK parameterization without batch norm, the best normalized noise scale ḡ is proportional "
        "to width.",
        statistic="Slope of log ḡ_opt on log width, at equal ε·steps",
        criterion="The 95% interval lies within 1 ± 0.5, which excludes 0, ½ and 3/2.",
        source="read",
        experiment=noise_over_widths.noise_in_proportion,
        minutes=9.0,
        differs=_DIFFERS,
        gpu_studies=(OVER_WIDTHS, OVER_WIDTHS_AT_EQUAL_EPOCHS),
    ),
    _claim(
        id="C1.4",
        statement="In the standard parameterization without batch norm, the best ε/B does not depend on width.",
        statistic="Slope of log (ε/B)_opt on log width",
        criterion="The 95% interval lies within 0 ± 0.25.",
        source="read",
        experiment=noise_over_widths.constant_temperature,
        minutes=5.0,
        differs=_DIFFERS,
        gpu_studies=(STANDARD_OVER_WIDTHS,),
    ),
    _claim(
        id="C1.5",
        statement="Wider networks have higher test accuracy when each width is trained at its own optimum.",
        statistic="Rank correlation of peak accuracy with width, within a seed",
        criterion="The 95% interval lies above 0.",
        source="read",
        experiment=peaks_over_widths.peak_rises,
        minutes=5.4,
        differs=_DIFFERS,
        gpu_studies=(OVER_WIDTHS,),
    ),
    _claim(
        id="C1.6",
        statement="The largest stable rate does not depend on width in the NTK parameterization. It falls as 1/width "
        "in the standard parameterization.",
        statistic="Slope of log ε_½ on log width at the largest batch size, in each of the two parameterizations. ε_½ "
        "is the median of the largest stable rates of the seeds.",
        criterion="In the NTK parameterization, the 95% interval lies within 0 ± 0.25. In the standard "
        "parameterization, the 95% interval lies within −1 ± 0.25.",
        source="recalled",
        experiment=stable_rates.stable_rate,
        minutes=2.5,
        differs=_DIFFERS,
        disputed="The theory is for squared error and linearized networks. With cross-entropy, other authors find "
        "rates that fall much more slowly with width in the standard parameterization. Our verdict rests on "
        "cross-entropy. We also report squared error. The verdict does not depend on it.",
        gpu_studies=(STABLE_RATES, STANDARD_STABLE_RATES),
    ),
    _claim(
        id="C1.7",
        statement="The largest batch size B* at which the best noise scale can be reached falls with width.",
        statistic="Slope of log B* on log width",
        criterion="The 95% interval lies below 0.",
        source="read",
        experiment=stable_rates.largest_batch_falls,
        minutes=5.4,
        differs=_DIFFERS,
        gpu_studies=(OVER_WIDTHS,),
    ),
    _claim(
        id="C1.8",
        statement="With batch norm, the best ḡ grows with width for residual networks but not for convolutional "
        "networks.",
        statistic="Slope of log ḡ_opt on log width, for residual and for convolutional networks",
        criterion="The 95% interval lies above 0 for residual networks and within 0 ± 0.25 for convolutional networks.",
        source="read",
        experiment=noise_over_widths.with_batch_norm,
        minutes=9.3,
        differs="We train residual networks of two blocks and networks of three convolutions on 8×8 digits. The paper "
        "trains wide residual networks and convolutional networks on CIFAR.",
        gpu_studies=(RESIDUAL_NETWORKS, CONVOLUTIONAL_NETWORKS),
    ),
    _claim(
        id="C1.9",
        statement="At finite width, NTK networks generalize worse than standard networks when each network is trained "
        "at its optimum.",
        statistic="Peak accuracy in the NTK parameterization minus peak accuracy in the standard parameterization, "
        "seed by seed",
        criterion="The 95% interval lies below 0.",
        source="read",
        experiment=peaks_over_widths.ntk_is_worse,
        minutes=9.4,
        differs=f"{_DIFFERS} The NTK parameterization has ε = 8 and the standard parameterization has ε = 0.25, each "
        "at its best batch size. We do not tune ε.",
        disputed="Lee et al. 2020 (arXiv:2007.15801) find that NTK is better at finite width.",
        gpu_studies=(OVER_WIDTHS, STANDARD_OVER_WIDTHS),
    ),
    _claim(
        id="C1.10",
        statement="There is a width beyond which the accuracy of SGD with a constant learning rate stops improving.",
        statistic="Gain in accuracy over the first two doublings of width. Gain in accuracy over the last two "
        "doublings minus a quarter of the first gain.",
        criterion="The 95% interval of the first statistic lies above 0. The 95% interval of the second statistic "
        "lies below 0. If all of the second interval lies above 0, the claim is open, because the critical width may "
        "be larger.",
        source="read",
        experiment=peaks_over_widths.critical_width,
        minutes=2.1,
        differs=f"{_DIFFERS} We use few examples, redraw some of their labels, and train no width above 512.",
    ),
    _claim(
        id="C1.11",
        statement="The best noise scale g is proportional to the variance σ0² of the initial weights.",
        statistic="Slope of log g_opt on log σ0²",
        criterion="The 95% interval lies within 1 ± 0.5, which excludes 0.",
        source="derived",
        experiment=noise_over_widths.noise_over_init_variance,
        minutes=3.4,
        differs=_DIFFERS,
    ),
)
