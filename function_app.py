"""Every trigger of the platform."""

import azure.functions as func

from functions import http, queues, timers

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

http.register(app)
queues.register(app)
timers.register(app)
