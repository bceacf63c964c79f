"""The guest tier: the test guests that print TAP, in a VM and on the bare emulator."""

from lib import tap
from lib.jobs import Job
from lib.machine import TOP

TIMEOUT = 120

# guest, where it runs, the machine: QEMU's -cpu of the node, or Bochs
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
    ("exits", "vm", "bochs-vmx"),
    ("timers", "vm", "bochs-vmx"),
    ("interrupts", "vm", "bochs-vmx"),
    ("smp", "vm", "bochs-vmx"),
    ("para", "vm", "bochs-vmx"),
    ("interrupts", "vm", "bochs-svm"),
    ("smp", "vm", "bochs-svm"),
]


def jobs():
    for guest, place, cpu in RUNS:
        name = f"{guest} {place} {cpu}"

        def judge(status, output, name=name):
            return tap.judge(name, output, status, 0)

        yield Job("guest", name, [str(TOP / "tests/guest/machine"), guest, place, cpu], TIMEOUT, judge, weight=10)
