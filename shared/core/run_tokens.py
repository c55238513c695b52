"""What the agents' calls and the model gateway have to agree on about a run's token."""

RUN_AUDIENCE = "run"
CLOCK_LEEWAY = 36 * 3600
"""Seconds. A run's token is refused once the run is over; a clock that jumps by a day must not end it before."""
