"""Smith, Elsen, De 2020: noise itself helps, at equal epochs and at equal steps."""

from __future__ import annotations

from functools import partial

from noisescale.claims.claim import Claim
from noisescale.claims.experiments import equal_steps, tuned_rates
from noisescale.claims.studies.equal_steps import EQUAL_STEPS_WITH_GHOST_BATCHES
from noisescale.claims.studies.tuned_rates import TUNED_AT_EQUAL_EPOCHS, TUNED_WITH_MOMENTUM

_DIFFERS = "one hidden layer on MNIST-1D, where the paper has WRN-16-4 on CIFAR-10, and no weight decay"
_NOISY = f"{_DIFFERS}; a fifth of the labels redrawn"
_TIME = (
    f"{_DIFFERS}; up to the break, equal epochs at ε ∝ B are equal ε·steps too; beyond it noise and time fall together "
    "(C3.3 and C3.8 have equal steps)"
)
_claim = partial(Claim, paper="smith2020")

CLAIMS = (
    _claim(
        id="C3.1",
        statement="At equal epochs the best rate grows with B, then saturates, and accuracy is flat, then falls.",
        statistic="slopes of log ε_opt on log B up to a break and beyond; accuracy at the largest batch minus that "
        "below the break",
        criterion="95% intervals within 1 ± 0.25, below ½, below 0; accuracy the same up to the break within max(½ "
        "point, a quarter of that fall)",
        source="recalled",
        experiment=tuned_rates.saturation,
        minutes=3.0,
        differs=_TIME,
        studies=(TUNED_AT_EQUAL_EPOCHS,),
    ),
    _claim(
        id="C3.2",
        statement="Momentum does not help at small batches and does at large batches.",
        statistic="difference of accuracies at the two smallest batches and at the largest; log ratio of the best "
        "ε/(1 − m)",
        criterion="equivalence within max(½ point, a quarter of the gain at the largest batch); gain above 0; ratio "
        "within [1/√2, √2]",
        source="recalled",
        experiment=tuned_rates.momentum_helps_late,
        minutes=6.0,
        differs=_TIME,
        studies=(TUNED_AT_EQUAL_EPOCHS, TUNED_WITH_MOMENTUM),
    ),
    _claim(
        id="C3.3",
        statement="At equal steps test accuracy falls with the batch while training loss falls too.",
        statistic="changes of accuracy and of training loss for each doubling of B, at the rate best for test accuracy",
        criterion="95% intervals below 0, of the same runs, over at least four batches; the rate best for the training "
        "loss and the single doublings do not decide",
        source="read",
        experiment=equal_steps.with_ghost_batches,
        minutes=7.0,
        differs=_NOISY,
        studies=(EQUAL_STEPS_WITH_GHOST_BATCHES,),
    ),
    _claim(
        id="C3.4",
        statement="The gap stays when large batches train for many times the steps.",
        statistic="accuracy of the smallest batch at equal steps minus that of the largest at the better of two "
        "budgets",
        criterion="95% interval above 0",
        source="recalled",
        experiment=equal_steps.gap_stays,
        minutes=4.0,
        differs=f"{_NOISY}; four times the steps, where unlimited time would need ten or more",
    ),
    _claim(
        id="C3.5",
        statement="The rate best for test accuracy falls slower with the epoch budget than the rate best for the loss.",
        statistic="difference of the slopes of both log rates on log epochs; slope of the rate best for the loss",
        criterion="95% intervals above 0, and below 0",
        source="read",
        experiment=tuned_rates.rates_over_budgets,
        minutes=2.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C3.6",
        statement="The best temperature ε/((1 − m)B) is the same across batches, budgets and momenta.",
        statistic="slopes of log T_opt on log B and on log epochs; log ratio of both momenta",
        criterion="95% intervals within 0 ± 0.25, and within ± log √2",
        source="read",
        experiment=tuned_rates.best_temperature,
        minutes=8.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C3.7",
        statement="With whole-batch statistics instead of ghost batches the trend in B is confounded.",
        statistic="difference of the trends of accuracy in log B",
        criterion="95% interval excludes 0, over at least four batches",
        source="read",
        experiment=equal_steps.ghosts_matter,
        minutes=6.0,
        differs=_NOISY,
    ),
    _claim(
        id="C3.8",
        statement="The effect exists without batch norm too.",
        statistic="as C3.3, without normalization",
        criterion="as C3.3",
        source="recalled",
        experiment=equal_steps.without_batch_norm,
        minutes=3.0,
        differs=_NOISY,
    ),
)
