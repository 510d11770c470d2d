"""Write the figures that the README shows from the executed notebooks: `python docs/extract_figures.py`.

A cell with the tag `figure-NAME` gives `docs/NAME.png`.
"""

import base64
from pathlib import Path

import nbformat

DOCS = Path(__file__).parent

for path in sorted((DOCS.parent / "notebooks").glob("*.ipynb")):
    for cell in nbformat.read(path, as_version=4).cells:
        names = [t.removeprefix("figure-") for t in cell.metadata.get("tags", []) if t.startswith("figure-")]
        images = [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        for name in names:
            (DOCS / f"{name}.png").write_bytes(base64.b64decode(images[0]))
            print(f"{name}.png from {path.name}")
