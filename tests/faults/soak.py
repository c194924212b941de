"""`python -m tests.faults.soak`: a fault a minute under steady load; memory and descriptors of those who live on.

One of two supervisors, its children and one client are spared; all random faults strike the others, Redis and the
database. Ends with 1 if anything was lost, done twice, differs or is stuck, or if one of the spared grew or ended.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace

from tests.faults.gauges import Gauges
from tests.faults.goals import missed_by_soak
from tests.faults.ledger import Line
from tests.faults.nemesis import Nemesis
from tests.faults.outcomes import Stopwatch, findings, settle, write
from tests.faults.recoveries import facts_of
from tests.faults.strokes import stroke
from tests.faults.struck import struck_mill
from tests.stack import children

#: Seconds between two samples, at the beginning that do not count, and between two faults.
_EVERY, _WARM_UP, _GAP = 10.0, 300.0, 60.0

#: Texts that wait before the producer pauses, and texts of each job of the client.
_ROOM, _ASKED = 4_000, 300


def run(database: str, minutes: float, seed: int, gap: float) -> bool:
    """Soak; return whether all was well."""
    watch = Stopwatch()
    with struck_mill(database) as mill:
        asker = mill.start("tests.faults.asker", [json.dumps(asdict(Line("asked", _ASKED))), "again"])
        mill.producers.append(asker)
        gauges = Gauges(_EVERY)
        spared = mill.supervisors[0].pid
        gauges.add("supervisor", spared)
        gauges.add("client", asker.pid)
        for pid in children(spared):
            gauges.add("reconciler" if pid in mill.reconciler_pids() else "worker process", pid)
        nemesis = Nemesis(mill, feeders=1, room=_ROOM, spared=1, look=gauges.look)
        number = 0
        while watch.seconds < 60 * minutes:
            nemesis.strike(replace(stroke(seed, number), gap=gap))
            print(f"{watch.seconds:7.1f} s  {nemesis.recoveries[-1].kind}", flush=True)
            number += 1
        nemesis.finish()
        memory = gauges.facts(min(_WARM_UP, 10 * minutes))
        report = settle(mill)
        facts = {
            "database": database,
            "seed": seed,
            "minutes": minutes,
            **facts_of(nemesis.recoveries),
            **findings(report),
        }
        facts |= {"processes": memory, "counters": mill.counters(), "seconds": watch.seconds}
        write("soak", facts)
        print(report.summary())
        for name, figures in memory.items():
            print(name, figures)
    missed = missed_by_soak(facts)
    print(*missed, sep="\n")
    return report.is_clean and not missed


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=53)
    parser.add_argument("--gap", type=float, default=_GAP, help="seconds between two faults")
    given = parser.parse_args()
    if not run(given.database, given.minutes, given.seed, given.gap):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
