"""Checkpoints of whole VMs: a Linux guest is written away, killed, brought back, and notices nothing."""

import re
import time

import pytest
from lib.vm import Tree, linux_manifest, manifest

from session import (GUEST, balloon_interrupts, command, end, free_kib, guest_shell, inflate, to_guest, to_node,
                     vm_states)

SUM = "head -c 8000000 /dev/urandom > /tmp/data; md5sum /tmp/data"


def start_linux(machine, scratch, vcpus=2, extra=(), **more):
    tree = Tree(scratch / "tree")
    tree.add_vm(linux_manifest(cpus=tuple(1 + i % 2 for i in range(vcpus)), power="stop", **more))
    node = machine(**tree.arguments(), cpus=3, extra=extra)
    guest_shell(node)
    return node


def numbers(node, line):
    return [float(text) for text in re.findall(r"[\d.]+", node.run(line, GUEST))]


def checkpoint(node, where=""):
    text = " ".join(command(node, f"vm checkpoint linux {where}", timeout=60))
    assert "checkpoint in" in text, text
    return int(re.search(r"(\d+) KiB", text)[1])


def restore(node, where=""):
    text = " ".join(command(node, f"vm restore linux {where}", timeout=60))
    assert "restored from" in text, text
    assert vm_states(node)["linux"][0] == "running"
    node.sendline("vm console linux")
    node.expect(r"\[console: linux")
    node.sendline("")
    node.expect(GUEST)


def check_messages(node):
    """The balloon's interrupts, MSI-X, are as the guest had set them up."""
    before = balloon_interrupts(node)
    assert "PCI-MSI" in before["virtio0-config"][1], before
    to_node(node)
    inflate(node, 8)
    inflate(node, 0)
    to_guest(node, "linux")
    node.sendline("")
    node.expect(GUEST)
    after = balloon_interrupts(node)
    assert all(after[name][0] > before[name][0] for name in after), (before, after)


def check_goes_on(node, sums, date, uptime):
    """Files, processes and clocks are as they were; time goes on from there, and not in leaps."""
    assert node.run("md5sum /tmp/data", GUEST) == sums
    assert node.run("cat /tmp/alive | wc -l", GUEST) != "0"
    now, up = numbers(node, "date +%s")[0], numbers(node, "cat /proc/uptime")[0]
    assert date <= now < date + 300
    assert uptime <= up < uptime + 300
    assert node.run("nproc", GUEST) == "2"
    assert node.run("dmesg | grep -E 'WARNING|BUG|Call Trace|unstable|stall|lockup'", GUEST) == ""
    before = numbers(node, "wc -l < /tmp/alive")[0]
    node.run("sleep 2", GUEST)
    assert numbers(node, "wc -l < /tmp/alive")[0] > before


def prepare(node):
    sums = node.run(SUM, GUEST)
    node.run("(while :; do date >> /tmp/alive; sleep 0.2; done) &", GUEST)
    node.run("sleep 1", GUEST)
    return sums, numbers(node, "date +%s")[0], numbers(node, "cat /proc/uptime")[0]


def test_linux_survives_its_death(machine, scratch):
    node = start_linux(machine, scratch)
    seen = prepare(node)
    to_node(node)
    free = free_kib(node)
    assert checkpoint(node) < 200 * 1024  # pages of zeros are not in it
    assert vm_states(node)["linux"][0] == "running"
    command(node, "vm kill linux")
    assert vm_states(node) == {}
    for _ in range(2):  # an image can be used again
        restore(node)
        check_goes_on(node, *seen)
        check_messages(node)
        to_node(node)
        command(node, "vm kill linux")
    assert "linux" in " ".join(command(node, "vm images"))
    command(node, "vm forget linux")
    assert len(command(node, "vm images")) == 1
    command(node, "vm create vms/linux.json")
    assert free_kib(node) > free - 512  # the checkpoint and its VM have left nothing
    end(node)


def test_linux_on_a_disk(machine, scratch):
    """The image is on a block device, where another boot of the node finds it."""
    disk = scratch / "disk"
    with open(disk, "wb") as file:
        file.truncate(256 << 20)
    drive = ("-drive", f"file={disk},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d")
    node = start_linux(machine, scratch / "1", extra=drive)
    seen = prepare(node)
    to_node(node)
    assert "no checkpoint is on it" in " ".join(command(node, "vm restore linux block:vd0"))
    checkpoint(node, "block:vd0")
    end(node)
    tree = Tree(scratch / "2" / "tree")
    tree.add_vm(linux_manifest(cpus=(1, 2), power="stop"))
    node = machine(**tree.arguments(), cpus=3, extra=drive, command_line="autostart=no")
    node.expect(r"orthocone> ")
    restore(node, "block:vd0")
    check_goes_on(node, *seen)
    to_node(node)
    end(node)


def test_wrong_steps(machine, scratch):
    tree = Tree(scratch / "tree")
    for name in ("a", "b"):
        tree.add_vm(manifest("ending", name=name, args="end=halt"))
    tree.add_vm(manifest("ending", name="large", args="end=halt", memory=72))
    node = machine(**tree.arguments())
    node.expect(r"ending: halt")
    to_node(node)

    def answer(line):
        return " ".join(command(node, line))

    assert "there is none of this name" in answer("vm restore a")
    assert "checkpoint in image" in answer("vm checkpoint a image")
    assert "it is running" in answer("vm restore a image")
    command(node, "vm stop a")
    assert "it is stopped" in answer("vm checkpoint a")
    command(node, "vm stop large")
    assert "64 MiB, the VM has 1 and 72" in answer("vm restore large image")
    assert vm_states(node)["large"][0] == "stopped"
    command(node, "vm kill b")
    assert "exists already" in answer("vm restore b image")  # the image is of a
    assert "no such block device" in answer("vm checkpoint a block:none")
    assert 'did you mean "image"' in answer("vm forget imaeg")
    assert "restored" in answer("vm restore a image")
    assert vm_states(node)["a"][0] == "running"
    assert "it is running" in answer("vm destroy a")
    command(node, "vm stop a")
    command(node, "vm destroy a")
    assert "a" not in vm_states(node)
    assert "usage" in answer("vm checkpoint")
    end(node)


SURVIVOR = r"survivor: (\d+) ms, (\d+) wrong, deadlines (\d+), hpet (\d+), pit (\d+), rtc (\d+)\r?\n"


def survivor_row(node):
    rows = re.findall(SURVIVOR, "\n".join(command(node, "vm output survivor")) + "\n")
    return [int(number) for number in rows[-1]]


@pytest.mark.parametrize("kind", ["qemu", "bochs-svm", "bochs-vmx"])
def test_registers_and_timers(machine, scratch, kind):
    """A guest that looks at its registers, and at timers of every kind, all the time."""
    tree = Tree(scratch / "tree")
    tree.add_vm(manifest("survivor", cpus=(0,), memory=16))
    node = machine(kind, cpus=1, memory="512M", **tree.arguments())
    node.expect(SURVIVOR)
    to_node(node)
    for i in range(3):
        before = survivor_row(node)
        assert "checkpoint in" in " ".join(command(node, "vm checkpoint survivor"))
        command(node, "vm kill survivor" if i < 2 else "vm stop survivor")  # a new VM, or the same one
        time.sleep(1)
        assert "restored" in " ".join(command(node, "vm restore survivor"))
        node.sendline("console survivor")
        for _ in range(3):
            node.expect(SURVIVOR)
        to_node(node)
        after = survivor_row(node)
        assert after[1] == 0
        assert all(new > old for new, old in zip(after, before) if old), (before, after)
        assert after[0] < before[0] + 60000
    end(node)
