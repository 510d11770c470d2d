"""Why a model may be easy to personalize."""

from __future__ import annotations

import numpy as np
import torch

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import LocalWork
from fl_meta.data.batches import batch_plan
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.local_training import LocalTraining, adapted, gradient, hessian_vector_product
from fl_meta.experiments.outcomes import Diagnosis
from fl_meta.experiments.trajectories import BATCH_SIZE
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, dot, norm, zeros_like

DIAGNOSED_CLIENTS = 20


def diagnose(
    model: Model, params: Params, data: FederatedDataset, rate: float, epochs: int, seed: int
) -> Diagnosis:
    """Measure why a model may be easy to personalize, on the train parts of at most 20 clients.

    Clients with fewer than two train examples are left out; rate and epochs are those of the adaptation.
    """
    model, params = model.bound(params)
    cosines, products, distances = [], [], []
    inner, mean = zeros_like(params), zeros_like(params)
    ids = [c for c, n in zip(data.client_ids, data.train_counts, strict=True) if n >= 2][:DIAGNOSED_CLIENTS]
    for client_id in ids:
        client = data[client_id]
        half = min(BATCH_SIZE, len(client.train_x) // 2)
        plan = batch_plan(seed, 0, client_id, len(client.train_x), batch_size=half, steps=2)
        batches = [
            (torch.from_numpy(client.train_x[i]), torch.from_numpy(client.train_y[i]), 0) for i in plan
        ]
        (_, a), (_, b) = (gradient(model, params, batch) for batch in batches)
        for batch, other in ((batches[0], b), (batches[1], a)):
            inner = add(inner, hessian_vector_product(model, params, batch, other), 0.5)
        mean = add(add(mean, a, 0.5), b, 0.5)
        products.append(dot(a, b))
        cosines.append(dot(a, b) / (norm(a) * norm(b)))
        adaptation = LocalTraining(model, params, data, LocalWork(SGD(rate), BATCH_SIZE, epochs), seed)
        *_, end = adapted(adaptation, client_id)
        distances.append(norm({name: end[name] - tensor for name, tensor in params.items()}))
    return Diagnosis(
        clients=len(ids),
        gradient_cosine=float(np.mean(cosines)),
        gradient_product=float(np.mean(products)),
        avg_grad_inner_norm=norm(inner) / norm(mean),
        distance=float(np.mean(distances)),
        distance_share=float(np.mean(distances)) / norm(params),
    )
