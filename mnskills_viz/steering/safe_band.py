"""How far an axis can be pushed before the text breaks."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a steered model may be from the unsteered one.

    The defaults were chosen from SmolLM2-135M-Instruct, PCA axes 0, 3 and 8 at layer 15, doses
    0.5 to 16 both ways, 8 prompts of 48 tokens. Where the completions could still be read,
    perplexity and length lay within a factor of 1.5, KL at about 0.3 or below, repetition at most
    0.08 above. Where they no longer made sense, KL was 0.24 to 18, and perplexity 1.6 to 8 times
    as large, unless the text ran in circles: repetition was then 0.2 to 0.9 higher, and perplexity
    as low as 2.0 against 1.7. No one limit sees every break. The band was -1 to 2 for axis 0,
    whose standard deviation is a seventh of a token's norm, and -4 to 4 for the others. With few
    prompts `ended` moves in large steps: its limit is wide.

    Attributes
    ----------
    perplexity : float
        Within this factor of the unsteered completions', either way: text that repeats itself is
        likelier, not less likely.
    repetition : float
        Not more above the unsteered completions' than this share.
    ended : float
        Share of completions that end by themselves: not farther off than this, either way.
    length : float
        Mean length of completions within this factor, either way.
    kl : float
        Nats per token on neutral texts, at most.
    """

    perplexity: float = 1.5
    repetition: float = 0.15
    ended: float = 0.3
    length: float = 1.5
    kl: float = 0.3


LIMITS = Limits()


def safe_band(table: pd.DataFrame, limits: Limits = LIMITS) -> tuple[float, float]:
    """The widest interval of measured doses around 0 in which every dose keeps to the limits.

    Parameters
    ----------
    table : DataFrame
        From `dose_response` or `response_table`.
    limits : Limits

    Returns
    -------
    low, high : float
        Measured doses; 0 where the smallest dose on that side fails already. Between doses
        nothing was measured: a finer grid tells more.

    Raises
    ------
    InputError
        No row of dose 0, or columns that are missing.
    """
    needed = ["dose", "perplexity", "repetition", "ended", "length", "kl"]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise InputError(
            f"safe_band: the table has no {', '.join(missing)}; give it what dose_response gave"
        )
    rows = table[needed].sort_values("dose").astype(np.float64)
    doses = rows["dose"].to_numpy()
    if not (doses == 0).any():
        raise InputError("safe_band: dose 0 is missing: the others are told against it")
    zero = int(np.flatnonzero(doses == 0)[0])
    passes = _within(rows, rows.iloc[zero], limits)
    low = high = zero
    while low > 0 and passes[low - 1]:
        low -= 1
    while high < len(doses) - 1 and passes[high + 1]:
        high += 1
    return float(doses[low]), float(doses[high])


def _within(rows: pd.DataFrame, unsteered: "pd.Series[float]", limits: Limits) -> NDArray[np.bool_]:
    """Which doses keep to the limits; what is NaN does not."""

    def factor(name: str) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(rows[name].to_numpy(dtype=np.float64)) - np.log(unsteered[name])
        found: NDArray[np.float64] = np.exp(np.abs(logs))
        return found

    kept: NDArray[np.bool_] = (
        (factor("perplexity") <= limits.perplexity)
        & (factor("length") <= limits.length)
        & ((rows["repetition"] - unsteered["repetition"]).to_numpy() <= limits.repetition)
        & ((rows["ended"] - unsteered["ended"]).abs().to_numpy() <= limits.ended)
        & (rows["kl"].to_numpy() <= limits.kl)
    )
    return kept
