#!/bin/sh
# Runs a Python module of the agent for at most TIME_LIMIT seconds: then status 124, as `timeout` says it.
# The limit holds here, inside, so it holds also when nobody outside is there to watch.
if [ "$1" != --limited ]; then
  limit=${TIME_LIMIT:-0}
  unset TIME_LIMIT
  # In the foreground it signals the program alone, once; what the program leaves behind ends with the container.
  exec timeout --foreground --kill-after=5 "$limit" "$0" --limited "$@"
fi
shift
# Read here, behind the processes that stay: the agent hides its own environment, theirs can be seen by its commands.
handover=/run/kanban/job/environment
if [ -e "$handover" ]; then
  . "$handover"
  rm -f "$handover"
fi
exec /opt/agent/venv/bin/python -m "$@"
