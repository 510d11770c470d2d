"""Two algorithms of your own, beside FedAvg: `python examples/own_algorithm.py`, half a minute.

An algorithm is a row of a table: how long clients train, what they send home, how the server uses it. What a
client sends may be any function of its local steps θ_0, g_1, θ_1, g_2, … There are two ways to write one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import fl_meta
from fl_meta.algorithms import LocalStep, SendingRule, WeightedGradients, formula_of
from fl_meta.models import Params, add, norm, scale

FEDAVG = fl_meta.fedavg(epochs=5, client=fl_meta.SGD(0.05))


# 1. Weights of the inner gradients. Here their mean instead of their sum: a client with many examples makes
#    more steps, and no longer moves the server further for that reason alone (FedNova, Wang et al. 2020).
#    Both engines run such a rule, the fast one too.
mean_gradient = WeightedGradients("(g_1 + … + g_K) / K", lambda count: [1 / count] * count)


# 2. Any function from a client's local steps to tensors like the parameters. Here its whole movement, made
#    shorter where it is longer than a bound, as in training with differential privacy (McMahan et al. 2018).
#    The loop engine runs it, one client after the other.
def clipped_movement(steps: Sequence[LocalStep]) -> Params:
    """θ_0 − θ_K in units of β, at most 1 long."""
    movement = steps[0].direction
    for step in steps[1:]:
        movement = add(movement, step.direction)
    return scale(movement, 1.0 / max(1.0, norm(movement)))


def own_row(name: str, sends: WeightedGradients | SendingRule, server_rate: float) -> fl_meta.Algorithm:
    """FedAvg's row with another `sends`; its server rate makes up for the smaller updates."""
    server = fl_meta.SGD(server_rate, momentum=0.9)
    return replace(FEDAVG, name=name, sends=sends, server=server)


def main(num_writers: int = 60, rounds: int = 20) -> None:
    """Train the three on synthetic writers; print accuracy on held-out clients."""
    writers = fl_meta.load_dataset("writers", num_writers=num_writers)
    train, held_out = writers.split_clients(held_out=0.25, seed=0)
    model = fl_meta.models.mlp(writers)
    for algorithm in (
        FEDAVG,
        own_row("mean of gradients", mean_gradient, server_rate=20.0),
        own_row("clipped", clipped_movement, server_rate=5.0),
    ):
        stage = fl_meta.Stage(algorithm, rounds, clients_per_round=10)
        run = fl_meta.train(model, train, [stage], seed=0, progress=False)
        summary = fl_meta.personalize(model, run.params, held_out, epochs=1).summary()
        initial, personalized = summary.test_accuracy_by_client
        print(f"{algorithm.name:18} sends {formula_of(algorithm.sends):22}", end="")
        print(f"initial {initial:.3f}, personalized {personalized:.3f} (synthetic writers, one seed)")


if __name__ == "__main__":
    main()
