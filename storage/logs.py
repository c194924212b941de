"""Log lines on stderr: for people where that is a terminal, JSON elsewhere. Ids and counts only, never a text.

Fields that many lines share, such as the job that a thread works at, are said once: by `configure` and `add` for a
whole process, by `about` for what is done inside a block. What others print to stderr becomes a line like the others.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TextIO

from storage import tracebacks

Format = Literal["auto", "text", "json"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

#: Every field that a line may have beside its own; what others hang on a record (Celery: arguments) is left out.
FIELDS = ("worker_id", "slot", "model", "job_id", "chunk", "token", "chunks", "request_id")

#: What a person at a terminal sees of them, behind the sentence.
_SHOWN = ("job_id", "chunk", "request_id")

#: These tell more at INFO than anybody wants to know, such as Celery of every message it takes and finishes.
_CHATTY = ("celery", "kombu", "httpx", "alembic", "sentence_transformers", "transformers", "uvicorn", "uvicorn.error")

#: A password in a URL, and an API key: no line of ours has one, and one that another's line has is not passed on.
_SECRETS = re.compile(r"(?<=://)[^\s/@'\"]*:[^\s/@'\"]*(?=@)|\bem_[a-z2-7]{16}_[a-z2-7]{32}\b")

_said = logging.getLogger("embedmill")
_NONE: Mapping[str, Any] = MappingProxyType({})
_here: ContextVar[Mapping[str, Any]] = ContextVar("embedmill_log_fields", default=_NONE)
_everywhere: dict[str, Any] = {}


def configure(level: Level, role: str, form: Format = "auto", **fields: Any) -> None:
    """Send all log lines of this process to stderr.

    Args:
        level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
        role: What kind of process this is, such as `worker`.
        form: `text`, `json`, or `auto`: text where stderr is a terminal.
        **fields: What every line is to tell, of `FIELDS`.
    """
    _everywhere.clear()
    _everywhere.update(fields, role=role)
    stream = sys.stderr.stream if isinstance(sys.stderr, _Strays) else sys.stderr
    as_json = form == "json" or (form == "auto" and not stream.isatty())
    handler = _Handler(stream)
    handler.setFormatter(_Json() if as_json else _Text())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(as_json)
    sys.stderr = _Strays(stream) if as_json else stream
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def add(**fields: Any) -> None:
    """Have every further line of this process tell something.

    Args:
        **fields: Of `FIELDS`.
    """
    _everywhere.update(fields)


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Have every line that is written inside the block tell something.

    Args:
        **fields: Of `FIELDS`; one that is None is left out.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    before = _here.set({**_here.get(), **given})
    try:
        yield
    finally:
        _here.reset(before)


def say(sentence: str, level: int = logging.INFO) -> None:
    """Tell whoever started this process something: as it stands, or as a log line where those are JSON.

    Args:
        sentence: What is told.
        level: Of the log line.
    """
    if isinstance(sys.stderr, _Strays):
        _said.log(level, "%s", sentence)
    else:
        print(sentence, file=sys.stderr)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; one that cannot be written is told of without its values, which Python's own would show."""

    def handleError(self, record: logging.LogRecord) -> None:
        sentence = f"a log line of {record.filename}:{record.lineno} cannot be written"
        told = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, sentence, None, None)
        with suppress(Exception):
            self.stream.write(self.format(told) + self.terminator)


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": _rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _discreet(record.getMessage()),
            "role": _everywhere.get("role", ""),
            "pid": record.process,
        }
        line |= _fields(record)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _discreet(tracebacks.told(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    """Time, level, process, sentence, and what it is about."""

    def __init__(self) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s [{os.getpid()}] %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        about = " ".join(f"{name}={fields[name]}" for name in _SHOWN if name in fields)
        return _discreet(super().formatMessage(record)) + (f" ({about})" if about else "")

    def formatException(self, ei: Any) -> str:
        return _discreet(tracebacks.told(ei[1])) if ei[1] is not None else ""


class _Strays(io.TextIOBase):
    """Stands in for stderr, so that what anybody prints there is a log line too.

    Args:
        stream: Where log lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._rest = ""
        self._lock = threading.RLock()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()

    def write(self, printed: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + printed).split("\n")
        for line in lines:
            if line.strip():
                logging.getLogger("stderr").warning("%s", line.rstrip())
        return len(printed)

    def flush(self) -> None:
        self.stream.flush()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line tells beside its sentence: of the process, of the block, of the call itself."""
    given = {**_everywhere, **_here.get(), **vars(record)}
    return {name: given[name] for name in FIELDS if name in given}


def _discreet(told: str) -> str:
    return _SECRETS.sub("***", told)


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: object) -> None:
    """Tell of an error that nobody caught, as Python would, but without its values."""
    if error is None or issubclass(kind, SystemExit | KeyboardInterrupt):
        return
    logging.getLogger("embedmill").critical("an error that nobody caught", exc_info=error)
