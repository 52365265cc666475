"""What every job does around its work: log, check what it is given, seal what it made."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from scant.errors import DataIntegrityError
from scant.io.logs import stage_log
from scant.io.seals import check_inputs, dataset_folder, seal_outputs

DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@contextmanager
def job(log: str, inputs: Iterable[str], outputs: Iterable[str]) -> Iterator[None]:
    """Run a job's work under its log; damaged inputs end it before it begins, outputs are sealed when it has ended well.

    `log` is the path of the job's log, which says whose folder it works in; errors end the process with status 1.
    """
    with stage_log(log):
        folder = dataset_folder(log)
        check_inputs(folder, inputs)
        try:
            yield
            seal_outputs(folder, outputs)
        except OSError as error:
            if error.errno not in DISK_REFUSES:
                raise
            raise DataIntegrityError(
                f"{error.filename or folder}: cannot be written ({error.strerror}), {shutil.disk_usage(folder).free} bytes are free there; "
                "free space (`python -m scant plan` says how much is needed), then run the same command again"
            ) from error
