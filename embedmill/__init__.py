"""The front door: `from embedmill import Client`, and the `embedmill` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.anyclient import AnyClient as Client
    from producer.anyjob import AnyJob as Job
    from storage.contract.errors import EmbedmillError

__all__ = ["Client", "EmbedmillError", "Job"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that `embedmill --help` answers at once."""
    if name == "Client":
        from producer.anyclient import AnyClient

        return AnyClient
    if name == "Job":
        from producer.anyjob import AnyJob

        return AnyJob
    if name == "EmbedmillError":
        from storage.contract.errors import EmbedmillError

        return EmbedmillError
    raise AttributeError(f"module 'embedmill' has no attribute {name!r}")
