"""Bases: scikit-learn estimators that turn rows of activations into a few orthonormal axes.

Arrays in, arrays out: nothing here knows where the rows come from.
"""
