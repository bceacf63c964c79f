"""vCPUs as the node has them: halted ones, more than there are CPUs, their time over a pause."""

import re
import time

from lib.machine import Machine
from lib.vm import Tree, manifest

from session import command, end, to_node, vm_states

PAUSES = 4
RESTING = 2  # seconds


def exits(node, name):
    """The rows of `vm stats` that count exits, without their cycles."""
    return re.findall(r"^(\w+) +(\d+) ", "\n".join(command(node, f"vm stats {name}")), re.M)


def test_no_vm_unasked_on_cpu_0_of_qemu(scratch):
    """Where the emulator breaks world switches, docs/backends.md; with one thread for all CPUs, it does not."""
    tree = Tree(scratch / "tree")
    for name in ("first", "second"):
        vm = manifest("ending", name=name, args="end=spin", memory=8)
        del vm["cpus"]
        tree.add_vm(vm)
    tree.add_vm(manifest("ending", name="pinned", args="end=halt", memory=8, cpus=(0,)))
    with Machine(scratch, extra=["-accel", "tcg,thread=single"], **tree.arguments()) as node:
        node.expect(r"ending: halt")
        to_node(node)
        assert re.findall(r"warning: vm: vCPU (\S+) is on CPU 0, where QEMU", node.text) == ["pinned/0"]
        rows = "\n".join(command(node, "ps"))
        assert re.findall(r"(first|second)/0 +\w+ +(\d)", rows) == [("first", "1"), ("second", "1")]
        end(node)


def test_halted_vcpus_cost_nothing(start):
    """One halted for good, three that were never started: no exit, no timer, no look."""
    node = start(manifest("ending", name="halt", args="end=halt", cpus=(1, 1, 1, 1)))
    node.expect(r"ending: halt")
    to_node(node)
    before = exits(node, "halt")
    assert any(kind == "hlt" for kind, _ in before)
    time.sleep(RESTING)
    assert exits(node, "halt") == before
    command(node, "vm stop halt")
    end(node)


def test_time_is_one_over_pauses(start):
    """Four vCPUs on two CPUs of three; a pause is no time to any of them, and none falls behind."""
    began = time.monotonic()
    node = start(manifest("tsc", args="cpus=4 rounds=1000", cpus=(1, 2, 1, 2)), cpus=3)
    shown = r"tsc: (\d+) ms, (\d+) looks at least, (\d+) wrong"
    for _ in range(PAUSES):
        node.expect(shown)
        to_node(node)
        command(node, "vm pause tsc")
        assert vm_states(node)["tsc"][0] == "paused"
        time.sleep(RESTING)
        command(node, "vm resume tsc")
        node.sendline("console tsc")
    rows = []
    for _ in range(3):
        node.expect(shown)
        rows.append([int(group) for group in node.match])
    awake = time.monotonic() - began - PAUSES * RESTING
    assert rows[-1][0] <= awake * 1000, (rows, awake)
    assert all(wrong == 0 for _, _, wrong in rows), rows
    assert rows[-1][1] > rows[0][1] > 0, rows
    to_node(node)
    command(node, "vm stop tsc")
    end(node)
