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
# # 04 · Is global accuracy the goal?
#
# **The question of this notebook:** if every client adapts the model anyway, is it enough to make the
# *initial* model as accurate as possible? The paper says no: a model that was tuned for global
# accuracy alone is weaker once it is personalized.
#
# **What it costs:** about a minute with `profile = "laptop"`, shared with
# [notebook 03](03_personalized_fedavg.ipynb); half a minute with `"smoke"`. Nothing is downloaded.
#
# **What you need:** notebook 03. The [glossary](../docs/glossary.md) explains terms.
#
# **Afterwards you can** say why the best average model need not be the best start, and read a
# comparison whose premise may fail.

# %% tags=["parameters"]
profile = "laptop"
seed = 0

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import Markdown

import fl_meta
from fl_meta import evidence, laboratories, plots
from fl_meta.course import check
from fl_meta.evidence import VerdictTable
from fl_meta.experiments import FEDAVG, FEDSGD, REPTILE, SMALL_E

RIVALS = (FEDSGD, SMALL_E)

# %% [markdown] tags=["slide"]
# ## 1 · A puzzle: two bowls
#
# A model with a single parameter $\theta$ serves two clients. Their losses are bowls with different
# optima $a_i$ and curvatures $h_i$:
#
# $$L_i(\theta) = \frac{1}{2}\, h_i\, (\theta - a_i)^2$$
#
# Everybody gets the same $\theta$, and then takes $K$ steps of gradient descent down its own bowl.
# You may choose $\theta$. One candidate is the **best average model**, which has the smallest mean
# loss.
#
# **Predict.** Is there a better start? If so, does it lie nearer to the optimum of the `"steep"` or
# of the `"flat"` client? Or is the `"same"` point the best in both respects?

# %% tags=["prediction"]
check.predict("04.a", ...)

# %% tags=["slide", "without-code"]
panel = laboratories.two_bowls()
panel

# %%
bowls, K = laboratories.steep_and_flat(distance=3.0, steepness=4.0), 3
average, start = bowls.best_average(), bowls.best_start(K)
losses = bowls.losses(np.array([[average], [start]]), K).mean(1)
nearer = "flat" if start > average else "steep" if start < average else "same"
check.prediction("04.a", nearer)

# %% tags=["prose", "fragment"]
Markdown(
    f"""**What came out.** In {K} steps the steep client covers most of the way to its optimum, wherever it
begins, and the flat one only a small part. So the best start lies nearer to the flat client's optimum. After
{K} steps the mean loss from the best average model is {losses[0] / losses[1]:.1f} times as large as from the
best start. What is lost is the price of global accuracy."""
)

# %% [markdown] tags=["slide"]
# In one step a client's distance from its optimum shrinks by the factor $1 - \beta h_i$. After $K$
# steps, the loss is therefore
#
# $$\frac{1}{2}\, h_i\, (1 - \beta h_i)^{2K}\, (\theta - a_i)^2$$
#
# which is a bowl again, with another curvature. **Move it yourself.** When does the price vanish?
# What does one step more or less change?

# %% [markdown] tags=["exercise", "fragment"]
# **Exercise 04.1 ★ · Equally steep.** Two bowls have the same curvature, and their optima are at $-1$
# and $4$. Where is the best start for 5 steps?

# %% tags=["fill-in"]
where = ...

# %% tags=["solution"]
where = (-1 + 4) / 2

# %% [markdown] tags=["solution"]
# **Solution 04.1.** In the middle, for any number of steps. Both clients make the same progress, so
# nobody needs the advantage, and there is no price.

# %% tags=["check"]
check.answer("04.1", where)

# %% [markdown] tags=["instructor"]
# **For instructors.** Two minutes; the slider shows it. Different optima alone cost nothing: what
# matters is that clients adapt at different speeds.

# %% [markdown] tags=["exercise"]
# **Exercise 04.2 ★★ · The best start.** Write a function that returns the best start for `steps`
# steps with the given `rate`. `optima` and `curvatures` are arrays with a number for each client.


# %% tags=["fill-in"]
def best_start(optima, curvatures, rate, steps): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# A sum of bowls $\frac{1}{2} v_i (\theta - a_i)^2$ is smallest at the mean of the $a_i$ with weights
# $v_i$.
#
# </details>


# %% tags=["solution"]
def best_start(optima, curvatures, rate, steps):
    weights = curvatures * (1 - rate * curvatures) ** (2 * steps)
    return (weights * optima).sum() / weights.sum()


# %% [markdown] tags=["solution"]
# **Solution 04.2.** The weights are the curvatures of the bowls after the steps. With 0 steps they
# are the curvatures themselves, and the best start is the best average model.

# %% tags=["check"]
check.answer("04.2", best_start)

# %% [markdown] tags=["instructor"]
# **For instructors.** Ten minutes. Common: the exponent `steps`, because the square of the distance
# was forgotten, and weights without the factor $h_i$.

# %% [markdown] tags=["slide"]
# ## 2 · Where does training lead?
#
# A client of **FedSGD** sends one gradient. Training rests where the mean gradient is 0: at the best
# average model (●). A client of **FedAvg** takes $K$ steps, and training rests where these cancel in
# the mean (■). In the picture this lies on the way to the best start (★).

# %% [markdown] tags=["exercise", "fragment"]
# **Exercise 04.3 ★★★ · Where FedAvg rests.** Write a function that returns the point where FedAvg
# with `steps` local steps and equal client weights comes to rest.


# %% tags=["fill-in"]
def resting_point(optima, curvatures, rate, steps): ...


# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# A round changes nothing if the mean of the clients' final models is $\theta$. How far does a client
# move in $K$ steps?
#
# </details>


# %% tags=["solution"]
def resting_point(optima, curvatures, rate, steps):
    weights = 1 - (1 - rate * curvatures) ** steps
    return (weights * optima).sum() / weights.sum()


# %% [markdown] tags=["solution"]
# **Solution 04.3.** Client $i$ moves by $\left(1 - (1 - \beta h_i)^K\right) (a_i - \theta)$, and
# these moves must add up to 0. For $K = 1$ the weights are proportional to $h_i$, as for FedSGD. For
# large $K$ they become equal: every client arrives at its optimum, however steep its bowl is.

# %% tags=["check"]
check.answer("04.3", resting_point)

# %% [markdown] tags=["instructor"]
# **For instructors.** Twenty minutes; write out one client's path on the board. Common: equal weights
# for every $K$, which is the limit, and the best start itself. FedAvg goes in its direction, but not
# to it.

# %% [markdown]
# So in the bowls global accuracy has a price. How large is it for networks and people?

# %% [markdown] tags=["slide"]
# ## 3 · The experiment
#
# We train a model with FedAvg and continue from it in three ways. Two **rivals** are after global
# accuracy alone: their server rate is tuned for *initial* accuracy on validation clients, Reptile's for
# *personalized* accuracy. Your computer trains them on the synthetic writers, in the unstable regime of
# notebook 03.


# %% tags=["same-slide"]
def three_ways(choices, steps):
    """How each arm goes on from FedAvg's model, with the rates that tuning chose."""
    rate = {one.arm: one.rate for one in choices}
    client = fl_meta.SGD(rate[FEDAVG])
    server = fl_meta.SGD(rate[SMALL_E], momentum=0.9)
    return {
        REPTILE: fl_meta.reptile(steps, client=client, server=fl_meta.Adam(rate[REPTILE])),
        FEDSGD: fl_meta.fedsgd(client=client, server=fl_meta.Adam(rate[FEDSGD])),
        SMALL_E: fl_meta.fedavg(1, client=client, server=server),
    }


# %% tags=["slide", "without-code"]
own = evidence.your_run("writers-unstable", profile, seed)
config, arms = own.run.config, {arm.name: arm for arm in own.run.arms}
choices = config.choices[own.run.seed % config.folds]


def since_fork(name, what):
    """Rounds or local gradients of an arm after FedAvg's model."""
    return getattr(arms[name], what) - getattr(arms[FEDAVG], what)


client_rounds = since_fork(REPTILE, "rounds") * config.design.clients_per_round
steps = since_fork(REPTILE, "local_gradients") // client_rounds
pd.DataFrame(
    {
        name: {
            "sends": algorithm.sends.value,
            "tuned for": "personalized" if name == REPTILE else "initial",
            "rounds": since_fork(name, "rounds"),
            "local gradients": since_fork(name, "local_gradients"),
        }
        for name, algorithm in three_ways(choices, steps).items()
    }
).T

# %% [markdown] tags=["same-slide"]
# **Equal footing.** All arms share FedAvg's model, its local rate, and the clients of each round.
# Each searches a grid of as many server rates, and one for personalization. Rounds and gradients
# differ: the rivals train as long as it helps their initial accuracy, up to a ceiling.
#
# The claim has a **premise**: the rival must be *better* in initial accuracy than Reptile. If it is
# not, nothing was bought, so nobody can have paid for it. Then the verdict is *premise not met*,
# whatever the personalized accuracy.

# %% [markdown] tags=["fragment"]
# **Predict.** By how many points is FedSGD's personalized model behind Reptile's on synthetic
# writers? (Negative: it is ahead.)

# %% tags=["prediction"]
check.predict("04.b", ...)

# %%
effects = own.effects[own.effects.claim.str.startswith("2b")]
check.prediction("04.b", effects.effect.iloc[0])

# %% [markdown] tags=["slide"]
# ## 4 · What came out
#
# First one training on your computer, scored on one fold of held-out clients. Its effects are Reptile's
# personalized accuracy minus the rival's.

# %% tags=["prose", "same-slide"]
ahead = {
    name: 100
    * np.mean(arms[name].accuracy_of("initial") - arms[REPTILE].accuracy_of("initial"))
    for name in RIVALS
}
bought = " and ".join(f"{points:+.1f} points for {name}" for name, points in ahead.items())
Markdown(
    f"""**{FEDSGD}**: {own.sentence("2b-FedSGD")}

**{SMALL_E}**: {own.sentence("2b-small-E")}

What they bought: their initial accuracy differs from Reptile's by {bought.replace("-", "−")}. Where it
is lower, the premise fails."""
)

# %% [markdown]
# One run decides nothing. These are all recorded runs of the same design:

# %% tags=["slide", "without-code"]
# alt: Arrows from initial to personalized accuracy of three models, Reptile with Adam, FedSGD with
# Adam and FedAvg with one epoch: a thick arrow for the mean, thin ones for each training replicate.
folder = evidence.recorded_folder()
designs = evidence.recorded_designs(folder)
plots.arrow_plot(own.cells, [REPTILE, *RIVALS])

# %% [markdown]
# The thin arrows show how much the luck of training moves each end. Now all data sets, with premise
# and price in one picture: the claim lives in the blue quarter.

# %% tags=["slide", "without-code"]
# alt: A plot for each rival and regime. Across: its initial accuracy minus Reptile's; up: its
# personalized accuracy minus Reptile's. A cross of two intervals for each data set.
rivals = evidence.rival_table(designs.values())
plots.price_plot(rivals)

# %% [markdown]
# And the verdicts, with the [equivalence margin](../docs/glossary.md#statistics) in grey. An interval is that
# of one test; *reproduced* and *contradicted* must also hold after Holm's correction for all tests on the
# data set:

# %% tags=["slide", "without-code"]
# alt: Forest plot of claim 2b: for each rival, data set and regime the effect in points with its
# 95 % interval and verdict, the margin shaded, and your run as a star.
table = evidence.evidence_table(designs.values())
tests = table[table.claim.str.startswith("2b")]
plots.forest_plot(tests, effects)

# %% tags=["prose", "slide"]
found = tests.verdict.value_counts()
paid, opposite = (
    sum(number for verdict, number in found.items() if verdict.startswith(word))
    for word in ("reproduced", "contradicted")
)
listed = ", ".join(f"*{verdict}* {number}" for verdict, number in found.items())
across = rivals[rivals.measure == "initial"]
met = tests[tests.premise > 0].effect
span = (
    f" (effects on personalized accuracy: {met.min():+.1f} to {met.max():+.1f} points)"
    if len(met)
    else ""
)
Markdown(
    f"""**What came out.** {len(tests)} tests are recorded: {listed}. A price was found by
{paid or "none"} of them. The opposite, that the rival's personalized model is the better one, was found
by {opposite or "none"}. The rival's initial accuracy is above Reptile's in {len(met)} tests{span}; the
interval of this lead is above 0 in {int((across.low > 0).sum())}.""".replace("-", "−")
)

# %% [markdown] tags=["exercise", "fragment"]
# **Exercise 04.4 ★★ · A row of a paper.** A rival is tuned for global accuracy. Its initial accuracy
# is `0.4` points below Reptile's. Its personalized accuracy is `1.2` points below, with the interval
# from `0.3` to `2.1`, and the margin is `0.5`. Which verdict follows: `"reproduced"`, `"no
# difference"`, `"undecided"`, `"premise not met"` or `"contradicted"`?

# %% tags=["fill-in"]
verdict = ...

# %% tags=["solution"]
verdict = "premise not met"

# %% [markdown] tags=["solution"]
# **Solution 04.4.** The rival is worse in *both* accuracies. It shows that Reptile is the better
# method here, but not that global accuracy has a price.

# %% tags=["check"]
check.answer("04.4", verdict)

# %% [markdown] tags=["instructor"]
# **For instructors.** Five minutes. Most answer *reproduced*, because the interval leaves 0 out. Ask
# them in which quarter of the picture the point lies.

# %% [markdown] tags=["slide"]
# ## 5 · Why? The bowls again
#
# In the bowls, one accuracy costs the other only on the stretch between ● and ★. Outside of it, a step
# towards the one is a step towards the other. And where clients adapt equally fast, the stretch has no
# length. In the experiment, we can ask whether the two accuracies moved together.

# %% tags=["prose", "fragment"]
moves = [
    [
        np.concatenate([fold.mean(0) for fold in folds]).mean()
        for folds in (
            evidence.differences(cells, [rival], [FEDAVG], measure)
            for measure in ("initial", "personalized")
        )
    ]
    for cells in designs.values()
    for rival in RIVALS
]
together = sum(initial * personalized > 0 for initial, personalized in moves)
least, most = (end(moves)[0] for end in (min, max))
Markdown(
    f"""**What came out.** From FedAvg's model on, the rivals' initial accuracy changed by {least:+.1f} to
{most:+.1f} points. In {together} of {len(moves)} cases (two rivals in {len(designs)} designs),
the personalized accuracy moved in the same direction, as we expect outside of the stretch.""".replace(
        "-", "−"
    )
)

# %% [markdown]
# This is no proof: means were compared without intervals, and no curvatures were measured. Also, in the
# bowls FedAvg comes to rest *on* the stretch (■). If both accuracies rise, it had not come to rest: training
# was too short, or luck kept it away (notebook 03).

# %% [markdown] tags=["slide"]
# ## 6 · What it does not show
#
# - All arms continue from FedAvg's model, which its local steps may have led towards a good start (■).
#   A model trained for global accuracy *from the beginning* is another experiment, and a good project.
# - The premise is judged by a mean. Where its interval reaches across 0, it is uncertain.
# - The models are small and the tasks few. The paper's own numbers for this comparison are not known
#   to us.
#
# The rules, fixed before the first recorded run, and all numbers are in [the evidence](../docs/evidence.md).

# %% [markdown]
# ## 7 · The answer

# %% tags=["prose", "slide"]
equal = int(found.get("no difference", 0))
names = ", ".join(tests.dataset.unique())
Markdown(
    f"""In the bowls, global accuracy has a price. For networks, a price was found by {paid or "none"} of
{len(tests)} recorded tests of claim `2b` ({names}). {equal or "None"} ended with *no difference*,
{opposite or "none"} with the opposite; {len(tests) - paid - equal - opposite} are undecided or lack the
premise."""
)

# %%
VerdictTable(tuple(evidence.as_verdicts(table, "2b")))
