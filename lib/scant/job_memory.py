"""The memory that a job declares to the scheduler, as a function of its frames; what its workers may take of it."""

from __future__ import annotations

# the job's own processes; a worker before its first frame, and the least that its frame may take
JOB_MB, WORKER_MB, LEAST_MB = 600, 350, 256
# What a worker maps and hardly touches: kernels compiled, stacks, the allocator's padding (annealing: 514 MB mapped, 279 MB in use).
MAPPED_MB = 768


def job_memory_mb(frames_in_memory: float, frame_bytes: float, base_mb: float = 1200) -> int:
    """Memory that a job declares: a base, and twice its frames as float32."""
    return int(base_mb + 2 * frames_in_memory * frame_bytes / 1e6)


def worker_job_memory_mb(frames_each: float, n_workers: int, frame_bytes: float) -> int:
    """Memory of a job whose workers each hold so many frames: it grows with the workers, not with block or movie."""
    return job_memory_mb(frames_each * n_workers, frame_bytes, JOB_MB + (WORKER_MB + LEAST_MB) * n_workers)


def frames_to_denoise(window: int) -> int:
    """Frames that a worker holds to denoise one across a window of so many; 1: the mean alone.

    Of the whole window there are corrected, registered, stabilised and transformed frames, pilots, results and their sums.
    """
    return 12 if window == 1 else 9 * window


def worker_share_bytes(free_bytes: int, n_workers: int) -> int:
    """What each of the workers that share the free memory may map beside what it has before its first frame."""
    return max(free_bytes // n_workers - WORKER_MB * 2**20, LEAST_MB * 2**20) + MAPPED_MB * 2**20
