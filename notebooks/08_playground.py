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
# **The question of this notebook:** what happens to the global model, and to what each client
# makes of it, when one changes one thing? Take more local steps, another server optimizer, another
# mix of inner gradients, and look.
#
# **What it costs:** half a minute, with any profile; less than 1 GB of memory. Nothing is
# downloaded. A moved slider is answered in about a tenth of a second.
#
# **What you need:** the words of [notebook 00](00_start_here.ipynb) and the table of
# [notebook 01](01_fedavg_is_meta_learning.ipynb). In JupyterLab **run the cells first**
# (*Run → Run All Cells*); without a running kernel there are only still pictures in their places.
#
# Sliders and lists move with the mouse, or with Tab and the arrow keys. *reset* goes back to the
# beginning. The line *these settings* is code: copy it into a cell to keep what you have found, or
# to send it to somebody.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import pandas as pd

from fl_meta import laboratories
from fl_meta.algorithms import SGD
from fl_meta.laboratories import (
    PLANE_ALGORITHMS,
    PRESETS,
    SERVERS,
    adapt_client,
    held_out_study,
    quadratics,
    small_writers,
    train_in_plane,
    train_mix,
)

# %% [markdown] tags=["slide"]
# ## 1 · A federation in the plane
#
# Five clients, and a model with two parameters: a place in the plane. Client i wants to be at its
# own optimum (the numbered disc); its loss grows with the square of the distance, in some
# directions faster than in others. The ellipse shows which: small ellipse, steep loss.
#
# Black is the server's way over the rounds, from the square to the star. The thin coloured lines
# are the clients' local steps of the last round. From the star each client takes **one step** of
# its own: that is personalization, and the triangles are where it leads.
#
# On the right is what comes of it: the mean loss at the star, and after the one step. The dotted
# lines are the least that any place in the plane reaches. *No place reaches both.*

# %% tags=["slide", "without-code"]
plane = laboratories.federation_in_the_plane()
plane

# %% [markdown] tags=["fragment"]
# **What to see.** Choose Reptile (FedAvg in which all clients weigh the same). With K = 1 it goes for
# the upper dotted line, the best *initial* loss. Raise K to 10, step by step: the initial loss
# rises, and the loss *after one step* falls to the lower line. That is where MAML with K = 1 goes
# (give it 60 rounds), which was made for it. This is claim 1 as a picture: the number of local steps
# sets how much of a meta-learner FedAvg is.
#
# Why are these places different at all? A client with a steep loss is nearly at home after one
# step, wherever it starts. MAML knows that and moves towards the clients with flat losses, whom
# one step does not help.

# %% [markdown] tags=["slide"]
# **What it does not show.** Real losses are no bowls. Here the gradient is exact and there are no
# batches, so nothing is noisy, and a client is scored on what it trained on. "Best possible" weighs
# all clients alike; FedSGD and FedAvg weigh them by examples, of which client 1 has most, and
# therefore miss the upper line a little.
#
# **A failure worth finding.** FOMAML, K = 1, β = 0.6, *SGD, momentum 0.9*: the path leaves the
# picture and takes long to come back. At this β one step takes the steep clients 1 and 5 about to
# their optima, client 1 even beyond. So in their steep directions they send nearly nothing, or the
# wrong sign, wherever the server is. Only the flat losses hold it, and with momentum it swings wide.

# %% [markdown] tags=["slide"]
# ## 2 · Mix your own algorithm
#
# The methods of the paper differ in which inner gradients a client sends home. So here is one
# slider for each of g₁ … g₅. The server steps against their weighted sum, every client weighing
# the same. FedSGD, FedAvg(5) (which then is Reptile(5)) and FOMAML(4) are three settings among all,
# and have buttons; nobody says that they are the best ones.
#
# The task is small but real learning: 24 synthetic writers train a linear model on images of 7×7
# pixels, of fifteen characters that are easily mistaken (0 and O and o, 1 and l and I, 2 and Z).
# 24 others personalize it for one epoch.

# %% tags=["same-slide", "without-code"]
mixer = laboratories.mix_your_own()
mixer

# %% [markdown] tags=["slide"]
# **What to see.** At these settings FOMAML(4) starts lower than FedSGD and gains more from
# adaptation: it sends the gradient at a place where the model has adapted already. Now raise the
# *server rate* to 3, and FOMAML starts higher. Its gradients have become shorter on the way, so at
# rate 1 it had not come as far. FedAvg(5), a sum of five gradients, is ahead at rate 1, and at rate
# 5 worse than at 3: its steps are too long now. Compare methods at the rate that is best for each.
#
# **What it does not show.** A winner. The held-out writers have few test images, the rates are not
# tuned for each method, and the model is linear. Notebooks 03 to 06 compare with care.

# %% [markdown] tags=["slide"]
# ## 3 · Meet a client
#
# Mean accuracies hide the clients. Here is one at a time: a synthetic writer, then a speaking role
# of Shakespeare's plays. A small global model has been trained on *other* writers (or roles). To
# choose from are the twelve held-out ones with the most test examples, whatever they gain.
#
# Put the slider at 0: these are the global model's mistakes, framed. "E→B" is an E, read as B. Then
# let the client adapt, epoch after epoch, to its own train part, of which nothing is shown here.
# What was misread and is now right gets a dashed frame and ✔, the opposite a thick frame and ✘.

# %% tags=["same-slide", "without-code"]
writer = laboratories.meet_a_client(dataset="writers", epoch=5)
writer

# %% [markdown] tags=["slide"]
# **What to see.** Most flips come in the first epoch or two, and they are about this writer's hand:
# three of four t of writer_00041 were read as r or x. Afterwards the curve is flat. Now choose
# writer_00021. After 5 epochs its accuracy is 47.8 %, as before. *Nothing has happened?* Eight of 23
# glyphs have flipped, four each way; at epoch 4 more are lost than won. An accuracy that stays is
# not a model that stays.
#
# **What it does not show.** How sure that is. One glyph of 23 is worth four points, and these are
# drawn by a program, not by people. The grey line, the mean of all 25 held-out writers, rises from
# 50 to 69 % in five epochs; after them one writer of 25 is worse off than before.
#
# For a role, each character is guessed from the eight before it. Wrong guesses are underlined; a frame
# is a flip (without underline: now right; with it: now wrong). Below, the model writes on after the
# first of the unseen lines, as before and as now.

# %%
role = laboratories.meet_a_client(dataset="shakespeare", epoch=5)
role

# %% [markdown]
# **What to see.** Many flips and hardly a gain: of King Henry's 8000 unseen characters 269 are now
# right that were wrong, and 286 wrong that were right. The mean of the twelve roles rises from 37.3
# to 37.6 % in one epoch, and falls below where it began by the tenth: these models learn their
# roles' few lines by heart. Claudio gains a point and a half in five epochs, the Countess loses one
# in ten. The two texts part at their first letter. Is the second one more like the role? Choose
# another role, and see whether you could tell.
#
# **What it does not show.** That text cannot be personalized: the model is tiny, and trained for
# seconds. Notebook 06 asks with care, and finds little as well.

# %% [markdown] tags=["slide"]
# ## 4 · How different are they?
#
# The synthetic writers have knobs. *Style*: how far hands differ, and what their ink means (one
# writer's 1 is another's l). *Label skew*: how far they differ in which characters they write. And
# how many *examples* each has, of which a fifth is kept for the test. At 0 and 0 all write alike,
# and there is nothing to personalize to.
#
# Each point is a logistic regression, trained by 20 rounds of FedAvg (K = 5 local steps) and adapted
# for three epochs to writers that it has not seen, each of 60 held out once. These were computed
# before (`fl-meta record heterogeneity-writers`). Every column turns one knob and leaves the others
# where their sliders stand; the yellow band is where its own slider stands. The button computes the
# cell again with 60 *other* writers, in some seconds, and the sliders go on working meanwhile.

# %% tags=["slide", "without-code"]
different = laboratories.heterogeneity_panel("../data/results")
different

# %% [markdown] tags=["slide"]
# **What to see.** Set style and label skew to 0: the gain is 0 within its interval, with few examples
# and with many. Training a bit further is no personalization. Now turn one knob, with 100 examples.
# Label skew 2 alone gives +1 point: who sees clearly what is written need not know what is likely.
# Style 1 alone gives +14. **Both together give +34**, more than the sum: where a stroke may be 1 or
# l, it helps to know which of them this writer writes.
#
# Look above as well. Style costs initial accuracy everywhere, and adaptation wins back a part. The
# largest gain, from 10 to 93 %, is where one model for all is nearly useless. *A large gain is no
# praise for a method*: it says first that the clients differ. And it takes examples: at style 1
# without label skew, 25 of them give a gain that may be 0, 300 give +34, from nearly the same
# initial accuracy as 100.
#
# **What it does not show.** People: all of this is drawn by a program, and its knobs have no scale
# in the world. Nor the best that can be done: nothing is tuned, and in the cell at which the panel
# begins, 40 rounds instead of 20 make the gain 18 points instead of 23, by a better initial model.
# The intervals are over writers; how far other writers move a cell, the button tells.

# %% [markdown] tags=["slide"]
# ## 5 · Claims and recorded results
#
# What the repository has found, on real and synthetic data: choose a data set and a claim. For
# Table 1 (`T1-…`) choose a cell, clients a round and E, and read it beside the paper's own. For
# claims 2 and 3 choose a figure. A data set for which no results are kept says so.

# %% tags=["same-slide", "without-code"]
explorer = laboratories.claim_explorer("../data/results")
explorer

# %% [markdown]
# **What to see.** The verdict follows a rule that was fixed before the runs
# (`fl_meta/evidence/comparison_verdicts.py`). Small grey marks are single seeds: look how often one of
# them alone would have told another story.
#
# **What it does not show.** Other budgets. How long was trained, and with which rates, is in
# `fl_meta/experiments/` and in the files of the results.

# %% [markdown] tags=["slide"]
# ## 6 · Exercises
#
# Guess first, then move the sliders. Solutions follow below.
#
# 1. **As many steps as adaptation has.** In the plane, choose MAML and raise K from 1 to 10. The
#    loss after one step gets *worse*. Why?
# 2. **Nothing to adapt to.** At which heterogeneity do FedSGD and MAML come to the same place?
# 3. **Less than nothing.** Give g₁ a negative weight and g₅ a large one. What is such a mix after,
#    and what does it cost?
# 4. **What never flips.** Which glyphs of writer_00041 are wrong before and after any number of
#    epochs? What have most of them in common?

# %% [markdown] tags=["solution"]
# **Solution 1.** MAML(K) makes the loss small after *K* steps. The more steps it expects, the more
# it leaves to them; but the picture allows one. Train for as much adaptation as there will be. (A
# large K also makes MAML's own steps short, so that 30 rounds do not suffice. Below are 500.)

# %% tags=["solution"]
clients, server = quadratics(1.0), SERVERS["SGD, momentum 0.9"](1.0)
rows = {}
for steps in (1, 2, 5, 10):
    end = train_in_plane(clients, PLANE_ALGORITHMS["MAML"](steps, SGD(0.3), server), 500)[
        0
    ][-1]
    losses = {"initial": clients.losses(end[None]).mean()}
    losses["after one step"] = clients.losses(clients.adapted(end, 0.3)).mean()
    rows[f"MAML({steps})"] = losses
pd.DataFrame(rows).T.round(3)

# %% [markdown] tags=["solution"]
# **Solution 2.** At 0, where all clients are one, any method finds their common optimum. Above it
# both differences make them part: in where the optima are, and in how steep the losses are.

# %% tags=["solution"]
apart = {}
for heterogeneity in (0.0, 0.25, 0.5, 1.0):
    clients = quadratics(heterogeneity)
    first, second = (
        train_in_plane(clients, PLANE_ALGORITHMS[name](1, SGD(0.3), server), 500)[0][-1]
        for name in ("FedSGD", "MAML")
    )
    apart[heterogeneity] = ((first - second) ** 2).sum() ** 0.5
pd.Series(apart, name="distance of FedSGD's and MAML's ends").round(3)

# %% [markdown] tags=["solution"]
# **Solution 3.** g₅ − g₁ is how the gradient changes along the way: to first order −4β times the
# curvature times the gradient, which is the term of adaptation without any joint training (section
# 4 of notebook 01). A little of it makes the initial model worse, and the gain larger. A mix of it
# alone learns nothing that is worth adapting.

# %% tags=["solution"]
mixes = {
    **PRESETS,
    "g₅ leaning": (-0.25, 0, 0, 0, 1.25),
    "g₅ − g₁": (-1, 0, 0, 0, 1),
}
ends = {name: train_mix(small_writers(), mix, 0.5, 3.0, 20) for name, mix in mixes.items()}
table = pd.DataFrame(
    {name: (run.initial[-1], run.personalized[-1]) for name, run in ends.items()},
    index=["initial", "personalized"],
).T
table.assign(gain=table.personalized - table.initial).round(1)

# %% [markdown] tags=["solution"]
# **Solution 4.** Eleven glyphs, eight of them J, E, V and w, of which the writer's 60 train images hold
# none: adaptation hardly teaches what it never sees. Hardly, not never: there is no X either, and
# after some epochs the X is read rightly.

# %% tags=["solution"]
met = adapt_client("writers", "writer_00041")
names = pd.Series(held_out_study("writers").adaptation.data.class_names)
never = ~met.right.any(axis=0)
pd.DataFrame(
    {
        "never right": names[met.truth[never]].value_counts(),
        "train images": names[met.client.train_y].value_counts(),
    }
).dropna(subset="never right").fillna(0).astype(int)

# %% [markdown] tags=["same-slide"]
# ## 7 · The answer
#
# One global model cannot be the best for everybody *as it is* and the best *to start from*. How
# many local steps the clients take, and which of their gradients they send, sets where between the
# two it lies. How large that difference is on real data is not for sliders to say: it is measured
# in notebooks 02 to 06.
