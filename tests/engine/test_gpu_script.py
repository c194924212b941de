"""The script for a GPU machine runs from end to end on any machine, so that it does where it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_script_measures_everybody_and_checks_the_vectors(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--device", "cpu", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())["models"]["tiny"]
    for kind in ("50", "512", "mixed"):
        rates = found[kind]["tokens_per_second"]
        assert {"engine", "padded baseline", "packed, not fused", "sentence-transformers"} <= set(rates)
        assert all(rate["median"] > 0 for rate in rates.values()) and found[kind]["floor"] > 0
    cosines = found["correctness"]
    assert cosines["to float32"] > 0.999 and cosines["alone and in company"] > 0.9999
    assert cosines["between neighbours, at most"] < cosines["to float32"]
    # And the table is what it ends with
    assert "engine / floor" in "".join(done.stdout.splitlines()[-5:])
