"""The process that measures, in the environment a worker process has; prints the report as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from storage import logs
from storage.contract.errors import EmbedmillError, ServerError
from worker.bench.measuring import REFUSED, SERVER_FAILED
from worker.parent import die_with_parent
from worker.settings import WorkerSettings


def main() -> None:
    """Measure what the settings in the environment name, on the device of the first argument."""
    parser = argparse.ArgumentParser()
    parser.add_argument("device")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--texts", type=Path)
    asked = parser.parse_args()
    die_with_parent()
    settings = WorkerSettings.load()
    logs.configure(settings.log_level, "bench", "text")
    from worker.bench.bench import measure  # imports torch
    from worker.bench.texts import file_texts, made_texts

    try:
        texts = file_texts(asked.texts) if asked.texts is not None else made_texts()
        report = measure(settings, asked.device, texts, asked.seconds)
    except EmbedmillError as error:
        print(f"embedmill: {error}", file=sys.stderr)
        sys.exit(SERVER_FAILED if isinstance(error, ServerError) else REFUSED)
    print(json.dumps(report.to_dict()))


if __name__ == "__main__":
    main()
