"""What a stage says: to the terminal and to its log at once; errors as one readable line, their traceback in the log."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from scant.errors import ScantError
from scant.io.runs import follow_run

BEGAN, ENDED = "began ", "ended "


class _Tee(io.TextIOBase):
    def __init__(self, *streams: TextIO):
        self.streams = streams

    def write(self, text: str) -> int:
        for stream in self.streams:
            stream.write(text)
            stream.flush()
        return len(text)

    def flush(self) -> None:
        for stream in self.streams:
            stream.flush()


@contextmanager
def stage_log(path: str) -> Iterator[None]:
    """Copy stderr to the log while the stage runs; an error ends the process with status 1, the log holds its traceback.

    The log begins and ends with the date, UTC: products hold none, so that they can be bit-identical.
    """
    follow_run()
    terminal = sys.stderr
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w") as log:
        sys.stderr = _Tee(terminal, log)
        print(f"{BEGAN}{_now()}", file=log)
        try:
            yield
        except ScantError as error:
            print(f"error ({error.code}): {error}", file=sys.stderr)
            traceback.print_exc(file=log)
            sys.exit(1)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            sys.exit(1)
        finally:
            sys.stderr = terminal
            print(f"{ENDED}{_now()}", file=log)


def began_and_ended(log: Path) -> tuple[str, str] | None:
    """When a stage began and ended, from its log; None where it did not end."""
    lines = log.read_text(errors="replace").splitlines() or [""]
    if not (lines[0].startswith(BEGAN) and lines[-1].startswith(ENDED)):
        return None
    return lines[0].removeprefix(BEGAN), lines[-1].removeprefix(ENDED)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def say(message: str) -> None:
    """One line of progress."""
    print(message, file=sys.stderr, flush=True)
