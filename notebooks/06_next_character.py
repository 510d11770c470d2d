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
# # 06 · The next character: does any of this hold for text?
#
# **The question of this notebook:** a model that was personalized to one person guesses better. Has it
# learned this *person*, or has it just seen more text? And do the paper's claims hold for text?
#
# **What it costs:** about two minutes with `profile = "laptop"`, half a minute with `"smoke"`; less than
# 1 GB of memory. Nothing is downloaded.
#
# **What you need:** [notebook 00](00_start_here.ipynb), and for sections 3 and 4
# [notebook 03](03_personalized_fedavg.ipynb). The [glossary](../docs/glossary.md) explains terms.
#
# **Afterwards you can** design a control that says whether a gain is personal, and ask of any accuracy what
# a simpler method would have reached.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import textwrap
from itertools import zip_longest

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
import torch
from IPython.display import Markdown

import fl_meta
from fl_meta import evidence, experiments, laboratories, plots
from fl_meta.course import check
from fl_meta.data import BLANK, decode
from fl_meta.evaluation import bootstrap_mean, n_gram_accuracies
from fl_meta.evidence import VerdictTable
from fl_meta.support import random_stream

seaborn.set_palette("colorblind")

# %% [markdown] tags=["slide"]
# ## 1 · Listening
#
# Every speaking role of Shakespeare's plays is a client. The model reads eight characters and guesses the
# next one. We take the roles with much to say, and use equally many lines of each. A third of the plays is
# **held out** with all their roles. A name that also speaks in a training play, such as Falstaff, would be no
# stranger and is left out. So is a role that is alone in its play: section 2 needs two.


# %%
def play(role):
    return role.partition("/")[0]


def name(role):
    return role.partition("/")[2]


roles = fl_meta.load_dataset("shakespeare").limited(least=100, most=100)
train, new = roles.fold(seed % 3, 3, together=play)
known = {name(role) for role in train.client_ids}
strangers = [role for role in new.client_ids if name(role) not in known]
plays = [play(role) for role in strangers]
held_out = new.subset([role for role in strangers if plays.count(play(role)) > 1])
print(f"{len(train)} roles train; {len(held_out)} roles, of other plays, are held out")

# %%
rate, rounds = 0.7, 6 if profile == "smoke" else 60
fedavg = fl_meta.fedavg(
    epochs=1, client=fl_meta.SGD(rate), server=fl_meta.SGD(1.0, momentum=0.9)
)
stage = fl_meta.Stage(fedavg, rounds, clients_per_round=10)
model = fl_meta.models.char_mlp(train)
everybody = fl_meta.train(model, train, [stage], seed=seed).params

# %% [markdown] tags=["slide"]
# Now the role with the most unseen lines gets a model of its own. This is all that personalization is:


# %% tags=["same-slide"]
def adapt(params, client, rate, epochs, batch_size=20):
    """Local SGD on a client's train part."""
    x, y = torch.from_numpy(client.train_x), torch.from_numpy(client.train_y)
    for _ in range(epochs):
        for lines, following in zip(x.split(batch_size), y.split(batch_size), strict=True):
            gradient = torch.func.grad(model.loss)(params, lines, following)
            params = {one: value - rate * gradient[one] for one, value in params.items()}
    return params


role = held_out.client_ids[int(np.argmax(held_out.test_counts))]
own = adapt(everybody, held_out[role], rate=0.3, epochs=3)

# %% [markdown]
# A model writes by drawing a character, then the next with that one known. Both models draw with the same
# random numbers: where they agree, they write the same.


# %% tags=["slide", "without-code"]
def write(params, temperature=0.7, length=240):
    """Text by a model; a low temperature makes likely characters likelier."""
    codes = [BLANK]
    for draw in random_stream(seed, "text").random(length):
        logits = model.apply(params, torch.tensor([codes[-8:]]))[0, -1].double()
        chances = torch.softmax(logits / temperature, 0).cumsum(0)
        codes.append(int(torch.searchsorted(chances, draw * chances[-1], right=True)))
    return decode(codes)


order = random_stream(seed, "columns").permutation(["global", "own"]).tolist()
texts = {"global": write(everybody), "own": write(own)}
wrapped = [
    [part for line in texts[one].splitlines() for part in textwrap.wrap(line, 44) or [""]]
    for one in order
]
print(f"{'A':44} | B\n{'-' * 44} | {'-' * 44}")
for left, right in zip_longest(*wrapped, fillvalue=""):
    print(f"{left:44} | {right}")

# %% tags=["prose", "same-slide"]
Markdown(
    f"""**Predict.** One of these models was adapted to the lines of **{name(role)}** (*{play(role)}*). Is it
A or B?"""
)

# %% tags=["prediction"]
check.predict("06.a", ...)

# %%
check.prediction("06.a", "AB"[order.index("own")])

# %% [markdown] tags=["slide"]
# Listening is not measuring, so we let both models guess unseen lines of this role and of all other held-out
# roles. Beside them stand two *baselines* without gradients: always the most frequent character, and an
# **8-gram**. That is a table of counts of the training roles' text: which character came most often after
# these last seven? If the seven never occurred together, it looks at the last six, and so on (*back-off*).


# %% tags=["same-slide", "without-code"]
def scores(params):
    """Accuracy on each held-out role's unseen lines, in per cent."""
    shares = []
    for one in held_out:
        x, y = torch.from_numpy(one.test_x), torch.from_numpy(one.test_y)
        _, right, guesses = model.score(params, x, y)
        shares.append(100 * right / guesses)
    return shares


models = {
    "most frequent character": 100 * n_gram_accuracies(train, held_out, 1),
    "8-gram": 100 * n_gram_accuracies(train, held_out, 8),
    "global model": scores(everybody),
    f"adapted to {name(role)}": scores(own),
}
mine = np.array(held_out.client_ids) == role
listening = pd.DataFrame(models, index=held_out.client_ids).groupby(mine).mean().T
listening.columns = ["all others", name(role)]
listening.round(1)

# %% tags=["prose", "fragment"]
before, after = listening.iloc[2], listening.iloc[3]
table_wins = listening.loc["8-gram", "all others"] > before["all others"]
Markdown(
    f"""**What came out.** On the role's own unseen lines, adapting changes the accuracy by
{after.iloc[1] - before.iloc[1]:+.1f} points; on everybody *else's* lines by
{after.iloc[0] - before.iloc[0]:+.1f}. The table of counts is right **{"more" if table_wins else "less"}**
often than the global model. One role is an anecdote, but it shows what to ask: does the first number
change more than the second?"""
)

# %% [markdown] tags=["slide"]
# ## 2 · Somebody else's lines
#
# Every held-out role adapts three times, always from the global model: to its own lines, to those of another
# role of its play, and to those of a role of another play. Each time it is scored on *its own* unseen lines.
# All lenders are held out as well.


# %%
def lender(role, lines):
    """The role whose lines are borrowed."""
    if lines == "own":
        return role
    ids = list(held_out.client_ids)
    if lines == "same play":
        ids = [one for one in ids if play(one) == play(role)]
    shift = 1 if lines == "same play" else len(ids) // 2
    return ids[(ids.index(role) + shift) % len(ids)]


def with_borrowed(lines):
    """The held-out roles with their own test parts, and with train parts that are borrowed."""
    x, y, owners, for_test = [], [], [], []
    for role in held_out.client_ids:
        other, own = held_out[lender(role, lines)], held_out[role]
        x += [other.train_x, own.test_x]
        y += [other.train_y, own.test_y]
        counts = [len(other.train_x), len(own.test_x)]
        owners += [role] * sum(counts)
        for_test += [False] * counts[0] + [True] * counts[1]
    return fl_meta.FederatedDataset.from_arrays(
        np.concatenate(x), np.concatenate(y), owners, test_mask=for_test
    )


# %% [markdown] tags=["fragment"]
# **Predict.** Call the gain from one's own lines 100. How much of it is left with lines from another play?

# %% tags=["prediction"]
check.predict("06.b", ...)

# %%
epochs = 3
gains = {}
for lines in ("own", "same play", "another play"):
    accuracy = fl_meta.personalize(
        model,
        everybody,
        with_borrowed(lines),
        epochs=epochs,
        client=fl_meta.SGD(0.3),
        seed=seed,
    ).accuracies()
    gains[lines] = 100 * accuracy.sub(accuracy[0], axis=0)
parts = {
    "more Shakespeare:\nlines of another play": gains["another play"][epochs],
    "the play:\nits lines instead": gains["same play"][epochs]
    - gains["another play"][epochs],
    "the person:\nown lines instead": gains["own"][epochs] - gains["same play"][epochs],
}

# %% tags=["slide", "without-code"]
# alt: Left, mean gain in points by epochs of adaptation, a line each for own lines, lines of the same play
# and lines of another play. Right, the gain divided into three parts, as points with 95 % intervals.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for (lines, gain), style in zip(gains.items(), ("o-", "s--", "^:"), strict=True):
    left.plot(
        gain.mean(),
        style,
        label=f"lines of {lines.replace('same', 'the same')}"
        if lines != "own"
        else "own lines",
    )
left.axhline(0, color="black", linewidth=0.8)
left.set(xlabel="epochs of adaptation", ylabel="gain on own unseen lines, points")
left.set(title=f"shakespeare, {len(held_out)} held-out roles", xticks=range(epochs + 1))
left.legend(frameon=False)
means = {label: bootstrap_mean(part) for label, part in parts.items()}
for row, mean in enumerate(means.values()):
    ends = [[mean.estimate - mean.low], [mean.high - mean.estimate]]
    right.errorbar(mean.estimate, row, xerr=ends, fmt="o", color="C0", capsize=4)
right.axvline(0, color="black", linewidth=0.8)
right.set(yticks=range(len(means)), yticklabels=means, ylim=(len(means) - 0.5, -0.5))
right.set(
    xlabel="points, with 95 % intervals over roles", title="what the gain consists of"
)
for axes in (left, right):
    axes.grid(alpha=0.3)

# %%
mean_gain = {lines: gain[epochs].mean() for lines, gain in gains.items()}
check.prediction("06.b", 100 * mean_gain["another play"] / mean_gain["own"])


# %% tags=["prose", "fragment"]
def sure(mean):
    """Whether an interval is on one side of 0."""
    return mean.low > 0 or mean.high < 0


shakespeare, of_play, person = means.values()
sizes = {"the person": person, "the play": of_play, "more Shakespeare": shakespeare}
clear = [one for one, mean in sizes.items() if sure(mean)]
Markdown(
    f"""**What came out.** With {epochs} epochs on their own lines roles gain {mean_gain["own"]:+.2f} points,
with lines of another role of the play {mean_gain["same play"]:+.2f}, and with lines of another play
{mean_gain["another play"]:+.2f}. So the person accounts for {person.estimate:+.2f} points
({person.low:+.2f} to {person.high:+.2f}), and the play for {of_play.estimate:+.2f}. Parts whose interval
excludes zero: {", ".join(clear) or "none of the three"}. Whoever reports only the gain from own lines calls
all of it *personalization*."""
)

# %% [markdown] tags=["slide"]
# ### Move it yourself: one role, epoch by epoch
#
# Twelve held-out roles, with a smaller model. A blue frame is a character that is now guessed rightly, an
# orange one a character that no longer is. Which grows faster, the number of blue frames or the difference
# between blue and orange?

# %%
panel = laboratories.meet_a_client(dataset="shakespeare", epoch=1)
panel

# %% [markdown] tags=["slide"]
# ## 3 · The claims, on text
#
# The paper's claims: Reptile with Adam after FedAvg, against more FedAvg (2a) and against training for global
# accuracy alone (2b); and, where it is recorded, federated against centralized training (3). Each recorded
# design holds every role out once and trains everything several times. It keeps equal names together, but not
# plays: here other roles of a held-out role's play do train. You compute one fold once more. First the levels
# of your run on *shakespeare*, beside baselines of this fold. (*FedAvg, SGD as before* is more FedAvg.)

# %%
designs = {
    title: cells
    for title, cells in evidence.recorded_designs(evidence.recorded_folder()).items()
    if title.startswith("shakespeare")
}
table = evidence.evidence_table(designs.values())
yours = evidence.your_run("shakespeare-unstable", profile, seed)

# %% tags=["same-slide", "without-code"]
config = yours.run.config
clients = experiments.train_validation_held_out(
    config.setting, yours.run.seed % config.folds, config.folds
)
baselines = {
    label: 100 * n_gram_accuracies(clients[0], clients[-1], order).mean()
    for label, order in (("most frequent character", 1), ("8-gram", 8))
}
shown = [
    experiments.FEDAVG,
    experiments.CONTINUED,
    experiments.REPTILE,
    experiments.FEDSGD,
    experiments.SMALL_E,
]
by_name = {arm.name: arm for arm in yours.run.arms}
levels = {
    arm: [100 * by_name[arm].accuracy_of(one).mean() for one in ("initial", "personalized")]
    for arm in shown
}
rows = {label: [f"{value:.1f}", ""] for label, value in baselines.items()}
rows |= {arm: [f"{value:.1f}" for value in pair] for arm, pair in levels.items()}
pd.DataFrame(rows, index=["initial, %", "personalized, %"]).T

# %% tags=["prose"]
best = max(max(pair) for pair in levels.values())
added = [personalized - initial for initial, personalized in levels.values()]
Markdown(
    f"""**What to see.** Personalization changes these models by {min(added):+.1f} to {max(added):+.1f}
points. The best of them ends {abs(best - baselines["8-gram"]):.1f} points
**{"below" if best < baselines["8-gram"] else "above"}** the table of counts."""
)

# %% tags=["slide", "without-code"]
# alt: A forest plot: for each test of claims 2 and 3 the recorded effect on text with its interval, the
# shaded margin and the verdict in words; a star is your run.
plots.forest_plot(table, yours.effects)

# %% tags=["prose"]
Markdown(yours.sentence("2a-initial"))

# %% [markdown]
# The shaded band is the margin, below which a difference does not matter in practice. Your run decides
# nothing; the interval over roles *and* trainings does ([rules](../docs/evidence.md#the-rules)).

# %% [markdown] tags=["slide"]
# ## 4 · Why?
#
# Claim 2a changes two things: what the roles send (Reptile's update), and how the server steps (Adam). The
# recorded runs have each change alone, and FedAvg with a smaller server rate. This is what they do to the
# initial model, with few roles a round:

# %% tags=["same-slide", "without-code"]
causes = evidence.cause_table(designs.values())
causes = causes[(causes.dataset == "shakespeare") & (causes.regime == "unstable")]
causes = causes[causes.measure == "initial"].set_index("contrast")
causes[["verdict", "effect", "low", "high"]].round(2)

# %% tags=["prose", "fragment"]
update = causes.loc["Reptile's update instead of FedAvg's"]
smaller = causes.loc["smaller server rate instead of as before"]
adam = causes.loc["Adam instead of as before"]
if update.verdict == "no difference" and adam.verdict.startswith("helps"):
    cause = "So on this text it is the server's step that helps, and not Reptile's update."
else:
    cause = "So on this text the table does not put it down to the server's step alone."
Markdown(f"**What to see.** A smaller server rate: *{smaller.verdict}*. {cause}")

# %% [markdown] tags=["slide"]
# And why is personalization another matter than for handwriting? Two writers draw different letters with the
# same ink, so a writer's own examples hold an answer that no global model has
# ([notebook 00](00_start_here.ipynb)). Two roles spell the same words. After "th" comes "e", whoever speaks,
# and what a role adds concerns few characters. And as long as a model has not learned what a table of counts
# knows, *any* lines teach it spelling.

# %% [markdown] tags=["slide"]
# ## 5 · What this does not show
#
# What holds for language in general. The network is small, it sees eight characters, and roles are adapted
# by a few steps. Results of a larger network, an LSTM, are not judged:
# [the evidence page](../docs/evidence.md#what-is-not-here) says why. The control of section 2 has one model,
# rates that nobody tuned and one set of plays; its intervals hold the luck of roles, not that of training.
# And own lines come from just before the unseen ones, borrowed lines from elsewhere: what section 2 calls the
# person may in part be the scene.

# %% [markdown]
# ## 6 · Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 06.1 ★ · Whose gain?** The same control on users' messages: after adapting, users gain
# `1.8` points from their own messages and `1.5` from somebody else's. What share of the gain is personal?

# %% tags=["fill-in"]
personal = ...

# %% tags=["solution"]
personal = (1.8 - 1.5) / 1.8

# %% [markdown] tags=["solution"]
# **Solution 06.1.** A sixth. The rest any user's messages would have given, and better training of the global
# model could give it to everybody.

# %% tags=["check"]
check.answer("06.1", personal)

# %% [markdown] tags=["instructor"]
# **For instructors.** Three minutes. Common: `1.5 / 1.8`, the part that is *not* personal. Ask what it would
# mean if somebody else's messages *harmed*: then the personal part exceeds the gain.

# %% [markdown] tags=["exercise"]
# **Exercise 06.2 ★★ · Temperature.** Write a function that returns the probabilities of the characters, given
# the tensor `logits` and a temperature. What should `write` print at a temperature near 0, and at 2?


# %% tags=["fill-in"]
def probabilities(logits, temperature): ...


# %% tags=["solution"]
def probabilities(logits, temperature):
    return torch.softmax(logits / temperature, -1)


print(write(everybody, temperature=0.1, length=120))
print("-" * 40)
print(write(everybody, temperature=2.0, length=120))

# %% [markdown] tags=["solution"]
# **Solution 06.2.** Near 0 the likeliest character is always drawn, and the text soon repeats itself. At 2
# it is nearly noise. Neither number changes an accuracy: the likeliest character stays the likeliest.

# %% tags=["check"]
check.answer("06.2", probabilities)

# %% [markdown] tags=["instructor"]
# **For instructors.** Ten minutes. Common: multiplying by the temperature, and dividing the probabilities,
# which then no longer add up to 1, instead of the logits.

# %% [markdown] tags=["exercise"]
# **Exercise 06.3 ★★ · Falstaff thrice.** Falstaff speaks in three plays and is three clients. Write a
# function that returns the share of held-out roles whose name also occurs among the training roles.
# `training` and `new` are lists of ids such as `"henry-v/PISTOL"`. How large is it in a random split?


# %% tags=["fill-in"]
def share_known(training, new): ...


# %% tags=["solution"]
def share_known(training, new):
    known = {name(role) for role in training}
    return sum(name(role) in known for role in new) / len(new)


every = fl_meta.load_dataset("shakespeare")
share_known(*(side.client_ids for side in every.split_clients(held_out=0.25, seed=seed)))

# %% [markdown] tags=["solution"]
# **Solution 06.3.** Large: servants, messengers and soldiers have the same name in many plays. Not all of
# them are the same person, but who wants to test on strangers leaves them out, or keeps them together.

# %% tags=["check"]
check.answer("06.3", share_known)

# %% [markdown] tags=["instructor"]
# **For instructors.** Ten minutes. Common: the share of *training* roles, and a comparison of whole ids,
# which never meet. Ask for such leaks elsewhere: one user with two telephones, a patient in two clinics.

# %% [markdown] tags=["exercise"]
# **Exercise 06.4 ★★★ · The rival.** Write the guess of the 8-gram. `counts` maps each context seen in
# training, a string of 0 to 7 characters, to a dictionary from the next character to how often it came;
# `text` is what was written so far. Of equally frequent characters any may be returned.


# %% tags=["fill-in"]
def guess(counts, text): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Begin with the last seven characters and drop the first until the context is in `counts`. The empty one
# always is. In Python `text[-0:]` is the whole text.
#
# </details>


# %% tags=["solution"]
def guess(counts, text):
    context = text[-7:]
    while context not in counts:
        context = context[1:]
    return max(counts[context], key=counts[context].get)


# %% [markdown] tags=["solution"]
# **Solution 06.4.** It is right more often than one would think, with no gradient at all. To personalize it,
# add a client's own text to the counts, and weigh it as you like: a good project.

# %% tags=["check"]
check.answer("06.4", guess)

# %% [markdown] tags=["instructor"]
# **For instructors.** Forty minutes with the table of counts, ten without. Common: the *first* seven
# characters of the text, a loop that never reaches the empty context, and the least frequent character.

# %% [markdown]
# ## 7 · The answer


# %% tags=["prose", "slide"]
def found(claim):
    """The verdicts on a claim in words."""
    rows = table[table.claim.str.startswith(claim)]
    if rows.empty:
        return "not yet recorded on text"
    counts = rows.verdict.value_counts(sort=False)
    parts = [f"*{verdict}* in {number}" for verdict, number in counts.items()]
    return f"{', '.join(parts)} of {len(rows)} test{'s' if len(rows) > 1 else ''}"


missing = [
    title
    for title in experiments.DESIGNS
    if title.startswith("shakespeare") and title not in designs
]
Markdown(
    f"""With their own lines roles gain {mean_gain["own"]:+.2f} points, of which {person.estimate:+.2f}
({person.low:+.2f} to {person.high:+.2f}) are the person's (profile `{profile}`). The recorded evidence on
text says of **2a** (Reptile after FedAvg): {found("2a")}; of **2b** (tuning for global accuracy alone):
{found("2b")}; of **3** (centralized training): {found("3")}.
{f"Not yet recorded: {', '.join(missing)}." if missing else ""}"""
)

# %%
VerdictTable(tuple(evidence.as_verdicts(table)))
