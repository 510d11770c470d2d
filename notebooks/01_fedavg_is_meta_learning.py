# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Is FedAvg a meta-learning algorithm?
#
# **The question of this notebook:** FedAvg was invented to train one good global model. MAML and
# Reptile were invented to train a model that *adapts well* to a new task, which is called
# meta-learning. The paper's first claim is that FedAvg does both. Is that a manner of speaking, or
# an equation?
#
# **What it costs:** about 50 seconds with `profile = "laptop"`, 15 seconds with `"smoke"`, on
# one core; less than 1 GB of memory. Nothing is downloaded.
#
# **What you need:** gradients, the chain rule, and Taylor expansion to first order.
# [Notebook 00](00_start_here.ipynb) introduces clients, rounds and personalization; the
# [glossary](../docs/glossary.md) explains the other terms.
#
# **Afterwards you can** say which gradients each of five algorithms sends to the server, derive why
# FedAvg's update contains a term that helps adaptation, and judge when that term matters.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import pandas as pd
import seaborn
import torch
from IPython.display import Markdown

import fl_meta
from fl_meta import evidence, experiments, laboratories, models, plots
from fl_meta.evidence import VerdictTable
from fl_meta.experiments import CLAIM_ONE, for_profile
from fl_meta.models import add, dot, norm, relative_error, scale

seaborn.set_palette("colorblind")
config = for_profile(CLAIM_ONE, profile)
writers = fl_meta.load_dataset("writers", num_writers=100)
print(f"{writers.label}: {len(writers)} clients")

# %% [markdown]
# ## 1 · A puzzle: two programs
#
# In each round of **FedAvg** the server sends its parameters $\theta$ to some clients. A client takes
# $K$ steps of gradient descent with the rate $\beta$, each on a batch of its own examples:
#
# $$\theta_0 = \theta, \quad g_j = \nabla L_j(\theta_{j-1}), \quad \theta_j = \theta_{j-1} - \beta\, g_j \quad (j = 1, \ldots, K)$$
#
# where $L_j$ is the loss on batch $j$. We call $g_1, g_2, \ldots$ the *inner gradients*.

# %%
plots.round_diagram(fl_meta.fedavg(steps=4))

# %% [markdown]
# Here is the whole algorithm. The clients return their final parameters, and the server averages
# them; clients with more examples count more.


# %%
def gradient(model, params, batch):
    """The gradient of the loss at params for one batch (inputs, labels, dropout seed)."""
    return torch.func.grad(lambda p: model.loss(p, *batch))(params)


def fedavg(model, params, clients, examples, rate):
    """One round of FedAvg: the mean of the clients' models, weighted by their numbers of examples."""
    average = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
    for batches, count in zip(clients, examples, strict=True):
        local = params
        for batch in batches:
            local = add(local, gradient(model, local, batch), -rate)
        average = add(average, local, count / sum(examples))
    return average


# %% [markdown]
# **Reptile** comes from meta-learning. It knows no server and no clients, only *tasks*, for example
# "tell these five alphabets apart". It takes a few steps on each task, adds up the gradients that it
# met, and moves the starting point by their mean over the tasks.


# %%
def reptile(model, params, tasks, rate):
    """One step of Reptile: move by the mean over tasks of the sum of inner gradients, times the rate."""
    meta_gradient = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
    for batches in tasks:
        local = params
        for batch in batches:
            inner = gradient(model, local, batch)
            meta_gradient = add(meta_gradient, inner, 1 / len(tasks))
            local = add(local, inner, -rate)
    return add(params, meta_gradient, -rate)


# %% [markdown]
# **Write down a prediction.** Let each writer be a task, and give all clients of FedAvg the same weight.
# How far apart are the two updates: not at all, by a few per cent, or are they unrelated?

# %%
K, rate = config.steps, 0.05
mlp = models.mlp(writers)
params = mlp.init(seed, torch.float64)
ids = writers.client_ids[: config.num_clients]
clients = [experiments.fixed_batches(writers, i, K, config.batch_size, seed) for i in ids]

fedavg_step = add(params, fedavg(mlp, params, clients, [1] * len(ids), rate), -1.0)
reptile_step = add(params, reptile(mlp, params, clients, rate), -1.0)
print(f"relative difference: {relative_error(fedavg_step, reptile_step):.0e}")

# %% [markdown]
# They are equal, up to the rounding of 64-bit numbers. FedAvg keeps the end of the path, Reptile adds
# up the steps; and the end of a path is its start plus all steps.
#
# ## 2 · What a client sends home
#
# So we may say that a FedAvg client sends $g_1 + \cdots + g_K$. All algorithms of the paper take the
# same local steps and differ in *which* inner gradients go to the server. This table is read from the
# library; the weights are its defaults.

# %%
algorithms = {
    "FedSGD": fl_meta.fedsgd(),
    "FedAvg(K)": fl_meta.fedavg(steps=K),
    "Reptile(K)": fl_meta.reptile(K),
    "FOMAML(K)": fl_meta.fomaml(K),
    "MAML(K)": fl_meta.maml(K),
}
pd.DataFrame(
    {
        name: {"sends": a.sends.value, "client weights": a.weights}
        for name, a in algorithms.items()
    }
).T

# %% [markdown]
# Why does **MAML** send a product? It asks for the $\theta$ whose loss is smallest *after* $K$ local
# steps, $L_{K+1}(\theta_K)$. Each step depends on the one before, with the derivative
# $I - \beta \nabla^2 L_j(\theta_{j-1})$, so the chain rule gives
#
# $$\nabla_\theta\, L_{K+1}(\theta_K) = \left(I - \beta \nabla^2 L_1(\theta_0)\right) \cdots \left(I - \beta \nabla^2 L_K(\theta_{K-1})\right)\, g_{K+1}$$
#
# **FOMAML**, first-order MAML, leaves out the product and sends $g_{K+1}$. In the picture of a round
# only one line changes:

# %%
plots.round_diagram(fl_meta.fomaml(3))

# %% [markdown]
# FOMAML(1) sends $g_2$, FOMAML(2) sends $g_3$, and so on. These are the summands of FedAvg:
#
# $$\mathrm{FedAvg}(K) = \mathrm{FedSGD} + \mathrm{FOMAML}(1) + \cdots + \mathrm{FOMAML}(K-1)$$
#
# if all of them weigh the clients in the same way. FedAvg adds up "make the loss small now", "make it
# small after one step", "after two", …
#
# **Predict:** what happens to the equation with the default weights of the table?


# %%
def sends(algorithm):
    """β times the weighted mean over our clients of what they send, from the library."""
    return fl_meta.pseudo_gradient(
        mlp, params, writers, ids, algorithm, seed=seed, round_number=0
    )[0]


settings = {"client": fl_meta.SGD(rate), "batch_size": config.batch_size}
whole = sends(fl_meta.fedavg(steps=K, **settings))
for weights in ("equal", "examples"):
    total = sends(fl_meta.fedsgd(**settings))
    for j in range(1, K):
        total = add(total, sends(fl_meta.fomaml(j, weights=weights, **settings)))
    print(
        f"FOMAML with weights {weights!r}: relative error {relative_error(total, whole):.1g}"
    )

# %% [markdown]
# With the same weights everywhere, the equation is exact. With the usual ones (FedAvg by examples,
# FOMAML equal) it is clearly off, because writers with many and with few examples pull in different
# directions. (The last section tests it for every model of the library.)
#
# ### Move it yourself: send what you like
#
# The sliders are the weights of $g_1, \ldots, g_5$ in what a client sends. Press *FedSGD*, then raise
# $g_2, \ldots, g_5$ to 1 one after the other: this is the sum above. Then set the server rate to 3 and
# send a single gradient. Which one gives the best model *after* adaptation?

# %%
panel = laboratories.mix_your_own()
panel

# %% [markdown]
# ## 3 · Why should later gradients help?
#
# An equation does not say that FedAvg is *good* at meta-learning. For that, expand $g_j$ around
# $\theta$. Let $\bar g_j = \nabla L_j(\theta)$ and $\bar H_j = \nabla^2 L_j(\theta)$. To first order in $\beta$:
#
# 1. $\theta_{j-1} - \theta = -\beta\, (\bar g_1 + \cdots + \bar g_{j-1})$, so $g_j = \bar g_j - \beta\, \bar H_j\, (\bar g_1 + \cdots + \bar g_{j-1})$.
# 2. Take the mean over independently drawn batches. All $\bar g_j$ have the same mean, AvgGrad; and
#    by symmetry $\mathrm{E}[\bar H_j\, \bar g_i] = \frac{1}{2}\, \mathrm{E}[\nabla (\bar g_i \cdot \bar g_j)]$ for $i \neq j$. Call it AvgGradInner.
# 3. Hence $\mathrm{E}[g_j] = \mathrm{AvgGrad} - (j - 1)\, \beta\, \mathrm{AvgGradInner}$.
#
# Now count. FOMAML(K) sends $g_{K+1}$; FedAvg adds $0 + 1 + \cdots + (K - 1)$; each of MAML's $K$ factors
# contributes one more $-\beta \bar H_i\, \bar g_{K+1}$:
#
# $$\mathrm{FedAvg}(K) = K\, \mathrm{AvgGrad} - \frac{1}{2} K (K - 1)\, \beta\, \mathrm{AvgGradInner}$$
#
# $$\mathrm{FOMAML}(K) = \mathrm{AvgGrad} - K\, \beta\, \mathrm{AvgGradInner}$$
#
# $$\mathrm{MAML}(K) = \mathrm{AvgGrad} - 2 K\, \beta\, \mathrm{AvgGradInner}$$
#
# The server moves *against* what is sent: down the loss along $-$AvgGrad, and *up* along AvgGradInner,
# which makes $g_a \cdot g_b$ larger for two batches $a$, $b$ of one client. That is what adaptation
# needs: a step on batch $a$ changes the loss on batch $b$ by $-\beta\, g_a \cdot g_b$. FedSGD, which is
# FedAvg(1), has no such term.
#
# ## 4 · How large is the term?
#
# We can measure it without sampling error. Give a client two fixed batches, and let each step draw one
# of them by the toss of a coin. There are $2^K$ equally likely sequences, and we take the mean over all.
# **Predict:** at $\beta = 0.1$ and $K = 8$, what share of FedAvg's update is the new term?


# %%
logistic = models.logistic(writers)
start = logistic.init(seed, torch.float64)
batches = experiments.fixed_batches(
    writers, writers.client_ids[0], 2, config.batch_size, seed
)
average = experiments.average_gradient(logistic, start, batches)
inner = experiments.average_gradient_inner(logistic, start, batches)


def parts_of_fedavg(steps, rate):
    """AvgGradInner's part of FedAvg(K), predicted and measured, and the rest, beside K AvgGrad."""
    update = experiments.expected_update(logistic, start, batches, "FedAvg", steps, rate)
    beyond = add(update, average, -float(steps))
    along = -dot(beyond, inner) / norm(inner)
    rest = norm(add(beyond, inner, along / norm(inner)))
    predicted = steps * (steps - 1) / 2 * rate * norm(inner)
    parts = {"predicted": predicted, "measured": along, "rest": rest}
    shares = {name: 100 * part / (steps * norm(average)) for name, part in parts.items()}
    return {"steps": steps, "rate": rate} | shares


most_steps = 4 if profile == "smoke" else 8
counts = range(1, most_steps + 1)
shares = pd.DataFrame([parts_of_fedavg(k, beta) for beta in (0.01, 0.1) for k in counts])

# %% tags=["figure-share"]
figure, grid = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for axes, (beta, part) in zip(grid, shares.groupby("rate"), strict=True):
    axes.plot(part.steps, part.measured, "o-", label="AvgGradInner's part, measured")
    axes.plot(part.steps, part.predicted, "s--", label="the same, predicted")
    axes.plot(part.steps, part.rest, "^:", label="everything else")
    axes.set(title=f"{writers.label}, one client, β = {beta}", xlabel="local steps K")
    axes.grid(alpha=0.3)
grid[0].set_ylabel("per cent of K ‖AvgGrad‖")
grid[0].legend(frameon=False)
# %% tags=["prose"]
last = shares[shares.steps == most_steps].set_index("rate").measured
Markdown(
    f"""**What came out.** The term grows with the number of local steps, as predicted. With K = {most_steps}
it is {last[0.01]:.1f} % of FedAvg's update at β = 0.01, and {last[0.1]:.0f} % at β = 0.1. At the larger rate
it is larger than predicted, and "everything else" has appeared: higher orders in β, of which the expansion
says nothing."""
)

# %% [markdown]
# That was logistic regression. What of networks? We compare the predicted term with what FedAvg(3) really
# sends beyond $3\, \mathrm{AvgGrad}$, at $\beta = 0.05$.


# %%
def compare(model, rate=0.05, steps=3):
    """FedAvg's update beyond K AvgGrad beside the predicted term: cosine, and length of the difference."""
    at = model.init(seed, torch.float64)
    update = experiments.expected_update(model, at, batches, "FedAvg", steps, rate)
    beyond = add(update, experiments.average_gradient(model, at, batches), -float(steps))
    inner = experiments.average_gradient_inner(model, at, batches)
    term = scale(inner, -rate * steps * (steps - 1) / 2)
    cosine = dot(beyond, term) / norm(beyond) / norm(term)
    return {"cosine": cosine, "error / term": relative_error(beyond, term)}


tanh = models.mlp(writers, activation=torch.nn.Tanh)
networks = {
    "mlp, ReLU": mlp,
    "small_cnn, ReLU": models.small_cnn(writers),
    "mlp, tanh": tanh,
}
compared = pd.DataFrame({name: compare(model) for name, model in networks.items()}).T
compared.round(2)

# %% tags=["prose"]
relu, smooth = compared.loc["mlp, ReLU"], compared.loc["mlp, tanh"]
Markdown(
    f"""**What came out.** For the smooth network the term describes FedAvg well (cosine {smooth.cosine:.2f}). For
the multi-layer perceptron with ReLU units, the model of notebooks 02 to 05, it hardly does: the cosine is
{relu.cosine:.2f}, and what the term leaves out is {relu["error / term"]:.1f} times as large as the term itself.
A ReLU unit has no second derivative at its kink, so a Taylor expansion holds only for steps that cross none."""
)

# %% [markdown]
# ## 5 · What this does not show
#
# The equation of section 2 holds for every model, but does not say that its summands are useful. The
# expansion says that they are, but only for small steps and smooth losses, while real clients take dozens
# of steps. Neither says that FedAvg's model *is* easier to personalize than another. That needs an
# experiment: [notebook 02](02_initial_and_personalized.ipynb).
#
# ## 6 · Exercises

# %% [markdown]
# ## 7 · The verdict
#
# The rules were fixed before the measurement, for all models of the library and two data sets; no number is
# sampled, so a single value outside its limit would refute. [The evidence](../docs/evidence_claim_1.md)
# explains the rules and the checks. In the table, `1a` is the equation, `1b` the expansion (what it leaves
# out must fall like $\beta^2$, and its coefficients must be right), `1c` our MAML against its definition.

# %%
plays = fl_meta.load_dataset("shakespeare")
roles = plays.subset(
    [i for i, n in zip(plays.client_ids, plays.train_counts, strict=True) if n >= 50]
)
builders = (models.mlp, models.small_cnn, models.emnist_cnn, models.fedem_cnn)
images = [logistic, *(build(writers) for build in builders)]
text = [models.char_mlp(roles), models.char_lstm(roles)]

verdicts = []
for data, every, smooth in ((writers, images, [logistic, tanh]), (roles, text, text[:1])):
    tables = (
        experiments.identity_errors(every, data, config, seed=seed),
        pd.concat(
            experiments.expansion_rows(one, data, config, seed=seed) for one in smooth
        ),
        experiments.finite_difference_errors(every[: len(smooth)], data, config, seed=seed),
    )
    verdicts += evidence.decide_claim_one(*tables, data, profile)
VerdictTable(tuple(verdicts))
