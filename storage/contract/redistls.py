"""What the query of a `rediss://` or `rediss+sentinel://` URL says about certificates.

The names are redis-py's own; kombu is handed the same, since by itself it checks no certificate at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

#: Schemes of TLS.
SCHEMES = ("rediss", "rediss+sentinel")

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

#: What may be written, and how.
PARAMETERS = "ssl_ca_certs=FILE, ssl_certfile=FILE, ssl_keyfile=FILE, ssl_check_hostname=false, ssl_cert_reqs=none"


def query_of(query: str, known: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the parameters after a URL's question mark.

    Args:
        query: What stands there.
        known: Names beyond those of TLS.

    Raises:
        ValueError: When one is not known, or given twice; says which there are.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, _ in pairs:
        if name not in (*_FILES, "ssl_check_hostname", "ssl_cert_reqs", *known):
            raise ValueError(f"parameter {name!r} is not known there; there are {', '.join((PARAMETERS, *known))}")
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a parameter is given twice")
    return dict(pairs)


def tls_options(scheme: str, given: dict[str, str]) -> dict[str, Any] | None:
    """Return how a connection is secured, as redis-py's options; None when the scheme says that it is not.

    Args:
        scheme: The URL's.
        given: The URL's parameters.

    Raises:
        ValueError: When a value does not fit, or belongs to another scheme.
    """
    given = {name: value for name, value in given.items() if name.startswith("ssl_")}
    if scheme not in SCHEMES:
        if given:
            raise ValueError(f"{next(iter(given))} belongs to rediss:// and rediss+sentinel://")
        return None
    reqs = given.get("ssl_cert_reqs", "required")
    check = given.get("ssl_check_hostname", "true").lower()
    if reqs not in ("required", "none") or check not in ("true", "false"):
        raise ValueError("ssl_cert_reqs is required or none, ssl_check_hostname is true or false")
    files = {name: given[name] for name in _FILES if name in given}
    return {**files, "ssl_cert_reqs": reqs, "ssl_check_hostname": check == "true" and reqs == "required"}


def check_files(options: dict[str, Any] | None) -> None:
    """Look whether the files of certificates and keys can be read.

    Raises:
        ValueError: When one cannot; names it.
    """
    for name in _FILES:
        if options and name in options:
            try:
                with Path(options[name]).open("rb"):
                    pass
            except OSError as error:
                raise ValueError(f"{name}={options[name]}: {error.strerror}") from error
