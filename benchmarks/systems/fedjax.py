"""FedJAX's own federated averaging on the planned batches, with the same models in plain JAX.

Its default backend, one compiled step at a time; its `pmap` backend needs functions that JAX has removed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from systems.worker import Arrays, Job, array, initial, serve

jax.tree_map = jax.tree_util.tree_map  # FedJAX 0.0.17 still uses the name that JAX has removed
import fedjax  # noqa: E402

Tree = dict[str, Array]


@dataclass
class PlannedClient:
    """Stands in for `fedjax.ClientDataset`, with the batches planned for all systems."""

    x: NDArray[Any]
    y: NDArray[Any]
    batches: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    def shuffle_repeat_batch(self, hparams: object) -> Iterator[dict[str, NDArray[Any]]]:
        """The batches of this round; `hparams` is not used."""
        return ({"x": self.x[indices], "y": self.y[indices]} for indices in self.batches)


# --- models: parameters under PyTorch's names, laid out as JAX likes them --------------------------------


def dense(p: Tree, name: str, x: Array) -> Array:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def logistic(p: Tree, x: Array) -> Array:
    return dense(p, "1", x.reshape(len(x), -1))


def mlp(p: Tree, x: Array) -> Array:
    x = jax.nn.relu(dense(p, "1", x.reshape(len(x), -1)))
    return dense(p, "5", jax.nn.relu(dense(p, "3", x)))


def convolution(p: Tree, name: str, x: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, p[f"{name}.weight"], (1, 1), "VALID", dimension_numbers=layout)
    return jax.nn.relu(y + p[f"{name}.bias"])


def emnist_cnn(p: Tree, x: Array) -> Array:
    x = convolution(p, "3", convolution(p, "1", x[..., None]))
    # As in Haiku's MaxPool, which FedJAX's own model of EMNIST uses. Tuned by hand, as the maximum over
    # x.reshape(-1, 12, 2, 12, 2, 64), a round takes about two thirds of the time.
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return dense(p, "11", jax.nn.relu(dense(p, "8", x.reshape(len(x), -1))))


def char_mlp(p: Tree, x: Array) -> Array:
    blank = len(p["embed.weight"]) - 1
    embedded = p["embed.weight"][jnp.pad(x, ((0, 0), (7, 0)), constant_values=blank)]
    # PyTorch's windows run over the features first.
    windows = jnp.stack([embedded[:, i : i + x.shape[1]] for i in range(8)], axis=-1)
    return dense(p, "output", jnp.tanh(dense(p, "hidden", windows.reshape(*x.shape, -1))))


def lstm_layer(p: Tree, layer: int, x: Array) -> Array:
    recurrent = p[f"lstm.weight_hh_l{layer}"]
    # Positions first; what comes from the input is one product for all positions.
    inputs = x @ p[f"lstm.weight_ih_l{layer}"] + p[f"lstm.bias_ih_l{layer}"] + p[f"lstm.bias_hh_l{layer}"]

    def step(state: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = state
        i, f, g, o = jnp.split(gates + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], len(recurrent)), x.dtype)
    return lax.scan(step, (zeros, zeros), inputs)[1]


def char_lstm(p: Tree, x: Array) -> Array:
    states = lstm_layer(p, 1, lstm_layer(p, 0, p["embed.weight"][x.T]))
    return dense(p, "output", states.swapaxes(0, 1))


def swapped(name: str, values: NDArray[Any], back: bool) -> NDArray[Any]:
    """Convert a parameter between PyTorch's and JAX's layouts."""
    if name.startswith("embed") or values.ndim == 1:
        return values
    if values.ndim == 4:
        return values.transpose(3, 2, 0, 1) if back else values.transpose(2, 3, 1, 0)
    if name == "8.weight":  # flattened with the channels first there, and last here
        if back:
            return values.reshape(12, 12, 64, 128).transpose(3, 2, 0, 1).reshape(128, 9216)
        return values.reshape(128, 64, 12, 12).transpose(2, 3, 1, 0).reshape(9216, 128)
    return values.T


# --- rounds -----------------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[Tree, Array], Array]] = {
    function.__name__: function for function in (logistic, mlp, emnist_cnn, char_mlp, char_lstm)
}


def main() -> None:
    folder = Path(sys.argv[1])
    job, x, y, plan = Job.read(folder), array(folder, "x"), array(folder, "y"), array(folder, "plan")
    logits = MODELS[job.model]

    def loss(params: Tree, batch: dict[str, Array], rng: Array) -> Array:
        log_likelihood = jax.nn.log_softmax(logits(params, batch["x"]))
        return -jnp.mean(jnp.take_along_axis(log_likelihood, batch["y"][..., None], axis=-1))

    algorithm = fedjax.algorithms.fed_avg.federated_averaging(
        jax.grad(loss),
        client_optimizer=fedjax.optimizers.SGD(job.learning_rate),
        server_optimizer=fedjax.optimizers.SGD(1.0),
        client_batch_hparams=fedjax.ShuffleRepeatBatchHParams(batch_size=job.batch_size),
    )
    rng = jax.random.PRNGKey(0)

    def one_round(state: Any, number: int) -> Any:
        clients = [
            (str(i), PlannedClient(x[i], y[i], batches), rng) for i, batches in enumerate(plan[number])
        ]
        return jax.block_until_ready(algorithm.apply(state, clients)[0])

    def to_arrays(state: Any) -> Arrays:
        return {name: swapped(name, np.asarray(values), back=True) for name, values in state.params.items()}

    start = {name: jnp.asarray(swapped(name, v, back=False)) for name, v in initial(folder).items()}
    serve(one_round, algorithm.init(start), to_arrays, lambda: str(len(os.sched_getaffinity(0))))


if __name__ == "__main__":
    main()
