"""Find, explain and transfer the hyperparameters of training: learning rate, batch size, width, weight decay."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
