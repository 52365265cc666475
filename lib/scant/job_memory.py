"""The memory that a job declares to the scheduler, as a function of its frames."""

from __future__ import annotations


def job_memory_mb(frames_in_memory: float, frame_bytes: float, base_mb: float = 1200) -> int:
    """Memory that a job declares: a base, and twice its frames as float32."""
    return int(base_mb + 2 * frames_in_memory * frame_bytes / 1e6)


def worker_job_memory_mb(frames_each: float, n_workers: int, frame_bytes: float) -> int:
    """Memory of a job whose workers each hold so many frames: it grows with the workers, not with block or movie."""
    return job_memory_mb(frames_each * n_workers, frame_bytes, 800 + 400 * n_workers)
