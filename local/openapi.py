"""Writes the API's OpenAPI description: `python -m local.openapi static_web/openapi.json`."""

import json
import sys
from pathlib import Path

from functions.api import create_api
from shared.bootstrap import adapters, build
from shared.core.settings import Settings


def main() -> None:
    settings = Settings()
    api = create_api(build(settings, adapters(settings)))
    Path(sys.argv[1]).write_text(json.dumps(api.openapi(), indent=1))


if __name__ == "__main__":
    main()
