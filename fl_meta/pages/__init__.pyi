from .building import PAGES, build_pages

__all__ = [
    "PAGES",
    "build_pages",
]
