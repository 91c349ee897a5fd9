"""What the panels of the explorer show, as JSON: functions of a study and of what was chosen.

No widget in here. What takes long tells how far it is (see `mnskills_viz.progress`), and can be
stopped by who listens.
"""

from .nearby import neighbours
from .quiz import Quiz, answered, quiz_of, quiz_shown
from .selecting import exported, selected, selection_shown
from .skills import KINDS, skill
from .steering import dose_curve, doses_asked, kept_dose_curve, run_asked, steered

__all__ = [
    "KINDS",
    "Quiz",
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
