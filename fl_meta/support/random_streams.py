"""Random streams: everything random is a function of (seed, purpose, key), not of history or order."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=4096)  # the same purposes and clients in every round
def _word(part: int | str) -> int:
    # Python's own hash() of a string differs from run to run.
    if isinstance(part, str):
        return int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
    return int(part)


def _entropy(seed: int, purpose: str, key: tuple[int | str, ...]) -> NDArray[np.uint32] | list[int]:
    if not isinstance(seed, int | np.integer) or seed < 0:
        problem = "negative" if isinstance(seed, int | np.integer) else "not a whole number"
        raise ValueError(f"seed={seed!r} is {problem}; use an integer of 0 or more")
    # NumPy reads a list of integers as 32-bit words and pads it with zeros. The length and two words for each
    # number make sure that no two keys look alike.
    numbers = [int(seed), _word(purpose), len(key), *(_word(part) for part in key)]
    words = [word for number in numbers for word in (number & 0xFFFFFFFF, number >> 32)]
    # NumPy would turn a list into the same array, but slowly; it splits numbers of more than 64 bits itself.
    return np.array(words, dtype=np.uint32) if min(words) >= 0 and max(words) < 2**32 else words


def random_stream(seed: int, purpose: str, *key: int | str) -> np.random.Generator:
    """The generator that belongs to (seed, purpose, key).

    Example:
        >>> first, again = (random_stream(0, "batches", 7, "writer_3").random() for _ in range(2))
        >>> first == again
        True

    Raises:
        ValueError: if `seed` is negative.
    """
    return np.random.default_rng(_entropy(seed, purpose, key))


def torch_seed(seed: int, purpose: str, *key: int | str) -> int:
    """A 63-bit seed for `torch.manual_seed` that belongs to (seed, purpose, key).

    Raises:
        ValueError: if `seed` is negative.
    """
    words = np.random.SeedSequence(_entropy(seed, purpose, key)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
