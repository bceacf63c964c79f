"""The guest tier: the test guests that print TAP, in a VM on every machine and back end, and on the bare emulator."""

from lib import tap
from lib.bochs import MODELS
from lib.jobs import Job
from lib.machine import TOP

TIMEOUT = 120
GUESTS = ["exits", "timers", "interrupts", "lapic", "ipi", "events", "debug", "fpu", "tsc", "smp", "para", "pages", "messages"]

# Machines of the whole tier, one or more for each back end: QEMU's -cpu of the node, or Bochs.
MACHINES = ["max", "bochs-svm", "bochs-vmx"]

# guest, where it runs, machine, the node's command line, the guest's. What the whole tier has not.
MORE_RUNS = [
    *((guest, "bare", "max", "") for guest in [*GUESTS, "modes"] if guest != "para"),
    ("ipi", "vm", "max", "", "cpus=2"),
    *(("fpu", "vm", machine, "", f"hide={feature}") for machine in MACHINES for feature in ("avx", "xsave")),
    *(("ipi", "vm", machine, "", f"cpus={count}") for machine in MACHINES for count in (8, 64)),
    ("modes", "vm", "max", ""),
    ("modes", "vm", "bochs-svm", ""),
    ("modes", "vm", "bochs-vmx", ""),
    ("exits", "vm", "qemu64,+svm,+npt", ""),
    ("exits", "vm", "EPYC", ""),
    *((guest, "vm", "bochs-svm", "svm.features=-nrip") for guest in ("exits", "events", "debug")),
    ("exits", "vm", "bochs-vmx-skylake", ""),
]

# What VMX does with each feature that a processor may lack: docs/backends.md. With the guests that would notice.
WITHOUT = {
    "vpid": ["exits", "modes"], "1g": ["exits"], "ad": ["exits"], "wbinvd": ["exits"], "ple": ["smp"], "rdtscp": ["exits"],
    "invpcid": ["exits"], "unrestricted": ["exits", "interrupts", "modes"], "tpr": GUESTS, "apicv": GUESTS, "timer": GUESTS,
    "vpid,1g,ad,wbinvd,ple,rdtscp,invpcid,tpr,timer": GUESTS,
}


def column(machine):
    """Of the table of results."""
    if machine not in MODELS:
        return "SVM, QEMU"
    return "VMX, Bochs" if "vmx" in machine else "SVM, Bochs"


def jobs():
    runs = [(guest, "vm", machine, "") for machine in MACHINES for guest in GUESTS]
    for features, guests in WITHOUT.items():
        line = "vmx.features=" + ",".join(f"-{feature}" for feature in features.split(","))
        runs += [(guest, "vm", "bochs-vmx", line) for guest in guests]
    # Posted interrupts: no model of Bochs has them, but exits acknowledge their interrupts as they then do.
    runs += [(guest, "vm", "bochs-vmx", "vmx.features=+posted") for guest in ("timers", "interrupts", "lapic", "ipi", "events", "smp")]
    for guest, place, machine, line, *args in runs + MORE_RUNS:
        name = " ".join(word for word in (guest, place, machine, line, *args) if word)

        def judge(status, output, name=name):
            return tap.judge(name, output, status, 0)

        yield Job("guest", name, [str(TOP / "tests/guest/machine"), guest, place, machine, line, *args], TIMEOUT, judge,
                  weight=10, machine=machine if machine in MODELS else "qemu",
                  cell=(guest, column(machine) if place == "vm" else "bare"))
