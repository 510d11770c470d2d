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
# # 08 · Playground: move it yourself
#
# **The question of this notebook:** what happens to the global model, and to what each client makes of
# it, when we change one thing?
#
# **What it costs:** about a minute, with any profile; less than 1 GB of memory. Nothing is downloaded.
#
# **What you need:** the words of [notebook 00](00_start_here.ipynb) and the table of [notebook
# 01](01_fedavg_is_meta_learning.ipynb). In JupyterLab **run all cells first** (*Run → Run All Cells*);
# without a kernel the pictures do not move.
#
# **Afterwards you can** say what local steps, the mix of gradients and differences between clients do,
# and how much one training run tells.
#
# Tab and the arrow keys move sliders and lists, too. The line *these settings* is code: copy it into a cell
# to keep them.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
from itertools import combinations

import numpy as np
import pandas as pd
from IPython.display import Markdown

from fl_meta import evidence, experiments, laboratories
from fl_meta.algorithms import SGD
from fl_meta.course import check

RESULTS = "../data/results"

# %% [markdown] tags=["slide"]
# ## 1 · A federation in the plane
#
# Five clients, and a model with two parameters: a place in the plane. The numbered discs are the clients'
# optima; a small ellipse means a steep loss. Black is the server's way, from the square to the star. The
# thin lines are the clients' local steps of the last round. Then each client takes **one step** of its
# own, to its triangle: this is personalization.
#
# On the right are the mean losses at the star and after the one step. The dotted lines are the least that
# any place reaches. Where the clients differ, no place reaches both.

# %% tags=["slide", "without-code"]
plane = laboratories.federation_in_the_plane()
plane

# %% [markdown] tags=["fragment"]
# **What to see.** Choose Reptile, which is FedAvg with equal weights. With $K = 1$ it approaches the best
# *initial* loss. Raise $K$: the initial loss rises, and the loss *after one step* falls towards the line
# where MAML with $K = 1$ goes (give it 60 rounds). MAML moves towards the clients with flat losses, because
# one step helps them little.
#
# **Think first.** Now choose MAML, and raise $K$ from 1 to 10. Does the loss after one step get `"better"`
# or `"worse"`?

# %% tags=["prediction"]
check.predict("08.a", ...)


# %%
def end_of(name, steps, heterogeneity=1.0):
    """Where 500 rounds in the plane lead, and the mean loss after one step from there."""
    server = laboratories.SERVERS["SGD, momentum 0.9"](1.0)
    algorithm = laboratories.PLANE_ALGORITHMS[name](steps, SGD(0.3), server)
    clients = laboratories.quadratics(heterogeneity)
    end = laboratories.train_in_plane(clients, algorithm, 500)[0][-1]
    return end, clients.losses(clients.adapted(end, 0.3)).mean()


one, ten = (end_of("MAML", steps)[1] for steps in (1, 10))
change = "worse" if ten > one else "better"

# %% tags=["prediction"]
check.prediction("08.a", change)

# %% tags=["prose"]
Markdown(
    f"""**What came out.** With $K = 1$ the loss after one step is {one:.3f}, with $K = 10$ it is {ten:.3f}:
{change}. MAML with ten steps makes the loss small after *ten* steps; the picture takes one."""
)

# %% [markdown]
# **What it does not show.** Real losses are no bowls, and real gradients are noisy.

# %% [markdown] tags=["exercise"]
# **Exercise 08.1 ★ · Nothing to adapt to.** At which value of *heterogeneity* do FedSGD and MAML with
# $K = 1$ end at the same place?

# %% tags=["fill-in"]
alike = ...

# %% tags=["solution"]
alike = 0.0
apart = {
    heterogeneity: np.linalg.norm(
        end_of("FedSGD", 1, heterogeneity)[0] - end_of("MAML", 1, heterogeneity)[0]
    )
    for heterogeneity in (0.0, 0.25, 0.5, 1.0)
}
pd.Series(apart, name="distance of the ends").round(3)

# %% [markdown] tags=["solution"]
# **Solution 08.1.** At 0 all clients are the same, and every method finds their common optimum. Above
# it the methods part, because the clients' optima and their curvatures differ.

# %% tags=["check"]
check.answer("08.1", alike)

# %% [markdown] tags=["instructor"]
# **For instructors.** Three minutes. Some stop at a small value, where the stars cannot be told apart
# by eye. A failure to find with the panel: FOMAML, $K = 1$, $\beta = 0.6$, `SGD, momentum 0.9`. The path
# leaves the picture, because the steep clients 1 and 5 are about at their optima after one step, and so
# send nearly nothing in their steep directions.

# %% [markdown]
# The same with one parameter: two bowls, from [notebook 04](04_global_accuracy_is_not_the_goal.ipynb). In
# which two ways can you make the best average model the best start, too?

# %% tags=["slide", "without-code"]
bowls = laboratories.two_bowls()
bowls

# %% [markdown]
# And a fork in training, from [notebook 03](03_personalized_fedavg.ipynb). Which server brings the model
# nearest to the optimum after it?

# %% tags=["slide", "without-code"]
fork = laboratories.after_the_fork()
fork

# %% [markdown] tags=["slide"]
# ## 2 · Mix your own algorithm
#
# The methods of the paper differ in which inner gradients a client sends. Here each of $g_1 … g_5$ has a
# slider, and the server steps against their weighted sum. All clients weigh the same, so FedAvg(5) is
# Reptile.
#
# 24 synthetic writers train a linear model on small images of easily mistaken characters, such as 0, O
# and o. 24 others personalize it for one epoch.

# %% tags=["same-slide", "without-code"]
mixer = laboratories.mix_your_own()
mixer


# %%
def accuracies_of(weights, server_rate=3.0):
    """Initial and personalized accuracy of a mix after 20 rounds, in percent."""
    writers = laboratories.small_writers()
    run = laboratories.train_mix(writers, tuple(weights), 0.5, server_rate, 20)
    return run.initial[-1], run.personalized[-1]


mixes = pd.DataFrame(
    {
        rate: {name: accuracies_of(mix, rate) for name, mix in laboratories.PRESETS.items()}
        for rate in (1.0, 3.0, 5.0)
    }
)

# %% tags=["prose"]
first = mixes.map(lambda accuracies: accuracies[0])
listed = "; ".join(
    f"at rate {rate:g}, "
    + ", ".join(f"{name} {accuracy:.0f} %" for name, accuracy in column.items())
    for rate, column in first.items()
)
Markdown(
    f"""**What to see.** Move the *server rate*. Initial accuracies after 20 rounds: {listed}. FedAvg(5)
sends a sum of five gradients, so its steps are long; FOMAML(4) sends one, taken late, when gradients have
become short. So compare each method at its best rate."""
)

# %% [markdown]
# **What it does not show.** A winner: there are few test images, and no rate is tuned.

# %% [markdown] tags=["exercise"]
# **Exercise 08.2 ★★ · Beat FedAvg.** At server rate 3 (client rate `0.5`, 20 rounds), find weights whose
# initial *and* personalized accuracy are above those of FedAvg(5).

# %% tags=["fill-in"]
weights = (..., ..., ..., ..., ...)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Which method gains most when the server rate rises from 1 to 3? A larger weight makes its steps longer.
#
# </details>

# %% tags=["solution"]
weights = (0, 0, 0, 0, 5)
rows = {
    "FedAvg(5)": (1, 1, 1, 1, 1),
    "this solution": weights,
    "g₅ − g₁": (-1, 0, 0, 0, 1),
}
pd.DataFrame(
    {name: accuracies_of(mix) for name, mix in rows.items()},
    index=["initial", "personalized"],
).T.round(1)

# %% [markdown] tags=["solution"]
# **Solution 08.2.** One of many: five times the last gradient. It is as many gradients as FedAvg sends,
# all from where the model has adapted. The last row is the term of adaptation alone (notebook 01),
# which learns little.

# %% tags=["check"]
check.answer("08.2", weights, accuracies_of=accuracies_of)

# %% [markdown] tags=["instructor"]
# **For instructors.** Ten minutes. Ask what was shown: the weights were chosen on the same test images
# that score them. On other writers (`small_writers(seed=1)`) a lead of a point may be gone.

# %% [markdown] tags=["slide"]
# ## 3 · Meet a client
#
# A mean accuracy hides the clients. Here is one held-out client at a time: a synthetic writer, then a
# speaking role of Shakespeare's plays. A small global model was trained on others.
#
# At 0 the global model's mistakes are framed; "E→B" is an E, read as B. Then let the client adapt. What
# becomes right gets a dashed frame and ✔, what becomes wrong a thick frame and ✘.

# %% tags=["same-slide", "without-code"]
writer = laboratories.meet_a_client(dataset="writers", epoch=5)
writer

# %%
study = laboratories.held_out_study("writers")
other = laboratories.adapt_client("writers", "writer_00021")
all_writers = study.table.accuracies()


def flips(met, epoch=5):
    """How many predictions have become right since the global model's, and how many wrong."""
    before, now = met.right[0], met.right[epoch]
    return int((now & ~before).sum()), int((before & ~now).sum())


# %% tags=["prose", "slide"]
gained, lost = flips(other)
Markdown(
    f"""**What to see.** Choose writer_00021. From epoch 0 to 5 its accuracy goes from
{other.accuracies[0]:.0f} to {other.accuracies[5]:.0f} %: {gained} of {len(other.truth)} glyphs have become
right and {lost} wrong. The accuracy shows only the difference.

**What it does not show.** How sure this is: here a glyph is worth {100 / len(other.truth):.1f} points. The
mean of all {len(all_writers)} held-out writers (grey) goes from {100 * all_writers[0].mean():.0f} to
{100 * all_writers[5].mean():.0f} %."""
)

# %% [markdown] tags=["exercise"]
# **Exercise 08.3 ★★ · Always wrong.** How many test glyphs of writer_00041 are right at no epoch? How many
# of these show a character of which its train part has no image?

# %% tags=["fill-in"]
met = laboratories.adapt_client("writers", "writer_00041")
found = {"never right": ..., "never seen": ...}

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `met.right` has a row for each epoch and a column for each glyph; `met.truth` and `met.client.train_y`
# are labels.
#
# </details>

# %% tags=["solution"]
met = laboratories.adapt_client("writers", "writer_00041")
never = ~met.right.any(axis=0)
unseen = ~np.isin(met.truth, met.client.train_y)
found = {"never right": int(never.sum()), "never seen": int((never & unseen).sum())}
print(found)

# %% [markdown] tags=["solution"]
# **Solution 08.3.** Compare the two counts. A writer's own examples cannot show how this writer draws a
# character that is not among them; what the global model gets wrong there, adaptation hardly repairs.

# %% tags=["check"]
check.answer("08.3", found, met=met)

# %% [markdown] tags=["instructor"]
# **For instructors.** Ten minutes. Common: counting what is wrong at the last epoch alone. Discuss how
# another client could help with the missing characters.

# %% [markdown]
# A role's characters are guessed one by one from those before. Wrong guesses are underlined; a frame is a
# flip. Below, the model writes on after the first unseen line, before and after adaptation.

# %%
role = laboratories.meet_a_client(dataset="shakespeare", epoch=5)
role

# %% tags=["prose"]
study = laboratories.held_out_study("shakespeare")
first_role = laboratories.adapt_client("shakespeare", study.offered[0])
gained, lost = flips(first_role)
all_roles = 100 * study.table.accuracies().mean()
Markdown(
    f"""**What to see.** After epoch 5, {gained} of the first role's {len(first_role.truth)} unseen characters
have become right and {lost} wrong. The mean accuracy of all roles is {all_roles[0]:.1f} %, then
{all_roles[1]:.1f} % after one epoch and {all_roles[10]:.1f} % after ten.

**What it does not show.** Whether text can be personalized: this model is tiny. [Notebook
06](06_next_character.ipynb) asks with larger ones."""
)

# %% [markdown] tags=["slide"]
# ## 4 · How different are they?
#
# The synthetic writers have knobs: *style*, how far hands differ, and what their ink means; *label skew*,
# how far they differ in which characters they write; and how many *examples* each has.
#
# The points are recorded results of a logistic regression, trained by FedAvg and adapted to held-out writers.
# The button computes a cell again with other writers. Every column turns one knob and leaves the others where
# their sliders stand.

# %% tags=["slide", "without-code"]
different = laboratories.heterogeneity_panel(RESULTS)
different

# %% tags=["prose", "slide"]
gain_of = experiments.gains(
    evidence.recorded(experiments.RECORDED_HETEROGENEITY, evidence.recorded_folder())
)
alone = [gain_of[knobs].gain.estimate for knobs in ((1, 0, 100), (0, 2, 100))]
both = gain_of[1, 2, 100].gain.estimate
nothing = gain_of[0, 0, 100].gain
few, many = (gain_of[1, 0, examples].gain.estimate for examples in (25, 300))
relation = "more" if both > sum(alone) else "not more"
Markdown(
    f"""**What to see.** With 100 examples and both knobs at 0 the gain is {nothing.estimate:+.1f} points
(interval {nothing.low:+.1f} to {nothing.high:+.1f}). Style 1 alone gives {alone[0]:+.1f}, label skew 2
alone {alone[1]:+.1f}, and both together {both:+.1f}, {relation} than the sum: where a stroke may be 1 or l,
it helps to know which of them this writer writes.

Adaptation takes examples: at style 1 without label skew, 25 give {few:+.1f} points, and 300 give
{many:+.1f}.""".replace("-", "−")
)

# %% [markdown]
# **What it does not show.** People: a program draws these writers. The intervals are over writers, not
# over training runs.

# %% [markdown] tags=["slide"]
# ## 5 · The recorded evidence
#
# Choose a test of [claims 2 and 3](../docs/evidence.md#in-words), a data set, and a number of replicates.
# Each point is one training run, in the line of the clients it is scored on (a *fold*); its *replicates*
# train again from another start.

# %% tags=["same-slide", "without-code"]
explorer = laboratories.evidence_explorer(RESULTS)
explorer

# %%
designs = evidence.recorded_designs(evidence.recorded_folder())
table = evidence.evidence_table(designs.values())
tests = {test.claim: test for test in evidence.CLAIM_TESTS}


def effects_of(cells, claim):
    """For each fold the effects of a test in points [replicates, clients]."""
    test = tests[claim]
    return evidence.differences(cells, [test.better], [test.worse], test.measure)


def leaves_out_zero(folds):
    interval = evidence.crossed_mean(folds).interval()
    return interval.low > 0 or interval.high < 0


recorded = [
    effects_of(cells, claim)
    for cells in designs.values()
    for claim in table[
        (table.dataset == cells[0].label) & (table.regime == cells[0].config.regime)
    ].claim
]

# %% tags=["prose", "slide"]
means = [np.concatenate([fold.mean(axis=1) for fold in folds]) for folds in recorded]
split = sum(runs.min() < 0 < runs.max() for runs in means)
moved = sum(
    leaves_out_zero([fold[:3] for fold in folds]) != leaves_out_zero(folds)
    for folds in recorded
)
Markdown(
    f"""**What to see.** The verdict rests on all replicates. With fewer, the interval moves, and the
story may, too. In {split or "none"} of the {len(recorded)} recorded tests, single runs lie on both
sides of 0. In {moved or "none"}, the first three replicates and all of them disagree on whether the
[interval](../docs/evidence.md#the-rules) leaves out 0."""
)

# %% [markdown]
# **What it does not show.** How a verdict follows from an interval: see [the
# evidence](../docs/evidence.md).

# %% [markdown] tags=["exercise"]
# **Exercise 08.4 ★★★ · Another story.** `runs` is an array of effects with a row for each fold and a column
# for each replicate. Write a function that returns, of all choices of `n` replicates, the share whose mean
# has another sign than the mean of all.


# %% tags=["fill-in"]
def another_story(runs, n): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `combinations(range(replicates), n)` goes through the choices; `runs[:, list(chosen)]` is one.
#
# </details>


# %% tags=["solution"]
def another_story(runs, n):
    choices = combinations(range(runs.shape[1]), n)
    means = [runs[:, list(chosen)].mean() for chosen in choices]
    return np.mean(np.sign(means) != np.sign(runs.mean()))


shares = {}
for cells in designs.values():
    runs = [fold.mean(axis=1) for fold in effects_of(cells, "2a-personalized")]
    runs = np.stack([fold[: min(map(len, runs))] for fold in runs])
    name = f"{cells[0].label}, {cells[0].config.regime}"
    shares[name] = {n: another_story(runs, n) for n in (1, 2, 3)}
pd.DataFrame(shares).T.rename_axis(columns="replicates").round(2)

# %% [markdown] tags=["solution"]
# **Solution 08.4.** The table has the shares for claim 2a, personalized accuracy. Where an effect is
# small beside what a run moves it, even its sign takes more replicates.

# %% tags=["check"]
check.answer("08.4", another_story)

# %% [markdown] tags=["instructor"]
# **For instructors.** Thirty minutes. Common: choosing within each fold by itself, and counting instead
# of a share. A shared sign is not yet evidence: compare with the intervals in the panel.

# %% [markdown] tags=["slide"]
# ## 6 · The answer
#
# In the plane and in the bowls one global model is not both the best *as it is* and the best *to start from*,
# unless the clients have the same optimum, or adapt alike. How many local steps they take, and which
# gradients they send, sets where between the two the model lies. Notebooks 02 to 06 ask whether this matters
# on data.
