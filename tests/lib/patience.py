"""Time limits that count what a process had of the machine, not what a busy host gave to others."""

import pathlib
import time

STRETCH = 5  # a limit passes after so many times its seconds, whatever the host did
LOOK = 2     # seconds between two looks


def session_of(leader):
    """Ids of the processes of a session."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        if int(fields[3]) == leader:
            found.append(int(path.parent.name))
    return found


def waited(pids):
    """{thread: seconds for which it could run and had no CPU}; Linux Documentation/scheduler/sched-stats.rst."""
    times = {}
    for pid in pids:
        for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                times[path.parent.name] = int(path.read_text().split()[1]) / 1e9
            except (OSError, IndexError):
                pass
    return times


class Limit:
    """`seconds`, lengthened by what the threads of some processes waited for a CPU. Threads wait for one another, so
    that their times add up; a look takes no more than what has passed since the last one."""

    def __init__(self, seconds, pids):
        self.pids = pids
        self.looked = time.monotonic()
        self.last = self.looked + STRETCH * seconds
        self.end = self.looked + seconds
        self.times = waited(pids())

    def left(self):
        """Seconds until the next look, 0: the limit has passed."""
        now = time.monotonic()
        if now >= self.looked + LOOK or now >= self.end:
            times = waited(self.pids())
            late = sum(time - self.times.get(thread, 0) for thread, time in times.items())
            self.end = min(self.end + min(late, now - self.looked), self.last)
            self.looked, self.times = now, times
        return min(max(self.end - now, 0), LOOK)
