"""Which Dask schedulers may be used."""

from __future__ import annotations

import re

LOOPBACK = re.compile(r"(tcp://)?(127\.\d+\.\d+\.\d+|localhost|\[::1\]):\d+")


def scheduler_problem(address: str) -> str | None:
    """Why a scheduler's address is refused, or None."""
    if address.startswith("tls://") or LOOPBACK.fullmatch(address):
        return None
    return f"scheduler {address}: only tcp://127.0.0.1:PORT or tls://HOST:PORT; an open Dask port runs anyone's code"
