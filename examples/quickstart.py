"""Submit, poll, fetch with the Python client; needs a running stack: `make up` in another terminal."""

from __future__ import annotations

from embedmill import Client

TEXTS = [
    "A wizard's job is to vex chumps quickly in fog.",
    "Confusing simpletons in the mist is what a sorcerer does for a living.",
    "今天的面包已经卖完了。",
]


def main() -> None:
    """Embed three texts and print how alike they are."""
    job = Client().submit(TEXTS, normalize=True)
    print("job", job.id, "is", job.status().state)
    job.wait(timeout=120)
    vectors = job.vectors()
    print("vectors", vectors.shape, vectors.dtype)
    print((vectors @ vectors.T).round(2))


if __name__ == "__main__":
    main()
