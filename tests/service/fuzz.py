"""The long form of the fuzzing of all routes: `make fuzz`, which writes what came of it beside the tests."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from producer.api.settings import ApiSettings
from tests.acceptance.shell import Shell
from tests.acceptance.shell import serving as running
from tests.service.fuzzing import LEFT_OUT, PHASES, Fuzzed, fuzz, lines
from tests.service.serving import serving

_RESULTS = Path(__file__).parent / "results"

#: Requests of each operation in one round, and walks along links.
_EXAMPLES = 15


def main() -> None:
    """Fuzz a stack of its own until so many cases are there, round by round, each with the next seed."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--cases", type=int, default=50_000)
    asked.add_argument("--seed", type=int, default=1, help="of the first round; the next round has the next")
    asked.add_argument("--auth", choices=("none", "keys"), default="none")
    asked.add_argument("--minutes", type=float, default=600, help="stop after so long")
    given = asked.parse_args()
    told, began, seed = Fuzzed(), time.monotonic(), given.seed
    until = began + given.minutes * 60
    with tempfile.TemporaryDirectory(prefix="em-") as name:
        folder = Path(name)
        shell = Shell(folder / "data", folder)
        with (
            running(shell, "up", "--port", 0, "--data-dir", folder / "data", log=folder / "log"),
            serving(ApiSettings.load(data_dir=folder / "data", auth=given.auth)) as served,
        ):
            key = served.service.stores.keys.create("fuzz", ["admin"])[1] if given.auth == "keys" else None
            while told.cases < given.cases and time.monotonic() < until:
                # The edges of fields and the examples are the same in every round.
                phases = PHASES if seed == given.seed else ("fuzzing", "stateful")
                left = given.cases - told.cases
                limits: dict[str, Any] = {"cases": left, "examples": _EXAMPLES, "until": until}
                fuzz(served.url, seed, key=key, phases=phases, into=told, **limits)
                _write(given.auth, given.seed, seed, told, round(time.monotonic() - began))
                print(f"{told.cases} cases, {len(told.findings)} findings", flush=True)
                seed += 1
    print("\n".join(lines(told.findings)))
    raise SystemExit(bool(told.findings or told.errors))


def _write(auth: str, first: int, last: int, told: Fuzzed, seconds: int) -> None:
    _RESULTS.mkdir(exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    result = {
        "auth": auth,
        "commit": commit.stdout.strip(),
        "seeds": [first, last],
        "cases": told.cases,
        "checks": told.checks,
        "seconds": seconds,
        "by_phase": dict(sorted(told.by_phase.items())),
        "by_status": dict(sorted(told.by_status.items())),
        "by_operation": dict(sorted(told.by_operation.items())),
        "findings": told.findings,
        "errors": dict(told.errors),
        "left_out": LEFT_OUT,
    }
    (_RESULTS / f"fuzz-{auth}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
