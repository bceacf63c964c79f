"""Guests that end in every way, are killed, restarted, broken; with the small test guests."""

import json
import re

import pytest
from lib.vm import Tree, manifest

from session import SHELL, free_kib, to_node, vm_states

RESTARTS = 20


def start(machine, scratch, *vms, **arguments):
    tree = Tree(scratch / "tree")
    for vm in vms:
        tree.add_vm(vm)
    return machine(**tree.arguments(), **arguments)


def end(node):
    node.sendline("poweroff")
    assert node.wait() == 0


def test_hello_sees_its_machine(machine, scratch):
    node = start(machine, scratch, manifest("hello", args="one two=3", memory=96))
    node.expect(r'hello: command line "one two=3"')
    node.expect(r"hello: memory 0x0-0x")
    node.expect(r"hello: ram (\d+) KiB")
    assert 95 * 1024 <= int(node.match[0]) <= 96 * 1024
    node.expect(r'hello: hypervisor "(?!TCG)')
    node.expect(r"hello: done")
    node.expect(r"vm hello: stopped: ")
    node.expect(SHELL)
    end(node)


def test_triple_fault_is_reported_and_contained(machine, scratch):
    node = start(machine, scratch, manifest("ending", args="end=triple"))
    node.expect(r"ending: triple")
    node.expect(r"vm ending: crashed: ")
    node.expect(SHELL)
    states = vm_states(node)
    assert states["ending"][0] == "crashed" and "triple" in states["ending"][1]
    log = node.run("log", SHELL)
    assert "rip" in log.lower() and "cr3" in log.lower()
    node.sendline("vm start ending")  # a crashed VM can be started again
    node.expect(r"vm ending: crashed: ")
    node.expect(SHELL)
    node.run("vm kill ending", SHELL)
    assert vm_states(node) == {}
    end(node)


@pytest.mark.parametrize("way", ["i8042", "cf9"])
def test_guest_restarts_itself(machine, scratch, way):
    node = start(machine, scratch, manifest("ending", args=f"end={way}"))
    for _ in range(3):
        node.expect(rf"ending: {way}")
    to_node(node)
    assert vm_states(node)["ending"][0] == "running"
    node.run("vm stop ending", SHELL)
    assert vm_states(node)["ending"][0] == "stopped"
    end(node)


def test_guest_that_never_exits(machine, scratch):
    node = start(machine, scratch, manifest("ending", name="spin", args="end=spin"))
    node.expect(r"ending: spin")
    to_node(node)
    node.run("vm pause spin", SHELL)
    assert vm_states(node)["spin"][0] == "paused"
    node.run("vm resume spin", SHELL)
    assert vm_states(node)["spin"][0] == "running"
    node.run("vm dump spin", SHELL)
    node.run("vm stop spin", SHELL)
    assert vm_states(node)["spin"][0] == "stopped"
    node.run("vm start spin", SHELL)
    assert vm_states(node)["spin"][0] == "running"
    node.run("vm kill spin", SHELL)
    assert vm_states(node) == {}
    end(node)


def test_reset_and_wrong_steps(machine, scratch):
    node = start(machine, scratch, manifest("ending", name="halt", args="end=halt"))
    node.expect(r"ending: halt")
    to_node(node)
    assert "running" in node.run("vm start halt", SHELL)
    assert "running" in node.run("vm resume halt", SHELL)
    assert "exist" in node.run("vm create vms/halt.json", SHELL)
    assert 'did you mean "halt"' in node.run("vm stop hatl", SHELL)
    node.run("vm reset halt", SHELL)
    node.sendline("console halt")
    node.expect(r"ending: halt")
    to_node(node)
    node.run("vm stop halt", SHELL)
    assert "stopped" in node.run("vm pause halt", SHELL)
    end(node)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_accesses_are_survived(machine, scratch, seed):
    node = start(machine, scratch, manifest("fuzzlet", args=f"seed={seed}"))
    node.expect(r"fuzzlet: seed \d+")
    node.expect(r"fuzzlet: survived", timeout=120)
    node.expect(r"vm fuzzlet: stopped: ")
    node.expect(SHELL)
    end(node)


def test_two_vms_at_once(machine, scratch):
    node = start(machine, scratch, manifest("exits", name="a", cpus=(0,)), manifest("exits", name="b", cpus=(1,)))
    for _ in range(2):
        node.expect(r"vm (a|b): stopped: ")
    node.expect(SHELL)
    for name in ("a", "b"):
        node.sendline(f"console {name}")
        node.expect(rf"\[console: {name}")
        node.expect(r"guest: \d+ passed, 0 failed")
        to_node(node)
    end(node)


def test_restarts_leak_nothing(machine, scratch):
    node = start(machine, scratch, manifest("hello"))
    node.expect(r"vm hello: stopped: ")
    node.expect(SHELL)
    free = []
    for _ in range(RESTARTS):
        node.run("vm kill hello", SHELL)
        free.append(free_kib(node))
        node.run("vm create vms/hello.json", SHELL)
        node.sendline("vm start hello")
        node.expect(r"vm hello: stopped: ")
        node.expect(SHELL)
        node.sendline("vm start hello")  # a restart of the same VM
        node.expect(r"vm hello: stopped: ")
        node.expect(SHELL)
    # Per-CPU caches fill during the first rounds; a page lost per round would show many times over.
    assert free[-1] >= free[2] - 32, free
    end(node)


GOOD = {"vcpu_count": 1, "mem_size_mib": 64}

# file name; what replaces a key of a good manifest (None: the key goes), or the whole text; what the line says
BROKEN = [
    ("syntax", '{\n"name": "x",\n"cpus" 3', r"line 3.*not JSON"),
    ("empty", "", r"JSON"),
    ("array", "[]", r"object"),
    ("behind", '{"name": "x"} more', r"JSON"),
    ("repeated", '{"name": "x", "name": "y"}', r"name"),
    ("unknown", {"powr": "stop"}, r'line \d+: .*"powr".*power'),
    ("unknown_inner", {"machine-config": {**GOOD, "mem_size": 3}}, r'machine-config: .*"mem_size"'),
    ("no_name", {"name": None}, r"name"),
    ("long_name", {"name": "x" * 40}, r"name"),
    ("taken_name", {"name": "good"}, r"good"),
    ("no_boot", {"boot-source": None}, r"boot-source"),
    ("bad_type", {"machine-config": {**GOOD, "vcpu_count": "two"}}, r"machine-config\.vcpu_count"),
    ("fraction", {"machine-config": {**GOOD, "vcpu_count": 1.5}}, r"machine-config\.vcpu_count"),
    ("no_vcpu", {"machine-config": {**GOOD, "vcpu_count": 0}}, r"machine-config\.vcpu_count"),
    ("many_vcpus", {"machine-config": {**GOOD, "vcpu_count": 1000}}, r"machine-config\.vcpu_count"),
    ("no_kernel", {"boot-source": {"kernel_image_path": "nowhere.bz"}}, r"nowhere\.bz"),
    ("no_initrd", {"boot-source": {"kernel_image_path": "hello.bz", "initrd_path": "lost"}}, r"lost"),
    ("huge", {"machine-config": {**GOOD, "mem_size_mib": 99999}}, r"99999 MiB asked, \d+ MiB free"),
    ("tiny", {"machine-config": {**GOOD, "mem_size_mib": 0}}, r"machine-config\.mem_size_mib"),
    ("cpu", {"cpus": [7]}, r"cpus: .*7.* 0-1"),
    ("cpu_count", {"cpus": [0, 1]}, r"cpus"),
    ("power", {"power": "explode"}, r"power"),
    ("not_a_kernel", {"boot-source": {"kernel_image_path": "vms/syntax.json"}}, r"vms/syntax\.json"),
]


def changed(vm, change):
    return {key: value for key, value in {**vm, **change}.items() if value is not None}


def test_broken_manifests(machine, scratch):
    tree = Tree(scratch / "tree")
    tree.add_vm(manifest("hello", name="good"))
    for name, change, _ in BROKEN:
        vm = change if isinstance(change, str) else json.dumps(changed(manifest("hello", name=name), change), indent=2)
        tree.add(f"vms/{name}.json", vm)
    node = machine(**tree.arguments())
    node.expect(r"vm good: stopped: ")
    node.expect(SHELL)
    at_boot = node.run("log error", SHELL)
    for name, _, reason in BROKEN:
        file = f"vms/{name}.json"
        assert re.search(rf"{file}: .*{reason}", at_boot) or re.search(rf"vm {name}: .*{reason}", at_boot), name
        lines = node.run(f"vm create {file}", SHELL).splitlines()
        if lines != [f"vm {name}: created"]:
            assert len(lines) == 1 and re.match(rf"{file}: .*{reason}", lines[0]), (name, lines)
    assert vm_states(node)["good"][0] == "stopped"
    end(node)
