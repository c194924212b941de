"""Submit, poll, fetch over HTTP, from a machine without Redis and database; needs a running service: `make up`.

EMBEDMILL_URL names the service (default: http://127.0.0.1:8000), EMBEDMILL_API_KEY its key where it wants one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from embedmill import Client

SACKS = 200


def harvest() -> Iterator[str]:
    """Yield texts one by one, as a reader of something large would: they are never all in memory."""
    for number in range(SACKS):
        yield f"Sack {number}: rye from the field behind the {'mill' if number % 2 else 'river'}."


def main() -> None:
    """Submit texts with ids of our own, watch them being done, and find the one nearest to the first."""
    with Client(os.environ.get("EMBEDMILL_URL", "http://127.0.0.1:8000")) as client:
        # With a key of our own this program may be run again after whatever went wrong: it is the same job.
        job = client.submit(harvest(), ids=(f"sack-{number}" for number in range(SACKS)), idempotency_key="harvest")
        print("job", job.id, job.notice or "")
        status = job.wait(timeout=300, progress=lambda now: print(f"{now.succeeded} of {now.total}"))
        for item in job.errors():
            print(item.id, "failed:", item.error)
        print(status.state, status.tokens, "tokens")
        vectors = job.vectors()
        ids = [item.id for item in job.results()]
    alike = vectors @ vectors[0]
    alike[0] = -1
    print(
        f"{ids[alike.argmax()]} is the nearest to {ids[0]}, of {vectors.shape[0]} vectors of {vectors.shape[1]} numbers"
    )


if __name__ == "__main__":
    main()
