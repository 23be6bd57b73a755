"""What is said of rows that are left out."""

import warnings

from ppo_keras.errors import DataWarning

PAIR_HELD_OUT = "share a text with a split held out"


def warn_left_out(count, total, rows, place, why, of=""):
    """One `DataWarning`: so many of so many rows ("texts", "pairs", ...) of a place are left out, and why; none for a count of 0."""
    if count:
        warnings.warn(f"{count} {rows} of {place} {why} (of {total} in all); they are left out{of}.", DataWarning, stacklevel=3)
