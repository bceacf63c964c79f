"""What one guest does, or what is done to it, does not show in another one, nor in the node."""

import re
import time

import pytest
from lib.vm import Tree, manifest

from session import command, end, free_kib, to_node, vm_states

RESTARTS = 1000
REPORT = r"steady: (\d+) sums, (\d+) ticks, (\d+) ms, (\d+) wrong"
STEADY = manifest("steady", cpus=(1,), memory=16)


def start(machine, scratch, *vms):
    tree = Tree(scratch / "tree")
    for vm in vms:
        tree.add_vm(vm)
    node = machine(**tree.arguments(), cpus=3)
    node.expect(REPORT)
    return node


def report(node):
    """(sums, ticks, ms) that the neighbour has done, by its last line; none of them was wrong."""
    rows = re.findall(REPORT, "\n".join(command(node, "vm output steady")))
    assert rows and all(row[3] == "0" for row in rows)
    return tuple(int(number) for number in rows[-1][:3])


def check_neighbour(node, before, since):
    """It has computed, and its clock went as ours did."""
    seconds = time.monotonic() - since
    while report(node)[0] == before[0]:
        time.sleep(0.2)
    after = report(node)
    assert after[1] > before[1]
    passed = (after[2] - before[2]) / 1000
    assert abs(passed - seconds) < 2 + 0.02 * seconds, (passed, seconds)


def test_a_thousand_restarts(machine, scratch):
    """Of a guest that does everything that ends it, beside one that computes and keeps time."""
    victim = manifest("fuzzlet", name="victim", args="seed=0 wild=1", cpus=(2,), memory=4)
    node = start(machine, scratch, victim, STEADY)
    to_node(node)
    command(node, "loglevel warn")
    command(node, "repeat 20 vm restart victim then sleep 2")  # caches fill
    command(node, "vm kill victim")
    free, before, since = free_kib(node), report(node), time.monotonic()
    command(node, "vm create vms/victim.json")
    lines = command(node, f"repeat {RESTARTS} vm restart victim then sleep 2", timeout=200)
    assert not re.search(r"repeat: |did not come back", " ".join(lines))
    command(node, "vm kill victim")
    assert free_kib(node) >= free - 64
    assert "did not come back" not in " ".join(command(node, "log error", log=True))
    check_neighbour(node, before, since)
    end(node)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_wild_guests(machine, scratch, seed):
    """Nothing is spared: the guests end in any way, or go round in circles until they are killed."""
    vms = [manifest("fuzzlet", name=f"wild{i}", args=f"seed={seed * 16 + i} wild=1", cpus=(2,), memory=8)
           for i in range(6)]
    node = start(machine, scratch, *vms, STEADY)
    to_node(node)
    before, since = report(node), time.monotonic()
    time.sleep(4)
    for vm in vms:
        assert vm_states(node)[vm["name"]][0] in ("running", "stopped", "crashed")
        command(node, f"vm kill {vm['name']}")
    check_neighbour(node, before, since)
    assert "did not come back" not in " ".join(command(node, "log error", log=True))
    end(node)
