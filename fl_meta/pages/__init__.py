"""Web pages with sliders that need neither a kernel nor a network."""

import lazy_loader

from fl_meta.support.extras import explain_missing

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = explain_missing("notebooks", __getattr__)
