"""The socket that the service listens on; taken before anything is started, so that a taken port is told at once."""

from __future__ import annotations

import socket

from storage.contract.errors import AddressInUse


def take_port(host: str, port: int) -> socket.socket:
    """Return a bound socket that does not listen yet: whoever comes too early is refused instead of left to wait.

    Args:
        host: Name or address to listen on.
        port: Port to listen on; 0 takes a free one.

    Raises:
        AddressInUse: When another program has the port, or the address is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
        except OSError:
            taken.close()
            raise
    except OSError as error:
        raise AddressInUse(
            f"Port {port} on {host} cannot be listened on: {error.strerror}.",
            "Choose another with --port (of a worker: --health-port).",
        ) from error
    return taken


def address_of(host: str, listening: socket.socket) -> str:
    """Return `http://host:port` of a socket, with brackets around an IPv6 address.

    Args:
        host: What the person asked to listen on.
        listening: The socket.
    """
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"
