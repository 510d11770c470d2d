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
# # 02 · The initial and the personalized model: the paper's Table 1
#
# **The question of this notebook:** FedAvg has two knobs, how many clients take part in a round and how
# many local epochs each of them trains. Which setting gives the best model for everybody, and which the
# best one to start from?
#
# **What it costs:** about 30 seconds with `profile = "laptop"`, 15 seconds with `"smoke"`, on two cores;
# less than 1 GB of memory. Nothing is downloaded.
#
# **What you need:** [notebook 00](00_start_here.ipynb), and standard deviations.
#
# **Afterwards you can** read a table of federated results critically: what was held equal, and how much
# of a difference is luck.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from IPython.display import Markdown

import fl_meta
from fl_meta import evidence, experiments, plots
from fl_meta.course import check
from fl_meta.evidence import VerdictTable

seaborn.set_palette("colorblind")
recorded = evidence.recorded_tables(evidence.recorded_folder())
design = experiments.TABLE_ONE_DESIGNS["writers"]
few, many = design.table.clients_per_round
smallest, _, large, _ = design.table.local_epochs

# %% [markdown] tags=["slide"]
# ## 1 · A puzzle: which E would you choose?
#
# This is the paper's Table 1, drawn. A client trains E epochs on its own examples before it answers. The
# *initial* accuracy is that of the global model, the *personalized* one that after a little training on
# each client's own examples. Bars are standard deviations over repeated training.

# %% tags=["same-slide", "without-code"]
# alt: Two line charts of accuracy over E from the paper, for 5 and for 20 clients a round: initial
# and personalized accuracy, with error bars.
plots.paper_table_plot()

# %% [markdown] tags=["slide"]
# The paper reads four things from it. We test them under these names:
#
# - `T1-gain`: personalization helps in every cell of the table;
# - `T1-spread`: from run to run the initial accuracy varies more than the personalized one;
# - `T1-best-E`: the best E for the initial model is not always the best for the personalized one;
# - `T1-largest-E`: at the largest E the initial accuracy falls again.
#
# Left, E = 5 is best for everybody and E = 10 to start from. But look at what was held equal: all cells
# were trained for as many *rounds*, and in a round E = 20 computes ten times as much as E = 2. Is that
# the right comparison?

# %% [markdown] tags=["slide"]
# ## 2 · One cell of the table
#
# Everything below repeats these lines, with other numbers of clients, epochs and rounds.

# %% tags=["same-slide"]
table = design.table
train, held_out = experiments.clients_of(table.setting).fold(
    seed % table.folds, table.folds
)
model = experiments.MODELS[table.setting.model](train)


def cell(clients, epochs, rounds):
    """Initial and personalized accuracy in per cent: means over held-out clients."""
    fedavg = fl_meta.fedavg(epochs=epochs, client=fl_meta.SGD(table.client_rate))
    stage = fl_meta.Stage(fedavg, rounds, clients)
    run = fl_meta.train(model, train, [stage], seed=seed)
    tuning = {"epochs": table.personalization_epochs, "client": fedavg.client}
    adapted = fl_meta.personalize(model, run.params, held_out, seed=seed, **tuning)
    return 100 * adapted.summary().test_accuracy_by_client.iloc[[0, -1]].to_numpy()


print("5 rounds, E = 2: initial {:.1f} %, personalized {:.1f} %".format(*cell(few, 2, 5)))

# %% [markdown]
# Our data are *writers*, **synthetic** handwriting. The writers are divided into folds. Each fold is held out
# in turn, and the others train several times, with other first weights and other clients in each round. Such
# results are recorded; your computer adds a run to them below.

# %% [markdown] tags=["slide"]
# ## 3 · The same models, two rulers
#
# Each model is measured twice: after equal **rounds**, and after equal **work**. The work of a client that
# takes part in each of $R$ rounds is
#
# $$\text{work} = E \cdot R \quad \text{local epochs}$$
#
# so at equal work a small $E$ gets more rounds.

# %% tags=["prose", "fragment"]
writers = {
    by: evidence.table_one_spreads(recorded["writers"], by) for by in evidence.READINGS
}


def lead(by, measure="initial"):
    """How many points the large E is ahead of the smallest, with many clients a round."""
    half = writers[by].loc[many, measure]
    return 100 * (half[large] - half[smallest])


side = "ahead of" if lead("equal_rounds") > 0 else "behind"
Markdown(
    f"""After {table.rounds} rounds with {many} clients each, the initial model of E = {large} is
{abs(lead("equal_rounds")):.1f} points {side} that of E = {smallest}."""
)

# %% [markdown] tags=["fragment"]
# **Predict.** Now stop both after equal work. By how many points is the larger E ahead of the smaller? A
# negative number means behind.

# %% tags=["prediction"]
check.predict("02.a", ...)

# %% tags=["slide", "without-code"]
# alt: Four line charts of accuracy over E: 5 and 20 clients a round, at equal rounds and at equal work;
# initial and personalized accuracy with error bars, and stars for your run.
own = evidence.your_table_one("writers", profile, seed)
plots.table_plot(recorded["writers"], own.accuracies if profile != "smoke" else None)

# %% tags=["prose", "fragment"]
at_work, same = abs(lead("equal_work")), lead("equal_rounds") * lead("equal_work") > 0
work_side = "ahead of" if lead("equal_work") > 0 else "behind"
Markdown(
    f"""**What came out.** With {many} clients a round, E = {large} is {abs(lead("equal_rounds")):.1f}
points {side} E = {smallest} at equal rounds, and {at_work:.1f} points {work_side} it at equal work. They are
the same trainings, in {"the same order, but at another distance" if same else "the opposite order"}. Which E
was best:"""
)

# %% tags=["slide", "without-code"]
best = {
    (f"{clients} clients", by.replace("_", " ")): found.loc[
        clients, experiments.BOTH
    ].idxmax()
    for clients in (few, many)
    for by, found in writers.items()
}
pd.DataFrame(best).T

# %%
check.prediction("02.a", lead("equal_work"))

# %% tags=["prose", "same-slide"]
stars = "The stars are one fold and one training run of the upper row, computed on this machine with a seed"
stars = "" if profile == "smoke" else f"{stars} that no recorded run has. "
Markdown(f"**Your run.** {stars}{own.sentence()}")

# %% [markdown] tags=["slide"]
# ## 4 · Why the ruler decides
#
# The same training, drawn twice: against rounds, and against work. Dashed: where the table is read.

# %% tags=["figure-rulers", "same-slide", "without-code"]
# alt: Two line charts of initial accuracy during training, a line for each E: over rounds, and over
# local epochs of each client.
curves = pd.DataFrame(
    {"E": one.local_epochs, "round": at, "accuracy": 100 * initial}
    for result in recorded["writers"]
    for one in result.cells
    if one.clients_per_round == many
    for at, initial, _ in one.curve
)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
for (epochs, part), marker in zip(curves.groupby("E"), "os^D", strict=True):
    mean = part.groupby("round").accuracy.mean()
    panels[0].plot(mean.index, mean, marker=marker, markersize=4, label=f"E = {epochs}")
    panels[1].plot(epochs * mean.index, mean, marker=marker, markersize=4)
panels[0].set(xlabel="rounds", ylabel="initial accuracy, %", xlim=(0, 1.1 * table.rounds))
panels[1].set(xlabel="work: local epochs E · R", xlim=(0, 1.1 * design.work))
panels[0].legend(frameon=False)
for axes, end in zip(panels, (table.rounds, design.work), strict=True):
    axes.axvline(end, color="0.5", linestyle="--", linewidth=1)
figure.suptitle(f"{train.label}: {many} clients a round")
for axes in panels:
    axes.grid(alpha=0.3)

# %% [markdown] tags=["slide"]
# In one round, a larger $E$ simply trains more. For the right panel the usual explanation is *client
# drift*: while a client trains alone it moves towards its own optimum, the clients drift apart, and the mean
# of models far apart need not be a good model. Per local epoch, a smaller $E$ averages more often. So a large
# $E$ tends to waste work, and it saves rounds mostly early in training. With few clients a round, the mean
# also depends on who happened to be asked; there a large $E$ may save no rounds (upper row in section 3).

# %% [markdown] tags=["slide"]
# ## 5 · How much is luck?
#
# Standard deviations between training runs, in points, after equal rounds: ours beside the paper's. The
# ratio divides the initial one by the personalized one.

# %% tags=["same-slide", "without-code"]
SPREADS = {"initial_spread": "initial", "personalized_spread": "personalized"}
SPREADS |= {f"paper_{name}": f"paper's {new}" for name, new in SPREADS.items()}
spreads = 100 * writers["equal_rounds"][list(SPREADS)].rename(columns=SPREADS)
ratios = writers["equal_rounds"][["ratio", "paper_ratio"]]
pd.concat([spreads.round(2), ratios.round(1)], axis=1).rename_axis(["clients", "E"])

# %% tags=["prose", "fragment"]
ours, theirs = np.exp(np.log(ratios).mean())
Markdown(
    f"""Over all cells (geometric mean) the initial accuracy varies {theirs:.1f} times as much as the
personalized one in the paper, and {ours:.1f} times as much in our runs. But a fold of ours has only
{len(held_out)} writers, and chance in single writers brings our ratio nearer to 1."""
)

# %% [markdown] tags=["slide"]
# ## 6 · The answer
#
# Which cell of the table was best, on every data set that is recorded? Neighbours may be as good: this
# table knows nothing of luck.

# %% tags=["same-slide", "without-code"]
rows = []
for results in recorded.values():
    for by in evidence.READINGS:
        found = evidence.table_one_spreads(results, by)
        row = {"data set": results[0].label, "compared at": by.replace("_", " ")}
        for name, measure in zip(
            ("for everybody", "to start from"), experiments.BOTH, strict=True
        ):
            clients, epochs = found[measure].idxmax()
            accuracy = found[measure].max()
            row[f"best {name}"] = f"{clients} clients, E = {epochs} ({accuracy:.1%})"
        rows.append(row)
pd.DataFrame(rows).set_index(["data set", "compared at"])

# %% [markdown]
# The four statements, each judged by a rule that was fixed before the recorded runs. Intervals hold the luck
# of clients *and* of training. Above 0 (a ratio: above 1) an effect supports the paper. *No difference* takes
# an interval within the [margin](../docs/glossary.md#statistics); a small effect alone is not enough.
# `T1-gain` is the smallest gain of all cells, `T1-largest-E` how far the largest E is below the E before it.
# `T1-best-E` is what the better compromise would cost: at least so many points are lost in one of the two
# accuracies if one E has to serve both. If one E is best for both, it is negative.
# [The evidence](../docs/evidence.md#table-1) has all rules.

# %%
findings = evidence.table_one_findings(recorded.values())
VerdictTable(tuple(finding.as_verdict() for finding in findings))

# %% [markdown] tags=["slide"]
# ## 7 · What this does not show
#
# - *What a large E could do with its own learning rate.* All cells share one client rate, as a customary
#   value that was not tuned. A smaller rate might let a large E drift less.
# - *Which ruler is right.* That depends on what is expensive; the second exercise is about it. Work is
#   counted for each client that takes part: of all clients together, a round with 20 takes four times as
#   much as one with 5.
# - *The end of training.* Where curves still rise, another number of rounds could have another best E.
# - *Levels.* The paper's data are EMNIST-62 and its model a CNN. Compare shapes, not heights.

# %% [markdown]
# ## 8 · Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 02.1 ★ · Equal work.** A model with E = 20 has been trained for 30 rounds. After how many rounds
# has a client of a model with E = 5 done equal work?

# %% tags=["fill-in"]
rounds_of_five = ...

# %% tags=["solution"]
rounds_of_five = 30 * 20 // 5

# %% [markdown] tags=["solution"]
# **Solution 02.1.** Both have done $20 \cdot 30$ local epochs; divide by 5.

# %% tags=["check"]
check.answer("02.1", rounds_of_five)

# %% [markdown] tags=["instructor"]
# **For instructors.** Two minutes. Who answers 30 compares at equal rounds.

# %% [markdown] tags=["exercise", "slide"]
# **Exercise 02.2 ★★ · Choose the ruler.** Phones take part at night, on the charger, once a night; you want a
# good model after few nights. Hospitals are always connected and rent their computers by the hour; you want a
# low bill. Which comparison should each look at, that at equal `"rounds"` or that at equal `"work"`?

# %% tags=["fill-in"]
phones = ...
hospitals = ...

# %% tags=["solution"]
phones = "rounds"
hospitals = "work"

# %% [markdown] tags=["solution"]
# **Solution 02.2.** A night is a round, and the phone's computing costs nothing. The hospital pays for local
# epochs, and a message costs it next to nothing.

# %% tags=["check"]
check.answer("02.2", {"phones": phones, "hospitals": hospitals})

# %% [markdown] tags=["instructor"]
# **For instructors.** Five minutes, good for a discussion: what if a message costs as much as one epoch?

# %% [markdown] tags=["exercise"]
# **Exercise 02.3 ★★ · The paper's ratio.** `experiments.PAPER_TABLE_ONE` has the columns `initial_spread` and
# `personalized_spread`. Compute by what factor the first is larger, as the *geometric* mean over the eight
# cells.

# %% tags=["fill-in"]
ratio = ...

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The geometric mean is the exponential of the mean of logarithms.
#
# </details>

# %% tags=["solution"]
paper = experiments.PAPER_TABLE_ONE
ratio = np.exp(np.log(paper.initial_spread / paper.personalized_spread).mean())
print(f"{ratio:.2f}")

# %% [markdown] tags=["solution"]
# **Solution 02.3.** A factor of 2 in one cell and of one half in another should cancel, and do so in the
# geometric mean; in the arithmetic one they do not.

# %% tags=["check"]
check.answer("02.3", ratio)

# %% [markdown] tags=["instructor"]
# **For instructors.** Five minutes. The arithmetic mean of ratios favours large ones, whichever of the two
# is divided by the other.

# %% [markdown] tags=["exercise"]
# **Exercise 02.4 ★★★ · One E for both.** You may choose only one E. Compared with its best, each accuracy
# loses something. Write a function that returns the larger of the two losses for the E where it is smallest.
# `initial` and `personalized` are lists of accuracies, one for each E.


# %% tags=["fill-in"]
def cost_of_one(initial, personalized): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# For each E compute two losses and take the larger; then find the E for which this is smallest.
#
# </details>


# %% tags=["solution"]
def cost_of_one(initial, personalized):
    losses = (
        (max(initial) - first, max(personalized) - second)
        for first, second in zip(initial, personalized, strict=True)
    )
    return min(max(pair) for pair in losses)


# %% [markdown] tags=["solution"]
# **Solution 02.4.** It is 0 if one E is best for both. `T1-best-E` rests on it, with two differences: there
# an E that is best for both counts as negative, by its closest lead, and an interval tells how sure that is.

# %% tags=["check"]
check.answer("02.4", cost_of_one)

# %% [markdown] tags=["instructor"]
# **For instructors.** Fifteen minutes. Common: adding the two losses, and comparing only the E that is best
# for one with the E that is best for the other, although a third may be the better compromise.
