"""Models as pure functions of their parameters, and the ones that the experiments use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
