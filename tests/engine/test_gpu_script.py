"""The script for a GPU machine runs from end to end on any machine, so that it does where it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


#: Runs the script where nothing is but what its first line names, and what that needs.
ALONE = """
import runpy, sys
from worker.engine import encoder

# As on a GPU: it remembers nothing.
encoder._likeness = lambda checkpoint, dtype: NONE
class NONE:
    known = candidate = staticmethod(lambda *_: None)
for name in "{names}".split():
    assert name not in sys.modules, name
    sys.modules[name] = None
sys.argv = ["gpu.py", "--tiny", "--device", "cpu"]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""

#: What Embedmill needs elsewhere.
OURS = "pydantic pydantic_settings platformdirs sqlalchemy celery kombu redis zstandard alembic typer rich dotenv httpx"


def test_the_script_needs_torch_and_transformers_alone() -> None:
    # (sentence-transformers, where it is there, needs what it needs)
    program = ALONE.replace("{names}", f"{OURS} sentence_transformers")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "engine / floor" in done.stdout and "sentence-transformers is not installed: left out" in done.stdout


def test_the_script_measures_everybody_and_checks_the_vectors(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--device", "cpu", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())["models"]["tiny"]
    for kind in ("50", "512", "mixed"):
        rates = found[kind]["tokens_per_second"]
        assert {"engine", "padded baseline", "the other half", "sentence-transformers"} <= set(rates)
        assert all(rate["median"] > 0 for rate in rates.values()) and found[kind]["floor"] > 0
    cosines = found["correctness"]
    assert cosines["to float32"] > 0.999 and cosines["alone and in company"] > 0.9999
    assert cosines["the other half to float32"] > 0.99999
    assert found["auto"].split()[0] in ("float32", "bfloat16", "float16")
    assert cosines["between neighbours, at most"] < cosines["to float32"]
    # And the table is what it ends with
    assert "engine / floor" in "".join(done.stdout.splitlines()[-6:])
