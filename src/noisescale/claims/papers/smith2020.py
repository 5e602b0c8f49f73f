"""Smith, Elsen, De 2020: noise itself helps, at equal epochs and at equal steps."""

from __future__ import annotations

from functools import partial

from noisescale.claims.claim import Claim
from noisescale.claims.experiments import equal_steps, tuned_rates
from noisescale.claims.studies.equal_steps import EQUAL_STEPS_WITH_GHOST_BATCHES
from noisescale.claims.studies.tuned_rates import TUNED_AT_EQUAL_EPOCHS, TUNED_WITH_MOMENTUM

_DIFFERS = "We train one hidden layer on MNIST-1D without weight decay. The paper trains WRN-16-4 on CIFAR-10."
_NOISY = f"{_DIFFERS} A fifth of the labels are redrawn."
_TIME = (
    f"{_DIFFERS} Up to the break, ε is proportional to B, so that equal epochs are also equal ε·steps. Beyond the "
    "break, noise and training time fall together. C3.3 and C3.8 use equal steps."
)
_claim = partial(Claim, paper="smith2020")

CLAIMS = (
    _claim(
        id="C3.1",
        statement="At equal epochs the best rate grows with B, then saturates, and accuracy is flat, then falls.",
        statistic="Slope of log ε_opt on log B up to a break, and the slope beyond it. Accuracy at the largest batch "
        "minus accuracy below the break.",
        criterion="The 95% interval of the first slope lies within 1 ± 0.25, that of the second below ½, and that of "
        "the difference in accuracy below 0. Up to the break, the accuracy is the same within max(½ point, a quarter "
        "of that fall in accuracy).",
        source="recalled",
        experiment=tuned_rates.saturation,
        minutes=3.0,
        differs=_TIME,
        gpu_studies=(TUNED_AT_EQUAL_EPOCHS,),
    ),
    _claim(
        id="C3.2",
        statement="Momentum does not help at small batches and does at large batches.",
        statistic="Gain in accuracy from momentum at the two smallest batches, and at the largest batch. Log ratio of "
        "the best ε/(1 − m) with momentum to the best without, at the two smallest batches.",
        criterion="At the two smallest batches, the accuracies are equivalent within max(½ point, a quarter of the "
        "gain at the largest batch). The gain at the largest batch lies above 0. The ratio lies within [1/√2, √2].",
        source="recalled",
        experiment=tuned_rates.momentum_helps_late,
        minutes=6.0,
        differs=_TIME,
        gpu_studies=(TUNED_AT_EQUAL_EPOCHS, TUNED_WITH_MOMENTUM),
    ),
    _claim(
        id="C3.3",
        statement="At equal steps test accuracy falls with the batch while training loss falls too.",
        statistic="Changes of test accuracy and of training loss per doubling of B, at the rate with the best test "
        "accuracy",
        criterion="Both 95% intervals lie below 0, from the same runs, over at least four batches. We also report the "
        "rate with the best training loss, and each doubling of B. The verdict does not depend on them.",
        source="read",
        experiment=equal_steps.with_ghost_batches,
        minutes=7.0,
        differs=_NOISY,
        gpu_studies=(EQUAL_STEPS_WITH_GHOST_BATCHES,),
    ),
    _claim(
        id="C3.4",
        statement="The gap stays when large batches train for many times the steps.",
        statistic="Accuracy of the smallest batch at equal steps minus accuracy of the largest batch at the better of "
        "two budgets",
        criterion="The 95% interval lies above 0.",
        source="recalled",
        experiment=equal_steps.gap_stays,
        minutes=4.0,
        differs=f"{_NOISY} The larger budget is four times the steps. Unlimited time would need ten times or more.",
    ),
    _claim(
        id="C3.5",
        statement="The rate best for test accuracy falls slower with the epoch budget than the rate best for the loss.",
        statistic="Slope of log ε_opt on log epochs by test accuracy minus the slope by training loss. The slope by "
        "training loss.",
        criterion="The 95% interval of the difference lies above 0, and that of the slope by training loss below 0.",
        source="read",
        experiment=tuned_rates.rates_over_budgets,
        minutes=2.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C3.6",
        statement="The best temperature ε/((1 − m)B) is the same across batches, budgets and momenta.",
        statistic="Slopes of log T_opt on log B and on log epochs. Log ratio of T_opt at the two momenta.",
        criterion="The 95% intervals of the slopes lie within 0 ± 0.25, and that of the log ratio within ± log √2.",
        source="read",
        experiment=tuned_rates.best_temperature,
        minutes=8.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C3.7",
        statement="With whole-batch statistics instead of ghost batches the trend in B is confounded.",
        statistic="Difference between the two trends of accuracy in log B",
        criterion="The 95% interval excludes 0, over at least four batches.",
        source="read",
        experiment=equal_steps.ghosts_matter,
        minutes=6.0,
        differs=_NOISY,
    ),
    _claim(
        id="C3.8",
        statement="The effect exists without batch norm too.",
        statistic="The statistic of C3.3, without normalization",
        criterion="The criterion of C3.3.",
        source="recalled",
        experiment=equal_steps.without_batch_norm,
        minutes=3.0,
        differs=_NOISY,
    ),
)
