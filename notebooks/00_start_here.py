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
# # 00 · Start here: one model for everybody, then one for each
#
# **The question of this notebook:** a model is trained on many people's data without collecting them.
# Is it good for *each* of these people? If not, how much does one more look at a person's own data help?
#
# **What it costs:** about a minute with `profile = "laptop"`, 20 seconds with `"smoke"`, on one core;
# less than 1 GB of memory. Nothing is downloaded.
#
# **What you need:** Python, and to have seen a neural network trained by gradient descent in PyTorch.
#
# **Afterwards you can** explain federated learning and personalization to somebody else, personalize a
# model in ten lines, and say for whom that helps.
#
# | you will meet | it means |
# |---|---|
# | *client* | one owner of data: here a writer |
# | *federated learning* | the data stay with the clients; only models travel |
# | *round* | a few clients each train a copy of the model, and the server averages |
# | *initial model* | the global model that this ends with |
# | *personalized model* | the initial model, trained a little further on one client's own data |
# | *held-out client* | a client that took no part in training, like a new user |
#
# The [glossary](../docs/glossary.md) has more words.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import seaborn
import torch
from IPython.display import Markdown

import fl_meta
from fl_meta import laboratories, plots
from fl_meta.course import check
from fl_meta.experiments import FIRST_LOOK, for_profile

seaborn.set_palette("colorblind")
config = for_profile(FIRST_LOOK, profile)

# %% [markdown] tags=["slide"]
# ## 1 · A puzzle: who wrote this?
#
# Our data are handwriting: digits, capitals and small letters by many writers. The writers are
# **synthetic**: a program draws them from pen strokes, so that everybody has the same data without a
# download. Each column has two characters by two writers, with the writer's number and what was meant.

# %% tags=["same-slide"]
# alt: Ten columns of two handwritten characters each. The two images of a column look nearly
# alike, but they are by two writers, who meant different characters.
writers = fl_meta.load_dataset("writers", num_writers=config.num_writers)
plots.same_ink_sheet(writers)

# %% [markdown] tags=["fragment"]
# **What to see.** The ink is nearly the same, and the letters are different. No global model, however
# large, can read both: the answer is not in the image, it is in *who wrote it*. The writer's other
# characters can tell.
#
# Here are more, one writer per row. A blank means that the writer has no such example: people also
# differ in *what* they write.

# %% tags=["figure-glyphs", "slide"]
# alt: A table of handwritten characters: one row for each of nine writers, one column for each
# character. The shapes differ from row to row, and some places are blank.
plots.glyph_sheet(writers, writers.client_ids[:9], "0Oo1Il7Z2z5Ss9gqCcUuVv")

# %% [markdown] tags=["slide"]
# ## 2 · Training without collecting
#
# *Federated averaging* (FedAvg) trains one global model. This is one of its rounds:

# %% tags=["same-slide"]
# alt: A drawing of one round. The server sends its model θ to the clients A, B and C. Each takes
# four local steps, g₁ to g₄, all marked as sent, and sends back their sum. The server takes the
# mean, weighted by examples, and a step.
plots.round_diagram(fl_meta.fedavg(epochs=config.local_epochs))

# %% [markdown] tags=["fragment"]
# The server sends the model to some clients. Each takes steps of gradient descent on its own examples and
# sends back the sum of its steps. The server averages, and moves the global model. No image ever leaves a
# client.
#
# A quarter of the writers is **held out**. They give nothing to training. Each of them later gets the
# finished model, adapts a copy to the *train part* of its own examples, and is scored on its *test part*.

# %%
train_writers, new_writers = writers.split_clients(held_out=0.25, seed=seed)
print(f"{len(train_writers)} writers train, {len(new_writers)} are held out")

# %% [markdown] tags=["slide"]
# Personalization is ordinary training, on one client. These are the ten lines that this course is about:


# %% tags=["same-slide"]
def adapt(model, params, client, rate, batch_size=20):
    """One epoch of local SGD on a client's train part, in the order of its examples."""
    x, y = torch.from_numpy(client.train_x), torch.from_numpy(client.train_y)
    params = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    optimizer = torch.optim.SGD(params.values(), lr=rate)
    for batch_x, batch_y in zip(x.split(batch_size), y.split(batch_size), strict=True):
        optimizer.zero_grad()
        model.loss(params, batch_x, batch_y).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in params.items()}


# %% [markdown] tags=["slide"]
# **Predict.** A held-out writer has a few dozen examples of up to 62 characters. By how many points does
# *one* epoch on them change the accuracy, on average?

# %% tags=["prediction"]
check.predict("00.a", ...)

# %% tags=["same-slide"]
rate = 0.05
fedavg = fl_meta.fedavg(epochs=config.local_epochs, client=fl_meta.SGD(rate))
stage = fl_meta.Stage(fedavg, config.rounds, config.clients_per_round)
model = fl_meta.models.small_cnn(writers)
watch = fl_meta.Evaluation(
    new_writers, every=max(1, config.rounds // 5), personalization_epochs=1
)
run = fl_meta.train(model, train_writers, [stage], seed=seed, evaluation=watch)

# %% tags=["slide", "without-code"]
# alt: Two curves over the rounds of training: the mean test accuracy of the held-out writers with
# the initial model and with the personalized one.
curves = {
    name: 100 * run.history[f"held_out_{name}_test_accuracy_by_client"].dropna()
    for name in ("initial", "personalized")
}
for (name, curve), style in zip(curves.items(), ("o-", "s--"), strict=True):
    plt.plot(curve, style, label=f"{name} model")
plt.xlabel("rounds")
plt.ylabel("test accuracy, %, mean of held-out writers")
plt.title(writers.label)
plt.legend(frameon=False)
plt.grid(alpha=0.3)

# %% tags=["prose", "fragment"]
gap = curves["personalized"] - curves["initial"]
Markdown(
    f"""**What came out.** The lower curve is the global model as it is, the upper one the same model after
one epoch on each writer's own examples. After {config.rounds} rounds one epoch adds {gap.iloc[-1]:.1f} points
({curves["initial"].iloc[-1]:.0f} % → {curves["personalized"].iloc[-1]:.0f} %). More training has not closed
the gap."""
)

# %%
check.prediction("00.a", gap.iloc[-1])

# %% [markdown] tags=["slide"]
# ## 3 · One writer
#
# Averages hide people. Take the held-out writer for whom the global model errs most often, and look.


# %%
table = fl_meta.personalize(
    model,
    run.params,
    new_writers,
    epochs=config.personalization_epochs,
    client=fedavg.client,
    seed=seed,
)
start = table.rows.query("epoch == 0 and num_test_predictions >= 20")
writer = start.loc[start.test_accuracy.idxmin(), "client_id"]


def predict(params, x):
    """The most likely class of every image."""
    return model.apply(params, torch.from_numpy(x)).argmax(-1).numpy()


# %% tags=["figure-mistakes", "same-slide", "without-code"]
# alt: A table of one writer's test images. Under each, what the global model reads, and what it
# reads after one epoch of adaptation; wrong readings are orange and underlined.
client = new_writers[writer]
before = predict(run.params, client.test_x)
after = predict(adapt(model, run.params, client, rate), client.test_x)
plots.prediction_sheet(new_writers, writer, before, after)

# %% tags=["prose", "fragment"]
repaired = ((before != client.test_y) & (after == client.test_y)).sum()
broken = ((before == client.test_y) & (after != client.test_y)).sum()
Markdown(
    f"""**What to see.** Under each image: what the global model reads → what it reads after one epoch.
Orange and underlined is wrong. Of {len(before)} images, the epoch repairs {repaired} and breaks {broken}.
Some mistakes are look-alikes, others come from an unusual slant. Has the model learned the slant, or which
letter this writer means? A count of mistakes cannot tell."""
)

# %% [markdown] tags=["slide"]
# ### Meet others: move it yourself
#
# Twelve held-out writers, with a smaller model. Choose one and move the epochs: a dashed blue frame is a
# mistake repaired, a thick orange one a new mistake. Who gains at once, and who loses first?

# %% tags=["same-slide", "without-code"]
panel = laboratories.meet_a_client(dataset="writers", epoch=1)
panel

# %% [markdown] tags=["slide"]
# ## 4 · All writers
#
# Every column is one epoch of adaptation. `gain_low` and `gain_high` are the ends of a 95 % interval, a
# [bootstrap](../docs/glossary.md#statistics) over writers: each of them is compared with itself.
# `share_of_clients_hurt` counts those who got *worse*.

# %% tags=["same-slide"]
table.summary().T.round(3)

# %% tags=["slide"]
# alt: A histogram of the held-out writers by their gain in test accuracy, with a line at zero and
# one at the mean.
plots.gain_histogram({writers.label: table})

# %% tags=["prose", "fragment"]
last = table.summary().iloc[-1]
gains = 100 * (table.accuracies().iloc[:, -1] - table.accuracies().iloc[:, 0])
Markdown(
    f"""**What to see.** After {config.personalization_epochs} epochs the mean gain is
{100 * last.gain_by_client:.1f} points, and most of it came early. But the mean says little about
one person: {(gains > 20).mean():.0%} of the writers gain more than 20 points, {(gains == 0).mean():.0%}
gain nothing, and {(gains < 0).mean():.0%} lose."""
)

# %% [markdown] tags=["slide"]
# ## 5 · It can go wrong
#
# The same writers, the same model, and one setting changed: ten times the learning rate.

# %% tags=["same-slide"]
greedy = fl_meta.personalize(
    model, run.params, new_writers, epochs=2, client=fl_meta.SGD(10 * rate), seed=seed
)
greedy.summary()[["test_accuracy_by_client", "share_of_clients_hurt"]].round(3)

# %% [markdown] tags=["fragment"]
# A few large steps on a few examples destroy what all rounds had learned. How *easy* a model is to
# personalize, with little data and little care, is what the paper is about. It says that FedAvg trains for
# this without having been told. [Notebook 01](01_fedavg_is_meta_learning.ipynb) asks why.

# %% [markdown] tags=["slide"]
# ## 6 · What this does not show
#
# - *That FedAvg deserves the credit.* Perhaps any trained model can be adapted as easily:
#   [notebook 05](05_centralized_training.ipynb).
# - *That the gain has one size.* It depends on the model, its training, and the epochs of adaptation.
#   [Notebook 02](02_initial_and_personalized.ipynb) finds more for synthetic writers: its smaller network
#   after fewer rounds starts lower, so that more is left to gain.
# - *That it helps with any data.* Text gains little: [notebook 06](06_next_character.ipynb). And these
#   writers are simulated.

# %% [markdown]
# ## 7 · Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 00.1 ★ · Read the table.** By how many points does the *second* epoch of adaptation raise the
# mean accuracy, beyond the first?

# %% tags=["fill-in"]
second_epoch = ...

# %% tags=["solution"]
accuracy = table.summary().test_accuracy_by_client
second_epoch = 100 * (accuracy[2] - accuracy[1])
print(f"{second_epoch:+.1f} points")

# %% [markdown] tags=["solution"]
# **Solution 00.1.** The difference of two entries of the row `test_accuracy_by_client`, in points.

# %% tags=["check"]
check.answer("00.1", second_epoch, table=table)

# %% [markdown] tags=["instructor"]
# **For instructors.** Three minutes. Shares and points are mixed up here; settle it now, all later
# lessons use points.

# %% [markdown] tags=["exercise"]
# **Exercise 00.2 ★★ · Weighed by whom?** `table.summary()` weighs all writers equally,
# `table.summary("example")` all test examples. Which writers count more in the second, those with `"many"`
# or with `"few"` examples? And for whom do you expect the larger gain from personalization?

# %% tags=["fill-in"]
count_more = ...
gain_more = ...

# %% tags=["solution"]
count_more = "many"
gain_more = "many"
table.summary("example").iloc[[0, -1]].T.round(3)

# %% [markdown] tags=["solution"]
# **Solution 00.2.** Writers with many examples count more; and they have more to adapt to, so they tend to
# gain more. Report the mean by client if every user counts the same, and say which one you report.

# %% tags=["check"]
check.answer("00.2", {"count more": count_more, "gain more": gain_more})

# %% [markdown] tags=["instructor"]
# **For instructors.** Five minutes. Good for a discussion: who is served by a mean over examples?

# %% [markdown] tags=["exercise"]
# **Exercise 00.3 ★★★ · Identical writers.** `style=0, label_skew=0` makes `load_dataset("writers", …)` draw
# writers who write alike and use all letters equally often. Train on them for a quarter of the rounds, and
# compute the gain of one epoch in points. Write down your guess first.

# %% tags=["fill-in"]
gain_of_alike = ...

# %% tags=["solution"]
alike = fl_meta.load_dataset(
    "writers", num_writers=config.num_writers // 2, style=0, label_skew=0
)
train_alike, new_alike = alike.split_clients(held_out=0.25, seed=seed)
short = fl_meta.Stage(fedavg, max(1, config.rounds // 4), config.clients_per_round)
alike_run = fl_meta.train(model, train_alike, [short], seed=seed)
alike_table = fl_meta.personalize(
    model, alike_run.params, new_alike, epochs=1, client=fedavg.client, seed=seed
)
gain_of_alike = 100 * alike_table.summary().gain_by_client[1]
print(f"{gain_of_alike:+.1f} points")

# %% [markdown] tags=["solution"]
# **Solution 00.3.** Near zero, or below: nothing about a writer is left to be learned from its own examples.
# And a model that is nearly always right has little left to gain.

# %% tags=["check"]
check.answer("00.3", gain_of_alike, gain_of_different=gap.iloc[-1])

# %% [markdown] tags=["instructor"]
# **For instructors.** Thirty minutes, about ten seconds of computing. Expect guesses near the gain of
# section 2. The gain is near zero: personalization needs persons.

# %% [markdown] tags=["slide"]
# ## The answer

# %% tags=["prose", "same-slide"]
first = table.summary().loc[1]
points = 100 * first[["gain_by_client", "gain_low", "gain_high"]]
Markdown(
    f"""On {len(new_writers)} held-out **synthetic** writers the global model is right in
{100 * table.summary().test_accuracy_by_client[0]:.1f} % of cases. One epoch on a writer's own examples adds
{points.iloc[0]:.1f} points (95 % interval {points.iloc[1]:.1f} to {points.iloc[2]:.1f}), but
{first.share_of_clients_hurt:.0%} of them lose. One global model is not the best for each, and how much a
client's own data help depends on the client. (One seed, profile `{profile}`.)"""
)
