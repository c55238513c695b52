"""Prints the API's OpenAPI description: `python -m local.openapi > static_web/openapi.json`."""

import json
import sys

from functions.api import create_api
from shared.bootstrap import adapters, build
from shared.core.settings import Settings


def main() -> None:
    settings = Settings()
    api = create_api(lambda: build(settings, adapters(settings)))
    json.dump(api.openapi(), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
