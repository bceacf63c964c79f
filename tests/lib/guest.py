"""The guest tier: the test guests that print TAP, in a VM and on the bare emulator."""

from lib import tap
from lib.jobs import Job
from lib.machine import TOP

TIMEOUT = 120

# guest, where it runs, QEMU's -cpu of the node
RUNS = [
    ("exits", "bare", "max"),
    ("timers", "bare", "max"),
    ("interrupts", "bare", "max"),
    ("smp", "bare", "max"),
    ("exits", "vm", "max"),
    ("timers", "vm", "max"),
    ("interrupts", "vm", "max"),
    ("smp", "vm", "max"),
    ("para", "vm", "max"),
    ("exits", "vm", "qemu64,+svm,+npt"),
    ("exits", "vm", "EPYC"),
]


def jobs():
    for guest, place, cpu in RUNS:
        name = f"{guest} {place} {cpu}"

        def judge(status, output, name=name):
            return tap.judge(name, output, status, 0)

        yield Job("guest", name, [str(TOP / "tests/guest/machine"), guest, place, cpu], TIMEOUT, judge, weight=10)
