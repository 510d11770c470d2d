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
# **The question of this notebook:** put all clients' examples into one pool and train as a
# datacenter would. Is the model that comes out *harder to personalize* than FedAvg's? That is the
# paper's third claim, and its argument that FedAvg does more than train a good global model.
#
# **What it costs:** about 2.5 minutes with `profile = "laptop"`, shared with notebooks 03 and 04:
# the first of the three that runs computes, the others read. 20 seconds with `"smoke"`. Nothing
# is downloaded.
#
# **What you need:** [notebook 00](00_start_here.ipynb) for the words, and for section 6
# [notebook 01](01_fedavg_is_meta_learning.ipynb).
#
# **What would refute the claim** (`3`), written in `fl_meta/evidence/comparison_verdicts.py`
# before the runs; section 7 says what was changed since, and why. Two tests, each on a mean over
# held-out clients of a
# paired difference, FedAvg minus centralized. `3-matched`: the *gain* from personalization, at
# models of equal initial accuracy. `3-best`: the *personalized accuracy*, each at its best. An
# effect is *reproduced* if it is positive, its 95 % interval does not reach 0, its p value,
# corrected for all eight tests of claims 2 and 3, is below 0.05, and all seeds but at most one
# agree. *Not reproduced*, which refutes it, is the same with the other sign. *Direction only*:
# less sure, but every seed is positive. Anything else is *undecided*, and so is `3-matched` if
# the matched models do not start alike for the held-out clients either (further apart than half
# the effect). Of the two centralized optimizers, SGD and Adam, the one counts that is better
# personalized on the clients that choose.

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
from fl_meta import evaluation, evidence, laboratories, plots
from fl_meta.data import batch_plan
from fl_meta.evidence import VerdictTable, load_or_run, own_folder, recorded
from fl_meta.experiments import (
    COMPARISON,
    CONTINUED,
    FEDSGD,
    LOCAL_ONLY,
    MODELS,
    RECORDED_COMPARISON,
    REPTILE,
    SMALL_E,
    for_profile,
    train_validation_held_out,
)
from fl_meta.models import add, relative_error

config = for_profile(COMPARISON, profile)["writers"]
config

# %% [markdown]
# ## 1 · What the datacenter sees
#
# `pooled()` makes one client of all: the same train examples, and nobody knows any longer whose
# they are.

# %%
train, validation, held_out = train_validation_held_out(config.setting, 0, config.folds)
pool = train.pooled()
print(
    f"{train.label}: {len(train)} clients with {train.train_counts.sum()} train examples;"
)
print(f"pooled: {len(pool)} client with {pool.train_counts.sum()} train examples")

# %% [markdown]
# Training on the pool is plain mini-batch training. One step from scratch with `torch.optim`, and
# the library's:

# %%
model = MODELS[config.setting.model](train)
params = {name: p.clone().requires_grad_() for name, p in model.init(seed).items()}
owner = pool["pooled"]
batch = batch_plan(
    seed, 0, "pooled", len(owner.train_x), batch_size=config.centralized_batch, steps=1
)[0]
x, y = torch.from_numpy(owner.train_x[batch]), torch.from_numpy(owner.train_y[batch])
optimizer = torch.optim.SGD(params.values(), lr=0.1, momentum=0.9)
model.loss(params, x, y).backward()
optimizer.step()

# %%
run = fl_meta.train_centralized(
    model,
    train,
    fl_meta.SGD(0.1, momentum=0.9),
    steps=1,
    batch_size=config.centralized_batch,
    seed=seed,
    progress=False,
)
ours = {name: p.detach() for name, p in params.items()}
moves = [add(at, model.init(seed), -1.0) for at in (ours, run.params)]
print(f"one step, ours against the library's: {relative_error(*moves):.0e}")

# %% [markdown]
# ## 2 · A fair comparison
#
# - **The same examples.** Both train on the same clients' train parts. Centralized training runs
#   until it has *seen as many examples* as FedAvg in all its rounds.
# - **The same care.** Every rate is the best of equally many, by the initial accuracy of
#   validation clients, which train neither. Each option is trained in full.
# - **Early stopping** for both: each one's best is the point on its way where the validation
#   clients' initial accuracy is highest.
# - **Nobody is handicapped in personalization.** Its rate is chosen for each model by itself, on
#   the validation clients. A model whose weights are larger, say, may need another one.
# - **The floor** is training on the client's own examples alone, from a fresh model, for several
#   times as many epochs.

# %%
seeds = range(seed * config.folds, (seed + 1) * config.folds)
found = load_or_run(config, seeds, own_folder())
verdicts, effects = evidence.decide_comparison(found, profile)
clients = int(effects.clients.iloc[0])
least = 100 * evidence.smallest_effect(evidence.PLANNED_SPREAD, clients)
print(
    f"{clients} held-out clients: an effect of {least:.1f} points would be seen 4 times in 5"
)


# %%
def of_each(name, field):
    """A field of one model, for every seed."""
    return [getattr(result.model_named(name), field) for result in found]


# %%
rivals = ["FedAvg", *evidence.CENTRALIZED]
each = train.train_counts.mean() * config.local_epochs * config.clients_per_round
planned = {"FedAvg": f"{config.rounds} rounds of about {each:,.0f} examples"}
steps = round(each * config.rounds / config.centralized_batch)
planned |= dict.fromkeys(
    evidence.CENTRALIZED, f"about {steps:,} steps of {config.centralized_batch} examples"
)
# %%
budget = {
    name: {
        "planned": planned[name],
        "stopped at round or step": of_each(name, "rounds"),
        "gradients until then": of_each(name, "local_gradients"),
        "options tried": len(found[0].search[name]),
        "tuned for": "initial accuracy of validation clients",
        "chosen": of_each(name, "option"),
        "rate of personalization": of_each(name, "personalization_rate"),
    }
    for name in rivals
}
pd.DataFrame(budget).T

# %% [markdown]
# (From here on, the texts describe the laptop profile with `seed = 0`.) Note the stopping points.
# FedAvg was best at its very *last* round in two seeds, and after three quarters of its rounds in
# the third. That is for the 14 validation clients: on the held-out clients of this seed, too, its
# last round is better than the one chosen, by 0.8 points. So it had hardly finished. Centralized
# training was best after a third to three fifths of its steps; SGD, in one seed, at the very end.
# Equal examples are not equal maturity: one optimizer takes a step for every 200 examples, the
# other one for every few thousand.

# %%
pd.DataFrame(
    [
        {"seed": r.seed, "method": name, "rate": one.option}
        | {"accuracy": 100 * one.validation}
        for r in found
        for name in rivals
        for one in r.search[name]
    ]
).pivot(index=["method", "rate"], columns="seed", values="accuracy").round(1)

# %% [markdown]
# **What to see.** Initial accuracy of the validation clients, in percent, at the best point of
# each option.
#
# *A change after seeing results.* These grids were once lower (for centralized SGD 0.01, 0.03,
# 0.1), and the best rate of FedAvg and of both centralized optimizers lay at the upper edge. So
# they were moved up, still three values for each. Now most winners of centralized training lie
# inside. FedAvg chooses the largest rate in two of three seeds, so its grid may still end too
# early.
#
# **What it does not show.** That any of these rates is well chosen. With 14 validation clients,
# three points between options are within luck, and no method chose the same rate in each seed.
#
# ## 3 · Over the course of training

# %% tags=["figure-course"]
plots.course_plot(found, rivals)

# %% [markdown]
# **What to see.** The horizontal axis counts examples, so the same place means the same amount of
# data seen; the personalization rate is chosen anew at each point.
#
# - Centralized training is far ahead early: after a tenth of the examples it reads 31 % (SGD) and
#   44 % (Adam) rightly, FedAvg 8 %.
# - From a third of centralized training on, its initial and its personalized accuracy stand still,
#   within about a point in the mean. (In single seeds they move by up to four, in both directions.)
# - Gains rise early and then fall: there is less left to gain. At the end FedAvg's is 19.6 points,
#   that of SGD 13.7 and that of Adam 12.6.
# - FedAvg gains more, but from a lower start; in personalized accuracy the three end within about
#   three points, FedAvg in front.
#
# **What it does not show.** That centralized models become *harder* to personalize late in
# training. An earlier version of this notebook, with smaller rates and 60 rounds, saw their
# personalized accuracy fall by three points in every seed, and said so. With this design it does
# not. Nor does the figure show FedAvg's end: its initial accuracy is still rising.
#
# ## 4 · Each at its best, and at equal initial accuracy

# %%
matched = [
    n for o in evidence.CENTRALIZED for n in (f"FedAvg, matched to {o}", f"{o}, matched")
]
plots.arrow_plot(found, [*rivals, *matched, LOCAL_ONLY])

# %% [markdown]
# **What to see.** At each one's best, centralized SGD goes from 52.7 to 67.4 %, Adam from 53.1 to
# 65.0, FedAvg from 48.4 to 67.7. All are far above the floor: the client's own examples alone give
# 36.6 %. At the match, centralized SGD ends 6.1 points above Adam, from a start one point higher:
# "centrally trained" is not one thing.
#
# **How the match is made.** The target lies one point below the highest initial accuracy that
# both have reached, measured on the test parts of *all* clients that are not held out. Of each
# side the point of its course counts that is nearest to the target.
#
# *A change after seeing results.* Earlier the match was made on the few validation clients, at the
# very top that both had reached. There FedAvg's point was a maximum over noise, and on held-out
# clients it started 3.9 points lower than its partner. Hence the new target, and the rule that a
# match that fails on the held-out clients decides nothing.
#
# **Look at the matched pairs.** Against Adam the arrows begin less than a point apart, in each
# seed. Against SGD they begin one point apart in the mean, 48.6 and 49.7, and the thin arrows show
# where that comes from: in the first seed it is five points. The points of a course are a third
# apart in time, and while accuracy rises steeply, several points apart. And FedAvg's point is its
# last one in all three seeds: it has only just come so far. Exercise 1 takes a closer look.

# %%
plots.adaptation_plot(found, [*rivals, LOCAL_ONLY])

# %% [markdown]
# **What to see.** FedAvg's model begins four to five points lower. After one epoch it has caught
# up: it is two points above SGD's and one above Adam's. After three epochs FedAvg and centralized
# SGD are less than half a point apart, and Adam is last, more than two points behind. Adam's models
# were best off at the small rate, 0.03, in two of three seeds, all others at 0.1. In the third seed
# Adam had itself been trained at its largest rate, 0.01, and there it ends at 70.0 %, above FedAvg
# and SGD.
#
# **What it does not show.** Where the curves would end: they still rise after three epochs. (The
# recorded runs take five.)

# %%
plots.gain_plot(found, rivals)

# %% [markdown]
# **What to see.** 2 % of clients are hurt by personalizing FedAvg's model, 7 % with centralized
# SGD's and 13 % with Adam's. Two clients lose about fifty points with SGD's, probably because the
# rate that suited the validation clients was too large for them. These two alone cost it one point
# in the mean.
#
# **What it does not show.** Why. A client that starts higher has more to lose, and where a test
# part is small, luck hurts too.
#
# ### The tests of the claim

# %% [markdown]
# In points; `low` and `high` are the ends of the 95 % interval (a paired bootstrap over the
# held-out clients of all seeds), `seeds` the effect in each seed, `p_holm` the corrected p,
# `apart` how much higher FedAvg's matched model starts on them.

# %%
print("the centralized optimizer that counts:", [evidence.centralized(r) for r in found])
table = effects[effects.index.str.startswith("3")]
evidence.in_points(table)

# %% [markdown]
# **What to see.** `3-matched`: the difference of the gains is +1.0 points, interval −2.0 to +4.0,
# with seeds from −2.9 to +7.8. `3-best`: FedAvg's personalized model is 0.4 points better, interval
# −1.7 to +2.5. Both are *undecided*, and not by a hair. The match fails by the rule too: FedAvg
# starts 1.1 points lower, more than half the effect. The seeds start −5.3, +1.7 and +0.3 points
# apart.
#
# **Rounding alone moves this.** With the same seeds and settings, but sums added in another order
# (two earlier versions of the engine, so only the last digits of float32 differed), `3-matched` was
# +0.4, then +0.7, now +1.0, and `3-best` was −0.7, then −1.5, now +0.4. All six are undecided. But
# `3-best` has changed its sign, and `apart` was −2.1, then −0.2, now −1.1: the match failed, held,
# and fails again. Single seeds move by two points and more:
#
# - At the best, the second seed was at −0.1, then −2.3, now +1.3. FedAvg stopped there at round 40,
#   then 30, now 40.
# - At the match, the third was at −4.5, then −2.7, now −2.9. In the second version FedAvg came a
#   little less far, so the target fell, and the point of SGD jumped from step 182 to step 138.
#   There FedAvg started 3.3 points higher than SGD; before, and now again, level with it.
#
# Training is chaotic, and a choice among a few points makes a large step of a small one. With three
# seeds, the design cannot tell effects of a point or two from that; nor does the bootstrap, which
# draws clients, count it.
#
# **What it does not show.** That there is no effect. The difference of the gains varies by 15
# points from client to client, more than the 10 that were planned with: an effect would have to be
# more than 4 points to be seen four times in five. Nor that every centralized model is as easy to
# personalize as FedAvg's: exercise 2 asks Adam. Only the better of two optimizers counts here, and
# that was SGD in each seed.
#
# ## 5 · Real data beside it
#
# The same experiment, larger (five seeds), on two real data sets: digits of MNIST by writer, and
# letters and digits of the UNIPEN collection. And with another model, a small convolutional
# network, on 100 of the writers of MNIST (three seeds). These are recorded results: this notebook
# reads them, it does not compute them again (`fl-meta rerun` does, if you have the data). A larger
# run of the synthetic writers was planned and has not been made: *not run* in section 9.

# %%
kept = {
    name: recorded(of_name, Path("../data/results"))
    for name, of_name in RECORDED_COMPARISON.items()
    if "shakespeare" not in name
}
of_record, tables = evidence.decide_recorded(kept, "3")
shown = {found[0].data.label: table} | tables
plots.effect_plot(shown)

# %%
evidence.in_points(pd.concat(shown, names=["data set"]))

# %% [markdown]
# **What to see.** The first colour is what this notebook computed. (Rows as in section 4; `apart`
# tells whether the match held.)
#
# - **Letters and digits, `unipen62`.** Both tests decide, and they decide differently. Matched,
#   FedAvg's model gains 2.4 points more (+1.0 to +3.9), with the same sign in all five seeds, and it
#   starts only 0.4 points lower: *reproduced*. Each at its best, it ends 1.9 points lower (−3.1 to
#   −0.6): *not reproduced*. In words: at equal initial accuracy FedAvg's model is the easier one to
#   personalize; but on as many examples centralized training reaches an initial model that is three
#   points better, and personalization takes back only a part of that.
# - **Digits, `mnist_by_writer`.** No difference at the match, and the match fails by the rule: with
#   an effect of 0.0 any distance is too large. At its best FedAvg's model is 0.8 points worse:
#   *not reproduced*. There is little to gain: all models start above 92 % in the mean and gain one to
#   three points.
# - **Digits, the small convolutional network.** The same picture: +0.1 at the match, which fails
#   again, and 2.5 points worse at its best (−3.4 to −1.6): *not reproduced*. A part of that is bad luck
#   in choosing. The few validation clients stopped FedAvg early in two of three seeds: this model ends
#   at 93.9 %, its very last one at 95.5, centralized Adam's best at 96.4. FedAvg and Adam chose the
#   largest rate on offer in every seed.
#
# ### Seed by seed: move it yourself
#
# One seed of UNIPEN at the match: FedAvg's model begins two points lower and is in front after one
# epoch. Choose the claim *3-best*: now it stays behind from the first to the last. Step through
# *seed*: on either claim all five have the same sign, but few have an interval that stays off 0,
# seeds 1 and 3 at the match and seed 1 at the best. Fifty clients are not many. Then go back to
# *3-matched* and choose `mnist_by_writer` with seed 2: in its first epoch of adaptation the
# centralized model loses 13 points, at the rate that its own validation clients chose.

# %%
panel = laboratories.claim_explorer(
    "../data/results", dataset="unipen62", claim="3-matched", seed=1, view="epoch by epoch"
)
panel

# %% [markdown]
# **What it does not show.** That the effects hold for every length of adaptation. The tests look
# after the last epoch, as planned. The gain at the match, FedAvg minus centralized, in points,
# after each epoch:


# %%
def gains_apart(result):
    """FedAvg's gain minus its matched rival's, after each epoch [epochs + 1, clients]."""
    rival = evidence.centralized(result)
    pair = f"FedAvg, matched to {rival}", f"{rival}, matched"
    one, other = (100 * np.array(result.model_named(n).accuracy) for n in pair)
    return (one - one[0]) - (other - other[0])


by_epoch = {}
for results in [found, *filter(None, kept.values())]:
    clients_of_all = np.concatenate([gains_apart(r) for r in results], axis=1)
    effects_after = map(evaluation.bootstrap_mean, clients_of_all[1:])
    by_epoch[results[0].label] = {
        epoch: f"{one.estimate:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"
        for epoch, one in enumerate(effects_after, start=1)
    }
pd.DataFrame(by_epoch).T.fillna("")

# %% [markdown]
# **What to see.** On `unipen62` the effect is +1.0 after one epoch, not sure, and grows to +2.4:
# from the third epoch on the centralized models get worse again, and FedAvg's do not. The
# validation clients gave four of these five centralized models the *smallest* rate on offer, 0.03
# (and FedAvg's two of five). A smaller one, or fewer epochs, might have helped them. So what is
# reproduced is: FedAvg's model stands long adaptation better. On `mnist_by_writer` it is the other
# way round, most after one epoch. (In the laptop run too, but there no epoch is sure.) On
# `mnist_by_writer` nearly all of these +3.8 points come from one centralized model that falls from
# 90 to 77 % in its first epoch, at rate 0.3, and then recovers. With the convolutional network it
# is −1.7 after one epoch, and then nothing.
#
# **What it does not show.** That FedAvg must end lower. On `mnist_by_writer` it was best at its last
# round in four of five seeds. On `unipen62` it had levelled off, but 25 more rounds at a smaller
# server rate (`FedAvg, continued` of notebook 03) bring it from 62.4 to 64.0 %, level with the
# centralized models' 64.3; those are more examples, and no test that was planned. Nor anything
# about other tasks: both are characters, read by small networks.
#
# ## 6 · Why?
#
# Notebook 01 showed what FedAvg's update holds beyond joint training: AvgGradInner, half the
# gradient of g_a · g_b, where a and b are two batches of one client. Moving along it makes the
# product larger: a client's step on batch a then helps it more on batch b. If that is why
# FedAvg's model is easy to personalize, its clients' batches should *agree more*. Measured on up
# to 20 held-out clients of each seed, on their train parts:
#
# - `gradient_cosine`, `gradient_product`: of the gradients of two batches of one client;
# - `avg_grad_inner_norm`: length of AvgGradInner, relative to the mean gradient;
# - `distance`: how far personalization moves the parameters; `distance_share`: relative to their
#   norm. Each model moves at its own rate of personalization.

# %%
after_fork = [CONTINUED, REPTILE, FEDSGD, SMALL_E]
numbers = [
    "gradient_cosine",
    "gradient_product",
    "avg_grad_inner_norm",
    "distance",
    "distance_share",
]
# %%
rows = []
for result in found:
    for name in [*rivals, *matched, *after_fork]:
        one = result.model_named(name)
        row = {"model": name, "seed": result.seed} | {
            k: getattr(one.why, k) for k in numbers
        }
        initial, personalized = (
            100 * one.accuracy_of(m).mean() for m in ("initial", "personalized")
        )
        rows.append(row | {"initial": initial, "gain": personalized - initial})
why = pd.DataFrame(rows)
why.groupby("model", sort=False)[[*numbers, "initial", "gain"]].mean().round(3)

# %% [markdown]
# **What to see.** No confirmation. The cosine is highest for centralized Adam, whose model gains
# least: 0.29 against 0.26 for FedAvg and 0.25 for SGD, and higher still at its matched point.
# Twelve more rounds lower FedAvg's to below 0.24, whatever the method. The product contradicts the
# idea as well: it is largest for Adam's model. A product of gradients measures how long they are as
# well as how much they agree.
#
# An earlier version of this notebook found that a *long* AvgGradInner goes along with a small gain,
# in each seed, and called it an idea for a test. The test has come with the new design: the sign is
# the same, but the relation is weak in two of three seeds (exercise 3).
#
# **What it does not show.** Distances at equal effort: two of three Adam models personalize at a
# smaller rate, and so move less far. And all numbers come from 20 clients in each seed, without
# intervals.
#
# ## 7 · What a critical reader asks
#
# - *Is the budget matched?* By examples seen and by options tried. Not by steps: FedAvg has 40
#   server steps, and between them its clients take some 5,800 local steps in all; centralized
#   training has some 550 steps. Its batch of 200 was not searched for.
# - *Tuned on what, and for which accuracy?* On validation clients, and for the *initial*
#   accuracy, on both sides, early stopping too: a datacenter that does not think of
#   personalization would do so. Only the rate of personalization is chosen for the personalized
#   accuracy.
# - *Was the comparison changed after the results?* Yes, in three ways, and then all of it was run
#   again. The grids were moved up, since winners lay at their edge (section 2). The match was
#   made anew, and the rule for a match that fails was added, since FedAvg had started lower
#   (section 4). And training was cut from 60 rounds to 40, so that all notebooks run in ten
#   minutes. With the old design `3-matched` was +3.2 points (+0.3 to +6.1) and `3-best` −1.7 (−4.0
#   to +0.6); both were undecided too. (Notebook 03 tells of a change before these.)
# - *Why not more rounds?* Because it must run on a laptop. It matters: FedAvg had hardly finished.
#   The recorded runs of the same model take 80 rounds with twice as many clients.
# - *Is the synthetic data to blame?* It may be. Section 5 is the place to look.
#
# ## 8 · Exercises
#
# Guess first, then run. Solutions follow in the cells with the tag `solution`.
#
# 1. **How equal is equal?** The models of `3-matched` were matched on clients that are *not* held
#    out. How far apart do they start on the held-out ones, in each seed, and what does that do to
#    the difference of the gains?
# 2. **The other optimizer.** Only one centralized optimizer counts for each seed. What are both
#    effects against SGD alone, and against Adam alone?
# 3. **Which number goes with the gain?** Rank all models of section 6 within each seed by their
#    gain. Which of the numbers ranks them most alike?

# %% [markdown] tags=["solution"]
# **Solution 1.** Only one seed of three is matched to a point. In the first FedAvg starts 5.3
# points lower and gains 7.8 more; in the second it starts 1.7 higher and gains 1.8 less. These two
# differences of the gains are mostly differences of the start. In the third the models start level,
# 0.3 points apart, and FedAvg gains 2.9 *less*. The mean effect, +1.0, comes from the first seed
# alone, where the match is worst. So against SGD nothing here speaks for the claim. In the earlier
# versions of the engine (section 4) the first seed started 5.9 and 5.0 points apart. The first
# version matched the other two seeds to a third of a point, and FedAvg gained 1.3 and 4.5 points
# less there; the second matched none to a point. That is no proof against the claim either: three
# good matches, from two seeds.


# %% tags=["solution"]
def difference(result, optimizer, measure):
    """FedAvg minus centralized at the match, for each held-out client, in points."""
    pair = f"FedAvg, matched to {optimizer}", f"{optimizer}, matched"
    one, other = (result.model_named(name).accuracy_of(measure) for name in pair)
    return 100 * (one - other)


for measure in ("initial", "personalized", "gain"):
    values = [difference(result, evidence.centralized(result), measure) for result in found]
    by_seed = ", ".join(f"{v.mean():+.1f}" for v in values)
    print(
        f"{measure}: {evaluation.bootstrap_mean(np.concatenate(values))}; by seed {by_seed}"
    )

# %% [markdown] tags=["solution"]
# **Solution 2.** Against SGD alone the effects are those of the claim, since SGD counted in each
# seed. Against Adam, FedAvg gains 6.1 points more at the match, and this match holds in each seed;
# each at its best, FedAvg is 2.8 points better. Both intervals stay off 0, without a correction for
# several tests. In the earlier versions of the engine it was +4.7, then +4.4 at the match, off 0
# too, but +1.6, then +0.9 at the best, with 0 inside. Whoever compares with Adam alone is closer to
# the paper's claim than whoever compares with SGD alone. So say with which optimizer. And at which
# rate: the third seed, where Adam was trained at 0.01, has the other sign in both, −0.3 and −3.5
# points.

# %% tags=["solution"]
for optimizer in evidence.CENTRALIZED:
    at_match = [difference(result, optimizer, "gain") for result in found]
    at_best = [
        100 * np.subtract(
            *(r.model_named(n).accuracy_of("personalized") for n in ("FedAvg", optimizer))
        )
        for r in found
    ]  # fmt: skip
    for title, values in {"matched, gain": at_match, "best, personalized": at_best}.items():
        effect = evaluation.bootstrap_mean(np.concatenate(values))
        print(f"FedAvg − {optimizer}, {title}: {effect} points")

# %% [markdown] tags=["solution"]
# **Solution 3.** None does in every seed. With nine or ten models, a rank correlation below about
# 0.7 is within luck. `distance_share` is highest in the mean, but 0.95 in one seed and 0.32 in
# another, and it is half a truism: who moves more changes more. The cosine, the number that the
# theory would bet on, is near 0 in each seed, from −0.08 to +0.02; the product is negative in each,
# against the theory, but weakly. (Several of these models come from one start, so there are even
# fewer independent points than rows.)

# %% tags=["solution"]
ranks = why.drop_duplicates(["seed", *numbers]).groupby("seed")[
    [*numbers, "initial", "gain"]
]
alike = ranks.corr(method="spearman")["gain"].unstack(0).drop("gain")
alike.round(2)

# %% [markdown]
# ## 9 · The answer
#
# In the laptop run the claim is open: both tests are undecided, and rounding alone moves single
# seeds by two points and more and has changed the sign of `3-best` (section 4). Where tests decide,
# on real data, its two readings part. *At equal initial accuracy*, FedAvg's model gains more from
# five epochs of personalization on `unipen62`, as the paper says; on digits no difference is to be
# seen, with either network. *Each at its best after as many examples*, the centralized model is the
# better one after personalization too, in all three. And in the laptop run it matters as much which
# centralized optimizer one asks, and at which rate, as whether training is centralized.


# %%
def in_words(claim):
    """An effect in points, with its interval and its verdict."""
    one = next(v for v in verdicts if v.claim == claim)
    low, high = one.interval
    text = f"{one.effect:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}; *{one.verdict}*)"
    return text.replace("-", "−")


answer = f"""On {clients} held-out **synthetic** writers, the gain from personalization of FedAvg's model
minus that of a centrally trained one, matched in initial accuracy on the other clients, is
{in_words("3-matched")}; each at its best, their personalized accuracies differ by
{in_words("3-best")}. A positive number speaks for the paper's claim. (Profile `{profile}`,
{len(found)} seeds.)"""
display(Markdown(answer))
own = [one for one in verdicts if one.claim.startswith("3")]
VerdictTable((*own, *of_record))
