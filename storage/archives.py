"""An archive of jobs: a tar file whose members are sheets, each with its checksum, and in the end how many there are.

`docs/data.md` describes it for programs that read it without this one.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from storage.contract.errors import InvalidFile
from storage.database import SCHEMA_VERSION
from storage.sheets import Sheet

#: What this program writes, and the newest that it reads.
VERSION = 1

_FIRST, _LAST, _CHECKSUM = "embedmill.json", "end.json", "EMBEDMILL.sha256"


def write(sheets: Iterable[Sheet], target: Any) -> int:
    """Write sheets into an archive while they come; return how many there were.

    Args:
        sheets: Any number; one at a time is in memory.
        target: Whatever has a `write` for its bytes.
    """
    count = 0
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        about = {"version": VERSION, "schema": SCHEMA_VERSION, "made_at": int(time.time())}
        _add(archive, _FIRST, json.dumps(about).encode())
        for count, sheet in enumerate(sheets, 1):
            _add(archive, f"{count:08d}-{sheet.table}", sheet.to_bytes())
        _add(archive, _LAST, json.dumps({"sheets": count}).encode())
    return count


def read(source: BinaryIO) -> Iterator[Sheet]:
    """Yield the sheets of an archive, each after it was checked.

    Args:
        source: A binary stream.

    Raises:
        InvalidFile: When it is no archive, a newer one, damaged or cut off; what was yielded before is sound.
    """
    count, ended = 0, False
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            while (member := archive.next()) is not None:
                data = _content(archive, member)
                if count == 0 and member.name == _FIRST:
                    _check(json.loads(data))
                elif member.name == _LAST:
                    ended = json.loads(data)["sheets"] == count
                else:
                    count += 1
                    if member.name.partition("-")[0] != f"{count:08d}":
                        raise InvalidFile("Sheets of the archive are missing.", "Export it again.")
                    yield Sheet.from_bytes(data)
    except (tarfile.TarError, ValueError, KeyError, EOFError) as error:
        raise InvalidFile(f"This is no whole archive: {error}.", "Export it again.") from error
    if not ended:
        raise InvalidFile("The archive ends too early.", "Export it again; what was whole is imported.")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o600
    member.pax_headers = {_CHECKSUM: hashlib.sha256(data).hexdigest()}
    archive.addfile(member, io.BytesIO(data))
    # It keeps every member it has written.
    archive.members.clear()  # type: ignore[attr-defined]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    archive.members.clear()  # type: ignore[attr-defined]
    if hashlib.sha256(data).hexdigest() != member.pax_headers.get(_CHECKSUM):
        raise InvalidFile(f"Member {member.name} of the archive is damaged.", "Export it again, or copy it again.")
    return data


def _check(about: dict[str, Any]) -> None:
    if about["version"] > VERSION or about["schema"] > SCHEMA_VERSION:
        raise InvalidFile(
            f"The archive is of version {about['version']}, schema {about['schema']}; this program reads up to"
            f" {VERSION} and {SCHEMA_VERSION}.",
            "Upgrade embedmill on this machine.",
        )
