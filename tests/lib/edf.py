"""An oracle for the schedule that the kernel test deadline_trace prints: earliest deadline first on
one CPU, computed from the periods and the work alone."""

import re

from lib.jobs import Result

LINE = re.compile(r"# edf: period (\d+) work (\d+) job (\d+) ended (\d+)")
TOLERANCE = 50000  # ns: what interrupts and switches take


def schedule(tasks, jobs):
    """When each job ends: {(period, job): ns}. A task is (period, work); its deadline is its next
    release."""
    waiting = sorted((job * period, (job + 1) * period, period, job, work)
                     for period, work in tasks for job in range(jobs))
    ready, ends, now = [], {}, 0
    while waiting or ready:
        if not ready:
            now = max(now, waiting[0][0])
        while waiting and waiting[0][0] <= now:
            _, deadline, period, job, work = waiting.pop(0)
            ready.append([deadline, period, job, work])
        first = min(ready)
        until = now + first[3]
        if waiting and waiting[0][0] < until:
            until = waiting[0][0]
        first[3] -= until - now
        now = until
        if first[3] == 0:
            ready.remove(first)
            ends[first[1], first[2]] = now
    return ends


def judge(machine, output):
    rows = [tuple(map(int, row)) for row in LINE.findall(output)]
    name = f"{machine}: EDF schedule is the oracle's"
    if not rows:
        return [Result(name, "fail", "no trace was printed")]
    tasks = sorted({(period, work) for period, work, _, _ in rows})
    ends = schedule(tasks, 1 + max(job for _, _, job, _ in rows))
    wrong = [f"period {period} job {job}: ended {end}, not {ends[period, job]}"
             for period, _, job, end in rows if abs(end - ends[period, job]) > TOLERANCE]
    return [Result(name, "fail" if wrong else "pass", "\n".join(wrong))]
