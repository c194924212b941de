"""The producer's hand on the queue, where several threads lay hold of it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Prints what becomes of sending to nobody, in a process that has sent nothing yet, by several threads at once.
_SEND_AT_ONCE = """
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from producer.queue import Queue
from storage.contract.messages import Pointer

THREADS = 8
queue, barrier = Queue(f"unix://{sys.argv[1]}"), Barrier(THREADS)
sys.setswitchinterval(0.0001)

def send(number):
    barrier.wait()
    try:
        queue.send([Pointer("0197f2a3-0000-7000-8000-000000000000", number)], "embedmill")
    except Exception as error:
        return type(error).__name__

with ThreadPoolExecutor(THREADS) as threads:
    print(dict(Counter(threads.map(send, range(THREADS)))))
"""


def test_the_first_messages_of_a_process_may_be_sent_by_several_threads_at_once(tmp_path: Path) -> None:
    # Given a process that has sent nothing yet, and a Redis that is not there
    command = [sys.executable, "-c", _SEND_AT_ONCE, str(tmp_path / "nowhere.sock")]
    # When several threads send at once
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    # Then each hears of Redis, and none of how Celery is imported
    assert told.strip() == "{'QueueUnavailable': 8}"


#: Prints what of Celery's and kombu's is loaded only by the first message, in a process that is prepared for it.
_SEND_PREPARED = """
import sys

from producer.queue import Queue
from storage.contract.errors import QueueUnavailable
from storage.contract.messages import Pointer

queue = Queue(f"unix://{sys.argv[1]}")
queue.prepare()
before = set(sys.modules)
try:
    queue.send([Pointer("0197f2a3-0000-7000-8000-000000000000", 0)], "embedmill")
except QueueUnavailable:
    late = {name.partition(".")[0] for name in set(sys.modules) - before}
    print(sorted(late & {"celery", "kombu", "redis"}))
"""


def test_whoever_sends_first_in_a_process_that_is_prepared_waits_for_no_loading(tmp_path: Path) -> None:
    # Given a process that is prepared, as the service is from its start, and a Redis that is not there
    command = [sys.executable, "-c", _SEND_PREPARED, str(tmp_path / "nowhere.sock")]
    # When the first message is sent, then all that this needs is loaded
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert told.strip() == "[]"
