"""The folder of one investigation: the only room that knows where things lie on disk.

Every step writes its result once and reads it back when asked again with the same choices.
"""

from .selecting import StudySelecting


class Study(StudySelecting):
    """One model, one corpus, and what was found about them.

    Use `Study.create` or `Study.open`. The parts build on each other, a module each: the folder,
    its rows, bases, steering, weakness, selection.

    Attributes
    ----------
    path : Path
        Its folder.
    corpus : Corpus
        Pool and probe; each example's ``meta["split"]`` says which.
    about : dict
        What ``study.json`` says.
    """


__all__ = ["Study"]
