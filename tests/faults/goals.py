"""What a long run must have shown, beside that nothing was lost: judged on the facts it leaves in its results."""

from __future__ import annotations

from typing import Any

#: From so many faults on each of these defences must have been needed: a run in which one slept proves nothing of it.
_MANY = 100

_DEFENCES = (
    "leases_expired",
    "leases_released",
    "messages_resent",
    "commits_late",
    "messages_dropped",
    "workers_died",
)

#: The most of the second half over the most of the first, after warming up: MiB, and open descriptors.
_MIB, _DESCRIPTORS = 8.0, 2

#: Processes that have to live through a whole soak, and what share of the samples shows that they did.
_SPARED, _LIVED = ("supervisor", "client", "worker process", "reconciler"), 0.8


def missed_by_nemesis(run: dict[str, Any]) -> list[str]:
    """Return what a run of the nemesis should have shown and did not, in words.

    Args:
        run: Its line in the results.
    """
    missed = [f"{run['unrecovered']} faults were not recovered from"] if run["unrecovered"] else []
    # Runs of before embeddings were counted know only what was claimed again, some of it given back as it was.
    if (again := run.get("embedded_again", 0)) > run["held"]:
        missed.append(f"{again} texts were embedded again, and only {run['held']} were held")
    if run["faults"] >= _MANY:
        missed += [f"{name} is 0" for name in _DEFENCES if not run["counters"].get(name)]
    return missed


def missed_by_soak(run: dict[str, Any]) -> list[str]:
    """Return which of the spared processes grew or ended, in words.

    Args:
        run: Its line in the results.
    """
    processes = run["processes"]
    most = max((figures["samples"] for figures in processes.values()), default=0)
    missed = [f"{run['unrecovered']} faults were not recovered from"] if run["unrecovered"] else []
    for name in _SPARED:
        figures = processes.get(name)
        if figures is None or figures["samples"] < _LIVED * most:
            missed.append(f"{name} did not live through it")
            continue
        if figures["grown_mib"] > _MIB:
            missed.append(f"{name} grew by {figures['grown_mib']:g} MiB")
        # Runs of before descriptors were judged have no such figure.
        if (descriptors := figures.get("grown_descriptors", 0)) > _DESCRIPTORS:
            missed.append(f"{name} has {descriptors} descriptors more")
    return missed
