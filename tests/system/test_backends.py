"""Linux on each back end and machine: the same guest, the same checks."""

import pytest
from lib.machine import BUILD
from lib.vm import Tree, linux_manifest

from session import GUEST, guest_shell

# Bochs is ten times slower than QEMU; its clocks are as slow, so nothing in the guest times out.
SECONDS = 400


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
    node.sendline("poweroff")
    assert node.wait(SECONDS) == 0


@pytest.mark.parametrize("kind", ["qemu", "bochs-vmx", "bochs-svm"])
@pytest.mark.parametrize("vcpus", [1, 2])
def test_linux(machine, scratch, vcpus, kind):
    tree = Tree(scratch / "tree")
    tree.add_vm(linux_manifest(memory=128, cpus=tuple(range(vcpus))))
    node = machine(kind, cpus=vcpus, memory="512M", timeout=SECONDS, **tree.arguments())
    check_and_power_off(node, vcpus)


@pytest.mark.parametrize("kind", ["bochs-vmx"])
def test_image_boots(machine, kind):
    """The real path: BIOS, CD, GRUB, the image as it is delivered, its own virtual machine."""
    node = machine(kind, iso=BUILD / "orthocone.iso", cpus=2, memory="512M", timeout=SECONDS)
    node.expect(r"boot: multiboot2 by GRUB")
    check_and_power_off(node, 1)
