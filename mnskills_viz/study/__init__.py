"""The folder of one investigation: the only room that knows where things lie on disk.

Every step writes its result once and reads it back when asked again with the same choices.
"""

from .training import StudyTraining


class Study(StudyTraining):
    """One model, one corpus, and what was found about them.

    Use `Study.create` or `Study.open`. The parts build on each other, a module each: the folder,
    its rows, bases, steering, weakness, single rows, selection, training.

    Attributes
    ----------
    path : Path
        Its folder.
    corpus : Corpus
        Pool and probe; each example's ``meta["split"]`` says which.
    test : Corpus
        Examples to measure on at the end; may be empty.
    about : dict
        What ``study.json`` says.
    """


__all__ = ["Study"]
