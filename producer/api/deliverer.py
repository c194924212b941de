"""Tells the ends of jobs to their webhooks, signed as Standard Webhooks has it; one process of all leads."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from producer.api.outbound import NotDelivered, send
from producer.api.rounds import Rounds
from storage.contract.errors import ServerError, UnknownJob
from storage.contract.ids import new_id
from storage.leaders import LeaderStore
from storage.stores import Stores
from storage.webhooks import Webhook

logger = logging.getLogger(__name__)

#: The duty of telling the ends of jobs.
TELL = "webhooks"

#: Pause between two looks at what is due, in seconds.
_TICK = 1.0

#: Pause between two rounds of tidying up, in seconds.
_TIDY = 30.0

#: Pauses before the second try and the following ones, in seconds: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h.
SCHEDULE = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)

#: Messages that are on their way at once, of all owners and of one: a try at a slow receiver takes its whole time.
_AT_ONCE, _OF_ONE = 16, 8

#: Answered by a receiver that wants nothing any more.
_GONE = 410

#: Ends that are begun with at one look, and pause before a status that could not be read is read again, in seconds.
_AT_A_LOOK, _AGAIN = 64, 60.0

#: Why an end is not told whose row, or whose secret, somebody has spoilt; the log says what was raised.
_UNREADABLE = "What is kept of it cannot be read."

#: Looks at a job; returns its status object.
Look = Callable[[str], dict[str, Any]]


class Deliverer:
    """Looks again and again for ends to tell.

    Args:
        stores: Where they are.
        look: Looks at a job as its owner sees it.
        allowed: Hosts that may be anywhere and need no TLS.
        schedule: Pauses before the second try and the following ones, in seconds; default `SCHEDULE`.
    """

    def __init__(
        self, stores: Stores, look: Look, allowed: frozenset[str], schedule: tuple[float, ...] | None = None
    ) -> None:
        self._stores = stores
        self._leaders = LeaderStore(stores.database)
        self._look = look
        self._allowed = allowed
        self._schedule = SCHEDULE if schedule is None else schedule
        self._owner = new_id()
        #: Webhooks that are told just now, and whose they are.
        self._sending: dict[str, str] = {}
        #: Owners who have had their turn in this round.
        self._served: frozenset[str] = frozenset()
        #: Webhooks whose job's status cannot be read, and when it is tried again.
        self._unreadable: dict[str, float] = {}
        self._lock = threading.Lock()
        self._tidied = time.monotonic()
        self._rounds = Rounds("webhooks", self._round, _TICK)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> None:
        """End; what was not answered yet is told again by the next one, under the same id."""
        self._rounds.stop()
        try:
            self._leaders.resign(TELL, self._owner)
        except ServerError as error:
            logger.debug("the lead of webhooks runs out by itself: %s", error)

    def _round(self) -> None:
        if not self._leaders.lead(TELL, self._owner):
            return
        self._begin()
        for _ in range(_AT_ONCE):
            webhook = self._next()
            if webhook is None:
                break
            with self._lock:
                self._sending[webhook.id] = webhook.key_id
            threading.Thread(target=self._tell, args=(webhook,), name="webhook", daemon=True).start()
        if time.monotonic() - self._tidied > _TIDY:
            self._tidied = time.monotonic()
            self._stores.webhooks.tidy()

    def _next(self) -> Webhook | None:
        """Return what is told next, or None: owners take turns, so that nobody's slow receiver silences the others'."""
        # Taken before the rows are read: a try that ends meanwhile makes what was read of it old.
        with self._lock:
            busy = dict(self._sending)
        if len(busy) >= _AT_ONCE:
            return None
        full = {owner for owner, count in Counter(busy.values()).items() if count >= _OF_ONE}
        # Once all have had their turn, a new round begins.
        for served in dict.fromkeys((self._served, frozenset())):
            for webhook in self._stores.webhooks.due(_AT_ONCE, full | served):
                if webhook.id not in busy:
                    self._served = served | {webhook.key_id}
                    return webhook
        self._served = frozenset()
        return None

    def _begin(self) -> None:
        """Begin to tell what has ended; a job whose status cannot be read keeps no other waiting."""
        now = time.monotonic()
        for webhook_id, job_id, generation in self._stores.webhooks.ended(_AT_A_LOOK + len(self._unreadable)):
            if self._unreadable.get(webhook_id, 0.0) > now:
                continue
            try:
                payload = _payload(self._look(job_id))
            except UnknownJob:
                continue
            except ServerError:
                raise
            except Exception as error:
                if webhook_id not in self._unreadable:
                    logger.error("the end of job %s cannot be told: %s", job_id, type(error).__name__)
                self._unreadable[webhook_id] = now + _AGAIN
                continue
            self._unreadable.pop(webhook_id, None)
            self._stores.webhooks.begin(webhook_id, generation, payload)

    def _tell(self, webhook: Webhook) -> None:
        try:
            try:
                body = (webhook.payload or "").encode()
                headers = signed(
                    webhook.message_id or "", body, self._stores.webhooks.secrets(webhook.key_id), self._now()
                )
                self._stores.webhooks.delivered(webhook, send(webhook.url, body, headers, self._allowed))
            except NotDelivered as error:
                self._stores.webhooks.missed(webhook, error.status, error.message, self._pause(webhook, error.status))
            except ServerError:
                raise
            except Exception as error:
                # Such as a secret that is none: tried again like any other, and not each second, before all others.
                logger.error("the end of job %s could not be told: %s", webhook.job_id, type(error).__name__)
                self._stores.webhooks.missed(webhook, None, _UNREADABLE, self._pause(webhook, None))
        except ServerError as error:
            logger.debug("what became of a webhook could not be noted, it is told again: %s", error)
        finally:
            with self._lock:
                self._sending.pop(webhook.id, None)

    def _now(self) -> int:
        # Receivers refuse what is minutes old: of the clocks of several hosts, the one they all share.
        return int(self._stores.database.clock.now())

    def _pause(self, webhook: Webhook, status: int | None) -> float | None:
        if status == _GONE or webhook.attempts >= len(self._schedule):
            logger.warning("the end of job %s could not be told to its webhook, giving up", webhook.job_id)
            return None
        # Not all at the same moment, when a receiver that was down is back.
        return self._schedule[webhook.attempts] * random.uniform(1, 1.1)


def signed(message_id: str, body: bytes, secrets: list[str], at: int) -> dict[str, str]:
    """Return the headers of a message as Standard Webhooks has them, with one signature for each secret.

    Args:
        message_id: The same for each try of a message.
        body: What is sent.
        secrets: `whsec_` and base64.
        at: Seconds since 1970.
    """
    content = b"%s.%d.%s" % (message_id.encode(), at, body)
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    signatures = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys]
    return {
        "Content-Type": "application/json",
        "User-Agent": "embedmill",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _payload(status: dict[str, Any]) -> str:
    told = {"type": f"job.{status['state']}", "timestamp": status["finished_at"], "data": status}
    return json.dumps(told, separators=(",", ":"))
