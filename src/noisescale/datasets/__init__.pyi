from .dataset import Dataset as Dataset
from .dataset import DatasetOptions as DatasetOptions
from .dataset import RawArrays as RawArrays
from .files import find_local as find_local
from .files import user_cache as user_cache
from .load import KNOWN_DATASETS as KNOWN_DATASETS
from .load import Source as Source
from .load import load_dataset as load_dataset
