"""The reference speed: a product of square float32 matrices on all cores."""

from __future__ import annotations

import os

import torch

from systems.worker import serve

SIZE = 2048


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    a, b = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    serve(
        lambda state, number: torch.mm(a, b, out=state), torch.empty_like(a), lambda _: {}, lambda: str(cores)
    )


if __name__ == "__main__":
    main()
