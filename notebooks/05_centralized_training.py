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
# # 05 · Is a centrally trained model harder to personalize?
#
# **The question of this notebook:** put the examples of all clients into one pool and train as a
# datacenter would. Is the model that comes out *harder to personalize* than FedAvg's? That is the
# paper's third claim.
#
# **What it costs:** about two minutes with `profile = "laptop"`, 30 seconds with `"smoke"`, on one core; 1 GB
# of memory. Nothing is downloaded. Most results are recorded ones.
#
# **What you need:** [notebook 00](00_start_here.ipynb), and for section 5
# [notebook 01](01_fedavg_is_meta_learning.ipynb). The [glossary](../docs/glossary.md) explains terms.
#
# **Afterwards you can** compare fairly how easily two models are personalized, read a forest plot, and
# tell why the rival must be chosen before the experiment.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import numpy as np
import torch
from IPython.display import Markdown

from fl_meta import evidence, experiments, laboratories, plots
from fl_meta.course import check
from fl_meta.data import batch_plan
from fl_meta.evidence import VerdictTable
from fl_meta.experiments import CENTRALIZED, CENTRALIZED_SGD, DESIGNS, FEDAVG, matched_arms

# %% [markdown] tags=["slide"]
# ## 1 · A puzzle: which one is easier to personalize?
#
# Two models learn. The curves are their initial accuracies, an arrow is what personalization adds. (All
# is invented; A and B may stand for anything.)

# %% tags=["same-slide", "without-code"]
# alt: The same two invented learning curves twice. Left, arrows from equal initial accuracy; right, arrows
# from the end of each curve. In the left drawing the arrow of A is longer, in the right one B's ends higher.
plots.matched_and_best_cartoon()

# %% [markdown] tags=["slide"]
# A gains more, and B is the better one after personalization. So "which one is easier to personalize?" is
# two questions:
#
# - **matched**: from *equal initial accuracy*, who *gains* more? Without the match, who starts lower has
#   more left to gain.
# - **best**: each at its own *end*, whose *personalized* model is better? That is what users get.
#
# The claim says that FedAvg's model is better in both. Its tests, `3-matched` and `3-best`, are FedAvg
# minus centralized in points, so a positive number supports the paper.
#
# **Predict** both numbers for the synthetic writers of notebook 00.

# %% tags=["prediction"]
check.predict("05.a", {"matched": ..., "best": ...})

# %% [markdown] tags=["slide"]
# ## 2 · The experiment
#
# A pool is one client with everybody's examples. Training on it is ordinary:


# %% tags=["same-slide"]
def train_on_pool(model, params, pool, rate, steps, seed):
    """Mini-batch SGD with momentum on everybody's examples."""
    x, y = torch.from_numpy(pool.train_x), torch.from_numpy(pool.train_y)
    params = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    optimizer = torch.optim.SGD(params.values(), lr=rate, momentum=0.9)
    for step in range(steps):
        batch = batch_plan(seed, step, "pooled", len(x), batch_size=50, steps=1)[0]
        optimizer.zero_grad()
        model.loss(params, x[batch], y[batch]).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in params.items()}


# %% [markdown]
# The recorded runs hold out a third of the writers in turn. We take one of these *folds* and the seed of
# a recorded run, and stop where the accuracy of that run is known.

# %%
designs = evidence.recorded_designs(evidence.recorded_folder())
cells, design = designs["writers-stable"], DESIGNS["writers-stable"]
number = seed % design.folds
fold = experiments.Fold.of(design, number)
choices = {choice.arm: choice for choice in cells[0].config.choices[number]}
steps, recorded, _ = cells[number].curves[CENTRALIZED_SGD][2]
rate, start = choices[CENTRALIZED_SGD].rate, fold.model.init(cells[number].seed)
params = train_on_pool(
    fold.model, start, fold.pool["pooled"], rate, steps, cells[number].seed
)
initial = fold.initial(params, fold.held_out).mean()

# %% tags=["prose"]
Markdown(
    f"""After {steps} steps on the pool of {len(fold.train)} writers our model is right in
{100 * initial:.1f} % of the held-out writers' cases; the recorded run had {100 * recorded:.1f} %."""
)

# %% [markdown] tags=["slide"]
# What makes the comparison fair:
#
# - **Time to learn.** Each side trains until the initial accuracy of *validation* clients, which do not
#   train, no longer rises, or up to a ceiling.
# - **The same care.** Rates are chosen for the *initial* accuracy of validation clients: a datacenter does
#   not think of personalization. Each model has its own rate of personalization.
# - **A rival named beforehand**: SGD with momentum, at the rate so chosen.
# - **The match** lies a point below the lower of both tops.
#
# All rules were written down before the first run ([evidence](../docs/evidence.md)).

# %% [markdown] tags=["slide"]
# ## 3 · What came out
#
# First the drawing of section 1, now measured: the match above, the best below.

# %% tags=["same-slide", "without-code"]
# alt: Four arrows from initial to personalized accuracy: FedAvg's model and the centralized one at equal
# initial accuracy, and each at its end; thin arrows show single replicates.
at_match, fedavg_at_match = matched_arms(CENTRALIZED_SGD)
plots.arrow_plot(cells, [fedavg_at_match, at_match, FEDAVG, CENTRALIZED_SGD])

# %% [markdown] tags=["slide"]
# The forest plot has a line for each data set, with a 95 % interval for the luck of clients and of training.
# Differences within the grey margin do not matter. *No difference* means that a [narrower
# interval](../docs/glossary.md#statistics) than the one drawn lies within it; *undecided*, that neither this
# nor an effect is shown. The star is *your run*: one more training of one fold, made on this machine.

# %%
own = evidence.your_run("writers-stable", profile, seed)

# %% tags=["same-slide", "without-code"]
# alt: A forest plot: for both tests of claim 3 and each recorded data set the effect with its interval, the
# margin shaded, the verdict in words; a star for your run.
table = evidence.evidence_table(designs.values())
third = table[table.claim.str.startswith("3")]
plots.forest_plot(third, own.effects[own.effects.claim.str.startswith("3")])

# %% tags=["prose", "slide"]
counts = third.verdict.value_counts(sort=False)
counted = "; ".join(f"*{verdict}* {count}" for verdict, count in counts.items())
wide = third[(third.high - third.low) / 2 >= third.margin]
unfinished = int((wide.replicates < evidence.MOST_REPLICATES).sum())
Markdown(
    f"""**What came out.** Verdicts on the {len(third)} tests: {counted}. In {len(wide)} of them
the interval reaches further to each side than the margin; for {unfinished or "none"} of these, replicates
that the rules ask for are not recorded yet. {own.sentence("3-matched")}
(Read the other star likewise.)"""
)

# %%
here = third[third.dataset == cells[0].label].set_index("claim").effect
check.prediction("05.a", {"matched": here["3-matched"], "best": here["3-best"]})

# %% [markdown] tags=["slide"]
# ## 4 · It depends on the rival
#
# A datacenter may train otherwise: at a smaller or a larger rate, or with
# [Adam](../docs/glossary.md#optimizers). Rounds and steps differ in size, so the axis shows the share of
# each one's own training. A band reaches from the lowest training run (*replicate*) to the highest.

# %% tags=["same-slide", "without-code"]
# alt: Two line charts over the share of training, logarithmic: initial and personalized accuracy of FedAvg
# and of four centralized optimizers, with bands from the lowest to the highest replicate.
plots.curve_plot(cells, [FEDAVG, *CENTRALIZED])

# %% [markdown]
# Both questions again, with each of them:

# %% tags=["slide", "without-code"]
# alt: For each centralized optimizer and data set the difference to FedAvg with its interval: left of the
# gains at equal initial accuracy, right of the personalized accuracies at the end.
rivals = evidence.centralized_table(designs.values())
plots.centralized_figure(rivals)

# %% tags=["prose", "fragment"]
effects = rivals.pivot(index=["dataset", "comparison"], columns="arm", values="effect")
spans = effects.max(axis=1) - effects.min(axis=1)


def lowest_and_highest(comparison):
    """The lowest and the highest difference on the writers, and against whom."""
    row = effects.loc[cells[0].label, comparison]
    low, high = (f"{row[name]:+.1f} ({name})" for name in (row.idxmin(), row.idxmax()))
    return f"from {low} to {high}".replace("-", "−")


Markdown(
    f"""**What came out.** On {cells[0].label} the difference at the match goes
{lowest_and_highest("matched")}, at the best {lowest_and_highest("best")}. The lowest and the highest estimate
are further apart than the margin in {(spans > rivals.margin.max()).sum()} of {len(spans)} comparisons; the
intervals in the figure say how sure that is."""
)

# %% [markdown] tags=["slide"]
# ### Move it yourself: where to match
#
# The test matches near the top. Left, personalized over initial accuracy: the vertical distance of the
# curves *is* the difference of the gains, shown on the right. Is FedAvg ahead at every match? Try all rivals.

# %% tags=["same-slide", "without-code"]
panel = laboratories.match_elsewhere("writers-stable", target=50)
panel

# %% [markdown] tags=["slide"]
# ## 5 · Why should there be a difference?
#
# By notebook 01, FedAvg's local steps move the model along AvgGradInner,
# $\frac{1}{2} \nabla (g_a \cdot g_b)$ for batches $a$, $b$ of *one* client: a step on $a$ then helps on
# $b$, and personalization is such steps. Centralized SGD takes small steps as well, but its batches are
# mixtures of everybody. So gradients come to agree on what all clients share, not on what is special to one.
#
# That predicts something to measure: at equal initial accuracy, two batches of one held-out client should
# have gradients that agree more in FedAvg's model. Exercise 05.4 does that.

# %% [markdown] tags=["slide"]
# ## 6 · What this does not show
#
# - *What holds elsewhere.* These are small networks, and *writers* is synthetic.
# - *What another length of adaptation would give.* All models have the same number of epochs.
# - *How good the best personalized models are.* Training goes on for the initial accuracy, and "best" means
#   its end. On the way there, the personalized accuracy may have been higher: see the curves of section 4.
# - *That the slider decides anything.* Its curves have few points, and a personalization rate that was
#   chosen for their ends.

# %% tags=["prose", "same-slide"]
ended = {
    row.dataset: row.ceiling
    for row in third.itertuples()
    if row.claim == "3-best" and row.ceiling
}
which = "; ".join(f"{name} ({', '.join(arms)})" for name, arms in ended.items())
Markdown(
    f"- *That all training had become flat.* The ceiling ended some of it first: {which}."
    if ended
    else "- *What longer training would give.* All of it ended because it had become flat."
)

# %% [markdown]
# ## 7 · Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 05.1 ★ · Two comparisons.** Accuracies on the way of two trainings, in percent:
#
# | initial → personalized | | | | |
# |---|---|---|---|---|
# | FedAvg | 40 → 56 | 50 → 65 | 60 → 72, its end | |
# | centralized | 40 → 54 | 50 → 62 | 60 → 71 | 66 → 74, its end |
#
# What are the effects *matched*, at an initial accuracy of 50, and *best*, in points?

# %% tags=["fill-in"]
matched = ...
best = ...

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Two gains; two personalized accuracies.
#
# </details>

# %% tags=["solution"]
matched = (65 - 50) - (62 - 50)
best = 72 - 74

# %% [markdown] tags=["solution"]
# **Solution 05.1.** FedAvg gains more from an equal start, and yet centralized training ends higher, for
# it comes to a better initial model. Both can be true at once, as in the drawing of section 1.

# %% tags=["check"]
check.answer("05.1", {"matched": matched, "best": best})

# %% [markdown] tags=["instructor"]
# **For instructors.** Three minutes. Common: the difference of the gains at the two ends, which mixes
# both questions. Ask who would report which number.

# %% [markdown] tags=["exercise"]
# **Exercise 05.2 ★★ · Make the match.** Write a function that returns the gain where a path *first* has
# the initial accuracy `target`. `initial` and `personalized` are lists along the path, in percent; it
# begins below the target and reaches it. Interpolate both between two points.


# %% tags=["fill-in"]
def gain_at(target, initial, personalized): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Which share of the way to the first point with at least the target?
#
# </details>


# %% tags=["solution"]
def gain_at(target, initial, personalized):
    after = next(i for i, accuracy in enumerate(initial) if accuracy >= target)
    before = after - 1
    share = (target - initial[before]) / (initial[after] - initial[before])
    reached = personalized[before] + share * (personalized[after] - personalized[before])
    return reached - target


for arm in (FEDAVG, CENTRALIZED_SGD):
    _, *path = 100 * np.array(cells[0].curves[arm]).T
    print(f"{arm}: {gain_at(50, *path):.1f} points, matched at 50 %")

# %% [markdown] tags=["solution"]
# **Solution 05.2.** This is how the evidence is matched, with more points along the path. The nearest
# point instead would leave the models some points apart where accuracy rises steeply.

# %% tags=["check"]
check.answer("05.2", gain_at)

# %% [markdown] tags=["instructor"]
# **For instructors.** Fifteen minutes. Common: the nearest point, and forgetting to subtract the target.

# %% [markdown] tags=["exercise"]
# **Exercise 05.3 ★★ · The best of four.** FedAvg differs from none of four rivals, and the
# four 95 % intervals are independent. Somebody reports one that lies above 0, if there is one. How likely
# is that?

# %% tags=["fill-in"]
chance = ...

# %% tags=["solution"]
chance = 1 - (1 - 0.05 / 2) ** 4

# %% [markdown] tags=["solution"]
# **Solution 05.3.** An interval misses 0 on the upper side with probability $0.025$, and none of four does
# with probability $0.975^4$. So an interval that is chosen so is nearly four times as often wrong, on that
# side, as it says. Naming the rival beforehand, or [Holm's correction](../docs/glossary.md#statistics),
# avoids it. (Four rivals that meet the same FedAvg are not independent; the chance is then somewhat
# smaller.)

# %% tags=["check"]
check.answer("05.3", chance)

# %% [markdown] tags=["instructor"]
# **For instructors.** Ten minutes. Good for a discussion: which choices did the last paper you read leave
# open?

# %% [markdown] tags=["exercise"]
# **Exercise 05.4 ★★★ · Do a client's batches agree?** Write a function that returns the cosine of two
# gradients at `params`: of the mean loss on the first `len(x) // 2` examples of a client's train part, and
# on the others. All parameters together are one vector. Then measure it, over held-out clients, on FedAvg's
# model and on a centralized one of equal initial accuracy. Was section 5 right? With more runs and an
# interval this is a project.


# %% tags=["fill-in"]
def agreement(model, params, client): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `torch.autograd.grad(model.loss(params, x, y), list(params.values()))`; `fold.fedavg_stage` and
# `experiments.path` train FedAvg.
#
# </details>


# %% tags=["solution"]
def agreement(model, params, client):
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    x, y = torch.from_numpy(client.train_x), torch.from_numpy(client.train_y)
    middle, gradients = len(x) // 2, []
    for half in (slice(None, middle), slice(middle, None)):
        loss = model.loss(leaves, x[half], y[half])
        parts = torch.autograd.grad(loss, list(leaves.values()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    return float(torch.cosine_similarity(*gradients, dim=0))


# %% tags=["solution"]
rounds = (5, 10, 15, 20, 25, 30, 40, 50)
stage = fold.fedavg_stage(choices[FEDAVG].rate, rounds[-1])
snapshots = list(experiments.path(fold.model, fold.train, stage, seed, rounds))
accuracy = [fold.initial(one.params, fold.held_out).mean() for one in snapshots]
nearest = int(np.argmin(np.abs(np.array(accuracy) - initial)))
cosines = {
    name: np.mean([agreement(fold.model, of, client) for client in fold.held_out])
    for name, of in {FEDAVG: snapshots[nearest].params, "centralized": params}.items()
}

# %% tags=["solution", "prose"]
right = cosines[FEDAVG] > cosines["centralized"]
Markdown(
    f"""**Solution 05.4.** FedAvg's model after {snapshots[nearest].round_number} rounds
({100 * accuracy[nearest]:.1f} % initially) has a mean cosine of {cosines[FEDAVG]:.3f}, the centralized one
({100 * initial:.1f} %) of {cosines["centralized"]:.3f}. In this pair of runs the sign is
{"as predicted" if right else "not the predicted one"}. One pair decides nothing, and a cosine says nothing
about the gradients' lengths. The project: all folds, several replicates, an interval, and the prediction
written down before."""
)

# %% tags=["check"]
clients = [fold.held_out[client_id] for client_id in fold.held_out.client_ids[:3]]
check.answer("05.4", agreement, model=fold.model, clients=clients)

# %% [markdown] tags=["instructor"]
# **For instructors.** An hour, with half a minute of computing. Common: the mean of the layers' cosines, and
# the same batch twice. Insist on a prediction first.

# %% [markdown]
# ## 8 · The answer

# %% tags=["prose"]
words = evidence.sentences(table)
Markdown(
    f"""*Matched.* {words["3-matched"]} *Best.* {words["3-best"]} At the match, the four centralized
optimizers give answers up to {spans.xs("matched", level="comparison").max():.1f} points apart on one and the
same data set, so an answer has to name the rival."""
)

# %%
VerdictTable(tuple(evidence.as_verdicts(table, "3")))
