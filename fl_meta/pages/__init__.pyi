from .building import PAGES, build_pages, page_html

__all__ = [
    "PAGES",
    "build_pages",
    "page_html",
]
