"""Li, Lyu, Arora 2020: with normalization and decay the intrinsic rate ηλ governs training."""

from __future__ import annotations

from functools import partial

from noisescale.claims.claim import Claim
from noisescale.claims.experiments import (
    cuts,
    equilibrium,
    full_batch,
    histories,
    initial_rates,
    mixing_time,
    norm_recursion,
    parameter_space,
    relaxation,
)
from noisescale.claims.studies.scale_invariant import NETWORKS_AFTER_HISTORIES, NETWORKS_WITH_DECAY

_DIFFERS = "a small MLP on digits, where the paper has PreResNet-32 on CIFAR-10; independent batches"
_claim = partial(Claim, paper="li2020")

CLAIMS = (
    _claim(
        id="C2.1",
        statement="‖w‖² of a scale-invariant weight follows (1 − ηλ)²‖w‖² + η²‖ĝ‖²/‖w‖² exactly.",
        statistic="largest relative error of a step; largest |⟨g, w⟩|/(‖g‖‖w‖)",
        criterion="95% intervals below 1e-8 and 1e-6",
        source="derived",
        experiment=norm_recursion.recursion,
        minutes=0.1,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.2",
        statement="(w, η, λ) → (cw, c²η, λ/c²) leaves the network's outputs unchanged.",
        statistic="largest difference of outputs over 50 steps",
        criterion="95% interval below 1e-6",
        source="derived",
        experiment=norm_recursion.symmetry,
        minutes=0.1,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.3",
        statement="The norm settles where ‖w‖⁴ = ηS/(λ(2 − ηλ)).",
        statistic="measured over theory, of the (η, λ) farthest off",
        criterion="95% interval within 1 ± 0.05",
        source="derived",
        experiment=equilibrium.equilibrium_norm,
        minutes=1.0,
        differs=_DIFFERS,
        studies=(NETWORKS_WITH_DECAY,),
    ),
    _claim(
        id="C2.4",
        statement="Effective rate, rotation, training loss and accuracy at equilibrium depend on ηλ only.",
        statistic="rotation over √(2ηλ); exponent of η at equal ηλ; training loss and test accuracy of two rates at "
        "equal ηλ, of the ηλ farthest off; control: another ηλ",
        criterion="95% intervals within 1 ± 0.05 and 0 ± 0.25; equivalence within a quarter of the control, which is "
        "detected",
        source="read",
        experiment=equilibrium.rotation_of_products,
        minutes=1.0,
        differs=_DIFFERS,
        studies=(NETWORKS_WITH_DECAY,),
    ),
    _claim(
        id="C2.5",
        statement="‖w‖⁴ relaxes at the rate 4ηλ.",
        statistic="rate over 4ηλ, of the ηλ farthest off; slope of log rate on log ηλ",
        criterion="95% intervals within 1 ± 0.1 and 1 ± 0.25",
        source="derived",
        experiment=relaxation.relaxation_rate,
        minutes=0.6,
        differs=f"{_DIFFERS}; every image under every label, so that there is nothing to learn and S is constant",
    ),
    _claim(
        id="C2.6",
        statement="After different histories the same (η, λ) leads to the same equilibrium.",
        statistic="effective rates and accuracies after the histories with the largest and the smallest ηλ",
        criterion="at 4/(ηλ) after merging, effective rate within 1 ± 0.05 and accuracies equivalent within a quarter "
        "of the difference at merging, which is detected",
        source="read",
        experiment=histories.same_equilibrium,
        minutes=1.0,
        differs=f"{_DIFFERS}; MNIST-1D does not decide: on development seeds the histories had not come together there "
        "by then",
        studies=(NETWORKS_AFTER_HISTORIES,),
    ),
    _claim(
        id="C2.7",
        statement="In function space SGD mixes in O(1/(ηλ)) steps.",
        statistic="slope of log mixing time on log 1/(ηλ); share of the distance between functions that is left at "
        "1/(ηλ)",
        criterion="95% intervals within 1 ± 0.25 and below 0.25",
        source="read",
        experiment=mixing_time.mixing_time,
        minutes=2.0,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.8",
        statement="In parameter space it does not mix.",
        statistic="barrier of the loss between seeds minus that within a trajectory; growth of the distance of "
        "directions from 3/(ηλ) to 10/(ηλ); gain in training loss from averaging two directions of a trajectory, and "
        "of two seeds",
        criterion="95% intervals above 0, and below 0 for the gain across seeds",
        source="read",
        experiment=parameter_space.no_mixing,
        minutes=0.5,
        differs=f"{_DIFFERS}; averages of two snapshots, judged by the training loss",
    ),
    _claim(
        id="C2.9",
        statement="A small initial rate matches a large rate, given time in proportion to 1/(ηλ).",
        statistic="difference of final test accuracies after 10 times the steps, beside that at equal steps",
        criterion="equivalence within a quarter of the difference at equal steps, which is detected",
        source="read",
        experiment=initial_rates.small_initial_rate,
        minutes=1.5,
        differs=_DIFFERS,
    ),
    _claim(
        id="C2.10",
        statement="Full-batch descent with decay never settles.",
        statistic="spikes with decay and without, before and after decay is switched off; spikes of x²/(x² + y²)",
        criterion="95% intervals: at least 1 more with decay, and below 1 after it is switched off",
        source="read",
        experiment=full_batch.spikes_of_descent,
        minutes=1.0,
        differs="a small MLP and 200 digits, where the paper has a ResNet and 1,000 images",
    ),
    _claim(
        id="C2.11",
        statement="A cut of η by k acts at once and is half undone, a cut of λ acts slowly; at equal S both end at "
        "1/√k.",
        statistic="effective rate at once and at the end, over an uncut twin's, without the effect of the cut on S",
        criterion="95% intervals within 1 ± 0.05: at once, between both ends, and at each end times √(k·S over the "
        "twin's)",
        source="derived",
        experiment=cuts.cuts,
        minutes=1.0,
        differs=f"{_DIFFERS}; S, which the theory holds fixed, is measured and divided out; the ends without this "
        "correction do not decide",
    ),
    _claim(
        id="C2.12",
        statement="With momentum m: ‖w‖⁴ = ηS/(λ(1 − m)(2 − ηλ/(1 + m))), rotation √(2ηλ/(1 + m)).",
        statistic="both, measured over theory",
        criterion="95% intervals within 1 ± 0.05",
        source="recalled",
        experiment=equilibrium.with_momentum,
        minutes=1.0,
        differs=f"{_DIFFERS}; nine labels of ten redrawn, so that gradients are independent",
    ),
)
