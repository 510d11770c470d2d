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
# **The question of this notebook:** a model is trained on many people's data without collecting
# them. Is it good for *each* of these people? And if not, how much does one more look at a
# person's own data help?
#
# **What it costs:** about 1.5 minutes with `profile = "laptop"`, 20 seconds with `"smoke"`, on
# one core; less than 1 GB of memory. Nothing is downloaded.
#
# **What you need:** Python, and to have seen a neural network trained by gradient descent once.
#
# | you will meet | it means |
# |---|---|
# | *client* | one owner of data: here a writer, or a role in a play |
# | *federated learning* | the data stay with the clients: models and changes travel, examples do not |
# | *round* | the server picks a few clients, each trains a copy of the model locally, the server averages |
# | *initial model* | the one global model that all this ends with |
# | *personalized model* | the initial model after some more training on one client's own data |
# | *held-out client* | a client that took no part in training: the honest test of both |

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import pandas as pd
import seaborn
import torch
from IPython.display import HTML, Markdown

import fl_meta
from fl_meta import laboratories, plots
from fl_meta.data import decode, line_sheet
from fl_meta.experiments import FIRST_LOOK, for_profile

seaborn.set_palette("colorblind")
pd.set_option("display.max_colwidth", None)

config = for_profile(FIRST_LOOK, profile)
config

# %% [markdown]
# ## 1 · Two federated data sets
#
# The first is handwriting: 62 classes (ten digits, 26 capitals, 26 small letters), one client per
# writer. These writers are **synthetic**: a program draws them from vector strokes, so that
# everybody has the same data with no download. Every number about them below is a number about a
# simulation. What is simulated, and what can be turned off, is
# described by `help(fl_meta.data.load_writers)`.

# %%
writers = fl_meta.load_dataset("writers", num_writers=config.num_writers)
writers

# %% [markdown]
# The table already shows what makes federated data awkward. Some clients have five times as many
# examples as others. And no client has all 62 classes.
#
# Now look at the ink, one writer per row. A blank cell: this writer has no such example.

# %% tags=["figure-glyphs"]
plots.glyph_sheet(writers, writers.client_ids[:9], "0Oo1Il7Z2z5Ss9gqCcUuVv")

# %% [markdown]
# People write differently. But there is more to it than style. Here are pairs of images by two
# writers, number and meaning above each.

# %%
plots.same_ink_sheet(writers)

# %% [markdown]
# **What to see.** Nearly the same ink, and two different letters. No global model, however large,
# can read both rightly: the answer is not in the image, it is in *who wrote it*. The writer's
# other examples can give it away.
#
# **What it does not show.** How often this happens among real people. The generator has a knob
# for it (`style`).

# %% [markdown]
# The second data set is real: every speaking role of Shakespeare's plays is a client. The task is
# to predict each next character of what the role says. We take roles with at least 20 training
# examples of 80 characters.

# %%
plays = fl_meta.load_dataset("shakespeare")
talkative = [
    role for role, n in zip(plays.client_ids, plays.train_counts, strict=True) if n >= 20
]
roles = plays.subset(
    talkative[:: max(1, len(talkative) // config.num_roles)][: config.num_roles]
)
roles

# %%
line_sheet(roles, roles.client_ids[:6], lines=2)

# %% [markdown]
# ## 2 · Who trains, and who only judges
#
# A quarter of the clients is *held out*. They give nothing to training. Later each of them gets
# the finished model, adapts a copy of it on the **train part** of its own examples, and is scored
# on its **test part**. That is how a new user would meet the model.
#
# With people this is enough. With roles it is not: Falstaff speaks in three plays, and a held-out
# Falstaff would be no stranger if another one trains. So we leave out every held-out role whose
# name also speaks in a training role.

# %%
train_writers, new_writers = writers.split_clients(held_out=0.25, seed=seed)
train_roles, others = roles.split_clients(held_out=0.25, seed=seed)
known = {role.split("/")[1] for role in train_roles.client_ids}
new_roles = others.subset(
    [role for role in others.client_ids if role.split("/")[1] not in known]
)
print(f"{len(train_writers)} writers and {len(train_roles)} roles train,")
print(f"{len(new_writers)} writers and {len(new_roles)} roles are held out.")

# %% [markdown]
# ## 3 · One global model
#
# *Federated averaging* (FedAvg) is short enough to say in one breath. In every round, the server
# sends the model to a few clients; each runs ordinary gradient descent on its own examples for E
# epochs and sends back how the model has changed; the server takes the mean of these changes,
# weighted by the number of examples, as its own step.
#
# Neither the images nor the texts ever leave the clients. Below, E, the number of rounds and the
# learning rates are customary values. The server takes the mean change as a gradient for SGD with
# rate 1 and momentum 0.9; code that says it follows the paper does so too. Nothing is tuned: this
# notebook compares no methods.

# %%
rate = 0.05
fedavg = fl_meta.fedavg(epochs=config.local_epochs, client=fl_meta.SGD(rate))
stage = fl_meta.Stage(fedavg, config.rounds, config.clients_per_round)
image_model = fl_meta.models.small_cnn(writers)
watch = fl_meta.Evaluation(
    new_writers, every=max(1, config.rounds // 5), personalization_epochs=1
)
writers_run = fl_meta.train(
    image_model, train_writers, [stage], seed=seed, evaluation=watch
)

# %%
columns = {"initial": "o-", "personalized": "s--"}
for name, style in columns.items():
    measured = writers_run.history[f"held_out_{name}_test_accuracy_by_client"].dropna()
    plt.plot(measured, style, label=f"{name} model")
plt.xlabel("rounds")
plt.ylabel("test accuracy, mean of held-out clients")
plt.title(writers.label)
plt.legend(frameon=False)
plt.grid(alpha=0.3)

# %% [markdown]
# **What to see.** The lower curve is the global model as it is, the upper one the same model
# after *one* epoch on the held-out writer's own few dozen examples. The gap is there from the
# first rounds on, and it stays, at eight points or more, when both curves flatten.
#
# **What it does not show.** That FedAvg is responsible for the gap. Any trained model might be as
# easy to adapt; that comparison is the paper's third claim, and it needs its own notebook.

# %% [markdown]
# ## 4 · One client's mistakes
#
# Averages hide people. Take the held-out writer for whom the global model errs most often, among
# those with at least 20 test images, and look at what they wrote.

# %%
table = fl_meta.personalize(
    image_model,
    writers_run.params,
    new_writers,
    epochs=config.personalization_epochs,
    client=fedavg.client,
    seed=seed,
)
start = table.rows.query("epoch == 0 and num_test_predictions >= 20")
writer = start.loc[start.test_accuracy.idxmin(), "client_id"]
print(f"{writer}: {start.test_accuracy.min():.0%} right with the global model")

# %% [markdown]
# `personalize` has adapted and scored every held-out writer. To see *which* letters change, we
# adapt this one by hand: plain gradient descent from the global model, on one client's train
# part, for one epoch. (The batches come in another order than in `personalize`, so single images
# may differ.)


# %%
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


# %%
def predict(model, params, x):
    """The most likely class of every prediction."""
    return model.apply(params, torch.from_numpy(x)).argmax(-1).numpy()


# %% tags=["figure-mistakes"]
client = new_writers[writer]
own_params = adapt(image_model, writers_run.params, client, rate)
before = predict(image_model, writers_run.params, client.test_x)
after = predict(image_model, own_params, client.test_x)
plots.prediction_sheet(new_writers, writer, before, after)

# %% [markdown]
# **What to see.** Under each image is what the global model reads, then an arrow, then what
# the same model reads after one epoch on this writer's own training images. Orange and underlined
# is wrong. Some of the first mistakes are look-alikes (6 and b, M and m, P and p); most come from
# a slant that few others have. One epoch repairs some of both kinds. Has the model learnt the
# slant, or whose ink means what? From a count of mistakes one cannot tell.

# %%
fixed = ((before != client.test_y) & (after == client.test_y)).sum()
broken = ((before == client.test_y) & (after != client.test_y)).sum()
print(f"of {len(before)} test images, one epoch repairs {fixed} and breaks {broken}")

# %% [markdown]
# ### Meet others: move it yourself
#
# Twelve held-out writers, with a global model that is smaller and trained in a moment. Choose a
# writer, and move the epochs from 0 to 10: a dashed blue frame is a mistake repaired, a thick orange
# one a new mistake. Most of what adaptation does, it does in the first two epochs. Everybody is
# different: `writer_00096` has all of it after one epoch, `writer_00021` loses before it gains.
#
# (A slider needs the running notebook. Elsewhere there is a still picture in its place.)

# %%
panel = laboratories.meet_a_client(dataset="writers", epoch=1)
panel

# %% [markdown]
# ## 5 · All held-out clients
#
# One writer is an anecdote. Here are all of them. Every column is one epoch of adaptation;
# `gain_low` and `gain_high` are the ends of a 95 % interval (a bootstrap over clients, paired:
# every client is compared with itself). `share_of_clients_hurt` counts those who got *worse*.

# %%
table.summary().T.round(3)

# %% [markdown]
# Now the second data set, with a small network that reads the last eight characters and guesses
# the next one.

# %%
text_model, text_rate = fl_meta.models.char_mlp(roles), 0.2
text_fedavg = fl_meta.fedavg(epochs=1, client=fl_meta.SGD(text_rate))
text_stage = fl_meta.Stage(text_fedavg, config.rounds, config.clients_per_round)
roles_run = fl_meta.train(text_model, train_roles, [text_stage], seed=seed)

# %%
text_table = fl_meta.personalize(
    text_model,
    roles_run.params,
    new_roles,
    epochs=config.personalization_epochs,
    client=text_fedavg.client,
    seed=seed,
)
text_table.summary().T.round(4)

# %%
plots.adaptation_curve({writers.label: table, roles.label: text_table})

# %%
plots.gain_histogram({writers.label: table, roles.label: text_table})

# %% [markdown]
# **What to see.** Two very different pictures. Most writers gain, more than half of it in the
# first epoch, and a few gain thirty points and more. For roles there is next to nothing to gain:
# the interval of the mean reaches down to zero, and about four in ten score *lower* than before.
# A mean says little about you, which is why every table here carries the share of clients hurt.
#
# *A lesson we learnt here.* An earlier version of this notebook held out roles without looking at
# their names, and found a gain of 0.8 points with an interval from 0.4 to 1.2 (after 200
# rounds). Falstaff had been heard before.
#
# **What it does not show.** That adaptation is to blame for every client that is hurt. The
# smallest test parts have three images; there, one image is 33 points, and luck goes both ways.
# Nor does it show that text cannot be personalized: this is a small model, one learning rate, no
# tuning.

# %% [markdown]
# ### One role, before and after one epoch
#
# The held-out role with the most text, a passage from its test part. Orange and underlined are
# the characters that the model did not predict. The passage is short; the number over it is the
# accuracy on the role's whole test part.

# %%
role = new_roles.client_ids[int(new_roles.train_counts.argmax())]
speaker = new_roles[role]
own_text_params = adapt(text_model, roles_run.params, speaker, text_rate)
said, passages = decode(speaker.test_y[:3]), []
for title, params in (("before", roles_run.params), ("after one epoch", own_text_params)):
    right = predict(text_model, params, speaker.test_x) == speaker.test_y
    accuracy = right[speaker.test_y >= 0].mean()
    passages.append(f"<b>{role}, {title}: {accuracy:.1%} of the test part right</b>")
    passages.append(plots.mistakes_html(said, right[:3].ravel()))
HTML("".join(passages))

# %% [markdown]
# **What to see.** The two passages hardly differ: one epoch on one's own lines changes few
# characters, and not always for the better.

# %% [markdown]
# ## 6 · A failure worth keeping
#
# Adaptation is not a free lunch. The same writers, the same global model, one setting changed:
# ten times the learning rate.

# %%
greedy = fl_meta.personalize(
    image_model,
    writers_run.params,
    new_writers,
    epochs=2,
    client=fl_meta.SGD(10 * rate),
    seed=seed,
)
greedy.summary()[
    ["test_accuracy_by_client", "gain_by_client", "share_of_clients_hurt"]
].round(3)

# %% [markdown]
# A few dozen examples and large steps throw away what all the rounds had learnt. Adaptation has
# its own settings, and what they should be depends on the model that one starts from. How *easy*
# a model is to personalize, with few examples and little care, is what the paper is about: it
# says that FedAvg trains for it without having been told. Why it might is the question of
# [notebook 01](01_fedavg_is_meta_learning.ipynb).

# %% [markdown]
# ## 7 · Exercises
#
# Write your guess down before you run anything. Solutions follow; an instructor's copy for
# students is made by leaving out the cells with the tag `solution`.
#
# 1. **Identical writers.** `load_dataset("writers", style=0, label_skew=0)` draws writers who all
#    write alike and use all letters equally often. Train for a quarter of the rounds. What will
#    the gain from personalization be?
# 2. **Weighed by whom?** `table.summary("example")` lets every test *example* weigh the same
#    rather than every client. Who weighs more now? Will accuracy and gain go up or down? When
#    would you report which?
# 3. **Without the federation.** `fl_meta.train_local_only` trains each held-out client alone,
#    from scratch. How many epochs does it take to reach what the global model has after one?

# %% [markdown] tags=["solution"]
# **Solution 1.** Without differences in style and in classes nothing about a client is left to be
# learnt from its own examples, so the gain should be near zero, in either direction; what little
# a model learns from a few more examples of the common style counts too. But look at the level as
# well: a model that is nearly always right has little left to gain.

# %% tags=["solution"]
alike = fl_meta.load_dataset(
    "writers", num_writers=config.num_writers // 2, style=0, label_skew=0
)
train_alike, new_alike = alike.split_clients(held_out=0.25, seed=seed)
short = fl_meta.Stage(fedavg, max(1, config.rounds // 4), config.clients_per_round)
alike_run = fl_meta.train(image_model, train_alike, [short], seed=seed)
alike_table = fl_meta.personalize(
    image_model, alike_run.params, new_alike, epochs=1, client=fedavg.client, seed=seed
)
alike_table.summary().T.round(3)

# %% [markdown] tags=["solution"]
# **Solution 2.** Clients with many examples weigh more. They also have more to adapt with, so the
# gain by example tends to be larger. Report *by client* if every user counts the same, *by
# example* if every request does; and say which. The paper's numbers are, by second-hand account,
# the plain mean over clients.

# %% tags=["solution"]
table.summary("example").iloc[[0, -1]].T.round(3)

# %% [markdown] tags=["solution"]
# **Solution 3.** Compare the rows with one epoch from the global model above. Alone, with a few
# dozen examples of up to 62 classes, these clients do not get there in the epochs that we gave
# them.

# %% tags=["solution"]
alone = fl_meta.train_local_only(
    image_model,
    new_writers,
    epochs=4 * config.personalization_epochs,
    client=fedavg.client,
    seed=seed,
)
alone.summary().loc[:: config.personalization_epochs, ["test_accuracy_by_client"]].round(3)

# %% [markdown]
# ## The answer


# %%
def gain(epoch):
    """A gain in percentage points with its interval, and the share hurt, as text."""
    points = 100 * epoch[["gain_by_client", "gain_low", "gain_high"]]
    text = "{:+.2f} points (95 % interval {:+.2f} to {:+.2f})".format(*points)
    return f"{text}, and {epoch.share_of_clients_hurt:.0%} of them are hurt"


initial = table.summary().test_accuracy_by_client[0]
Markdown(
    f"""On the {len(new_writers)} held-out **synthetic** writers the global model is right in {initial:.1%}
of cases; one epoch on a writer's own examples changes that by
{gain(table.summary().loc[1])}. On
{len(new_roles)} held-out Shakespeare roles, {config.personalization_epochs} epochs change accuracy by
{gain(text_table.summary().iloc[-1])}. One global model is not the best model for each, and how
much its own data help depends on the client. (One seed, profile `{profile}`, computed above.)"""
)
