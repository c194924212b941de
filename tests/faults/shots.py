"""The failpoints of one mill: a file in a folder makes one process fail, once."""

from __future__ import annotations

from pathlib import Path


class Shots:
    """Arms failpoints and tells who has met them.

    Args:
        folder: The folder that `EMBEDMILL_FAILPOINTS` names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def arm(self, name: str, action: str) -> None:
        """Make the next process that reaches a failpoint do an action, once; `encode` is the encoder's own.

        Args:
            name: One of `failpoints.NAMES`, or `encode`.
            action: `kill`, `stop`, `raise` or `fail`; of `encode`: `segv`, `exit`, `hang`, `hold` or `fail`.
        """
        for fired in self.folder.glob(f"{name}.{action}.fired.*"):
            fired.unlink()
        (self.folder / f"{name}.{action}").touch()

    def fired(self, name: str, action: str) -> int | None:
        """Return the process id of who took the shot, or None while nobody has."""
        for path in self.folder.glob(f"{name}.{action}.fired.*"):
            return int(path.name.rpartition(".")[2])
        return None

    def disarm(self) -> None:
        """Take away all shots that nobody took."""
        for path in self.folder.iterdir():
            if ".fired." not in path.name:
                path.unlink(missing_ok=True)
