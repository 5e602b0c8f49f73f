"""Park, Sohl-Dickstein, Le, Smith 2019: the best normalized noise scale grows with width."""

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
    "We train one hidden layer on MNIST-1D. The paper trains MLPs, convolutional networks and residual networks on "
    "images."
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
        statement="Below the largest stable rate, late test accuracy is a function of ε/B alone.",
        statistic="Change of accuracy from ε = 1 to ε = 4 at equal ε/B, for the ε/B that deviates most. Control: the "
        "change from one ε/B to another.",
        criterion="At each of four ε/B, the accuracies are equivalent within max(½ point, a quarter of the control). "
        "The control is detected.",
        source="read",
        experiment=equal_noise.collapse,
        minutes=9.0,
        differs=f"{_DIFFERS} We take 2/λ_max at the start as the largest stable rate, as for squared error. Training "
        "also ends well at larger rates, which start above this bound. We report these rates as well. The verdict does "
        "not depend on them. Earlier rounds used rates from 2 to 8 in the criterion.",
    ),
    _claim(
        id="C1.3",
        statement="In the NTK parameterization without batch norm the best ḡ is proportional to width.",
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
        statement="In the standard parameterization without batch norm the best ε/B does not depend on width.",
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
        statement="Each at its own optimum, wider networks have higher test accuracy.",
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
        statement="The largest stable rate does not depend on width under NTK and falls as 1/width under standard.",
        statistic="Slope of log ε_½ on log width at the largest batch, under NTK and under standard",
        criterion="The 95% interval lies within 0 ± 0.25 under NTK and within −1 ± 0.25 under standard.",
        source="recalled",
        experiment=stable_rates.stable_rate,
        minutes=2.5,
        differs=_DIFFERS,
        disputed="The theory is for squared error and linearized networks. With cross-entropy, others find rates that "
        "fall much more slowly with width in the standard parameterization. Here the verdict rests on cross-entropy. "
        "We also report squared error. The verdict does not depend on it.",
        gpu_studies=(STABLE_RATES, STANDARD_STABLE_RATES),
    ),
    _claim(
        id="C1.7",
        statement="The largest batch that is consistent with the best noise falls with width.",
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
        statement="With batch norm the trend holds for residual networks and not for convolutional networks.",
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
        statement="At finite width NTK networks generalize worse than standard networks, each at its optimum.",
        statistic="Peak accuracy of NTK minus peak accuracy of standard, seed by seed",
        criterion="The 95% interval lies below 0.",
        source="read",
        experiment=peaks_over_widths.ntk_is_worse,
        minutes=9.4,
        differs=f"{_DIFFERS} NTK has ε = 8 and standard has ε = 0.25, each at its best batch. We do not tune ε.",
        disputed="Lee et al. 2020 (arXiv:2007.15801) find that NTK is better at finite width.",
        gpu_studies=(OVER_WIDTHS, STANDARD_OVER_WIDTHS),
    ),
    _claim(
        id="C1.10",
        statement="There is a width beyond which constant SGD stops improving.",
        statistic="Gain in accuracy over the first two doublings of width. Gain over the last two doublings minus a "
        "quarter of the first gain.",
        criterion="The 95% interval of the first statistic lies above 0, and that of the second below 0. If all of the "
        "second interval lies above 0, the claim is open, because the critical width may be larger.",
        source="read",
        experiment=peaks_over_widths.critical_width,
        minutes=2.1,
        differs=f"{_DIFFERS} We use few examples, redraw some of their labels, and train no width above 512.",
    ),
    _claim(
        id="C1.11",
        statement="The initial variance enters as 1/σ²: the best g is proportional to σ0².",
        statistic="Slope of log g_opt on log σ0²",
        criterion="The 95% interval lies within 1 ± 0.5, which excludes 0.",
        source="derived",
        experiment=noise_over_widths.noise_over_init_variance,
        minutes=3.4,
        differs=_DIFFERS,
    ),
)
