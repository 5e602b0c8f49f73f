"""On what is trained: published data sets and a user's own arrays, split, noised and standardized by one seed."""

from __future__ import annotations

from noisescale.datasets.dataset import Dataset as Dataset
from noisescale.datasets.dataset import DatasetOptions as DatasetOptions
from noisescale.datasets.load import KNOWN_DATASETS as KNOWN_DATASETS
from noisescale.datasets.load import load_dataset as load_dataset
