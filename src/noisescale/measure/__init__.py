"""Instruments on anyone's PyTorch model: gradient noise, curvature, effective rates, every number with its error."""

from noisescale.measure.covariance import Covariance as Covariance
from noisescale.measure.covariance import gradient_covariance as gradient_covariance
from noisescale.measure.estimate import Estimate as Estimate
from noisescale.measure.hessian import Density as Density
from noisescale.measure.hessian import Eigenvalues as Eigenvalues
from noisescale.measure.hessian import Measured as Measured
from noisescale.measure.hessian import hessian_eigenvalues as hessian_eigenvalues
from noisescale.measure.hessian import hessian_frobenius_norm as hessian_frobenius_norm
from noisescale.measure.hessian import hessian_spectral_density as hessian_spectral_density
from noisescale.measure.hessian import hessian_trace as hessian_trace
from noisescale.measure.interpolation import Interpolation as Interpolation
from noisescale.measure.interpolation import interpolate as interpolate
from noisescale.measure.monitor import MonitoredNoise as MonitoredNoise
from noisescale.measure.monitor import NoiseMonitor as NoiseMonitor
from noisescale.measure.noise import GradientNoise as GradientNoise
from noisescale.measure.noise import batch_gradient_noise as batch_gradient_noise
from noisescale.measure.noise import gradient_noise as gradient_noise
from noisescale.measure.noise_and_curvature import NoiseAndCurvature as NoiseAndCurvature
from noisescale.measure.noise_and_curvature import noise_and_curvature as noise_and_curvature
from noisescale.measure.ntk import TangentKernel as TangentKernel
from noisescale.measure.ntk import ntk_eigenvalues as ntk_eigenvalues
from noisescale.measure.sharpness import Sharpness as Sharpness
from noisescale.measure.sharpness import sharpness as sharpness
from noisescale.measure.weights import LayerDynamics as LayerDynamics
from noisescale.measure.weights import WeightDynamics as WeightDynamics
from noisescale.measure.weights import weight_dynamics as weight_dynamics
