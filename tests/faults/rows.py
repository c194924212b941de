"""The rows of the fault matrix: what happens, and what is asked of the program then."""

from __future__ import annotations

import math

ROWS = {
    "F1": ("worker process killed in the middle of its work", "its chunks redone within 5 s, without model load"),
    "F2": ("whole worker killed: supervisor and all children", "work goes on within the lease + 10 s"),
    "F3": ("random faults, hundreds in a row", "nothing lost, twice, differing or stuck"),
    "F4": ("every boundary killed, failed, paused, cut off", "all cases, on both databases"),
    "F5": ("memory used up: the kernel kills a process", "the supervisor lives, the death is counted"),
    "F6": ("worker process paused past its lease", "its late commit is refused"),
    "F7": ("work slower than Redis' visibility timeout", "one execution while the lease is held"),
    "F8": ("Redis killed with its data", "work resumes within 15 s of its return"),
    "F9": ("Redis flushed, in whole or in part", "first message sent again within 10 s"),
    "F10": ("Redis paused", "submitting goes on; work resumes within 20 s"),
    "F11": ("half-open connections to Redis", "consuming again within 90 s"),
    "F12": ("connections to Redis reset, slow, narrow", "0 lost; throughput at 50 ms latency at least 80 %"),
    "F13": ("Redis out of memory", "work resumes within 45 s of relief"),
    "F14": ("Redis evicts keys", "warned of at the start; 0 lost"),
    "F15": ("Redis fails over through Sentinel", "work resumes within 60 s"),
    "F16": ("PostgreSQL restarted in the middle of writes", "work resumes within 15 s; 0 twice"),
    "F17": ("PostgreSQL away for minutes", "memory bounded; work resumes within 15 s"),
    "F18": ("PostgreSQL ends connections, deadlocks, locks", "0 failed chunks"),
    "F19": ("PostgreSQL's disk is full", "work pauses and resumes within 30 s of relief"),
    "F20": ("PostgreSQL out of connections", "no storm of retries"),
    "F21": ("SQLite locked by another process", "no error but 'unavailable'"),
    "F22": ("SQLite under many processes", "0 times 'database is locked'"),
    "F23": ("SQLite's disk is full, or a writer is killed", "the file stays whole"),
    "F24": ("a message a hundred times", "1 execution, 99 dropped"),
    "F25": ("messages for unknown, ended, cancelled jobs", "dropped and counted; the queue drains"),
    "F26": ("messages that cannot be read, or carry code", "work goes on within 10 s; nothing is executed"),
    "F27": ("a text the encoder fails on", "that item's error, all others their vectors"),
    "F28": ("a text that kills its process", "found alone in at most 20 deaths; all others done"),
    "F29": ("a model that cannot be loaded", "no text is charged"),
    "F30": ("device out of memory", "budget halved, vectors the same"),
    "F31": ("device broken for good", "process ends, the slot is taken out after repeated deaths"),
    "F32": ("NaN, infinite or zero vectors", "none is stored"),
    "F33": ("a forward that hangs", "the process is ended and replaced"),
    "F34": ("a worker's clock is an hour off", "leases are not touched"),
    "F35": ("the database's clock steps back", "0 commits twice"),
    "F36": ("producer killed while it submits", "no half-visible job"),
    "F37": ("producer dies between acceptance and answer", "same key, same job: exactly one"),
    "F38": ("one idempotency key, many producers at once", "exactly one job"),
    "F39": ("cancelled at any moment", "no new claims within 2 s, ended within 10 s"),
    "F40": ("a deadline passes", "ended within 10 s"),
    "F41": ("rolling restart of all workers", "at most 5 % of the chunks done again"),
    "F42": ("two reconcilers, one of them paused", "at most one window sent twice"),
    "F43": ("a chunk is done while the reconciler looks", "done stays done"),
    "F44": ("a bad row in the sweep", "all others taken care of within 2 ticks"),
    "F45": ("ten million texts in one job", "Redis below 64 MB, status below 50 ms, time linear (at most 11 times)"),
    "F46": ("a small job behind a large one", "begins within 5 s"),
    "F47": ("all fail at once", "retries are spread"),
    "F48": ("migration under load", "0 failed claims; can be run again"),
    "F49": ("purge beside retrieval and a late commit", "nothing partial, no orphans"),
    "F50": ("retry beside a late original", "vectors stay"),
    "F51": ("a consumer that has come to rest, alive", "consuming again within 90 s"),
    "F53": ("half an hour with a fault a minute", "memory and descriptors flat"),
    "states": ("any order of calls of the stores", "only the moves that the table of states allows"),
    "protocol": ("any order of claims, commits, deaths and sweeps", "every call returns what a model says"),
}

#: What a figure of a row may be at most, by the row and the figure's name. (F2's leases last 2 s.)
AT_MOST = {
    ("F1", "seconds until the next commit"): 5,
    ("F2", "seconds until the leases were taken back"): 2 + 10,
    ("F8", "seconds from Redis being back until work went on"): 15,
    ("F9", "seconds until lost messages were sent again"): 10,
    ("F10", "seconds from Redis going on until work went on"): 20,
    ("F11", "seconds until messages were waited for again"): 90,
    ("F11", "seconds until a chunk was claimed again"): 90,
    ("F13", "seconds from relief until work went on"): 45,
    ("F15", "seconds until work went on"): 60,
    ("F16", "seconds from PostgreSQL being back until work went on"): 15,
    ("F17", "seconds from PostgreSQL being back until work went on"): 15,
    ("F19", "seconds from room on the disk until work went on"): 30,
    ("F26", "seconds until a job behind corrupt messages was done"): 10,
    ("F28", "deaths"): 20,
    ("F39", "seconds until no chunk was leased"): 2,
    ("F39", "seconds until its workers had turned to other work"): 10,
    ("F40", "seconds from the deadline until the job had ended"): 10,
    ("F41", "wasted chunks in percent"): 5,
    ("F42", "messages doubled"): 8,
    ("F46", "seconds until the small job was begun"): 5,
    ("F51", "seconds until the wedged consumer's work went on"): 90,
}

#: What it must be at least.
AT_LEAST = {("F12", "throughput at 50 ms of delay, share"): 0.8}


def missed_goal(row: str, figure: str, value: float) -> str:
    """Return the goal that a figure has missed, in words; empty where it has met it, or where none is set.

    Args:
        row: Name of the row.
        figure: Name of the figure.
        value: What was measured.
    """
    most, least = AT_MOST.get((row, figure), math.inf), AT_LEAST.get((row, figure), -math.inf)
    if value > most:
        return f"at most {most:g}"
    return f"at least {least:g}" if value < least else ""
