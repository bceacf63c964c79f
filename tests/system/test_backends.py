"""Linux on each back end and machine: the same guest, the same checks."""

import os
import re
import time

import pexpect
import pytest
from lib.machine import BUILD, TOP
from lib.vm import KERNEL, Tree, linux_manifest, manifest

from session import (GUEST, KEY_CONSOLE, balloon_interrupts, command, guest_shell, inflate, to_guest, to_node,
                     vm_states)

# Bochs is ten times slower than QEMU; its clocks are as slow, so nothing in the guest times out.
SECONDS = 400


def check_balloon(node):
    """Up and down; configuration and queues interrupt by messages, each by its own."""
    before = balloon_interrupts(node)
    assert set(before) == {"virtio0-config", "virtio0-inflate", "virtio0-deflate"}, before
    assert all("PCI-MSI" in text for _, text in before.values()), before
    for mib in (16, 4):
        to_node(node)
        inflate(node, mib, SECONDS)
        shown = "\n".join(command(node, "vm show linux"))
        assert re.search(r"pci 02\.0 vballoon 1af4:1045, interrupts by MSI-X: 3 vectors", shown), shown
        to_guest(node, "linux")
        node.send("\r")
        node.expect(GUEST)
    after = balloon_interrupts(node)
    assert after["virtio0-config"][0] >= before["virtio0-config"][0] + 2
    for name in ("virtio0-inflate", "virtio0-deflate"):
        assert after[name][0] > before[name][0], (before, after)


def check_and_power_off(node, vcpus):
    guest_shell(node, SECONDS)
    assert node.run("nproc", GUEST) == str(vcpus)
    assert node.run("dmesg | grep -E 'WARNING|BUG|Call Trace|firmware bug'", GUEST) == ""
    interrupts = node.run("cat /proc/interrupts", GUEST)
    assert "IO-APIC" in interrupts and "ttyS0" in interrupts
    if vcpus > 1:  # each has had its own timer's interrupts, and calls from the other
        for line in ("LOC", "CAL"):
            counts = next(row for row in interrupts.splitlines() if row.strip().startswith(f"{line}:")).split()[1:3]
            assert all(int(count) > 0 for count in counts), f"{line}: {counts}"
    check_balloon(node)
    node.sendline("poweroff")
    assert node.wait(SECONDS) == 0


@pytest.mark.parametrize("kind", ["qemu", "bochs-vmx", "bochs-svm"])
@pytest.mark.parametrize("vcpus", [1, 2])
def test_linux(machine, scratch, vcpus, kind):
    tree = Tree(scratch / "tree")
    first = 1 if kind == "qemu" else 0
    tree.add_vm(linux_manifest(memory=128, cpus=tuple(range(first, first + vcpus))))
    node = machine(kind, cpus=first + vcpus, memory="512M", timeout=SECONDS, **tree.arguments())
    check_and_power_off(node, vcpus)


@pytest.mark.parametrize("kind", ["bochs-vmx", "bochs-svm"])
def test_make_run(scratch, kind):
    """What "make run MACHINE=..." runs: BIOS, CD, GRUB, the image as it is delivered, its VM's console on the terminal."""
    command_line = [str(TOP / "tools/bochs"), kind, str(BUILD / "orthocone.iso")]
    run = pexpect.spawn("/usr/bin/python3", command_line, timeout=SECONDS, encoding="utf-8", codec_errors="replace",
                        env={**os.environ, "SCRATCH": str(scratch / "machine")})
    with open(scratch / "terminal.log", "w") as run.logfile_read:
        run.expect(r"boot: multiboot2 by GRUB")
        run.expect(GUEST)
        run.sendline("echo $((6 * 7)) $(nproc)")
        run.expect(r"\n42 1\r")
        run.send(KEY_CONSOLE)
        run.expect(r"\[console: shell")
        run.send(KEY_CONSOLE)
        run.expect(r"\[console: linux")
        run.sendline("poweroff")
        run.expect(pexpect.EOF)
        run.close()
    assert run.exitstatus == 0


def start_guest(machine, scratch, kind, vm, line=""):
    """A machine with one CPU, which guest and shell share."""
    tree = Tree(scratch / "tree")
    tree.add_vm(vm)
    return machine(kind, cpus=1, memory="256M", timeout=SECONDS, command_line=line, **tree.arguments())


def exits(node, name):
    """{kind: count} by "vm stats"."""
    rows = re.findall(r"^(\w+) +(\d+) +\d+ +\d+$", "\n".join(command(node, f"vm stats {name}")), re.M)
    return {kind: int(count) for kind, count in rows}


def finish(node):
    node.sendline("poweroff")
    assert node.wait(SECONDS) == 0


@pytest.mark.parametrize("kind", ["qemu", "bochs-vmx"])
def test_guest_with_interrupts_off_is_preempted(machine, scratch, kind):
    node = start_guest(machine, scratch, kind, manifest("ending", name="spin", args="end=spin", cpus=(0,)))
    node.expect(r"ending: spin")
    to_node(node)
    assert vm_states(node)["spin"][0] == "running"
    command(node, "vm stop spin")
    assert vm_states(node)["spin"][0] == "stopped"
    finish(node)


RESTRICTED = "vmx.features=-unrestricted"


@pytest.mark.parametrize("kind", ["bochs-vmx"])
def test_protected_mode_without_unrestricted_guest(machine, scratch, kind):
    """Our own kernel as the guest enters in protected mode without paging, and turns paging and long mode on itself."""
    tree = Tree(scratch / "tree")
    tree.add("inner.elf", KERNEL)
    tree.add_vm({"name": "inner", "cpus": [0], "power": "stop",
                 "boot-source": {"kernel_image_path": "inner.elf"},
                 "machine-config": {"vcpu_count": 1, "mem_size_mib": 64}})
    node = machine(kind, cpus=1, memory="256M", timeout=SECONDS, command_line=RESTRICTED, **tree.arguments())
    node.expect(r"no hardware virtualisation")
    node.expect(r"orthocone>")
    node.sendline("poweroff")
    node.expect(r"vm inner: stopped: powered off")
    finish(node)


def test_real_mode_without_unrestricted_guest_is_refused(machine, scratch):
    """The second CPU begins in real mode: that VM ends with a line that says why, and the node goes on."""
    node = start_guest(machine, scratch, "bochs-vmx", manifest("smp", cpus=(0, 0)), RESTRICTED)
    node.expect(r"smp: vCPU 1: real mode needs an \"unrestricted guest\"")
    node.expect(r"vm smp: crashed: ")
    finish(node)


PAGES = 2000  # more than the buffer of Intel's page-modification log holds


@pytest.mark.parametrize("log, kind", [("by_faults", "qemu"), ("by_faults", "bochs-svm"),
                                       ("by_faults", "bochs-vmx-skylake"), ("by_pml", "bochs-vmx-skylake")])
def test_written_pages_are_counted(machine, scratch, log, kind):
    line = "vmx.features=-pml" if log == "by_faults" else ""
    node = start_guest(machine, scratch, kind, manifest("writer", args=f"pages={PAGES}", cpus=(0,)), line)
    node.expect(rf"writer: {PAGES} pages")
    to_node(node)
    assert "counted from now on" in command(node, "vm written writer")[-1]
    before = exits(node, "writer").get("nested_fault", 0)
    command(node, "vm written writer")  # the next one counts what comes from here on
    for _ in range(2):
        time.sleep(2)
        assert PAGES <= int(command(node, "vm written writer")[-1].split()[0]) < PAGES + 20
    faults = exits(node, "writer").get("nested_fault", 0) - before
    assert faults == 0 if log == "by_pml" else faults >= PAGES
    command(node, "vm written writer off")
    assert "counted from now on" in command(node, "vm written writer")[-1]
    command(node, "vm kill writer")  # with the log on
    finish(node)


@pytest.mark.parametrize("line, exits_for", [("", 0), ("vmx.features=-apicv", 100)])
def test_eoi_needs_no_exits(machine, scratch, line, exits_for):
    """100 EOIs through memory; the guest does some 40 other accesses that exit."""
    vm = manifest("bench", args="only=eoi_xapic", cpus=(0,))
    node = start_guest(machine, scratch, "bochs-vmx", vm, line)
    node.expect(r"vm bench: stopped: ")
    assert exits_for <= exits(node, "bench").get("nested_fault", 0) < exits_for + 60
    finish(node)


@pytest.mark.parametrize("kind", ["bochs-vmx", "bochs-svm"])
@pytest.mark.parametrize("guest, args, last", [
    ("hello", "one two=3", r"hello: done"),
    ("ending", "end=s5", r"ending: s5"),
    ("ending", "end=i8042", r"(?s)(ending: i8042.*){3}"),
    ("fuzzlet", "seed=1", r"fuzzlet: survived"),
], ids=["hello", "power_off", "reset", "fuzzlet"])
def test_guest(machine, scratch, guest, args, last, kind):
    node = start_guest(machine, scratch, kind, manifest(guest, args=args, cpus=(0,)))
    node.expect(last)
    if "i8042" in args:  # it would go on for ever
        to_node(node)
        command(node, f"vm stop {guest}")
    else:
        node.expect(rf"vm {guest}: stopped: ")
    finish(node)


def test_triple_fault_on_vmx(machine, scratch):
    """Bochs' SVM ends the whole machine instead (docs/backends.md)."""
    node = start_guest(machine, scratch, "bochs-vmx", manifest("ending", args="end=triple", cpus=(0,)))
    node.expect(r"vm ending: crashed: triple fault")
    node.sendline("log error")
    node.expect(r"VMCS: GUEST_RIP")
    finish(node)
