#!/bin/sh
# Runs a Python module of the agent for at most TIME_LIMIT seconds: then status 124, as `timeout` says it.
# The limit holds here, inside, so it holds also when nobody outside is there to watch.
limit=${TIME_LIMIT:-0}
unset TIME_LIMIT
exec timeout --kill-after=5 "$limit" /opt/agent/venv/bin/python -m "$@"
