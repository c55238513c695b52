"""Fractional-index ranks: text that sorts, with room between any two, so that a move writes one card."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def between(before: str | None, after: str | None) -> str:
    """A rank that sorts after `before` and before `after`; None is the open end. Raises ValueError out of order."""
    low, high = before or "", after
    if high is not None and low >= high:
        raise ValueError("ranks are out of order")
    rank = ""
    position = 0
    while True:
        floor = _DIGITS.index(low[position]) if position < len(low) else 0
        ceiling = _DIGITS.index(high[position]) if high is not None and position < len(high) else len(_DIGITS)
        if ceiling - floor > 1:
            # Appending steps by a little, so that adding cards at the end keeps ranks short.
            step = (ceiling - floor) // 2 if high is not None or floor == 0 else 1
            return rank + _DIGITS[floor + step]
        rank += _DIGITS[floor]
        if ceiling - floor == 1:
            high = None  # anything below this prefix now sorts before `after`
        position += 1
