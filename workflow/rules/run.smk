"""What a run does before its first job and after its last: lock, plan, and a second pass where damaged products were made again."""

from scant.io.runs import announce_run, lock_results
from scant.xp import resolve_device

MAX_CLUSTER_JOBS = 1000
MENDED_VARIABLE = "SCANT_MENDED"


def lock_this_run():
    """Refuse a second run on the same results; the lock is gone with this process."""
    global RESULTS_LOCK
    try:
        RESULTS_LOCK = lock_results(RESULTS)
    except ScantError as error:
        raise WorkflowError(str(error)) from None
    announce_run(RESULTS_LOCK)
    os.environ[CORES_VARIABLE] = str(workers())


def show_plan():
    """Say what the run will take; refuse it when the disk cannot hold what is still to come, or the device is not there."""
    # here, not above: every job reads this file, and need not import the readers of all movie formats
    from scant.commands.plan import bytes_to_come, disk_problem, free_bytes, movie_facts, short
    from scant.plan import plan

    jobs_at_once = 1 if workflow.local_exec else min(workflow.nodes, MAX_CLUSTER_JOBS)
    try:
        if workflow.local_exec:
            resolve_device(CONFIG.device)
            if CONFIG.denoise.method == "unet":
                from scant.imaging.denoise.unet import torch_device

                torch_device(CONFIG.device)
        plans = [plan(CONFIG, name, movie_facts(CONFIG, name), workers() * jobs_at_once, workers()) for name in CONFIG.names]
    except ScantError as error:
        raise WorkflowError(str(error)) from None
    for each in plans:
        print("\n".join(short(each)), file=sys.stderr)
    problem = disk_problem(RESULTS, bytes_to_come(CONFIG, plans), free_bytes(RESULTS))
    if problem:
        raise WorkflowError(problem)


def go_on_after_mending():
    """This pass made damaged products again, those alone; the same command goes on, and finds what was made of them still true."""
    mended = os.environ.get(MENDED_VARIABLE, "").split(os.pathsep)
    if not DAMAGED or workflow.dag_settings.targets:
        return
    if DAMAGED[0] in mended:
        raise WorkflowError(f"{DAMAGED[0]}: damaged again as soon as it was made; look at the disk, then run the same command")
    os.environ[MENDED_VARIABLE] = os.pathsep.join([*mended, DAMAGED[0]])
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])
