"""The kernel tier: the kernel's own tests, in QEMU, on each machine of a table."""

import re

from lib import edf, tap
from lib.jobs import Job, Result, last_lines
from lib.machine import BUILD, TOP

IMAGE = BUILD / "orthocone-test.elf"
TIMEOUT = 240
PASSED = 33  # isa-debug-exit: (0x10 << 1) | 1


def nodes(memory, cpus, distance):
    """QEMU's arguments for NUMA nodes: the memory and the CPUs of each, and how far apart they are."""
    arguments = []
    for node, size in enumerate(memory):
        members = "".join(f",cpus={cpu}" for cpu in cpus[node])
        arguments += ["-object", f"memory-backend-ram,id=m{node},size={size}",
                      "-numa", f"node,nodeid={node},memdev=m{node}{members}"]
    for source, row in enumerate(distance):
        for target, value in enumerate(row):
            arguments += ["-numa", f"dist,src={source},dst={target},val={value}"]
    return arguments


# One host thread for all CPUs, in turn at each PAUSE and HLT. With a thread per CPU a lock is handed on when
# the host comes to run the next one in line, which takes long where there are more CPUs than the host has.
IN_TURN = ["-accel", "tcg,thread=single"]

# name: CPUs, memory, CPU model, further arguments of QEMU
MACHINES = {
    "1cpu-128m": (1, "128M", "max", []),
    "2cpu-1g": (2, "1G", "max", []),
    "4cpu-6g": (4, "6G", "max", []),
    "2cpu-1g-plain": (2, "1G", "qemu64", []),
    "8cpu-512m": (8, "512M", "max", IN_TURN),
    "4cpu-2nodes": (4, "1G", "max", nodes(["600M", "424M"], [[0, 1], [2, 3]], [[10, 21], [21, 10]])),
    "4cpu-4nodes": (4, "512M", "max", nodes(
        ["128M"] * 4, [[0], [1, 2], [3], []],  # the last has memory only
        [[10, 30, 20, 40], [30, 10, 40, 20], [20, 40, 10, 30], [40, 20, 30, 10]])),
    "1cpu-8259": (1, "128M", "max", ["-no-acpi"]),  # no IOAPIC, no HPET, no PM timer
}



def disk(number, device, faulty=None):
    """A disk of tests/kernel/machine, with one sector that cannot be read."""
    source = f"id=disk{number},if=none,driver=raw,file.driver=blkdebug,file.image.driver=file"
    source += f",file.image.filename={{disk{number}}}"
    if faulty is not None:
        source += (",file.inject-error.0.event=read_aio,file.inject-error.0.errno=5"
                   f",file.inject-error.0.sector={faulty}")
    return ["-drive", source, "-device", f"{device},drive=disk{number}"]


def network(number, device):
    return ["-netdev", f"user,id=net{number}", "-device", f"{device},netdev=net{number}"]


def slots(count):
    """Ports of PCI Express whose slots can be switched off, slot1 and so on."""
    return [word for n in range(1, count + 1) for word in ("-device", f"pcie-root-port,id=slot{n},slot={n}")]


def console(bus):
    return ["-device", f"virtio-serial-pci,disable-legacy=on,bus={bus}", "-chardev", "pipe,id=echo,path={echo}",
            "-device", "virtconsole,chardev=echo"]


# The devices that there are drivers for, and QEMU's device for teaching.
DEVICE_TESTS = "pci_*,irq_*,block_*,net_*,char_*"
BAD_SECTOR = 4000  # as in tests/kernel/block_test.c
PCI_DEVICES = ["-device", "pci-bridge,id=bridge,chassis_nr=1", "-device", "edu,bus=bridge,addr=1",
               "-device", "virtio-rng-pci", *console("pci.0"),
               *disk(0, "virtio-blk-pci,disable-legacy=on", BAD_SECTOR),
               *disk(1, "virtio-blk-pci,vectors=0", BAD_SECTOR),
               "-device", "ich9-ahci,id=sata", *disk(2, "ide-hd,bus=sata.0", BAD_SECTOR),
               *network(0, "virtio-net-pci,disable-legacy=on"), *network(1, "e1000")]
PCIE_DEVICES = ["-machine", "q35", *slots(5), "-device", "edu", "-device", "virtio-rng-pci,bus=slot1",
                *disk(0, "virtio-blk-pci,disable-legacy=on,bus=slot2", BAD_SECTOR),
                *disk(1, "ide-hd,bus=ide.0", BAD_SECTOR), *disk(2, "ide-hd,bus=ide.1", BAD_SECTOR),
                *network(0, "virtio-net-pci,vectors=0,bus=slot3"), *network(1, "e1000e,bus=slot4"), *console("slot5")]

# The same for machines that run the tests of devices only.
DEVICE_MACHINES = {
    "2cpu-pci": (2, "256M", "max", PCI_DEVICES),
    "2cpu-pcie": (2, "256M", "max", PCIE_DEVICES),
    "1cpu-pci-8259": (1, "128M", "max", ["-no-acpi", *PCI_DEVICES]),
    "2cpu-pci-rom": (2, "256M", "max", PCI_DEVICES),
    "2cpu-pcie-rom": (2, "256M", "max", PCIE_DEVICES),
}

APPLICATION = ["-initrd", str(BUILD / "native/hello")]

# For some tests: time counted in instructions, so that durations can be asserted; an isolated CPU; a
# million operations on threads; idle CPUs that watch memory, which QEMU's CPUs do not advertise (with
# several they do not sleep).
IDLE_TESTS = "idle_*,wait_*,semaphore_*,smp_call,smp_call_others,stealing"
SPECIAL_MACHINES = {
    "1cpu-exact": (1, "128M", "max", ["-icount", "shift=0,sleep=off"]),
    "2cpu-isolated": (2, "256M", "max", []),
    "1cpu-hpet-messages": (1, "128M", "max", ["-global", "hpet.msi=on"]),
    "2cpu-bochs-vmx": (2, "256M", "bochs-vmx", []),
    "2cpu-bochs-svm": (2, "256M", "bochs-svm", []),
    "2cpu-pci-faults": (2, "256M", "max", PCI_DEVICES + APPLICATION),
    "2cpu-pcie-faults": (2, "256M", "max", PCIE_DEVICES + APPLICATION),
    "4cpu-stress": (4, "512M", "max", IN_TURN),
    "1cpu-mwait": (1, "128M", "max", []),
    "2cpu-mwait": (2, "256M", "max", IN_TURN),
}
SPECIAL_LINES = {
    "1cpu-exact": "ktest=partition_*,deadline_* exact",
    "1cpu-hpet-messages": "ktest=hpet_events,fault_shell_commands",
    "2cpu-bochs-vmx": "ktest=vmm_*",
    "2cpu-bochs-svm": "ktest=vmm_runs_*,vmm_svm_*",
    "2cpu-isolated": "ktest=isolated_*,wait_*,affinity_* isolate=1",
    # The drivers come late, when every allocation of theirs has failed once; and then work.
    "2cpu-pci-faults": "ktest=fault_*,block_*,net_*,char_* devices=none",
    "2cpu-pcie-faults": "ktest=fault_driver_*,fault_device_*,block_*,net_* devices=none",
    "4cpu-stress": "ktest=stress_* stress=1000000",
    "1cpu-mwait": f"ktest={IDLE_TESTS} idle=mwait",
    "2cpu-mwait": f"ktest={IDLE_TESTS} idle=mwait",
}

ALL_MACHINES = MACHINES | DEVICE_MACHINES | SPECIAL_MACHINES


def command(machine, command_line):
    cpus, memory, cpu, extra = ALL_MACHINES[machine]
    return [str(TOP / "tests/kernel/machine"), str(IMAGE), str(cpus), memory, cpu, command_line,
            *extra]


def panic_tests():
    """Rows PANICS(name, "text") of tests.list.h: functions that must panic with that text."""
    listing = (TOP / "tests/kernel/tests.list.h").read_text()
    rows = re.findall(r'^PANICS\((\w+), "((?:[^"\\]|\\.)*)"\)', listing, re.M)
    return [(name, re.sub(r"\\(.)", r"\1", text)) for name, text in rows]


def jobs():
    for machine in ALL_MACHINES:

        def judge(status, output, machine=machine):
            results = tap.judge(machine, output, status, PASSED)
            if machine == "1cpu-exact":
                results += edf.judge(machine, output)
            return results

        tests = DEVICE_TESTS if machine in DEVICE_MACHINES else "*"
        line = SPECIAL_LINES.get(machine, f"ktest={tests}")
        environment = {"FROM": "rom"} if machine.endswith("-rom") else {}
        yield Job("kernel", machine, command(machine, line), TIMEOUT, judge, weight=50, environment=environment)

    for name, text in panic_tests():

        def judge_panic(status, output, name=name, text=text):
            if text in output and status != PASSED:
                return [Result(f"panic: {name}", "pass")]
            what = f'no panic with "{text}"\n{last_lines(output)}'
            return [Result(f"panic: {name}", "fail", what)]

        yield Job("kernel", f"panic-{name}", command("2cpu-1g", f"ktest-panic={name}"), 60,
                  judge_panic)


def review(results):
    """A test that every machine skips is run nowhere: that is a failure."""
    outcomes = {}
    for result in results:
        machine, _, name = result.name.partition(": ")
        if machine in ALL_MACHINES:
            outcomes.setdefault(name, set()).add(result.status)
    return [Result(f"all machines: {name}", "fail", "skipped on every machine")
            for name, statuses in outcomes.items() if statuses == {"skip"}]
