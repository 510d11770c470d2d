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
# # 07 · Benchmarks: our numbers beside the published ones
#
# **The question of this notebook:** lists of benchmarks credit this paper's method with scores on
# six data sets. Where do those numbers come from, and does one get them when one runs the method?
#
# **What it costs:** about a minute with `profile = "laptop"`, half of one with `"smoke"`; 2 GB of
# memory. Nothing is downloaded. The rows on real data are recorded results.
#
# **What you need:** the words of [notebook 00](00_start_here.ipynb): *client*, *round*, *held-out
# client*, *personalized model*.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

import fl_meta
from fl_meta import experiments, plots
from fl_meta.algorithms import Stage, decayed
from fl_meta.data import batch_plan, by_labels_dirichlet
from fl_meta.evidence import file_name, load_or_run, own_folder, read_result
from fl_meta.experiments import BENCHMARKS, for_profile
from fl_meta.models import add, relative_error

rows = for_profile(BENCHMARKS, profile)
config = rows["synthetic"]["FedAvg"]
config

# %% [markdown]
# ## 1 · Where the numbers come from
#
# The scores (EMNIST 83.1, FEMNIST 75.3, CIFAR-10 82.3, Shakespeare 40.0, Synthetic 68.9) are not
# in the paper. They equal the column "FedAvg+" of another one, Marfoq et al. 2021 (FedEM), who
# used the method as a rival of their own: **FedAvg, then one local epoch**. This paper's own data
# set and model are others, and so is its second stage, Reptile with Adam.
#
# Their protocol has parts that the notebooks before this one do not:
#
# - *all* clients take part in every round, each for one epoch;
# - a client's SGD has momentum 0.9, and **keeps its momentum** from round to round;
# - the client rate falls to a tenth after half of the rounds, and again after three quarters;
# - the server takes the plain average of the models, weighted by train examples;
# - the score is weighted by test examples, and the bottom decile over clients goes with it.
#
# In the library that is one row of the table of algorithms and one call:

# %%
client = fl_meta.SGD(config.client_rate, momentum=0.9, weight_decay=5e-4)
fedavg = fl_meta.fedavg(
    1,
    client=client,
    server=fl_meta.SGD(1.0),
    batch_size=config.batch_size,
    keeps_momentum=True,
)
stages = decayed(
    Stage(fedavg, config.rounds, clients_per_round=None),
    at=(config.rounds // 2, 3 * config.rounds // 4),
)
for stage in stages:
    print(f"{stage.rounds} rounds, client rate {stage.algorithm.client.learning_rate:g}")

# %% [markdown]
# ## 2 · One client, from scratch
#
# What does "keeps its momentum" mean? A client has one `torch.optim.SGD` for the whole run. When
# a round begins, its parameters are replaced by the global ones; the optimizer's memory stays.
# Here are two rounds of one client by hand, beside the library's. With a single client the
# average of all models is that client's model.

# %%
data = fl_meta.load_dataset("synthetic", num_clients=20, test_examples=100)
alone = data.subset(data.client_ids[:1])
model = fl_meta.models.linear_binary(alone)
one = alone[alone.client_ids[0]]
x, y = torch.from_numpy(one.train_x), torch.from_numpy(one.train_y)
params = {name: p.clone().requires_grad_() for name, p in model.init(seed).items()}
optimizer = torch.optim.SGD(
    params.values(), config.client_rate, momentum=0.9, weight_decay=5e-4
)

# %%
for number in range(2):
    plan = batch_plan(
        seed, number, one.client_id, len(x), batch_size=config.batch_size, epochs=1
    )
    for batch in plan:
        optimizer.zero_grad()
        model.loss(params, x[batch], y[batch]).backward()
        optimizer.step()

# %%
run = fl_meta.train(
    model, alone, [Stage(fedavg, 2, clients_per_round=None)], seed=seed, progress=False
)
ours = {name: p.detach() for name, p in params.items()}
moves = [add(at, model.init(seed), -1.0) for at in (ours, run.params)]
print(f"two rounds, ours against the library's: {relative_error(*moves):.0e}")

# %% [markdown]
# ## 3 · Who has what
#
# EMNIST and CIFAR have no clients. The benchmark makes them: for each label (or group of labels)
# the clients' shares are drawn from a Dirichlet distribution with α = 0.4. Here the synthetic
# handwriting of the other notebooks is pooled and divided among 30 clients in this way. Compare
# it with the writers that it really had.

# %%
writers = fl_meta.load_dataset("writers", num_writers=30)
divided = by_labels_dirichlet(writers.pooled(), num_clients=30, alpha=0.4, seed=seed)
display(plots.partition_plot(writers), plots.partition_plot(divided))

# %% [markdown]
# **What to see.** A column is a client, a row a label. Writers have nearly all labels, some more
# often than others. The Dirichlet clients have a few labels in large numbers and most not at all.
# To such a client one local epoch tells *which labels it has*: a strong and easy hint that real
# writers do not give.
#
# **What it does not show.** Writers also differ in how they write. A partition by labels cannot
# make that difference, however small α is.
#
# ## 4 · Synthetic, computed here
#
# Three linear rules in 150 dimensions; every client mixes them in its own shares. This row is the
# only one whose data can be made again anywhere. (Reading the authors' program, we found that it
# does not make what their paper describes: it writes the labels of the second and third rule over
# those of the first, and leaves the rest at 0. We follow the program, because the numbers came
# out of it; `load_synthetic(as_released=False)` follows the paper.)

# %%
found = load_or_run(config, [seed], own_folder())
table = experiments.beside_published("synthetic", found)
table.round(1)

# %%
print("differs from the published:", experiments.protocol_differences(config))


# %% [markdown]
# `seen` is the average over clients that trained, in percent, with its 95 % interval over clients
# (`low`, `high`); `decile` the accuracy that nine clients in ten exceed; `unseen` the average over
# the fifth of the clients that did not train.
#
# **As released.** In the authors' program the epoch of FedAvg+ is not the one of their paper. Its
# rate never falls, because its scheduler counts evaluations and not rounds; and its momentum goes
# on from one evaluation to the next, so that the score depends on how often one looks. The last
# row does the same, looking every ten rounds.
#
# ## 5 · All rows, as recorded
#
# The other rows were computed beforehand, with the profile `laptop`. **Read the line below each
# table**: what was run here differs from what was published in data, model or budget, and two
# rows stand in for data sets that we do not have.


# %%
def recorded_of(name):
    """The results of a row that the repository keeps, of all methods and seeds."""
    folder, methods = Path("../data/results"), BENCHMARKS["laptop"][name].values()
    paths = [
        folder / file_name(one, number) for one in methods for number in range(one.folds)
    ]
    return [read_result(path) for path in paths if path.exists()]


# %%
kept = {name: recorded_of(name) for name in BENCHMARKS["laptop"]}
for name, results in kept.items():
    if results:
        label = results[0].data.label
        said = experiments.protocol_differences(BENCHMARKS["laptop"][name]["FedAvg"])
        dataset = results[0].config.setting.dataset
        shown = experiments.beside_published(dataset, results).round(1)
        display(Markdown(f"**{label}**"), shown, Markdown(f"*Differs:* {said}."))
print("not run:", ", ".join(name for name, results in kept.items() if not results))

# %% [markdown]
# **What to see.** *Synthetic*: over five seeds FedAvg+ is 68.7, published 68.9. *Shakespeare*:
# Local lies far below FedAvg and FedAvg+, as published. The last table has all of its lines and as
# many rounds as published, with a small network instead of an LSTM: FedAvg 46.0, published 46.7.
# *CIFAR-10* and the stand-in for EMNIST: Local, FedAvg, FedAvg+ rise in the published order; far
# lower on CIFAR-10, with a fifth of the images and a small network from scratch. *Digits* (the
# stand-in for FEMNIST): Local is above FedAvg, against the published order. Ten classes are soon
# learned alone. *MobileNet-v2*, the published model, has ten rounds here, 35 minutes of a core. A
# client has about a hundred images, one batch, so these are ten steps from scratch, and FedAvg is
# at chance. The row shows that it runs, and nothing else.
#
# **The released variant again.** On Shakespeare FedAvg+ is published nearly seven points *below*
# FedAvg. The FedAvg+ of their paper cannot do that: one epoch at a hundredth of the rate moves
# next to nothing, and here the two are equal. The released variant falls below, here by 1.6 points
# with 60 rounds and by 2.7 with 200. On FEMNIST and CIFAR-100 it is published below, too, and
# there only the released variant falls: by fifty points on our stand-in, by more than three on
# CIFAR-100. On EMNIST it is published above, and the released variant is above. So in these four
# rows the sign of the published difference is that of the program, with every seed. On CIFAR-10,
# published four points above, the released variant gains half a point on average and loses with
# one seed of three; FedAvg+ as described gains three.
#
# **What it does not show.** Five rows with two or three seeds each are a hint and no proof. (With
# one seed CIFAR-10 seemed to agree as well.) Rows on pictures have 100 rounds, not 200. (The first
# recorded runs on pictures had 30 or 40. FedAvg had only begun then, with 62 % on digits, so we
# made them longer after seeing that.)

# %% [markdown]
# ## 6 · What a critical reader asks
#
# - *Is this the paper's method?* Only half. FedAvg+ is its first and third step. *Personalized
#   FedAvg* in the tables adds Reptile with Adam as the second, with customary rates, not tuned.
# - *Tuned on what?* Nothing is tuned here. Rates are the published ones where the model is the
#   published one, else customary ones. A method with a luckier rate looks better.
# - *Which accuracy?* Weighted by test examples: clients with many count more. The other notebooks
#   take the plain mean over clients.
# - *Equal budgets?* All methods train for as many rounds. Those that count steps take about as
#   many as an average client's epoch has.
# - *Do the published numbers stand?* An independent rerun by others got 83.6 on EMNIST, which
#   agrees, and 74.1 on CIFAR-10, which does not.
#
# ## 7 · Exercises
#
# Guess first, then run. Solutions follow in the cells with the tag `solution`.
#
# 1. **A decayed epoch.** At the end of training the rate is a hundredth of the first. How much
#    can one epoch at that rate change?
# 2. **By client or by example?** Does the score of FedAvg change if every client counts the same?
# 3. **A harder partition.** Make α ten times smaller. How many labels does a client have then?

# %% [markdown] tags=["solution"]
# **Solution 1.** Very little: FedAvg+ and FedAvg are nearly equal here. What the released variant
# gains or loses beside them is what the undecayed rate does.

# %% tags=["solution"]
table.loc[
    [name for name in table.index if name.startswith("FedAvg")], ["seen", "decile"]
].round(2)

# %% [markdown] tags=["solution"]
# **Solution 2.** On Synthetic all test parts are equally large, so there is no difference. Where
# clients differ in size there is.

# %% tags=["solution"]
result = found[0]
accuracy = np.array(result.methods[0].accuracy[0])
weights = np.array(result.predictions[: result.seen])
print(
    f"by example {np.average(accuracy, weights=weights):.4f}, by client {accuracy.mean():.4f}"
)

# %% [markdown] tags=["solution"]
# **Solution 3.** A few. With α → 0 each label goes to a single client.

# %% tags=["solution"]
counts = {
    alpha: (by_labels_dirichlet(writers.pooled(), 30, alpha=alpha).class_counts() > 0).sum(
        1
    )
    for alpha in (0.4, 0.04)
}
pd.DataFrame({alpha: pd.Series(of).describe() for alpha, of in counts.items()}).round(1)

# %% [markdown]
# ## 8 · The answer

# %%
row, published = (
    table.loc["FedAvg+"],
    experiments.PUBLISHED_ROWS["synthetic"].published["FedAvg+"],
)
Markdown(
    f"""The published numbers are those of FedAvg with one more local epoch, measured by others. On
**Synthetic**, made as their program makes it, we get {row.seen:.1f} % (95 % interval over clients
{row.low:.1f} to {row.high:.1f}) where {published} is published. (Profile `{profile}`, one seed; the
recorded rows are in section 5.)"""
)
