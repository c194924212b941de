"""`python -m tests.faults.ten_million`: a small and a ten times larger job of short texts, and how all of it scales.

While the larger one runs, a job of a hundred texts comes from somebody else. Ends with 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from tests.faults.gauges import Gauges
from tests.faults.ledger import Line
from tests.faults.mill import Mill
from tests.faults.outcomes import Stopwatch, findings, settle, write
from tests.faults.running import running_mill
from tests.stack import children

#: Longest wait for one job, in seconds.
_PATIENCE = 7200.0

#: Goals: bytes of Redis at its peak, seconds of a status call at the 99th percentile, ratio of the times of ten times
#: as many texts, seconds until somebody else's small job begins, MiB that supervisor and client may grow from one half
#: of a run to the other.
_REDIS, _STATUS, _RATIO, _OTHERS, _GROWTH = 64_000_000, 0.05, 11.0, 5.0, 24.0


def measure(mill: Mill, count: int, beside: bool) -> dict[str, Any]:
    """Have one job done by a client of its own.

    Args:
        mill: Where.
        count: Texts.
        beside: Whether somebody else's job of a hundred texts comes when a third is done.
    """
    before = mill.plain.value("SELECT max(id) FROM commit_log") or 0
    tag = mill.tag()
    asker = mill.start("tests.faults.asker", [json.dumps(asdict(Line(tag, count)))])
    mill.producers.append(asker)
    log = max(mill.folder.glob("*-asker.log"))
    gauges = Gauges(1.0)
    gauges.add("client", asker.pid)
    gauges.add("supervisor", mill.supervisors[0].pid)
    for pid in children(mill.supervisors[0].pid):
        gauges.add("reconciler" if pid in mill.reconciler_pids() else "worker process", pid)
    deadline, began = time.monotonic() + _PATIENCE, None
    while asker.poll() is None and time.monotonic() < deadline:
        gauges.look()
        done = (mill.plain.value("SELECT max(id) FROM commit_log") or 0) - before
        if beside and began is None and done > count // 3000:
            began = _begin_beside(mill, tag)
        time.sleep(0.5)
    assert asker.returncode == 0, f"the client broke\n{mill.tails()}"
    told = json.loads(log.read_text().splitlines()[-1])
    delays = np.array(told["delays"])
    return {
        "texts": count,
        "submitting": round(told["submitting"], 2),
        "total": round(told["total"], 2),
        "status_calls": len(delays),
        "status_p50": round(float(np.quantile(delays, 0.5)), 4),
        "status_p99": round(float(np.quantile(delays, 0.99)), 4),
        "status_max": round(float(delays.max()), 4),
        "redis_peak": int(mill.redis.cli("INFO", "memory")["used_memory_peak"]),
        "others_began": began,
        "processes": gauges.facts(),
    }


def _begin_beside(mill: Mill, tag: str) -> float:
    """Submit a hundred texts as somebody else; return after how many seconds the first chunk of them was written."""
    # Without HTTP nobody has a key: the large job is given one.
    large = json.loads(max(mill.folder.glob("*-asker.log")).read_text().splitlines()[0])
    assert large["tag"] == tag
    mill.sql("UPDATE jobs SET key_id = 'bulk' WHERE CAST(id AS TEXT) = ?", large["job"])
    start = time.monotonic()
    job = mill.submit(100)
    query = "SELECT count(*) FROM commit_log WHERE job_id = ?"
    mill.wait_for(lambda: mill.plain.value(query, job), _PATIENCE, "the small job to begin")
    return round(time.monotonic() - start, 2)


def run(database: str, texts: int) -> bool:
    """Measure both; return whether every goal was met."""
    watch = Stopwatch()
    with running_mill(database, lease=60.0) as mill:
        small = measure(mill, texts // 10, beside=False)
        print(small, flush=True)
        large = measure(mill, texts, beside=True)
        print(large, flush=True)
        ended = watch.seconds
        report = settle(mill)
        ratio = round(large["total"] / small["total"], 2)
        missed = _missed(large, ratio)
        facts = {"database": database, "small": small, "large": large, "ratio": ratio, "missed": missed}
        facts |= {**findings(report), "judging": round(watch.seconds - ended, 1), "seconds": watch.seconds}
        write("ten_million", facts)
        print(report.summary(), f"ratio {ratio}", f"missed: {missed}", sep="\n")
    return report.is_clean and not missed


def _missed(large: dict[str, Any], ratio: float) -> list[str]:
    """Return which goals were missed."""
    goals = {
        "redis": large["redis_peak"] < _REDIS,
        "status": large["status_p99"] < _STATUS,
        "ratio": ratio <= _RATIO,
        "others": large["others_began"] is not None and large["others_began"] <= _OTHERS,
    }
    for name in ("supervisor", "client"):
        goals[f"memory of the {name}"] = large["processes"][name]["grown_mib"] <= _GROWTH
    return [name for name, met in goals.items() if not met]


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--texts", type=int, default=10_000_000)
    given = parser.parse_args()
    if not run(given.database, given.texts):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
