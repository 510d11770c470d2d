"""A federated data set: flat arrays, and where each client's train and test parts are in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fl_meta.data.on_demand import OnDemand
from fl_meta.support.array_types import Array, IntArray, as_array, plain_array, refuse_masked
from fl_meta.support.random_streams import random_stream
from fl_meta.support.validation import share, whole_number

PADDING = -1  # in place of a label where there is none: the tail of a short text


@dataclass(frozen=True)
class Client:
    """One client's examples: `train_x` [n, ...], `train_y` [n, ...], and the same for its test part.

    Example:
        >>> data = FederatedDataset.from_arrays(np.eye(4), np.arange(4), ["ann", "ann", "bob", "bob"])
        >>> data["ann"].train_y.shape
        (1,)
    """

    client_id: str
    train_x: Array
    train_y: Array
    test_x: Array
    test_y: Array


@dataclass(frozen=True, repr=False, eq=False)
class FederatedDataset:
    """Examples of many clients, each with a train and a test part.

    Client `i` trains on the examples `x[starts[i] : starts[i] + train_counts[i]]`, and is tested on the
    `test_counts[i]` examples after those. `subset` and `split_clients` share the arrays.

    `from_arrays` looks for NaN in `x`; put together by hand, arrays are taken as they are, and examples on
    demand are looked at when a client is read.

    Attributes:
        name: the data set's name, shown in tables and plots.
        x: inputs [examples, ...], in memory or made on demand, client by client.
        y: labels [examples], or [examples, positions] for text, with `PADDING` where there is no label.
        client_ids: one distinct id per client.
        starts: first example of each client [clients].
        train_counts: number of train examples of each client [clients].
        test_counts: number of test examples of each client [clients].
        num_classes: number of classes; labels are in [0, num_classes).
        class_names: the name of each class, for plots; empty if they have none.
        synthetic: whether the examples were generated rather than observed.
        source: where the examples come from, in one line.

    Example:
        >>> x, y = np.zeros((4, 28, 28), np.float32), np.array([0, 1, 0, 1])
        >>> data = FederatedDataset.from_arrays(x, y, ["ann", "ann", "bob", "bob"])
        >>> data["bob"].train_x.shape
        (1, 28, 28)
    """

    name: str
    x: Array | OnDemand
    y: Array
    client_ids: tuple[str, ...]
    starts: IntArray
    train_counts: IntArray
    test_counts: IntArray
    num_classes: int
    class_names: tuple[str, ...] = ()
    synthetic: bool = False
    source: str = ""
    _index: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            if not isinstance(getattr(self, name), OnDemand):
                object.__setattr__(self, name, plain_array(name, getattr(self, name)))
        object.__setattr__(self, "client_ids", tuple(self.client_ids))
        object.__setattr__(self, "num_classes", whole_number("num_classes", self.num_classes))
        clients = len(self.client_ids)
        if clients == 0:
            raise ValueError(f"data set {self.name!r} has no clients; give at least one")
        index = {client_id: i for i, client_id in enumerate(self.client_ids)}
        if len(index) != clients:
            twice = next(c for i, c in enumerate(self.client_ids) if index[c] != i)
            raise ValueError(f"client id {twice!r} occurs twice in {self.name!r}; ids must be distinct")
        try:
            "".join(self.client_ids).encode()
        except (TypeError, UnicodeEncodeError) as error:
            raise ValueError(f"the client ids of {self.name!r} are not all text: {error}") from error
        for name in ("starts", "train_counts", "test_counts"):
            numbers = plain_array(name, getattr(self, name))
            if numbers.shape != (clients,):
                raise ValueError(f"{name} has shape {numbers.shape}; expected ({clients},)")
            if numbers.dtype.kind not in "iu":
                raise ValueError(f"{name} has type {numbers.dtype}; give whole numbers")
            object.__setattr__(self, name, numbers.astype(np.int64, copy=False))
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} examples but y has {len(self.y)}; they must be equal")
        if self.train_counts.min() < 0 or self.test_counts.min() < 0 or self.starts.min() < 0:
            raise ValueError("starts, train_counts and test_counts must be 0 or more")
        if int((self.starts + self.counts).max()) > len(self.x):
            raise ValueError(f"a client's examples end beyond the {len(self.x)} examples of x")
        _check_type(self.x)
        _check_labels(self.y, self.num_classes)
        object.__setattr__(self, "_index", index)

    @classmethod
    def from_arrays(
        cls,
        x: ArrayLike,
        y: ArrayLike,
        client_ids: ArrayLike,
        *,
        test_fraction: float = 0.2,
        test_mask: ArrayLike | None = None,
        num_classes: int | None = None,
        class_names: Sequence[str] = (),
        name: str = "custom",
        synthetic: bool = False,
        source: str = "arrays given by the user",
        seed: int = 0,
    ) -> FederatedDataset:
        """Make a federated data set of your own data, by grouping arrays by client.

        Args:
            x: inputs [examples, ...]; floating-point values must be finite.
            y: whole-number labels [examples], or [examples, positions] with `PADDING` where there is none.
            client_ids: the client of each example [examples]: text, bytes of it in UTF-8, or numbers or other
                objects whose `str` differs if they do; none may be missing (None, NaN).
            test_fraction: share of each client's examples, drawn at random per client, for its test part
                (rounded, but at least one example for each part); 0 leaves every test part empty.
            test_mask: booleans [examples] that say which are test examples; replaces `test_fraction`.
            num_classes: number of classes; by default, one more than the largest label.
            class_names: the name of each class.
            name: the data set's name.
            synthetic: whether the examples were generated.
            source: where the examples come from.
            seed: seed of the random split.

        Raises:
            ValueError: for arrays of unequal length, masked ones or such as PyTorch does not have, NaN or
                infinity in `x`, a label out of range, a client with too few examples to split, or ids of
                which two are the same in one way and different in another.
        """
        x, y, owners = plain_array("x", x), plain_array("y", y), _owners(client_ids)
        if not len(x) == len(y) == len(owners):
            raise ValueError(
                f"x, y and client_ids have {len(x)}, {len(y)} and {len(owners)} entries; they must be equal"
            )
        if len(x) == 0:
            raise ValueError("x is empty; give at least one example")
        test_fraction = share("test_fraction", test_fraction)
        _check_type(x)
        _check_finite(x)
        if not y.size:
            raise ValueError(f"y has shape {y.shape}; give labels [examples], or [examples, positions]")
        if num_classes is None:
            num_classes = max(int(y.max()), 0) + 1 if y.dtype.kind in "iu" else 1
        num_classes = whole_number("num_classes", num_classes)
        _check_labels(y, num_classes)
        if y.max() == PADDING:
            raise ValueError(f"y has only {PADDING} in it, which stands for none: there is no label at all")
        ids, owner_index = np.unique(owners, return_inverse=True)
        order = np.argsort(owner_index, kind="stable")
        counts = np.bincount(owner_index, minlength=len(ids)).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        if test_mask is not None:
            mask = plain_array("test_mask", test_mask)
            if not (
                np.isin(mask, (False, True)).all()
                if mask.dtype.kind in "biuf"
                else all(isinstance(each, bool | np.bool_) for each in mask.flat)
            ):
                raise ValueError(f"test_mask has type {mask.dtype}; give True or False for each example")
            mask = mask.astype(bool)
            if mask.shape != (len(x),):
                raise ValueError(f"test_mask has shape {mask.shape}; expected ({len(x)},)")
            order = order[np.lexsort((mask[order], owner_index[order]))]
            test_counts = np.bincount(owner_index[mask], minlength=len(ids)).astype(np.int64)
        else:
            test_counts = _test_counts(ids, counts, test_fraction)
            for client_id, start, count in zip(ids, starts, counts, strict=True):
                part = slice(start, start + count)
                order[part] = random_stream(seed, "split of examples", str(client_id)).permutation(
                    order[part]
                )
        return cls(
            name=name,
            x=x[order],
            y=y[order],
            client_ids=tuple(str(client_id) for client_id in ids),
            starts=starts,
            train_counts=counts - test_counts,
            test_counts=test_counts,
            num_classes=num_classes,
            class_names=tuple(class_names),
            synthetic=synthetic,
            source=source,
        )

    @property
    def counts(self) -> IntArray:
        """Number of examples of each client, train and test together [clients]."""
        return self.train_counts + self.test_counts

    @property
    def label(self) -> str:
        """The name for plots; for synthetic data it says so."""
        return f"{self.name} (synthetic)" if self.synthetic else self.name

    def __len__(self) -> int:
        """Number of clients."""
        return len(self.client_ids)

    def __iter__(self) -> Iterator[Client]:
        return (self[client_id] for client_id in self.client_ids)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._index

    def position(self, client_id: str) -> int:
        """The client's position in `client_ids`.

        Raises:
            KeyError: if there is no such client; the message names a few existing ones.
        """
        if client_id not in self._index:
            some = ", ".join(repr(known) for known in self.client_ids[:3])
            raise KeyError(f"no client {client_id!r} among the {len(self)} of {self.name!r} ({some}, …)")
        return self._index[client_id]

    def __getitem__(self, client_id: str) -> Client:
        i = self.position(client_id)
        start, train, test = self.starts[i], self.train_counts[i], self.test_counts[i]
        both = slice(start, start + train + test)  # in one read: examples on demand are made once
        x, y = self.x[both], self.y[both]
        if isinstance(self.x, OnDemand):
            _check_finite(x, f"of client {client_id!r}")
        return Client(client_id, x[:train], y[:train], x[train:], y[train:])

    def subset(self, client_ids: Sequence[str]) -> FederatedDataset:
        """The data set of these clients alone, in this order. The arrays are shared, not copied.

        Raises:
            KeyError: if a client is not in the data set.
        """
        chosen = np.array([self.position(client_id) for client_id in client_ids], dtype=np.int64)
        return replace(
            self,
            client_ids=tuple(client_ids),
            starts=self.starts[chosen],
            train_counts=self.train_counts[chosen],
            test_counts=self.test_counts[chosen],
        )

    def split_clients(
        self, held_out: float = 0.25, seed: int = 0
    ) -> tuple[FederatedDataset, FederatedDataset]:
        """Split into training clients and held-out clients, drawn by the set of ids and `seed` alone.

        Args:
            held_out: share of the clients to hold out, rounded, but at least one on each side.
            seed: seed of the draw.

        Raises:
            ValueError: if `held_out` is not between 0 and 1, or there is only one client.
        """
        if not (isinstance(held_out, int | float | np.number) and 0 < held_out < 1):
            raise ValueError(f"held_out={held_out!r} is not between 0 and 1; it is a share of the clients")
        if len(self) < 2:
            raise ValueError(f"{self.name!r} has one client; a split into two groups needs at least two")
        count = min(max(round(held_out * len(self)), 1), len(self) - 1)
        ids = sorted(self.client_ids)
        chosen = {ids[i] for i in random_stream(seed, "held-out clients").permutation(len(ids))[:count]}
        train = [client_id for client_id in self.client_ids if client_id not in chosen]
        return self.subset(train), self.subset([c for c in self.client_ids if c in chosen])

    def fold(
        self, number: int, of: int, together: Callable[[str], str] = str
    ) -> tuple[FederatedDataset, FederatedDataset]:
        """Split into training clients and those of fold `number`; each client is in exactly one fold.

        Which client is in which fold depends on the set of ids alone.

        Args:
            number: number of the fold, from 0 to `of` − 1.
            of: how many folds there are, of about equal size.
            together: maps a client id to the name of its group, whose clients all go into one fold: for
                example, a character that speaks in several plays. By default each client is its own group.

        Raises:
            ValueError: if there are fewer than 2 folds, fewer groups than folds, or no such fold.
        """
        names = sorted({together(client_id) for client_id in self.client_ids})
        if not 2 <= of <= len(names) or not 0 <= number < of:
            raise ValueError(
                f"fold {number} of {of}: {self.name!r} has {len(names)} groups of clients; choose 2 to "
                f"{len(names)} folds, and one of 0 to {of - 1}"
            )
        order = random_stream(0, "folds").permutation(len(names))
        chosen = {names[i] for i in order[number::of]}
        train = [client_id for client_id in self.client_ids if together(client_id) not in chosen]
        return self.subset(train), self.subset([c for c in self.client_ids if together(c) in chosen])

    def limited(self, least: int, most: int) -> FederatedDataset:
        """Clients with a test part and at least `least` train examples, capped at `most` examples per part.

        A longer train part keeps its last examples, a longer test part its first. No data is copied.

        Raises:
            ValueError: if `least` is not from 1 to `most`, or no client has that many.
        """
        if not 1 <= least <= most:
            raise ValueError(f"least={least} and most={most}; they must be 1 or more, and most the larger")
        enough = (self.train_counts >= least) & (self.test_counts >= 1)
        if not enough.any():
            raise ValueError(
                f"no client of {self.name!r} has {least} train examples and a test part; the largest train "
                f"part has {self.train_counts.max()}"
            )
        data = self.subset([c for c, stays in zip(self.client_ids, enough, strict=True) if stays])
        train, test = np.minimum(data.train_counts, most), np.minimum(data.test_counts, most)
        starts = data.starts + data.train_counts - train
        return replace(data, starts=starts, train_counts=train, test_counts=test)

    def pooled(self) -> FederatedDataset:
        """All clients as one client "pooled", for centralized training. The data is copied.

        The train parts become its train part, the test parts its test part.

        Raises:
            ValueError: if examples are made on demand and are too many for memory.
        """
        if isinstance(self.x, OnDemand):
            self.x.check_room(int(self.counts.sum()))
        clients = list(self)
        return replace(
            self,
            x=np.concatenate([*(c.train_x for c in clients), *(c.test_x for c in clients)]),
            y=np.concatenate([*(c.train_y for c in clients), *(c.test_y for c in clients)]),
            client_ids=("pooled",),
            starts=np.zeros(1, dtype=np.int64),
            train_counts=self.train_counts.sum(keepdims=True),
            test_counts=self.test_counts.sum(keepdims=True),
        )

    def class_counts(self) -> IntArray:
        """How often each client has each label, train and test together [clients, num_classes]."""
        table = np.zeros((len(self), self.num_classes), dtype=np.int64)
        for i, (start, count) in enumerate(zip(self.starts, self.counts, strict=True)):
            labels = self.y[start : start + count].ravel()
            table[i] = np.bincount(labels[labels != PADDING], minlength=self.num_classes)
        return table

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of clients, parts and examples: data sets with the same fingerprint train the same model.

        Of an `x` made on demand, its recipe and each client's position in it are used instead.
        """
        digest = hashlib.sha256(f"{self.name}|{self.num_classes}|{self.x.dtype}|{self.x.shape[1:]}".encode())
        clients = zip(self.client_ids, self.starts, self.train_counts, self.test_counts, strict=True)
        for client_id, start, train, test in clients:
            both = slice(start, start + train + test)
            digest.update(f"{client_id}|{train}|{test}".encode())
            if isinstance(self.x, OnDemand):
                digest.update(f"{self.x.recipe}|{start}".encode())
            else:
                digest.update(self.x[both].tobytes())
            digest.update(self.y[both].tobytes())
        return digest.hexdigest()

    def table(self) -> pd.DataFrame:
        """Totals, and quantiles over clients, of train examples, test examples and distinct labels."""
        rows = {
            "train examples": self.train_counts,
            "test examples": self.test_counts,
            "distinct labels": (self.class_counts() > 0).sum(axis=1),
        }
        quantiles = {"min": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "max": 1.0}
        return pd.DataFrame(
            {
                name: {"total": int(values.sum()) if "examples" in name else self.num_classes}
                | {title: round(float(np.quantile(values, q))) for title, q in quantiles.items()}
                for name, values in rows.items()
            }
        ).T

    def _headline(self) -> str:
        shape = "×".join(str(n) for n in self.x.shape[1:])
        return (
            f"{self.label}: {len(self):,} clients, {int(self.counts.sum()):,} examples of shape {shape} "
            f"({self.x.dtype}), {self.num_classes} classes"
        )

    def __repr__(self) -> str:
        return f"{self._headline()}\n{self.source}\n{self.table().to_string()}"

    def _repr_html_(self) -> str:
        return f"<b>{escape(self._headline())}</b><br>{escape(self.source)}{self.table().to_html()}"


# What NumPy writes for a missing value when it makes one type of a list of text.
_MISSING_AS_TEXT = ("nan", "NaN", "NaT", "None", "<NA>")


def _owners(client_ids: ArrayLike) -> Array:
    """The client of each example as text [examples]."""
    owners: list[Any]
    kind = type(client_ids).__name__
    if isinstance(client_ids, Sequence) and not isinstance(client_ids, str | bytes):
        # One by one: NumPy would first give all of them one type, in which different ids can be equal.
        refuse_masked("client_ids", client_ids)
        owners = [_scalar(owner) for owner in client_ids]
    else:
        array = as_array("client_ids", client_ids)
        if array.ndim != 1:
            raise ValueError(f"client_ids has shape {array.shape}; give one client for each example")
        owners, kind = list(array), f"{kind} ({array.dtype})"
        for example, owner in enumerate(owners) if array.dtype.kind == "U" else ():
            if owner in _MISSING_AS_TEXT:
                raise ValueError(
                    f"the client of example {example} is {str(owner)!r}, which NumPy writes for a missing "
                    "value; leave such examples out, or give client_ids as a list if it is a client's name"
                )
    try:
        names = [owner.decode() if isinstance(owner, bytes) else str(owner) for owner in owners]
        "".join(names).encode()
        name_of, owner_of = dict(zip(owners, names, strict=True)), dict(zip(names, owners, strict=True))
    except (ValueError, TypeError) as error:
        raise ValueError(f"client_ids of type {kind} cannot be read as text: {error}") from error
    for owner in name_of:
        if isinstance(owner, tuple):
            raise ValueError(f"client_ids has a tuple, {owner!r}; give one text or number for each example")
        if pd.isna(owner):
            missing = next(example for example, other in enumerate(owners) if other is owner)
            raise ValueError(f"the client of example {missing} is missing; leave such examples out")
    for owner, name in zip(owners, names, strict=True):
        if owner_of[name] != owner:
            raise ValueError(f"different clients have the same name {name!r}; give each its own")
        if name_of[owner] != name:
            raise ValueError(
                f"{name!r} and {name_of[owner]!r} in client_ids are equal, but have different names; give "
                "all clients ids of one type"
            )
        if name.endswith("\0"):
            raise ValueError(f"the client id {name!r} ends with a zero byte, which is lost; leave it out")
    return np.array(names, dtype=str)


def _scalar(owner: Any) -> Any:
    """An id, taken out of the tensor or array without axes that it may be in."""
    shape = getattr(owner, "shape", None)
    return owner.item() if shape == () and not isinstance(owner, np.generic) else owner


def _check_type(x: Array | OnDemand) -> None:
    if x.dtype.kind not in "fiub":
        raise ValueError(
            f"x has type {x.dtype}; give numbers, for example pixels as float32 or codes as uint8"
        )


def _check_finite(x: Array, whose: str = "") -> None:
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
        example = f"example {bad} {whose}".rstrip()
        raise ValueError(f"x has NaN or infinity, first in {example}; remove or repair such examples")


def _check_labels(y: Array, num_classes: int) -> None:
    if y.ndim not in (1, 2):
        raise ValueError(f"y has shape {y.shape}; give labels [examples], or [examples, positions]")
    if y.dtype.kind not in "iu":
        raise ValueError(f"y has type {y.dtype}; labels must be whole numbers of an integer type")
    lowest = PADDING if y.ndim > 1 else 0
    if y.size and not lowest <= y.min() <= y.max() < num_classes:
        place = tuple(int(i) for i in np.argwhere((y < lowest) | (y >= num_classes))[0])
        raise ValueError(f"label {y[place]} of example {place[0]} is out of range [0, {num_classes})")


def _test_counts(ids: Array, counts: IntArray, test_fraction: float) -> IntArray:
    if test_fraction == 0:
        return np.zeros_like(counts)
    if counts.min() < 2:
        raise ValueError(
            f"client {str(ids[counts.argmin()])!r} has {counts.min()} example; a train and a test part need "
            "at least 2: leave the client out, or use test_fraction=0"
        )
    wanted: IntArray = np.rint(counts * test_fraction).astype(np.int64)
    return np.minimum(np.maximum(wanted, 1), counts - 1)
