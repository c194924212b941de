"""Measures everything that docs/performance.md shows, part by part, then draws the pictures and writes the tables."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

#: Each part: modules of `benchmarks` with their arguments, one after the other.
PARTS: dict[str, list[list[str]]] = {
    "throughput": [["throughput"]],
    "base": [
        [
            *("throughput", "--model", "bert-base", "--workloads", "W1", "--tokens", "4000"),
            *("--only", "OpenVINO bf16", "embedmill auto", "embedmill openvino"),
        ]
    ],
    "stages": [["stages"]],
    "wordids": [["wordids"]],
    "latency": [["latency"], ["passage"]],
    "keys": [["keys"]],
    "stores": [["stores"]],
    "submit": [["submit"]],
    "data": [["data"]],
    "service": [["service"]],
    "plots": [["plots"]],
    "page": [["page"]],
}

#: Modules that take words from files, and that can leave out what is measured already.
_TAKE_TEXTS = ("throughput", "stages")
_CAN_RESUME = ("throughput",)

#: Names of results that are not those of the part.
_OUTPUTS = {"throughput": "throughput-minilm", "base": "throughput-bert-base"}

#: Parts that measure nothing.
_TELL = ("plots", "page")


def main() -> None:
    """Run the parts; one that fails does not keep the others from being measured."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="default: all, in this order")
    parser.add_argument("--resume", action="store_true", help="leave out what was measured at this commit already")
    parser.add_argument("--texts", nargs="+", default=[], help="take words from these: csv, jsonl or text")
    parser.add_argument("--machine", default="", help="what the names of all results end in, such as matrix-unit")
    asked = parser.parse_args()
    failed = []
    for part in asked.part:
        for module, *options in PARTS[part]:
            options += ["--resume"] if asked.resume and module in _CAN_RESUME else []
            options += ["--texts", *asked.texts] if asked.texts and module in _TAKE_TEXTS else []
            if asked.machine and part not in _TELL:
                name = _OUTPUTS.get(part, part) if module == PARTS[part][0][0] else module
                options += ["--output", f"{name}-{asked.machine}"]
            start = time.monotonic()
            code = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *options]).returncode
            print(f"{part}: {'done' if code == 0 else f'ended with {code}'}, {time.monotonic() - start:.0f} s\n")
            failed += [part] if code else []
    if failed:
        raise SystemExit(f"Not all was measured as it should: {', '.join(failed)}")


if __name__ == "__main__":
    main()
