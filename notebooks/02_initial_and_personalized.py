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
# **The question of this notebook:** is the best model for everybody also the best to start from?
#
# **What it costs:** three minutes with `profile = "laptop"`, half of one with `"smoke"`, on two
# cores; less than 1 GB of memory. What was computed is kept in a folder, and found there the next
# time.
#
# **What would refute the paper here?** Its Table 1 shows four things. What speaks against each on
# our data was written down in `fl_meta/evidence/comparison_verdicts.py` before the first run:
#
# - `T1-gain`: personalization helps in every cell. *Against it:* the smallest of all gains is
#   below 0, with its whole interval.
# - `T1-spread`: from run to run the initial accuracy varies several times as much as the
#   personalized. *Against it:* it varies less, with the whole interval of the ratio below 1.
# - `T1-best-E`: the best number of local epochs for one is not always the best for the other.
#   *Against it:* the same is best for both in at least 97.5 % of the bootstrap samples, whatever
#   the number of clients a round.
# - `T1-largest-E`: at the largest number of local epochs the initial accuracy falls again.
#   *Against it:* it rises there, surely.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import fl_meta
from fl_meta import evidence, experiments, laboratories, plots
from fl_meta.evaluation import bootstrap_mean
from fl_meta.evidence import (
    VerdictTable,
    load_or_run,
    own_folder,
    recorded,
    smallest_effect,
)
from fl_meta.experiments import (
    MODELS,
    RECORDED,
    RECORDED_TABLE_ONE,
    TABLE_ONE,
    clients_of,
    for_profile,
)

mpl.rcParams["figure.dpi"] = 72  # five figures, and the notebook stays small
config = for_profile(TABLE_ONE, profile)
config["writers"]

# %% [markdown]
# ## 1 · Two knobs of FedAvg
#
# *Clients a round*: how many clients the server asks before it takes a step. *Local epochs* E:
# how many times each of them goes through its own examples before it answers. A larger E means
# more work for each message; the clients also drift further apart before the server averages.
#
# One cell of the table, step by step. Which accuracies are meant:
#
# - *initial*: the global model on the **test part** of a held-out client, who took no part in
#   training;
# - *personalized*: the same model, after some epochs on that client's own **train part**, on the
#   same test part;
# - both are plain means over held-out clients: each client counts the same.

# %%
one = config["writers"]
clients, epochs = one.clients_per_round[0], one.local_epochs[0]
train, held_out = clients_of(one.setting).fold(seed % one.folds, one.folds)
model = MODELS[one.setting.model](train)
print(f"{train.label}: {len(train)} clients train, {len(held_out)} are held out")

# %%
algorithm = fl_meta.fedavg(epochs, client=fl_meta.SGD(one.client_rate))
stage = fl_meta.Stage(algorithm, one.rounds, clients)
run = fl_meta.train(model, train, [stage], seed=seed)

table = fl_meta.personalize(
    model,
    run.params,
    held_out,
    epochs=one.personalization_epochs,
    client=algorithm.client,
    seed=seed,
)
table.summary().T.round(3)

# %% [markdown]
# ## 2 · The table
#
# All cells, on two embedded data sets: *writers*, **synthetic** handwriting with the paper's 62
# classes, and *shakespeare*, real text of speaking roles. Each cell is trained once per seed, and
# seed k holds out fold k, so that over the seeds every client is held out exactly once.
#
# **Tuned on what?** On nothing. The client's learning rate is a customary value, one for all
# cells, in training and in personalization; the server is SGD with rate 1 and momentum 0.9. So a
# cell may lose only because this rate does not suit its E.
#
# **What was changed after earlier results.** The laptop profile had 30 rounds on the writers and 8
# on text with 90 roles. All notebooks together took more than ten minutes, so it now has 24 rounds,
# and 9 with 75 roles. (6 were tried first. They ended in a swing that section 4 shows, and its
# verdict on the best E was an artefact of it.)

# %%
results_of = {
    name: load_or_run(one, range(seed, seed + one.folds), own_folder())
    for name, one in config.items()
}
label_of = {name: results[0].data.label for name, results in results_of.items()}

# %%
lines = []
for name, results in results_of.items():
    one, held = config[name], sum(len(result.clients) for result in results)
    lines.append(
        f"- {label_of[name]}: {one.folds} seeds, {held} held-out clients together, {one.rounds} "
        f"rounds, model `{one.setting.model}`, client rate {one.client_rate:g}, "
        f"{one.personalization_epochs} epochs of personalization"
    )
Markdown("\n".join(lines))

# %% [markdown]
# The section above trained one of these cells with four calls of the library. Is it the same cell?

# %%
cell = results_of["writers"][0].cells[0]
by_hand = (
    table.accuracies().loc[list(results_of["writers"][0].clients)].to_numpy().T[[0, -1]]
)
in_table = np.array(cell.accuracy)
print("by hand:     initial {:.4f}, personalized {:.4f}".format(*by_hand.mean(1)))
print("in the table: initial {:.4f}, personalized {:.4f}".format(*in_table.mean(1)))

# %% [markdown]
# Now the table beside the paper's. In brackets is the spread (standard deviation) over seeds;
# the paper's is over repeats. *To 0.5* (on text *to 0.3*) counts rounds until the initial or
# personalized accuracy first reaches this threshold, which was set beforehand; a dash: not reached;
# "2 of 3": so many seeds reached it. The paper's threshold is 0.8, on its own scale of training.
# **Compare shapes, not levels**: its data are EMNIST-62, its model a CNN, and it trained for
# longer. For text we know of no such table in the paper, so ours stands alone.

# %%
KEYS = ["clients_per_round", "local_epochs"]


def rounds_to(values):
    """Mean number of rounds to the threshold, of those seeds that reached it."""
    reached = values.dropna()
    some = "" if len(reached) == len(values) else f" ({len(reached)} of {len(values)})"
    return f"{reached.mean():.0f}{some}" if len(reached) else "–"


# %%
def with_spread(mean, spread):
    """Accuracies in percent with the spread in brackets, as text."""
    pairs = zip(100 * mean, 100 * spread, strict=True)
    return pd.Series([f"{m:.1f} ({s:.1f})" for m, s in pairs], index=mean.index)


def ours_beside_paper(results):
    """Table 1 of these results; for handwriting the paper's beside it."""
    found, paper = (
        evidence.table_one_cells(results).groupby(KEYS),
        experiments.PAPER_TABLE_ONE,
    )
    ours, theirs = {}, {}
    for name in ("initial", "personalized"):
        ours[name] = with_spread(found[name].mean(), found[name].std())
        theirs[name] = with_spread(paper[name], paper[f"{name}_spread"])
    threshold = f"to {results[0].config.threshold:g}"
    for name in ("initial", "personalized"):
        ours[f"{threshold}, {name[:4]}."] = found[f"rounds_{name}"].apply(rounds_to)
        theirs[f"to 0.8, {name[:4]}."] = paper[f"to_threshold_{name}"].map("{:g}".format)
    both = {"ours": pd.DataFrame(ours), "paper, EMNIST-62": pd.DataFrame(theirs)}
    if "shakespeare" in results[0].data.name:
        del both["paper, EMNIST-62"]
    beside = pd.concat(both, axis=1).reindex(both["ours"].index).fillna("")
    return beside.rename_axis(["clients", "E"])


# %%
for name, results in results_of.items():
    display(Markdown(f"**{label_of[name]}**"))
    display(ours_beside_paper(results))

# %% [markdown]
# ## 3 · How small an effect can this design see?
#
# The unit is the held-out client, compared with itself. If paired differences vary over clients
# with a standard deviation of ten points (planned before the runs), then a test finds a mean
# difference of this size in four of five cases. Smaller ones may be there and stay unseen.

# %%
for name, results in results_of.items():
    held = sum(len(result.clients) for result in results)
    least = 100 * smallest_effect(evidence.PLANNED_SPREAD, held)
    print(f"{label_of[name]}: {held} held-out clients, {least:.1f} points")


# %% [markdown]
# The gain of every cell, in points, with its 95 % interval (bootstrap over clients), the real
# spread over clients, and the share of clients that are *worse* off than with the initial model.


# %%
def gains(results):
    """A row per cell: mean gain with interval, spread over clients, share hurt."""
    rows = {}
    for cells in zip(*(result.cells for result in results), strict=True):
        accuracy = np.concatenate([cell.accuracy for cell in cells], axis=1)
        gain = 100 * (accuracy[1] - accuracy[0])
        found = bootstrap_mean(gain)
        key = tuple(getattr(cells[0], name) for name in KEYS)
        rows[key] = (found.estimate, found.low, found.high, gain.std(), (gain < 0).mean())
    columns = ["gain", "low", "high", "spread", "share hurt"]
    return pd.DataFrame(rows, index=columns).T.rename_axis(["clients", "E"]).round(2)


# %%
by_cell = {label_of[name]: gains(results) for name, results in results_of.items()}
pd.concat(by_cell, axis=1)

# %% [markdown]
# **What to see.** Every interval lies above 0. The spread over clients is larger than planned on
# the writers, and far smaller on text, where even one point can be seen. The last column is as
# telling as the first: on the writers up to one client in nine is worse off, although the mean
# gains 17 points and more. On text the gains are small, from less than one point to four, and with
# E = 10 and E = 20 up to one role in four is worse off.

# %% [markdown]
# ## 4 · The shape

# %%
plots.table_plot(results_of["writers"])

# %% [markdown]
# **What to see.** In every cell the personalized model is 17 to 26 points better than the initial
# one. From E = 2 to E = 5 both rise by 13 points and more; after that the personalized lines are
# nearly flat. E = 10 is the best for the personalized model in both halves. For the initial one it
# is E = 20 with 5 clients a round, and E = 10 with 20, half a point ahead of E = 20. The paper's
# fall of the initial accuracy at E = 20 is not to be seen: with 20 clients a round the line is
# nearly flat, and with 5, where the paper's fall is deepest, it goes on rising.
#
# **What it does not show.** That the order of E = 5, 10 and 20 would be the same again: most of
# their means differ by less than three points, about the size that this design can just see. We have
# three samples of it: the same seeds and settings, in three versions of the engine that add the same
# sums in another order, so that only the last digits of float32 differ. `T1-best-E` was *direction
# only* (57 %), then *undecided* (49 %), and is *direction only* again (75 %). In the second version
# E = 20 was best for both models with 5 clients a round; with 20 the initial accuracy fell at E = 20
# by nearly two points in the first version, and not at all in the second. Training is chaotic: none
# of this is robust. Nor does it show that E itself makes the difference: all cells have the same
# number of rounds, so a larger E has also taken more steps (exercise 1 compares at equal work). And
# nothing about people: these writers are drawn by a program.

# %%
plots.table_plot(results_of["shakespeare"])

# %% [markdown]
# **What to see.** Both models grow better with E, up to the largest: E = 20 is best for both, and
# there is no fall at E = 20. With so few rounds a larger E is first of all more training. Now look
# at the rounds before.

# %%
text = clients_of(config["shakespeare"].setting)
blank = (text.y == text.class_names.index(" ")).sum() / (text.y >= 0).sum()
print(f"who always answers with a blank is right in {blank:.1%} of the cases")
rows = [
    (cell.clients_per_round, cell.local_epochs, *point)
    for result in results_of["shakespeare"]
    for cell in result.cells
    for point in cell.curve
]
measures = ["initial", "personalized"]
courses = pd.DataFrame(rows, columns=[*KEYS, "round", *measures])
courses.groupby([*KEYS, "round"])[measures].mean().unstack().round(3)

# %% [markdown]
# **What to see.** In all eight cells the initial accuracy *falls* from round 3 to round 6, with
# E = 2 and E = 5 below that of a constant answer, and then rises again. The server's momentum
# overshoots: in a trial without momentum (one seed, 20 clients a round, E = 2 and 5; not shown)
# there was no such fall. Personalization repairs it at once: at round 6 it adds up to twelve
# points. Which E looks best for the initial model at round 6 says only where in that swing the
# training was stopped.
#
# **What it does not show.** The paper's shape, or that it is not there: nine rounds are the
# beginning of training. The recorded results (section 6) have 25.

# %% [markdown]
# ## 5 · A limit: what "from seed to seed" means here
#
# The paper's spread is over repeats. Ours is over seeds, and each seed holds out *other clients*.
# If this fold's writers happen to be legible, both accuracies go up, and that has nothing to do
# with training. How much is it? We train the two cheapest cells again, with further seeds that all
# hold out the **same** fold: the seed modulo the number of folds chooses the fold.

# %%
one = config["writers"]
cheap = replace(
    one,
    clients_per_round=one.clients_per_round[:1],
    local_epochs=one.local_epochs[:2],
    every=one.rounds,
)
more = [seed + k * one.folds for k in range(2 * one.folds)]
same_fold = load_or_run(cheap, more, own_folder())


# %%
def spreads(results):
    """Over seeds, in points: of initial and personalized accuracy, and how many times as much."""
    found = 100 * evidence.table_one_cells(results).groupby(KEYS)[measures].std()
    return found.assign(ratio=found.initial / found.personalized)


both = {
    "another fold each time": spreads(results_of["writers"]),
    "the same fold, other seeds": spreads(same_fold),
}
pd.concat(both, axis=1).loc[both["the same fold, other seeds"].index].round(2)

# %% [markdown]
# **What to see.** With E = 5 the spread of the initial accuracy is less than half as large when the
# fold stays; with E = 2 nothing changes. So what looks like the luck of training can be, in good
# part, the luck of who is held out, and who trains. One might hope that the paper's ratios, 2 to 17
# in its table, appear when this luck is taken out. Here they do not: with E = 2 the ratio stays at
# 0.4, with E = 5 it falls from 3 to 2.
#
# **What it does not show.** A precise ratio. A standard deviation of three values is uncertain by
# a half, one of six values by a third. Section 6 asks again with five seeds and all eight cells.

# %% [markdown]
# ## 6 · On real data
#
# The same experiment, with five folds and more clients and rounds, on data sets that cannot come
# with the installation: MNIST's digits by their writers, UNIPEN's pen strokes by writer, drawn as
# images of 62 classes, and Shakespeare's roles as the paper's own second data set has them. The
# results are computed beforehand and kept as files in `data/results`; they are *recorded*, not
# computed in this run. A data set without results is shown as "not run".

# %%
REAL = ("mnist_by_writer", "unipen62", "shakespeare_tff")
found_of = {
    name: recorded(RECORDED_TABLE_ONE[name], Path("../data/results")) for name in REAL
}
of_real_data = []
for name, found in found_of.items():
    if found:
        of_real_data += evidence.decide_table_one(found, RECORDED)
    else:
        of_real_data += evidence.not_run("T1", name, RECORDED)
VerdictTable(tuple(of_real_data))

# %%
for name, found in found_of.items():
    if found:
        held = sum(len(result.clients) for result in found)
        least = 100 * smallest_effect(evidence.PLANNED_SPREAD, held)
        text = f"**{name}**: {len(found)} seeds, {held} held-out clients; can see {least:.1f} points"
        display(Markdown(text), ours_beside_paper(found), plots.table_plot(found))
    else:
        display(Markdown(f"**{name}**: no recorded results yet"))
with_results = {name: found for name, found in found_of.items() if found}
by_cell = {
    name: gains(found)[["gain", "share hurt"]] for name, found in with_results.items()
}
if by_cell:
    display(pd.concat(by_cell, axis=1))

# %% [markdown]
# **What to see.** Personalization helps in every cell of every data set, by 1 to 9 points. It does
# not help everyone: with 20 clients a round it leaves about one client in four worse off on UNIPEN,
# and up to 31 % on Shakespeare's roles. For the rest of the shape:
#
# - *Best E*: nowhere are the two best E surely different, and nowhere surely the same. The verdict
#   takes that half of the table in which they differ more often, so luck works for the claim, and
#   it is not enough.
# - *Largest E*: on UNIPEN the initial accuracy falls at E = 20 as in the paper, by nearly two points
#   with 5 clients a round and with 20, in four of five seeds; the personalized falls with it. On
#   MNIST there is nothing to see: all E are within a point. On Shakespeare's roles E = 10 and E = 20
#   are the best, and no fall is to be seen.
# - *Spread*: on UNIPEN the verdict is against the paper. Is it?
#
# ### Seed by seed: move it yourself
#
# Step through *seed*. The personalized lines of seed 3 lie 4 to 10 points below those of seed 1, in
# every cell, whatever E: the clients are others. Read what each seed alone would have said: in four
# of five the initial accuracy falls at E = 20, in seed 3 it rises. *Clients a round* and E choose a
# cell, which is told in words beside the paper's.

# %%
panel = laboratories.claim_explorer(
    "../data/results", dataset="unipen62", claim="T1-largest-E", local_epochs=20
)
panel

# %% [markdown]
# **Is our spread the paper's?** No. Later code by Google that follows the paper personalizes one
# fixed set of 900 writers; if the paper did so too, its spread is that of training. Our seeds hold
# out other clients each time, 50 of them, and whether these are easy raises or lowers all eight
# cells of that seed, before and after personalization. We can at least take that out: subtract from
# every cell the mean of its seed over all cells. (We thought of it after seeing the verdicts, and it
# changes none.)


# %%
def over_seeds(results):
    """Spread over seeds in points, root mean square over cells: as it is, and without seeds' means."""
    found = {}
    for name in measures:
        table = 100 * evidence.table_one_cells(results).pivot_table(name, "seed", KEYS)
        rest = table.sub(table.mean(axis=1), axis=0)
        number = table.shape[1]
        # One mean per seed is gone, so the mean square over cells has one degree of freedom less.
        found["as it is", name] = np.sqrt(table.var().mean())
        found["without the seeds' means", name] = np.sqrt(
            rest.var().mean() * number / (number - 1)
        )
    for kind in ("as it is", "without the seeds' means"):
        found[kind, "ratio"] = found[kind, "initial"] / found[kind, "personalized"]
    return pd.Series(found)


everything = results_of | with_results
of_seeds = pd.DataFrame({name: over_seeds(found) for name, found in everything.items()}).T
of_seeds[["as it is", "without the seeds' means"]].round(2)

# %% [markdown]
# **What to see.** A third to a half of the initial accuracy's spread on MNIST and Shakespeare's
# roles, and more than half of the personalized one's on UNIPEN, is common to all cells of a seed.
# Without it the initial accuracy varies more than the personalized on every data set, on UNIPEN too:
# 1.3 to 1.6 times as much on the real data. So the verdict "not reproduced" there says more about
# our design than about the paper's claim. But 1.3 to 1.6 times is not "several times" either.
#
# **What it does not show.** The luck of training alone: what remains also contains that some clients
# suit one cell better than another. The interval of `T1-spread` resamples the eight cells as if
# they were independent; they share their clients, so it is too narrow. Nor does all this show the
# paper's numbers: none of the three data sets is EMNIST-62, the models are small, and in most cells
# accuracy was still rising when training stopped.

# %% [markdown]
# ## 7 · Exercises
#
# Write your guess down before you run anything. Solutions follow; an instructor's copy for
# students is made by leaving out the cells with the tag `solution`.
#
# 1. **Equal work.** A round with E = 20 costs a client ten times as much as one with E = 2. The
#    results have a `curve` for each cell (round, initial, personalized accuracy). Which E is
#    ahead on the writers if every cell may spend at most as many local epochs as the largest E has
#    spent at its first evaluation after the start?
# 2. **More of it.** Personalize the model of section 1 for ten epochs instead of a few. Does the
#    mean accuracy go on rising? And the share of clients hurt?
# 3. **Luck of the fold.** Suppose that training were perfectly repeatable. By how much would the
#    mean accuracy still vary from seed to seed, only because the held-out clients are others?
#    Estimate it from the spread over clients, and compare with "as it is" in section 6.

# %% [markdown] tags=["solution"]
# **Solution 1.** E = 20 has spent 80 local epochs in four rounds; E = 10 may take 8 rounds, E = 5
# sixteen, and E = 2 all it has (24 rounds, 48 epochs). Now the order turns round: E = 5 is ahead in
# both accuracies, and E = 20 comes last, behind E = 2 with little more than half the work. After so
# little training that need not stay so. The paper's threshold columns count what it calls epochs;
# in federated learning rounds are often what is dear. Which E is "best" depends on the budget.

# %% tags=["solution"]
rows = []
for result in results_of["writers"]:
    for cell in result.cells:
        own = cell.local_epochs
        last = max(one.local_epochs) * one.every // own
        point = next(p for p in reversed(cell.curve) if p[0] <= last)
        rows.append((cell.clients_per_round, own, *point))
equal_work = pd.DataFrame(rows, columns=[*KEYS, "rounds", *measures])
equal_work.groupby(KEYS).mean().round(3)

# %% [markdown] tags=["solution"]
# **Solution 2.** The mean goes on rising, more slowly, until about the ninth epoch, and at most one
# client of 33 is hurt: this global model has seen little training, and there is much to gain.
# "Personalized accuracy" in the table is accuracy after a *fixed* number of epochs, not the most
# that one's own data can give.

# %% tags=["solution"]
longer = fl_meta.personalize(
    model, run.params, held_out, epochs=10, client=algorithm.client, seed=seed
)
longer.summary()[
    ["test_accuracy_by_client", "gain_by_client", "share_of_clients_hurt"]
].round(3)

# %% [markdown] tags=["solution"]
# **Solution 3.** The mean of n clients drawn at random varies by their standard deviation over √n,
# and the means of the folds do so too. On UNIPEN the choice of clients alone explains all of the
# initial accuracy's spread and nearly all of the personalized one's; on the other two real data
# sets it is about three quarters of either. (Variances add, not spreads: three quarters of the
# spread is little more than half of the variance.) On the writers it is most of the initial
# accuracy's spread, on the embedded text half of it; on both it is all of the personalized one's.

# %% tags=["solution"]
luck = {}
for name, results in everything.items():
    variances = [
        np.var(cell.accuracy, axis=1, ddof=1) / len(result.clients)
        for result in results
        for cell in result.cells
    ]
    luck[name] = 100 * np.sqrt(np.mean(variances, axis=0))
alone = pd.DataFrame(luck, index=measures).T
pd.concat(
    {"from the choice of clients alone": alone, "seen": of_seeds["as it is"][measures]},
    axis=1,
).round(2)

# %% [markdown]
# ## 8 · The answer
#
# `T1-best-E` asks whether the two best E *differ*. What matters more in practice: how much does
# the personalized model lose if E is chosen by the initial accuracy? An E that is best on some
# clients looks better on them than it is. So we choose both E on the *other* seeds' clients, and
# compare on this seed's. The difference may then come out on either side of 0. Its interval takes
# the trained models as they are: it resamples clients, it does not train again. How much that leaves
# out, the writers show. With the same seeds and settings, in the three versions of section 4, the
# choice by the personalized accuracy first *lost* 1.4 points, with its whole interval below 0; then
# both choices were the same E; now it wins 0.7, and the interval just reaches 0. (With 30 rounds
# instead of 24 it won more than a point.) The E that it chooses among are too much alike.
#
# The word in the sentence below is the verdict on `T1-best-E`, the number answers this second
# question; so they need not agree. Of the real data sets only UNIPEN shows that one loses by going
# by the initial accuracy: less than a point, for the trained models as they are. So on real data,
# if the two best E differ, it hardly matters.


# %%
def loss(results, clients):
    """Per held-out client: personalized accuracy of the E chosen by it − by the initial one."""
    table, losses = (
        evidence.table_one_cells(results).query("clients_per_round == @clients"),
        [],
    )
    for result in results:
        others = table[table.seed != result.seed].groupby("local_epochs")
        initial, personalized = others[measures].mean().idxmax()
        mine = {
            cell.local_epochs: np.array(cell.accuracy[1])
            for cell in result.cells
            if cell.clients_per_round == clients
        }
        losses.append(mine[personalized] - mine[initial])
    return np.concatenate(losses)


# %%
YES_OR_NO = {
    "reproduced": "no",
    "direction only": "leaning to no, far from sure",
    "undecided": "we cannot tell",
    "not reproduced": "yes",
}

# %%
sentences, decided = [], []
for name, results in everything.items():
    verdicts = {one.claim: one for one in evidence.decide_table_one(results, profile)}
    label, halves = results[0].data.label, results[0].config.clients_per_round
    if name in results_of:
        decided += verdicts.values()
    else:
        label += ", recorded,"
    lost = bootstrap_mean(100 * np.mean([loss(results, c) for c in halves], axis=0))
    text = (
        "choosing E by the personalized accuracy instead of the initial one changes the "
        f"personalized accuracy by {lost.estimate:+.2f} points "
        f"(95 % interval {lost.low:+.2f} to {lost.high:+.2f})"
    )
    if lost.low == lost.high == 0:
        text = "the same E is chosen by either accuracy (0 points lost, on every client)"
    sentences.append(f"{label} **{YES_OR_NO[verdicts['T1-best-E'].verdict]}**: {text}")
question = "Is the best model for everybody also the best to start from?"
display(Markdown(f"{question} On {'; on '.join(sentences)}. (Profile `{profile}`.)"))
VerdictTable(tuple(decided))
