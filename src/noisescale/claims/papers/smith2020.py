"""Smith, Elsen, De 2020: noise itself helps, at equal epochs and at equal steps.

ε is the learning rate, m the momentum and B the batch size. ε_opt is the rate with the best metric.
"""

from __future__ import annotations

from functools import partial

from noisescale.claims.claim import Claim
from noisescale.claims.experiments import equal_steps, tuned_rates
from noisescale.claims.studies.equal_steps import EQUAL_STEPS_WITH_GHOST_BATCHES
from noisescale.claims.studies.tuned_rates import TUNED_AT_EQUAL_EPOCHS, TUNED_WITH_MOMENTUM

_DIFFERS = (
    "We train MLPs with one hidden layer on MNIST-1D without weight decay. The paper trains WRN-16-4 on CIFAR-10."
)
_NOISY = f"{_DIFFERS} A fifth of the labels are redrawn at random."
_TIME = (
    f"{_DIFFERS} As long as the best ε is proportional to B, equal epochs are also equal ε·steps. At larger B, noise "
    "and training time fall together. C3.3 and C3.8 compare at equal steps."
)
_claim = partial(Claim, paper="smith2020")

CLAIMS = (
    _claim(
        id="C3.1",
        statement="At equal epochs, the best rate first grows with B and then saturates. The accuracy at the best "
        "rate is first constant and then falls.",
        statistic="The break is the batch size at which ε_opt stops growing in proportion to B. Slope of log ε_opt on "
        "log B up to the break. Slope of log ε_opt on log B beyond the break. Accuracy at the largest batch minus "
        "accuracy up to the break.",
        criterion="The 95% interval of the first slope lies within 1 ± 0.25. The 95% interval of the second slope "
        "lies below ½. The 95% interval of the difference in accuracy lies below 0. Up to the break, the accuracy is "
        "the same within max(½ point, a quarter of this difference).",
        source="recalled",
        experiment=tuned_rates.saturation,
        minutes=3.0,
        differs=_TIME,
        gpu_studies=(TUNED_AT_EQUAL_EPOCHS,),
    ),
    _claim(
        id="C3.2",
        statement="Momentum does not improve accuracy at small batches, but it does at large batches.",
        statistic="Gain in accuracy from momentum at the two smallest batches. Gain in accuracy from momentum at the "
        "largest batch. Ratio of the best ε/(1 − m) with momentum to the best ε without momentum, at the two smallest "
        "batches.",
        criterion="At the two smallest batches, the accuracies are equivalent within max(½ point, a quarter of the "
        "gain at the largest batch). The 95% interval of the gain at the largest batch lies above 0. The 95% interval "
        "of the ratio lies within [1/√2, √2].",
        source="recalled",
        experiment=tuned_rates.momentum_helps_late,
        minutes=6.0,
        differs=_TIME,
        gpu_studies=(TUNED_AT_EQUAL_EPOCHS, TUNED_WITH_MOMENTUM),
    ),
    _claim(
        id="C3.3",
        statement="At equal steps, test accuracy falls as the batch grows, although the training loss falls too.",
        statistic="Change of test accuracy and change of training loss per doubling of B, both at the rate with the "
        "best test accuracy",
        criterion="Both 95% intervals lie below 0. Both come from the same runs and cover at least four batch sizes. "
        "We also report the rate with the best training loss, and each doubling of B. The verdict does not depend on "
        "these numbers.",
        source="read",
        experiment=equal_steps.with_ghost_batches,
        minutes=7.0,
        differs=_NOISY,
        gpu_studies=(EQUAL_STEPS_WITH_GHOST_BATCHES,),
    ),
    _claim(
        id="C3.4",
        statement="The gap in test accuracy between small and large batches remains when large batches train for many "
        "times the steps.",
        statistic="Accuracy of the smallest batch at equal steps minus accuracy of the largest batch at the better of "
        "two budgets of steps",
        criterion="The 95% interval lies above 0.",
        source="recalled",
        experiment=equal_steps.gap_stays,
        minutes=4.0,
        differs=f"{_NOISY} The larger budget has four times the steps. A test of unlimited time would need ten times "
        "the steps or more.",
    ),
    _claim(
        id="C3.5",
        statement="With a growing epoch budget, the best rate for test accuracy falls more slowly than the best rate "
        "for training loss.",
        statistic="Slope of log ε_opt on log epochs for test accuracy minus the slope for training loss. Slope for "
        "training loss.",
        criterion="The 95% interval of the difference lies above 0. The 95% interval of the slope for training loss "
        "lies below 0.",
        source="read",
        experiment=tuned_rates.rates_over_budgets,
        minutes=2.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C3.6",
        statement="The best temperature ε/((1 − m)B) is the same for all batches, budgets and momenta.",
        statistic="Slopes of the log best temperature on log B and on log epochs. Log ratio of the best temperatures "
        "at the two momenta.",
        criterion="The 95% intervals of the slopes lie within 0 ± 0.25. The 95% interval of the log ratio lies within "
        "± log √2.",
        source="read",
        experiment=tuned_rates.best_temperature,
        minutes=8.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C3.7",
        statement="Batch norm over whole batches, instead of ghost batches of a fixed size, confounds the trend of "
        "accuracy over B.",
        statistic="Trend of accuracy in log B with batch norm over whole batches minus the trend with ghost batches",
        criterion="The 95% interval excludes 0. Both trends cover at least four batch sizes.",
        source="read",
        experiment=equal_steps.ghosts_matter,
        minutes=6.0,
        differs=_NOISY,
    ),
    _claim(
        id="C3.8",
        statement="Without batch norm too, test accuracy falls as the batch grows at equal steps, although the "
        "training loss falls too.",
        statistic="The statistics of C3.3, for networks without normalization",
        criterion="The criterion of C3.3 is met without normalization.",
        source="recalled",
        experiment=equal_steps.without_batch_norm,
        minutes=3.0,
        differs=_NOISY,
    ),
)
