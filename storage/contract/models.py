"""What a worker tells everybody about the model it serves, and how its queues are named."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from storage.contract.errors import InvalidOption

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class Priority(IntEnum):
    """Which of a model's two queues a job waits in."""

    BULK = 0
    URGENT = 1


def priority_named(name: object) -> Priority:
    """Return the priority that a caller named.

    Args:
        name: `bulk` or `urgent`.

    Raises:
        InvalidOption: When it is neither.
    """
    found = Priority.__members__.get(name.upper()) if isinstance(name, str) else None
    if found is None:
        raise InvalidOption(f"priority must be bulk or urgent, not {str(name)[:40]!r}.")
    return found


def model_name(given: str) -> str:
    """Return the one name of a model: the absolute path of a folder that exists here, else the name as given."""
    if os.path.isdir(given):
        return str(Path(given).resolve())
    return given.strip()


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model identity (name, revision, precision class) and what is known of it.

    Args:
        name: Hub name or absolute folder.
        revision: Commit hash of a hub model, or a hash of a folder's content.
        precision: `float32`, `half` (bfloat16 or float16) or `int8`: the class whose vectors may be mixed in one job.
        width: Components of a vector.
        max_length: Most tokens of one text, special tokens included.
        layers: Number of transformer layers; `layer` may be -1 or 0..layers.
        pooling: Pooling used when a job names none.
        normalize: Whether vectors are normalised when a job does not say.
        prompts: Named prompts of the checkpoint.
        default_prompt_name: The prompt put before every text when a job names none, or None.
        hidden: Components of a token's state, where dense modules make vectors of another width; None: as many.
    """

    name: str
    revision: str
    precision: str
    width: int
    max_length: int
    layers: int
    pooling: str
    normalize: bool
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    hidden: int | None = None

    @property
    def states_width(self) -> int:
        """Components of a token's state."""
        return self.hidden or self.width

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that stand for name, revision and precision."""
        identity = "\n".join((self.name, self.revision, self.precision))
        return hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the card as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelCard:
        """Return the card kept in a JSON object, ignoring fields of later versions."""
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in data.items() if key in known})


def queue_name(model: str, model_id: str, priority: Priority) -> str:
    """Return the Redis queue of one model identity and priority, readable by a person who looks into Redis."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rsplit("/", 1)[-1])[:40]
    return f"{readable}.{model_id}.{priority.name.lower()}"
