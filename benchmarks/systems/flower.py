"""Flower's simulation on Ray: one client per core at a time, each training with the plain PyTorch code."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from systems.flower_client import client_app
from systems.worker import array, initial, serve


def main() -> None:
    folder = Path(sys.argv[1])
    clients = len(array(folder, "y"))
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server_app = ServerApp()

    @server_app.main()
    def rounds(grid: Grid, context: Context) -> None:
        # With the minimum for training, too: the fraction is of the nodes that have registered so far.
        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=clients, min_train_nodes=clients)

        def one_round(arrays: ArrayRecord, number: int) -> ArrayRecord:
            config = ConfigRecord({"folder": str(folder), "number": number})
            return strategy.start(grid, arrays, num_rounds=1, train_config=config).arrays

        start = {name: torch.from_numpy(values) for name, values in initial(folder).items()}
        serve(
            one_round,
            ArrayRecord(start),
            lambda arrays: {name: tensor.numpy() for name, tensor in arrays.to_torch_state_dict().items()},
            lambda: f"{len(os.sched_getaffinity(0))} × 1",
        )

    run_simulation(
        server_app,
        client_app,
        num_supernodes=clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"_temp_dir": str(folder / "ray")},
        },
    )


if __name__ == "__main__":
    main()
