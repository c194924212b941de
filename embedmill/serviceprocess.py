"""`python -m embedmill.serviceprocess FD ID`: the service as a child of `embedmill up`, on a socket of its parent's."""

from __future__ import annotations

import logging
import socket
import sys

from producer.api.server import run
from producer.api.settings import ApiSettings
from storage import logs, tracing
from storage.contract.errors import EmbedmillError
from worker.parent import Supervisor, die_with_parent

logger = logging.getLogger("embedmill.serviceprocess")


def main() -> None:
    """Serve until told to stop."""
    die_with_parent()
    parent = Supervisor()
    settings = ApiSettings.load()
    logs.configure(settings.log_level, "api", settings.log_format)
    tracing.start(settings, "api")
    parent.beat_for_ever()
    try:
        run(settings, socket.socket(fileno=int(sys.argv[1])), lambda: parent.tell(ready=True))
    except EmbedmillError as error:
        parent.tell(error=str(error))
        logger.error("the service cannot start: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
