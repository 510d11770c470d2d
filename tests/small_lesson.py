"""A lesson of a few cells with every tag of the course."""

from pathlib import Path

LESSON = '''\
# %% [markdown]
# # 01 · A small lesson
#
# More in [the next one](02_more.ipynb).

# %% tags=["parameters"]
profile = "smoke"
seed = 0

# %%
from pathlib import Path
from fl_meta.course import check
K = 5
print(*(path.name for path in Path("../data/results").iterdir()))

# %% tags=["prediction"]
check.predict("01.a", ...)

# %%
check.prediction("01.a", 0.25)

# %% [markdown] tags=["exercise", "slide"]
# **Exercise 01.1 ★ · What goes home.** After K local steps, of how many gradients does Reptile send the sum?

# %% tags=["fill-in"]
sent = ...

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Look at the loop.
#
# </details>

# %% [markdown] tags=["solution"]
# **Solution 01.1.** One gradient for each local step.

# %% tags=["solution"]
sent = K

# %% tags=["check"]
check.answer("01.1", sent, K=K)

# %% [markdown] tags=["instructor"]
# **For instructors.** Two minutes. Who says six thinks of MAML.

# %%
print("as many as in two rounds:", 2 * sent)

# %% [markdown] tags=["exercise"]
# **Exercise 01.3 ★★ · First order.** Write FOMAML's pseudo-gradient.


# %% tags=["fill-in"]
def fomaml(gradients, rate):
    """From the inner gradients and the client rate."""
    ...


# %% tags=["solution"]
def fomaml(gradients, rate):
    return rate * gradients[-1]


# %% tags=["check"]
check.answer("01.3", fomaml)
'''


def write_lessons(folder: Path, lesson: str = LESSON) -> Path:
    """Write the lesson, another one, and a recorded result; returns the folder of the lessons."""
    notebooks = folder / "notebooks"
    (folder / "data" / "results").mkdir(parents=True)
    (folder / "data" / "results" / "recorded.json").write_text("{}")
    notebooks.mkdir()
    (notebooks / "01_small.py").write_text(lesson, encoding="utf-8")
    (notebooks / "02_more.py").write_text(
        '# %% [markdown]\n# # 02 · More\n\n# %%\nprint("more")\n', encoding="utf-8"
    )
    return notebooks
