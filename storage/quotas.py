"""What an API key may have and use: stored texts, open jobs, tokens a minute."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from storage.contract.errors import InvalidOption

#: Largest limit; a BIGINT holds it many times over.
_MOST = 10**15


@dataclass(frozen=True, slots=True)
class Quota:
    """What a key may have and use; None is no limit.

    Args:
        texts: Most texts that are kept for it, whatever became of them.
        jobs: Most jobs of it that have not ended.
        tokens_per_minute: Most tokens a minute that it may submit, on the average.

    Raises:
        InvalidOption: When a limit is no number above 0.
    """

    texts: int | None = None
    jobs: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name, limit in self.to_dict().items():
            if limit is not None and not 1 <= limit <= _MOST:
                raise InvalidOption(f"The limit of {name.replace('_', ' ')} must be at least 1.")

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return any(limit is not None for limit in self.to_dict().values())

    def to_dict(self) -> dict[str, int | None]:
        """Return the limits by their names, as the columns of a row have them."""
        return asdict(self)
