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
# Reptile are *meta-learning*: they train a model that adapts well to a new task. The paper claims
# that FedAvg does this, too. Is that a manner of speaking, or an equation?
#
# **What it costs:** about 50 seconds with `profile = "laptop"`, 25 seconds with `"smoke"`, on
# one core; less than 1 GB of memory. Nothing is downloaded.
#
# **What you need:** the chain rule, Taylor expansion to first order, and
# [notebook 00](00_start_here.ipynb). The [glossary](../docs/glossary.md) explains terms.
#
# **Afterwards you can** say which gradients five algorithms send to the server, derive why FedAvg's
# update has a term that helps adaptation, and judge when that term matters.

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
from fl_meta.course import check
from fl_meta.evidence import VerdictTable
from fl_meta.experiments import CLAIM_ONE, for_profile
from fl_meta.models import add, dot, norm, relative_error, scale

seaborn.set_palette("colorblind")
config = for_profile(CLAIM_ONE, profile)
writers = fl_meta.load_dataset("writers", num_writers=100)
print(f"{writers.label}: {len(writers)} clients")

# %% [markdown] tags=["slide"]
# ## 1 · A puzzle: two programs
#
# In each round of **FedAvg** the server sends its parameters $\theta$ to some clients. A client takes
# $K$ steps of gradient descent with the rate $\beta$, each on a batch of its own examples:
#
# $$\theta_0 = \theta, \quad g_j = \nabla L_j(\theta_{j-1}),
# \quad \theta_j = \theta_{j-1} - \beta\, g_j \quad (j = 1, \ldots, K)$$
#
# where $L_j$ is the loss on batch $j$. We call $g_1, g_2, \ldots$ the *inner gradients*.

# %% tags=["same-slide", "without-code"]
# alt: A drawing of one round of FedAvg. The server sends its model θ to three clients. Each takes
# four local steps, g₁ to g₄, all marked as sent, and sends back their sum. The server takes the
# mean, weighted by examples, and a step.
plots.round_diagram(fl_meta.fedavg(steps=4))

# %% [markdown] tags=["slide"]
# This is the whole algorithm. The server averages the clients' final parameters, and clients with
# more examples count more.


# %% tags=["same-slide"]
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


# %% [markdown] tags=["slide"]
# **Reptile** knows no server and no clients, only *tasks*, for example "tell these five letters
# apart". It takes a few steps on each task, adds up the gradients that it meets, and moves the
# starting point by their mean over the tasks.


# %% tags=["same-slide"]
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


# %% [markdown] tags=["slide"]
# **Predict.** Let each writer be a task, and give all clients of FedAvg the same weight. How large is
# the difference of the two updates, in per cent of one of them?

# %% tags=["prediction"]
check.predict("01.a", ...)

# %% tags=["fragment"]
K, rate = config.steps, 0.05
mlp = models.mlp(writers)
params = mlp.init(seed, torch.float64)
ids = writers.client_ids[: config.num_clients]
clients = [experiments.fixed_batches(writers, i, K, config.batch_size, seed) for i in ids]

fedavg_step = add(params, fedavg(mlp, params, clients, [1] * len(ids), rate), -1.0)
reptile_step = add(params, reptile(mlp, params, clients, rate), -1.0)
check.prediction("01.a", 100 * relative_error(fedavg_step, reptile_step))

# %% [markdown] tags=["fragment"]
# They are equal, up to the rounding of 64-bit numbers. FedAvg keeps the end of the path, Reptile adds
# up the steps; and the end of a path is its start plus all steps.

# %% [markdown] tags=["slide"]
# ## 2 · What a client sends
#
# So we may say that a client of FedAvg sends $g_1 + \cdots + g_K$. All algorithms of the paper take
# the same local steps and differ in *which* inner gradients go to the server. This table comes from
# the library, with its default weights.

# %% tags=["same-slide", "without-code"]
algorithms = {
    "FedSGD": fl_meta.fedsgd(),
    "FedAvg(K)": fl_meta.fedavg(steps=K),
    "Reptile(K)": fl_meta.reptile(K),
    "FOMAML(K)": fl_meta.fomaml(K),
    "MAML(K)": fl_meta.maml(K),
}
pd.DataFrame(
    {
        name: {"sends": row.sends.value, "client weights": row.weights}
        for name, row in algorithms.items()
    }
).T

# %% [markdown] tags=["slide"]
# Why does **MAML** send a product? It minimizes the loss *after* $K$ local steps, $L_{K+1}(\theta_K)$.
# The derivative of $\theta_j$ with respect to $\theta_{j-1}$ is $I - \beta \nabla^2 L_j(\theta_{j-1})$, so
# the chain rule gives
#
# $$\nabla_\theta\, L_{K+1}(\theta_K) = \left(I - \beta \nabla^2 L_1(\theta_0)\right) \cdots
# \left(I - \beta \nabla^2 L_K(\theta_{K-1})\right)\, g_{K+1}$$
#
# **FOMAML**, first-order MAML, leaves out the product and sends $g_{K+1}$. In the picture of a round
# one line of code changes:

# %% tags=["same-slide", "without-code"]
# alt: The same drawing for FOMAML(3). The arrows g₁ to g₃ are grey, because they are not sent.
# The last one, g₄, is dashed, because no step follows it, and it alone is sent. All clients count
# equally, and the server uses Adam.
plots.round_diagram(fl_meta.fomaml(3))

# %% [markdown] tags=["exercise"]
# **Exercise 01.1 ★ · Count.** With $K$ local steps, how many inner gradients are summed up in what a
# client of Reptile sends?

# %% tags=["fill-in"]
sent = ...

# %% tags=["solution"]
sent = K

# %% [markdown] tags=["solution"]
# **Solution 01.1.** $K$, one for each local step. FOMAML and MAML take one more gradient, at the end of
# the path, and no step follows it.

# %% tags=["check"]
check.answer("01.1", sent, K=K)

# %% [markdown] tags=["instructor"]
# **For instructors.** Two minutes. Who answers $K + 1$ thinks of MAML, which takes one more gradient
# at the end of the path.

# %% [markdown] tags=["slide"]
# Now compare: FOMAML(1) sends $g_2$, FOMAML(2) sends $g_3$, and so on. These are the summands of FedAvg:
#
# $$\mathrm{FedAvg}(K) = \mathrm{FedSGD} + \mathrm{FOMAML}(1) + \cdots + \mathrm{FOMAML}(K-1)$$
#
# "Make the loss small now", plus "after one step", plus "after two", … For one client this is plain.
# For the mean over several clients it depends on how they are weighed. With the weights of the table
# it fails:


# %% tags=["fragment", "without-code"]
def sends(algorithm):
    """β times the weighted mean over our clients of what they send, from the library."""
    return fl_meta.pseudo_gradient(
        mlp, params, writers, ids, algorithm, seed=seed, round_number=0
    )[0]


def error_of_the_sum(weights_of_fomaml):
    """How far FedSGD + FOMAML(1) + … + FOMAML(K − 1) is from FedAvg(K)."""
    settings = {"client": fl_meta.SGD(rate), "batch_size": config.batch_size}
    total = sends(fl_meta.fedsgd(**settings))
    for j in range(1, K):
        total = add(total, sends(fl_meta.fomaml(j, weights=weights_of_fomaml, **settings)))
    return relative_error(total, sends(fl_meta.fedavg(steps=K, **settings)))


print(f"FOMAML with its default weights: relative error {error_of_the_sum('equal'):.3f}")

# %% [markdown] tags=["exercise", "fragment"]
# **Exercise 01.2 ★★ · Weights.** Which client weights of FOMAML, `"equal"` or `"examples"`, make the
# equation exact, and why?

# %% tags=["fill-in"]
weights = ...

# %% tags=["solution"]
weights = "examples"
print(f"relative error {error_of_the_sum(weights):.0e}")

# %% [markdown] tags=["solution"]
# **Solution 01.2.** Those of FedAvg and FedSGD. The weighted mean of a sum is the sum of the weighted
# means only if all means have the same weights.

# %% tags=["check"]
check.answer("01.2", weights)

# %% [markdown] tags=["instructor"]
# **For instructors.** Five minutes. Let students write both sides for two clients with weights $p$
# and `1 - p`. The identity holds client by client; only the weights can break it.

# %% [markdown]
# So the equation holds **with the same client weights on both sides**. Then it is exact for every model,
# as section 6 confirms.
#
# ### Move it yourself: send what you like
#
# The sliders weigh $g_1, \ldots, g_5$ in what a client sends. Press *FedSGD*, then raise
# $g_2, \ldots, g_5$ to 1, one after the other: this is the sum above. Then set the server rate to 3 and
# send a single gradient. Which one gives the best model *after* adaptation?

# %%
panel = laboratories.mix_your_own()
panel

# %% [markdown] tags=["slide"]
# ## 3 · Why should later gradients help?
#
# Expand $g_j$ around $\theta$, to first order in $\beta$, with $\bar g_j = \nabla L_j(\theta)$ and
# $\bar H_j = \nabla^2 L_j(\theta)$. The client has moved by $-\beta\, (\bar g_1 + \cdots + \bar g_{j-1})$, so
#
# $$g_j = \bar g_j - \beta\, \bar H_j\, (\bar g_1 + \cdots + \bar g_{j-1})$$

# %% [markdown] tags=["fragment"]
# Take the mean over independently drawn batches. Every $\bar g_j$ has the same mean, AvgGrad. For
# $i \neq j$, by symmetry,
#
# $$\mathrm{E}[\bar H_j\, \bar g_i] = \frac{1}{2}\, \mathrm{E}[\bar H_j\, \bar g_i + \bar H_i\, \bar g_j]
# = \frac{1}{2}\, \mathrm{E}[\nabla (\bar g_i \cdot \bar g_j)] = \mathrm{AvgGradInner}$$
#
# $$\mathrm{E}[g_j] = \mathrm{AvgGrad} - (j - 1)\, \beta\, \mathrm{AvgGradInner}$$
#
# FOMAML(K) sends $g_{K+1}$, so its coefficient of AvgGradInner is $-K \beta$. MAML's is $-2 K \beta$,
# because each of its $K$ factors subtracts another $\beta\, \bar H_i\, \bar g_{K+1}$. FedAvg's is yours to
# find.

# %% [markdown] tags=["slide"]
# The server steps *against* what is sent: down the loss, and *up* along AvgGradInner, where
# $g_a \cdot g_b$ grows for two batches $a$, $b$ of one client. This is what adaptation needs, because a
# step on $a$ changes the loss on $b$ by $-\beta\, g_a \cdot g_b$. FedSGD, with $g_1$ alone, has no such
# term.

# %% [markdown] tags=["exercise"]
# **Exercise 01.3 ★★ · Write FOMAML.** Write a function that returns the pseudo-gradient of FOMAML(K):
# $\beta$ times what a client sends. `gradients` is the list $g_1, \ldots, g_{K+1}$ of tensors.


# %% tags=["fill-in"]
def fomaml_pseudo_gradient(gradients, rate): ...


# %% tags=["solution"]
def fomaml_pseudo_gradient(gradients, rate):
    return rate * gradients[-1]


# %% [markdown] tags=["solution"]
# **Solution 01.3.** The last gradient alone. The others were needed only to get to where it is taken.

# %% tags=["check"]
check.answer("01.3", fomaml_pseudo_gradient)

# %% [markdown] tags=["instructor"]
# **For instructors.** Five minutes. Common: the sum of all gradients (FedAvg), $g_K$ instead of
# $g_{K+1}$, a forgotten $\beta$.

# %% [markdown] tags=["exercise", "fragment"]
# **Exercise 01.4 ★★★ · The coefficient.** To first order, the mean of FedAvg(K) is
# $K\, \mathrm{AvgGrad} + c\, \mathrm{AvgGradInner}$. Write $c$ as a function of $K$ and the rate $\beta$.


# %% tags=["fill-in"]
def coefficient(K, rate): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Add up $\mathrm{E}[g_j]$ for $j = 1, \ldots, K$.
#
# </details>


# %% tags=["solution"]
def coefficient(K, rate):
    return -rate * K * (K - 1) / 2


# %% [markdown] tags=["solution"]
# **Solution 01.4.** $c = -\frac{1}{2} K (K - 1)\, \beta$, because $0 + 1 + \cdots + (K - 1)$ is
# $\frac{1}{2} K (K - 1)$.

# %% tags=["check"]
check.answer("01.4", coefficient)

# %% [markdown] tags=["instructor"]
# **For instructors.** Fifteen minutes at the board: write the means of $g_1$, $g_2$ and $g_3$ below
# each other. Common: `K * (K + 1) / 2`, which counts a step before $g_1$, and the wrong sign. Ask for
# $K = 1$.

# %% [markdown] tags=["slide"]
# ## 4 · How large is the term?
#
# We can measure it without sampling error. A client has two fixed batches, and each step draws one of
# them by the toss of a coin. There are $2^K$ equally likely sequences; we take the mean over all.
#
# **Predict.** At $\beta = 0.1$ and with the largest $K$ below, how long is the new term, in per cent of
# the old one, $K\, \mathrm{AvgGrad}$?

# %% tags=["prediction"]
check.predict("01.b", ...)

# %%
most_steps = 4 if profile == "smoke" else 8
logistic = models.logistic(writers)
start = logistic.init(seed, torch.float64)
batches = experiments.fixed_batches(
    writers, writers.client_ids[0], 2, config.batch_size, seed
)
average = experiments.average_gradient(logistic, start, batches)
inner = experiments.average_gradient_inner(logistic, start, batches)


def parts_of_fedavg(steps, rate):
    """AvgGradInner's part of FedAvg(K), predicted and measured, and the rest, in per cent of K AvgGrad."""
    update = experiments.expected_update(logistic, start, batches, "FedAvg", steps, rate)
    beyond = add(update, average, -float(steps))
    along = -dot(beyond, inner) / norm(inner)
    rest = norm(add(beyond, inner, along / norm(inner)))
    predicted = rate * steps * (steps - 1) / 2 * norm(inner)
    parts = {"predicted": predicted, "measured": along, "rest": rest}
    shares = {name: 100 * part / (steps * norm(average)) for name, part in parts.items()}
    return {"steps": steps, "rate": rate} | shares


counts = range(1, most_steps + 1)
shares = pd.DataFrame([parts_of_fedavg(k, beta) for beta in (0.01, 0.1) for k in counts])

# %% tags=["figure-share", "slide", "without-code"]
# alt: Two line charts over the number of local steps K, for β = 0.01 and β = 0.1. Each has three
# lines, in per cent of K AvgGrad: AvgGradInner's part as measured, the same as predicted, and
# everything else.
figure, grid = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for axes, (beta, part) in zip(grid, shares.groupby("rate"), strict=True):
    axes.plot(part.steps, part.measured, "o-", label="AvgGradInner's part, measured")
    axes.plot(part.steps, part.predicted, "s--", label="the same, predicted")
    axes.plot(part.steps, part.rest, "^:", label="everything else")
    axes.set(title=f"{writers.label}, one client, β = {beta}", xlabel="local steps K")
    axes.grid(alpha=0.3)
grid[0].set_ylabel("per cent of K ‖AvgGrad‖")
_ = grid[0].legend(frameon=False)
# %% tags=["prose", "fragment"]
last = shares[shares.steps == most_steps].set_index("rate").measured
Markdown(
    f"""**What came out.** The term grows with the number of local steps. With K = {most_steps} it is
{last[0.01]:.1f} % of K AvgGrad at β = 0.01, and {last[0.1]:.0f} % at β = 0.1. At the larger rate it
exceeds the prediction, and "everything else" appears: higher orders in β, of which the expansion says
nothing."""
)

# %%
check.prediction("01.b", last[0.1])

# %% [markdown] tags=["slide"]
# That was logistic regression. For three networks we compare the predicted term with what FedAvg(3)
# sends beyond $3\, \mathrm{AvgGrad}$, at $\beta = 0.05$.


# %% tags=["same-slide", "without-code"]
def compare(model, rate=0.05, steps=3):
    """FedAvg beyond K AvgGrad beside the predicted term: cosine, and what the term leaves out."""
    at = model.init(seed, torch.float64)
    update = experiments.expected_update(model, at, batches, "FedAvg", steps, rate)
    beyond = add(update, experiments.average_gradient(model, at, batches), -float(steps))
    inner = experiments.average_gradient_inner(model, at, batches)
    term = scale(inner, -rate * steps * (steps - 1) / 2)
    cosine = dot(beyond, term) / norm(beyond) / norm(term)
    return {"cosine": cosine, "left out / term": relative_error(beyond, term)}


tanh = models.mlp(writers, activation=torch.nn.Tanh)
networks = {
    "mlp, ReLU": mlp,
    "small_cnn, ReLU": models.small_cnn(writers),
    "mlp, tanh": tanh,
}
compared = pd.DataFrame({name: compare(model) for name, model in networks.items()}).T
compared.round(2)

# %% tags=["prose", "fragment"]
relu, smooth = compared.loc["mlp, ReLU"], compared.loc["mlp, tanh"]
Markdown(
    f"""**What came out.** The term describes the smooth network well (cosine {smooth.cosine:.2f}), but
hardly the one with ReLU units, the model of notebooks 02 to 05: the cosine is {relu.cosine:.2f}, and
what the term leaves out is {relu["left out / term"]:.1f} times as long as the term itself. ReLU has a
kink, and a Taylor expansion holds only for steps that cross none."""
)

# %% [markdown] tags=["slide"]
# ## 5 · What this does not show
#
# The equation holds for every model but does not say that its summands are useful. The expansion says
# so, but only for small steps and smooth losses, and real clients take dozens of steps. Neither says
# that FedAvg's model *is* easier to personalize than another. That needs an experiment:
# [notebook 02](02_initial_and_personalized.ipynb).

# %% [markdown]
# ## 6 · The verdict
#
# We test all models of the library on two data sets. Nothing is sampled here, so a single value outside
# its limit would refute the claim. `1a` is the equation; `1b` the expansion (what it leaves out must
# fall like $\beta^2$, and its coefficients must be right); `1c` compares our MAML with its definition.
# The limits were written down before the measurement:
# [evidence for claim 1](../docs/evidence_claim_1.md).

# %%
plays = fl_meta.load_dataset("shakespeare")
counts = zip(plays.client_ids, plays.train_counts, strict=True)
roles = plays.subset([role for role, examples in counts if examples >= 50])
builders = (models.mlp, models.small_cnn, models.emnist_cnn, models.fedem_cnn)
of_images = [logistic, *(build(writers) for build in builders)]
of_text = [models.char_mlp(roles), models.char_lstm(roles)]

verdicts = []
for data, every, smooth in (
    (writers, of_images, [logistic, tanh]),
    (roles, of_text, of_text[:1]),
):
    tables = (
        experiments.identity_errors(every, data, config, seed=seed),
        pd.concat(
            experiments.expansion_rows(model, data, config, seed=seed) for model in smooth
        ),
        experiments.finite_difference_errors(every[: len(smooth)], data, config, seed=seed),
    )
    verdicts += evidence.decide_claim_one(*tables, data, profile)
VerdictTable(tuple(verdicts))
