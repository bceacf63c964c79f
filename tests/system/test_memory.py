"""Memory taken from guests that run, and given back: balloon, squeezed pages, regions, the log of writes."""

import re
import time

import pytest
from lib.vm import Tree, linux_manifest, manifest

from session import GUEST, command, end, free_kib, guest_shell, to_guest, to_node

MIB = 1024  # KiB
SWAPS = 8
EXTRA = 0x20000000


def start(machine, scratch, vm, **arguments):
    tree = Tree(scratch / "tree")
    tree.add_vm(vm)
    return machine(**arguments, **tree.arguments())


def talking(machine, scratch, **more):
    """Two vCPUs that check and rewrite their pages without end."""
    node = start(machine, scratch, manifest("pages", args=f"talk=1 extra={EXTRA}", cpus=(1, 2), **more), cpus=3)
    node.expect("pages: ready")
    return node


def order(node, what, answer):
    """A letter typed on the guest's console, and what it answers."""
    to_guest(node, "pages")
    node.send(what)
    node.expect(answer)
    found = tuple(node.match)
    to_node(node)
    return found


def rounds(node):
    first, second, faults = order(node, "r", r"rounds (\d+) (\d+), faults (\d+)")
    assert int(faults) == 0
    return int(first), int(second)


def later(node, condition, seconds=60):
    """Until it is so; what the guest does takes its time."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.2)


SMALL = {"lazy_memory": True, "huge_pages": "None"}


@pytest.mark.parametrize("more", [{}, {"lazy_memory": True}, SMALL], ids=["eager", "lazy", "lazy-small"])
def test_pages_squeezed_under_two_vcpus_come_back(machine, scratch, more):
    node = talking(machine, scratch, **more)
    to_node(node)
    for _ in range(SWAPS):
        before = rounds(node)
        said = "\n".join(command(node, "vm swap pages 64M"))
        assert int(re.search(r"(\d+) KiB swapped out", said)[1]) > 0
        later(node, lambda before=before: all(now > then for now, then in zip(rounds(node), before)))
    order(node, "s", "standing")
    command(node, "vm swap pages 64M")
    assert "0 MiB of it held" in "\n".join(command(node, "vm swap pages"))
    order(node, "g", "going")
    before = rounds(node)
    later(node, lambda: all(now > then for now, then in zip(rounds(node), before)))
    to_guest(node, "pages")
    node.send("q")
    node.expect("guest: 1 passed, 0 failed")
    node.expect(r"\[console: shell")
    end(node)


def test_lazy_memory_comes_in_large_pages_unless_the_manifest_says_no(machine, scratch):
    """The guest uses 2048 pages that lie in four large ones."""

    def first_touches(**more):
        node = talking(machine, scratch, lazy_memory=True, **more)
        to_node(node)
        later(node, lambda: all(rounds(node)))
        faults = int(re.search(r"nested_fault +(\d+)", "\n".join(command(node, "vm stats pages")))[1])
        held = int(re.search(r"(\d+) MiB of it held", "\n".join(command(node, "vm balloon pages")))[1])
        shown = "\n".join(command(node, "vm show pages"))
        command(node, "vm kill pages")
        assert "did not come back" not in "\n".join(command(node, "log warn"))
        end(node)
        return faults, held, re.search(r"memory +64 MiB(.*)", shown)[1].strip()

    faults, held, shown = first_touches()
    assert faults < 1000 and held >= 8 and shown == ", taken when it is touched"
    faults, held, shown = first_touches(huge_pages="None")
    assert faults > 2048 and held >= 8
    assert shown == ", taken when it is touched, in pages of 4 KiB"


def test_pages_written_are_counted_exactly(machine, scratch):
    node = talking(machine, scratch)
    to_node(node)
    order(node, "s", "standing")
    command(node, "vm written pages")

    def written(letter, answer):
        command(node, "vm written pages")  # from here on
        order(node, letter, answer)
        return int(re.search(r"(\d+) pages written", "\n".join(command(node, "vm written pages")))[1])

    at_rest = written("s", "standing")  # its loop, and the answer
    for _ in range(3):
        assert written("w", "wrote") == at_rest + 7
    assert written("s", "standing") == at_rest
    command(node, "vm written pages off")
    order(node, "g", "going")
    rounds(node)
    end(node)


def test_regions_come_and_go_while_the_guest_runs(machine, scratch):
    node = talking(machine, scratch)
    to_node(node)
    before = free_kib(node)
    assert order(node, "x", r"extra (all ones|memory), (not written|written)") == ("all ones", "not written")
    for _ in range(3):
        assert "no memory" not in "\n".join(command(node, f"vm add-memory pages {EXTRA:#x} 4M"))
        assert order(node, "x", r"extra (all ones|memory), (not written|written)") == ("memory", "written")
        assert "no memory" not in "\n".join(command(node, f"vm remove-memory pages {EXTRA:#x}"))
        assert order(node, "x", r"extra (all ones|memory), (not written|written)") == ("all ones", "not written")
    assert before - free_kib(node) < 64  # tables for the new addresses stay
    assert "something is there" in command(node, "vm add-memory pages 0x100000 1M")[-1]
    assert "something is there" in command(node, "vm add-memory pages 0xfee00000 1M")[-1]
    assert "whole pages" in command(node, "vm add-memory pages 0x20000001 1M")[-1]
    assert "no region" in command(node, "vm remove-memory pages 0x5000")[-1]
    rounds(node)
    end(node)


def guest_says(node, line, timeout=60):
    node.sendline(line)
    node.expect(GUEST, timeout)
    return node.before


@pytest.mark.parametrize("msi", [True, False], ids=["by_messages", "by_pin"])
def test_linux_gives_memory_and_gets_it_back(machine, scratch, msi):
    vm = linux_manifest(args="console=ttyS0 quiet", power="stop")
    vm["machine-config"]["msi"] = msi
    node = start(machine, scratch, vm, memory="1G")
    guest_shell(node)
    interrupts = guest_says(node, "grep virtio0 /proc/interrupts")
    assert ("PCI-MSI" in interrupts) == msi and ("IO-APIC" in interrupts) != msi, interrupts
    guest_says(node, "dd if=/dev/urandom of=/tmp/kept bs=1M count=32 2>/dev/null; md5sum /tmp/kept > /tmp/sum")

    def balloon():
        said = "\n".join(command(node, "vm balloon linux"))
        given, wanted = re.search(r"balloon (\d+) MiB given by the guest, (\d+) MiB wanted$", said).groups()
        return int(given), int(wanted)

    def checked():
        to_guest(node, "linux")
        assert ": OK" in guest_says(node, "md5sum -c /tmp/sum")
        to_node(node)

    to_node(node)
    before = free_kib(node)
    assert balloon() == (0, 0)
    command(node, "vm balloon linux 100M")
    later(node, lambda: balloon() == (100, 100))
    later(node, lambda: free_kib(node) - before > 95 * MIB)
    checked()
    command(node, "vm balloon linux 20M")
    later(node, lambda: balloon() == (20, 20))
    to_guest(node, "linux")
    guest_says(node, "dd if=/dev/zero of=/tmp/filled bs=1M count=90 2>/dev/null; rm /tmp/filled")
    to_node(node)
    checked()
    command(node, "vm swap linux 200M")
    checked()
    command(node, "vm balloon linux 0")
    later(node, lambda: balloon() == (0, 0))
    assert "cannot be taken" in command(node, "vm balloon linux 256M")[0]
    checked()
    command(node, "vm kill linux")
    end(node)
