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
# # 03 · Personalized FedAvg: does a second stage pay?
#
# **The question of this notebook:** after FedAvg the paper goes on with Reptile and, at the server, with
# Adam. Is the model better than if FedAvg had simply *gone on*? If so, what makes it better?
#
# **What it costs:** about two minutes with `profile = "laptop"`, shared with notebooks 04 and 05; half a
# minute with `"smoke"`. Nothing is downloaded.
#
# **What you need:** [notebook 00](00_start_here.ipynb) for the *initial* and the *personalized* model,
# [notebook 01](01_fedavg_is_meta_learning.ipynb) for Reptile. The [glossary](../docs/glossary.md)
# explains terms.
#
# **Afterwards you can** write Reptile with Adam, take a method apart into its changes, and say how the
# server's rate and the number of clients keep a model away from its optimum.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import Markdown

import fl_meta
from fl_meta import evidence, experiments, laboratories, plots
from fl_meta.algorithms import SGD, Adam
from fl_meta.course import check
from fl_meta.evidence import VerdictTable

designs = evidence.recorded_designs(evidence.recorded_folder())
table = evidence.evidence_table(designs.values())
table = table[table.claim.str.startswith("2a")]

# %% [markdown] tags=["slide"]
# ## 1 · The fork
#
# A second stage trains the model longer, and longer training alone may help. So the fair rival is FedAvg
# with *as many more rounds*. Both begin with the same model, and with a server that has forgotten the rounds
# before (its momentum starts at 0):

# %% tags=["same-slide", "without-code"]
# alt: A path of FedAvg's rounds forks into two, FedAvg with SGD as before and Reptile with Adam. Their
# initial accuracies are compared, and the personalized ones after epochs on each client's own data.
plots.fork_diagram(experiments.DESIGNS["writers-unstable"])

# %% [markdown] tags=["slide"]
# In a round of the second stage the clients do nearly what they did before: they send the sum of their
# gradients, after $K$ steps instead of $E$ epochs. The server now weighs all clients equally, and it steps
# with **Adam**.

# %% tags=["same-slide", "without-code"]
# alt: One round of Reptile: the server sends θ to three clients, each takes four local steps and sends
# the sum of its inner gradients. The server averages them, all clients equal, and steps with Adam.
plots.round_diagram(fl_meta.reptile(4))

# %% [markdown] tags=["slide"]
# With $g_t$ for the pseudo-gradient of round $t$, Adam does this, for every parameter by itself:
#
# $$m_t = 0.9\, m_{t-1} + 0.1\, g_t, \qquad s_t = 0.999\, s_{t-1} + 0.001\, g_t^2$$
#
# $$\theta_{t+1} = \theta_t - \eta\, \frac{m_t / (1 - 0.9^t)}{\sqrt{s_t / (1 - 0.999^t)} + \epsilon}$$
#
# $m_t$ is a running mean of pseudo-gradients, $s_t$ one of their squares, and the divisions make up for
# the start at 0. This is the whole second stage, for five clients with quadratic losses in a plane. Their
# local steps have the rate $\beta$:

# %% tags=["slide"]
clients = laboratories.quadratics(1.0)
beta, K, eta, rounds = 0.1, 5, 0.05, 40
theta, mean, square = np.array([-2.8, -2.2]), 0.0, 0.0
for t in range(1, rounds + 1):
    local = np.tile(theta, (len(clients.optima), 1))
    for _ in range(K):
        local = local - beta * clients.gradients(local)
    pseudo_gradient = theta - local.mean(axis=0)
    mean = 0.9 * mean + 0.1 * pseudo_gradient
    square = 0.999 * square + 0.001 * pseudo_gradient**2
    size = np.sqrt(square / (1 - 0.999**t)) + 1e-8
    theta = theta - eta * mean / (1 - 0.9**t) / size

row = laboratories.PLANE_ALGORITHMS["Reptile"](K, SGD(beta), Adam(eta))
path, _ = laboratories.train_in_plane(clients, row, rounds)
print(f"ours and the library's model are {np.abs(theta - path[-1]).max():.0e} apart")

# %% [markdown] tags=["exercise", "fragment"]
# **Exercise 03.1 ★ · The first step.** In the first round three parameters have the pseudo-gradients
# `0.002`, `-0.5` and `30`. What does Adam with $\eta = 0.01$ add to each parameter? Mind the sign.

# %% tags=["fill-in"]
changes = [..., ..., ...]

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Put $t = 1$ and $m_0 = s_0 = 0$ into the formula.
#
# </details>

# %% tags=["solution"]
changes = [-0.01, 0.01, -0.01]

# %% [markdown] tags=["solution"]
# **Solution 03.1.** $m_1 / (1 - 0.9) = g_1$ and $s_1 / (1 - 0.999) = g_1^2$, so the fraction is the sign
# of $g_1$. Every parameter moves by $\eta$, however long its pseudo-gradient is.

# %% tags=["check"]
check.answer("03.1", changes)

# %% [markdown] tags=["instructor"]
# **For instructors.** Three minutes. Ask next: what does Adam do to a parameter whose pseudo-gradients
# have the same size and alternate in sign? (Hardly anything: $m_t$ stays near 0.)

# %% [markdown] tags=["slide"]
# ## 2 · What comes out
#
# We look at two regimes: a *stable* one with 20 clients a round and few local epochs, and an *unstable* one
# with 5 clients and many epochs. In both, FedAvg's server has rate 1 and momentum `0.9`.

# %% [markdown] tags=["fragment"]
# **Predict.** On the synthetic writers in the unstable regime, by how many points is Reptile's initial
# model better than that of FedAvg continued?

# %% tags=["prediction"]
check.predict("03.a", ...)

# %% tags=["slide", "without-code"]
# alt: Arrows from initial to personalized accuracy for FedAvg at the fork, FedAvg continued, and Reptile
# with Adam; a thick one for the mean and thin ones for the replicates.
shown = [experiments.FEDAVG, experiments.CONTINUED, experiments.REPTILE]
plots.arrow_plot(designs["writers-unstable"], shown)

# %%
at_writers = table.dataset.str.startswith("writers") & (table.regime == "unstable")
check.prediction("03.a", table[at_writers].set_index("claim").effect["2a-initial"])

# %% [markdown]
# Those are recorded runs: the clients are divided into groups, each is held out in turn, and the others train
# several times. The next cell computes one more run, with luck of its own, in both regimes. The stars in the
# next figure are yours; one that is beyond the axis stands at its end.

# %%
unstable = evidence.your_run("writers-unstable", profile, seed)
stable = evidence.your_run("writers-stable", profile, seed)
your_effects = pd.concat([unstable.effects, stable.effects])
your_effects = your_effects[your_effects.claim.isin(table.claim)]

# %% tags=["slide", "without-code"]
# alt: Effects of Reptile with Adam over FedAvg continued with 95 % intervals, a line for each data set,
# stable and unstable regime side by side, initial and personalized model; your runs as stars.
plots.forest_plot(table, your_effects)

# %% tags=["prose", "slide"]
counts = table.verdict.value_counts()
found = ", ".join(f"{number} *{verdict}*" for verdict, number in counts.items())
top = table.loc[table.effect.abs().idxmax()]
Markdown(
    f"""**What came out.** {unstable.sentence("2a-initial")}

Of the {len(table)} recorded tests of claim 2a, {found}. The largest effect is {top.effect:+.1f} points,
on the {top.claim.removeprefix("2a-")} model of {top.dataset} in the {top.regime} regime. The
[rules](../docs/evidence.md) were fixed before the recorded runs; effects within the grey
[margin](../docs/glossary.md#statistics) do not matter in practice."""
)

# %% [markdown] tags=["slide"]
# ## 3 · What could make it better?
#
# The second stage changes the clients' *update* (the local steps, and the weight of each client in the mean)
# *and* the server's optimizer. To tell which counts, we also trained FedAvg's update with Adam, Reptile's
# with SGD as before, and both with a smaller server rate. That makes six *arms*. *As before* is rate 1;
# Adam's rate and the smaller one were tuned for personalized accuracy, on validation clients:

# %% tags=["same-slide", "without-code"]
print(*experiments.second_stage_arms(), sep="\n")

# %% [markdown] tags=["exercise", "fragment"]
# **Exercise 03.2 ★ · One change at a time.** Name two of these arms whose difference is due to the
# clients' *update* alone.

# %% tags=["fill-in"]
pair = [..., ...]

# %% tags=["solution"]
pair = ["FedAvg, Adam", "Reptile, Adam"]

# %% [markdown] tags=["solution"]
# **Solution 03.2.** Any two with the same server. There are three such pairs; section 4 takes their mean.

# %% tags=["check"]
check.answer("03.2", pair)

# %% [markdown] tags=["instructor"]
# **For instructors.** Two minutes. The paper compares "FedAvg, SGD as before" with "Reptile, Adam",
# where two things differ.

# %% [markdown] tags=["slide"]
# ### Move it yourself: luck of the draw
#
# Here each client of a round pulls the model half the way to its own optimum, and the pulls of a few
# clients do not cancel. At the fork the server changes to Adam. Choose `SGD, momentum 0.9` instead: which
# rate does as well? What if it is smaller still? Last, take 20 clients a round: what is left to gain?

# %% tags=["same-slide", "without-code"]
panel = laboratories.after_the_fork(server="Adam", server_rate=0.1)
panel

# %% [markdown] tags=["instructor"]
# **For instructors.** Ten minutes. With 5 clients a round, rate `0.03` does as well as Adam; `0.003` is too
# slow for the rounds that are left. With 20 clients the model is nearer to the optimum before the fork, so
# every server has less to gain.

# %% [markdown] tags=["slide"]
# Why? Let $c$ be the pull, $\bar a$ the mean optimum of the round's $M$ clients, and $\sigma^2$ the
# variance of clients' optima around 0. Without momentum, a round changes $\theta$ to
#
# $$\theta - \eta c\, (\theta - \bar a) = (1 - \eta c)\, \theta + \eta c\, \bar a$$
#
# and $\bar a$ has variance $\sigma^2 / M$. Once training has settled, the variance $v$ of $\theta$ is the
# same before and after a round:
#
# $$v = (1 - \eta c)^2\, v + \eta^2 c^2\, \sigma^2 / M$$

# %% [markdown] tags=["exercise", "fragment"]
# **Exercise 03.3 ★★ · The noise that stays.** Solve for $v$. Write a function of $\eta$, $c$ and $M$, for
# $\sigma = 1$.


# %% tags=["fill-in"]
def variance(rate, pull, clients_per_round): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# $1 - (1 - x)^2 = x\, (2 - x)$.
#
# </details>


# %% tags=["solution"]
def variance(rate, pull, clients_per_round):
    return rate * pull / (2 - rate * pull) / clients_per_round


# %% [markdown] tags=["solution"]
# **Solution 03.3.** With $x = \eta c$: $v\, x\, (2 - x) = x^2 / M$, hence $v = \frac{x}{2 - x} / M$.

# %% tags=["check"]
check.answer("03.3", variance)

# %% [markdown] tags=["instructor"]
# **For instructors.** Ten minutes at the board. Common: dividing by $M^2$, and dropping $x$ beside 2,
# which is right for small rates only. Ask what happens at $\eta c = 2$.

# %% [markdown]
# So a smaller rate damps the noise, as more clients do. Momentum `0.9` adds up about ten pseudo-gradients:
# at small rates, it acts like a ten times larger rate. Adam's $m_t$ is a *mean* of them; near the optimum,
# where their signs change with the draw, its steps are well below $\eta$. The price: a damped server also
# moves more slowly towards the optimum.

# %% [markdown] tags=["slide"]
# ## 4 · The test
#
# If this is why a second stage helps, a smaller rate should help as well as Adam does, Reptile's update
# should bring nothing, and the stable regime should gain less. **Predict:** which of the three,
# `"Reptile's update"`, `"smaller rate"` or `"Adam"`, helps most often?

# %% tags=["prediction"]
check.predict("03.b", ...)

# %%
causes = evidence.cause_table(designs.values())
arms = evidence.arm_table(designs.values())
changes_of = {
    "Reptile's update": "Reptile's update instead of FedAvg's",
    "smaller rate": "smaller server rate instead of as before",
    "Adam": "Adam instead of as before",
}
helps = causes[causes.verdict.str.startswith("helps")]
helped = {name: int((helps.contrast == row).sum()) for name, row in changes_of.items()}

# %%
# alt: For each data set, regime and measure, the six arms in points above FedAvg continued as before: a
# line for each update over the three servers, with 95 % intervals; below, the verdict on each change.
plots.second_stage_figure(arms, causes)

# %%
check.prediction("03.b", ", ".join(f"{name} in {n} places" for name, n in helped.items()))

# %% tags=["prose", "fragment"]
tested = len(causes) // causes.contrast.nunique()
update, server = helped["Reptile's update"], helped["smaller rate"] + helped["Adam"]
if server and not update:
    answer = "Where something is shown to help, it is the server; nowhere is it Reptile's update."
elif server:
    answer = "Both help somewhere, the server and Reptile's update."
elif update:
    answer = "Reptile's update helps, against what the laboratory suggests."
else:
    answer = "None of the three is shown to help."
three = causes[causes.contrast.isin(changes_of.values())]
by_regime = (
    three.verdict.str.startswith("helps").groupby(three.regime).agg(["sum", "count"])
)
regimes = " and ".join(
    f"in {row['sum']} of {row['count']} tests in the {name} regime"
    for name, row in by_regime.iterrows()
)
between = causes[causes.contrast == "Adam instead of smaller rate"].verdict.value_counts()
Markdown(
    f"""**What came out.** In {tested} places (data set, regime, measure), Reptile's update helps in
{update}, a smaller server rate in {helped["smaller rate"]}, Adam in {helped["Adam"]}. **{answer}** Together
they help {regimes}. Adam instead of the smaller rate:
{", ".join(f"{number} *{verdict}*" for verdict, number in between.items())}."""
)

# %% [markdown]
# *Undecided* is not *no difference*: there the intervals are too wide to say. An interval is that of one
# comparison; *helps* and *harms* must also hold after
# [Holm's correction](../docs/glossary.md#statistics) for all comparisons on the data set.

# %% [markdown] tags=["exercise"]
# **Exercise 03.4 ★★★ · After personalization.** In the laboratory, a model away from the optimum has a
# mean *initial* loss that is larger than the smallest possible. Which share of this excess is left after
# each client has taken $K$ local steps with rate $\beta$? A client's loss is
# $\frac{1}{2} (\theta - a)^2$.


# %% tags=["fill-in"]
def share_left(steps, beta): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# By which factor does one step change $\theta - a$? Then write the mean loss over clients, with
# $\mathrm{E}[a] = 0$.
#
# </details>


# %% tags=["solution"]
def share_left(steps, beta):
    return (1 - beta) ** (2 * steps)


# %% [markdown] tags=["solution"]
# **Solution 03.4.** Each step multiplies $\theta - a$ by $1 - \beta$, so the mean loss becomes
# $\frac{1}{2} (1 - \beta)^{2K} (\theta^2 + \sigma^2)$, and what depends on $\theta$ shrinks by
# $(1 - \beta)^{2K}$. Personalization repairs a part of the noise by itself; damping has less to add.

# %% tags=["check"]
check.answer("03.4", share_left)

# %% [markdown] tags=["instructor"]
# **For instructors.** Half an hour. Common: $(1 - \beta)^K$, the share of the *distance*. Let students
# compare with the sentence below, which comes from the recorded runs.

# %% tags=["prose"]
effects = table.pivot(index=["dataset", "regime"], columns="claim", values="effect")
verdicts = table.pivot(index=["dataset", "regime"], columns="claim", values="verdict")
gained = effects[verdicts["2a-initial"].str.startswith("reproduced")]
less = gained["2a-personalized"] < gained["2a-initial"]
Markdown(
    f"""In the recorded runs, Reptile with Adam gives a better initial model in {len(less)} cases. In
{less.sum()} of these it adds less to the personalized model than to the initial one. (These are estimates
without a test, and the cases were chosen by the initial model.)"""
)

# %% [markdown] tags=["slide"]
# ## 5 · What this does not show
#
# The laboratory explains one mechanism; neural networks may have others. FedAvg's server was not tuned
# before the fork: whoever lowers its rate from the start may leave nothing for a second stage. And the
# clients' update differs little here, because Reptile takes about as many local steps as FedAvg. All
# rules, rates and numbers: [the evidence](../docs/evidence.md).

# %% [markdown]
# ## 6 · The answer


# %%
def places(verdict):
    """The tests with this verdict, in words."""
    rows = table[table.verdict.str.startswith(verdict)]
    named = [
        f"{row.dataset}, {row.regime} ({row.claim.removeprefix('2a-')})"
        for row in rows.itertuples()
    ]
    return "; ".join(named) or "nowhere"


# %% tags=["prose"]
Markdown(
    f"""Is the model better after Reptile with Adam than after as many more rounds of FedAvg?

- **Better**: {places("reproduced")}.
- **Worse**: {places("contradicted")}.
- **No difference**: {places("no difference")}.

Elsewhere it is undecided. {answer}"""
)

# %%
VerdictTable(tuple(evidence.as_verdicts(table)))
