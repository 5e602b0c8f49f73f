"""Closed forms: what SGD does where its gradient and its noise are known."""

from noisescale.theory.catapult import catapult_map as catapult_map
from noisescale.theory.equilibrium import Equilibrium as Equilibrium
from noisescale.theory.equilibrium import equilibrium as equilibrium
from noisescale.theory.equilibrium import intrinsic_learning_rate as intrinsic_learning_rate
from noisescale.theory.equilibrium import norm_recursion as norm_recursion
from noisescale.theory.gibbs import log_odds_of_regions as log_odds_of_regions
from noisescale.theory.gibbs import log_odds_of_wells as log_odds_of_wells
from noisescale.theory.noisy_quadratic import BatchNoise as BatchNoise
from noisescale.theory.noisy_quadratic import gradient_noise as gradient_noise
from noisescale.theory.noisy_quadratic import second_moments as second_moments
from noisescale.theory.noisy_quadratic import stationary_variance as stationary_variance
from noisescale.theory.ornstein_uhlenbeck import excess_loss as excess_loss
from noisescale.theory.ornstein_uhlenbeck import transition as transition
from noisescale.theory.svag import svag_weights as svag_weights
