"""Links of a notebook, on a page that is not in the repository."""

from __future__ import annotations

import posixpath
import re

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]+)\]\((?P<file>[^)\s#:]+)(?P<place>#[^)\s]*)?\)")
_NOTEBOOK = re.compile(r"\d\d_\w+\.ipynb")


def with_links_that_work(text: str, repository: str) -> str:
    """A notebook's Markdown in which links between files lead to where these are.

    Another notebook is a page in the same folder; everything else is in the repository. Without an address of
    the repository, only the text of such a link is left.

    Args:
        text: Markdown, with links relative to the folder of the notebooks.
        repository: its address, or nothing.

    Example:
        >>> with_links_that_work("see [00](00_start_here.ipynb) and [terms](../docs/glossary.md)", "")
        'see [00](00_start_here.html) and terms'
    """

    def replaced(link: re.Match[str]) -> str:
        file, place = link["file"], link["place"] or ""
        if _NOTEBOOK.fullmatch(file):
            return f"[{link['text']}]({file.removesuffix('.ipynb')}.html{place})"
        if not repository:
            return link["text"]
        path = posixpath.normpath(posixpath.join("notebooks", file))
        return f"[{link['text']}]({repository}/blob/HEAD/{path}{place})"

    return _LINK.sub(replaced, text)
