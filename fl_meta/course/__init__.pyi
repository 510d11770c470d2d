from . import check
from .answers import choice, number, subset
from .editions import build_course
from .functions import function, values
from .grading import write_otter_tests
from .quiz_files import write_quizzes
from .registry import exercise
from .slides import write_slides

__all__ = [
    "build_course",
    "check",
    "choice",
    "exercise",
    "function",
    "number",
    "subset",
    "values",
    "write_otter_tests",
    "write_quizzes",
    "write_slides",
]
