"""What the panels of the explorer show, as JSON: functions of a study and of what was chosen.

No widget in here. What takes long is given a `Tell`: it is told how far a run is, and what it
raises ends the run.
"""

from ..jobs import Tell
from .nearby import neighbours
from .quiz import Quiz, answered, quiz_of, quiz_shown
from .selecting import exported, selected, selection_shown
from .skills import KINDS, skill
from .steering import dose_curve, doses_asked, kept_dose_curve, run_asked, steered

__all__ = [
    "KINDS",
    "Quiz",
    "Tell",
    "answered",
    "dose_curve",
    "doses_asked",
    "exported",
    "kept_dose_curve",
    "neighbours",
    "quiz_of",
    "quiz_shown",
    "run_asked",
    "selected",
    "selection_shown",
    "skill",
    "steered",
]
