"""Closed forms: what SGD does where its gradient and its noise are known."""

from noisescale.theory.noisy_quadratic import GradientNoise as GradientNoise
from noisescale.theory.noisy_quadratic import gradient_noise as gradient_noise
from noisescale.theory.noisy_quadratic import second_moments as second_moments
from noisescale.theory.noisy_quadratic import stationary_variance as stationary_variance
