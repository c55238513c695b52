"""Fractional-index ranks: text that sorts, with room between any two, so that a move writes one card.

No rank ends in the lowest digit: nothing would fit between it and its own beginning.
"""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LOWEST, _HIGHEST = _DIGITS[0], _DIGITS[-1]


def between(before: str | None, after: str | None) -> str:
    """A rank that sorts after `before` and before `after`; None is the open end. Raises ValueError out of order."""
    if after is None:
        return _next(before) if before else _DIGITS[len(_DIGITS) // 2]
    if before is None:
        return _previous(after)
    if before >= after:
        raise ValueError("ranks are out of order")
    return _middle(before, after)


def _next(rank: str) -> str:
    """One more, at the same length; when all digits are used up, twice as long, so that ranks stay short."""
    place = len(rank) - 1
    while place >= 0 and rank[place] == _HIGHEST:
        place -= 1
    if place < 0:
        return rank + _LOWEST * (len(rank) - 1) + _DIGITS[1]
    rest = len(rank) - 1 - place
    raised = rank[:place] + _DIGITS[_DIGITS.index(rank[place]) + 1]
    return raised + (_LOWEST * (rest - 1) + _DIGITS[1] if rest else "")


def _previous(rank: str) -> str:
    """One less, at the same length; when none is left, twice as long."""
    last = _DIGITS.index(rank[-1])
    if last > 1:
        return rank[:-1] + _DIGITS[last - 1]
    place = len(rank) - 2
    while place >= 0 and rank[place] == _LOWEST:
        place -= 1
    if place < 0:
        return _LOWEST * len(rank) + _HIGHEST * len(rank)
    lowered = rank[:place] + _DIGITS[_DIGITS.index(rank[place]) - 1]
    return lowered + _HIGHEST * (len(rank) - 1 - place)


def _middle(low: str, high: str) -> str:
    rank = ""
    for place in range(max(len(low), len(high)) + 1):
        floor = _DIGITS.index(low[place]) if place < len(low) else 0
        ceiling = _DIGITS.index(high[place]) if place < len(high) else 0
        if rank != high[:place]:  # anything that begins like this sorts before `high`
            ceiling = len(_DIGITS)
        if ceiling - floor > 1:
            return rank + _DIGITS[(floor + ceiling) // 2]
        rank += _DIGITS[floor]
    raise ValueError("no rank fits between these")
