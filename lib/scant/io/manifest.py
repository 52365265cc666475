"""The manifest of a store: its written chunks with their checksums and sizes, so that what is missing, cut or changed is found later."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scant.io.chunks import encoded_chunk


@dataclass(frozen=True)
class ChunkRecord:
    """One written chunk: `key` under the store, frames [start, stop), the crc32c of its encoded bytes and the size of its file."""

    key: str
    start: int
    stop: int
    crc32c: int
    n_bytes: int


def write_manifest(path: str, records: Sequence[ChunkRecord]) -> None:
    """Write the chunk records as JSON, at once or not at all."""
    target = Path(path)
    text = json.dumps([asdict(record) for record in sorted(records, key=lambda r: r.start)], indent=0)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(target)


def check_manifest(store_path: str, manifest: str, contents: bool = True) -> list[str]:
    """Problems with the chunks that the manifest lists, each naming its frames: missing, cut, or changed; empty when all is well.

    Without `contents` only presence and size are looked at.
    """
    try:
        records = [ChunkRecord(**row) for row in json.loads(Path(manifest).read_text())]
    except (OSError, ValueError, TypeError) as error:
        return [f"{manifest}: no manifest can be read ({error})"]
    problems = []
    for record in records:
        file = Path(store_path, record.key)
        where = f"{file}: frames {record.start} to {record.stop}"
        if not file.is_file():
            problems.append(f"{where}: missing")
            continue
        size = file.stat().st_size
        if size != record.n_bytes:
            problems.append(f"{where}: expected {record.n_bytes} bytes, found {size}")
        elif contents and not _as_recorded(file, record):
            problems.append(f"{where}: changed since it was written (crc32c)")
    return problems


def _as_recorded(file: Path, record: ChunkRecord) -> bool:
    try:
        return encoded_chunk(file)[1] == record.crc32c
    except ValueError:
        return False
