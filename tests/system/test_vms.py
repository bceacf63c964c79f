"""Guests that end in every way, are killed, restarted, broken; with the small test guests."""

import json
import re

import pytest
from lib.vm import Tree, manifest

from session import command, end, free_kib, to_node, vm_states

RESTARTS = 20


def test_hello_sees_its_machine(start):
    node = start(manifest("hello", args="one two=3", memory=96))
    node.expect(r'hello: command line "one two=3"')
    node.expect(r"hello: memory 0x0-0x")
    node.expect(r"hello: ram (\d+) KiB")
    assert 95 * 1024 <= int(node.match[0]) <= 96 * 1024
    node.expect(r'hello: hypervisor "(?!TCG)')
    node.expect(r"hello: done")
    node.expect(r"vm hello: stopped: ")
    end(node)


def test_triple_fault_is_reported_and_contained(start):
    node = start(manifest("ending", args="end=triple"))
    node.expect(r"ending: triple")
    node.expect(r"vm ending: crashed: ")
    state, reason = vm_states(node)["ending"]
    assert state == "crashed" and "triple" in reason
    node.sendline("log error")  # the dump: registers, hardware block, last exits
    for line in (r"rip [0-9a-f]{16}", r"cr0 \S+ cr2 \S+ cr3 \S+", r"instruction: (?!no instruction)[a-z]\w+.*: ([0-9a-f]{2} ?)+", r"return addresses on the stack",
                 r"VMCB: exit 7f", r"last exits", r"shutdown"):
        node.expect(line)
    node.sendline("vm start ending")  # a crashed VM can be started again
    node.expect(r"\] error: vm ending: crashed: .*\] error: vm ending: crashed: ")
    command(node, "vm kill ending")
    assert vm_states(node) == {}
    end(node)


@pytest.mark.parametrize("way", ["i8042", "cf9"])
def test_guest_restarts_itself(start, way):
    node = start(manifest("ending", args=f"end={way}"))
    for _ in range(3):
        node.expect(rf"ending: {way}")
    to_node(node)
    assert vm_states(node)["ending"][0] == "running"
    command(node, "vm stop ending")
    assert vm_states(node)["ending"][0] == "stopped"
    end(node)


def test_guest_that_never_exits(start):
    node = start(manifest("ending", name="spin", args="end=spin"))
    node.expect(r"ending: spin")
    to_node(node)
    for action, state in (("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("start", "running")):
        command(node, f"vm {action} spin")
        assert vm_states(node)["spin"][0] == state
    node.sendline("vm dump spin")
    node.expect(r"spin: vCPU 0: rip ")
    node.sendline("vm regs spin")
    node.expect(r"cr0 [0-9a-f]{8}")
    node.sendline("vm trace spin")
    node.expect(r"last exits, latest first")
    rows = command(node, "vm mem spin 0x100000 40")  # the guest's first code
    assert [row[:16] for row in rows[1:]] == ["0000000000100000", "0000000000100010", "0000000000100020"]
    assert "no memory" in "".join(command(node, "vm mem spin 0xa0000"))
    assert "NAME" not in "".join(command(node, "vm mem spin nonsense"))
    command(node, "vm kill spin")
    assert vm_states(node) == {}
    end(node)


WRONG_WORDS = [
    ("vm lst", 'did you mean "list"'),
    ("vm list all", "usage: vm list "),
    ("vm show", "usage: vm show <name>"),
    ("vm pause halt now", "usage: vm pause <name>"),
    ("vm create", "usage: vm create <manifest>"),
    ("vm create vms/hatl.json", 'no such boot module; did you mean "vms/halt.json"'),
    ("vm mem halt", "usage: vm mem <name> <address> [bytes]"),
    ("vm mem halt there", 'vm mem: "there" is not an address'),
    ("vm mem halt 0 5000", 'vm mem: "5000" is not a number of bytes up to 4096'),
    ("vm stats halt a", "no vCPU a, it has 0 to 0"),
    ("vm inject-nmi halt 1", "no vCPU 1, it has 0 to 0"),
    ("vm output halt much", 'vm output: "much" is not a number of KiB'),
    ("vm balloon halt 10x", 'vm balloon: "10x" is not a size'),
    ("vm balloon halt 1G", "it has 64 MiB"),
    ("vm swap halt -1", 'vm swap: "-1" is not a size'),
    ("vm written halt of", 'vm written: "of" is not "off"'),
    ("vm add-memory halt 0 1M", "something is there"),
    ("vm add-memory halt 0x100001 1M", "whole pages"),
    ("vm remove-memory halt zero", 'vm remove-memory: "zero" is not an address'),
    ("vm remove-memory halt 0x1000", "no region begins there"),
    ("vm restore halt", "image halt: there is none of this name"),
    ("vm forget halt", 'unknown image "halt"'),
    ("vm checkpoint halt a b", "usage: vm checkpoint <name>"),
    ("vm checkpoint halt block:none", "no such block device"),
]


def test_reset_and_wrong_steps(start):
    node = start(manifest("ending", name="halt", args="end=halt"))
    node.expect(r"ending: halt")
    to_node(node)

    def answer(line):
        return " ".join(command(node, line))

    assert "running" in answer("vm start halt")
    assert "running" in answer("vm resume halt")
    assert "exists" in answer("vm create vms/halt.json")
    assert "no such boot module" in answer("vm create vms/none.json")
    assert 'did you mean "halt"' in answer("vm stop hatl")
    assert re.search(r"hlt +\d+ +\d+", answer("vm stats halt"))
    assert re.search(r"vcpu 0 .*hlt", answer("vm stats halt all"))
    assert re.search(r"hlt +\d+", answer("vm stats halt 0"))
    assert "no vCPU 1, it has 0 to 0" in answer("vm stats halt 1")
    assert "cannot destroy: it is running" in answer("vm destroy halt")
    assert "cannot resume: it is running" in answer("vm resume halt")
    for line, words in WRONG_WORDS:
        assert words in answer(line), line
    assert "from    vms/halt.json" in answer("vm show halt")
    command(node, "vm reset halt")
    node.sendline("console halt")
    node.expect(r"ending: halt")
    to_node(node)
    command(node, "vm stop halt")
    assert "stopped" in answer("vm pause halt")
    assert "stopped" in answer("vm stop halt")
    assert "ending: halt" in answer("vm output halt")
    command(node, "vm restart halt")
    assert vm_states(node)["halt"][0] == "running"
    command(node, "vm stop halt")
    command(node, "vm destroy halt")
    assert vm_states(node) == {}
    end(node)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_accesses_are_survived(start, seed):
    node = start(manifest("fuzzlet", args=f"seed={seed}"))
    node.expect(r"fuzzlet: seed \d+")
    node.expect([r"fuzzlet: survived", r"unexpected vector", r"vm fuzzlet: \S+: "])
    assert node.console.match[0] == b"fuzzlet: survived"
    node.expect(r"vm fuzzlet: stopped: powered off")
    end(node)


def test_two_vms_at_once(start):
    node = start(manifest("exits", name="a", cpus=(1,)), manifest("exits", name="b", cpus=(2,)), cpus=3)
    for _ in range(2):
        node.expect(r"vm (a|b): (stopped|crashed): ")
    assert {state for state, _ in vm_states(node).values()} == {"stopped"}
    node.sendline("console a")
    node.expect(r"guest: \d+ passed, 0 failed")
    end_of_b = b"guest: " in bytes(node.output).split(b"[console: b")[1]
    assert end_of_b
    to_node(node)
    end(node)


def test_restarts_leak_nothing(start):
    node = start(manifest("hello"))
    node.expect(r"vm hello: stopped: ")
    free = []
    for _ in range(RESTARTS):
        command(node, "vm kill hello")
        free.append(free_kib(node))
        command(node, "vm create vms/hello.json")
        for _ in range(2):  # the second one is a restart of the same VM
            node.sendline("vm start hello")
            node.expect(r"\] vm hello: stopped: ")
    # Per-CPU caches fill during the first rounds; a page lost per round would show many times over.
    assert free[-1] >= free[2] - 32, free
    end(node)


GOOD = {"vcpu_count": 1, "mem_size_mib": 64}

# file name; what replaces a key of a good manifest (None: the key goes), or the whole text; what the line says
BROKEN = [
    ("syntax", '{\n"name": "x",\n"cpus" 3', r"line 3, column \d+: "),
    ("blank", "\n", r"line \d+.*: "),
    ("array", "[]", r"must be an object"),
    ("behind", '{"name": "x"} more', r"line 1, column 15: "),
    ("repeated", '{"name": "x", "name": "y"}', r'"name" is there twice'),
    ("unknown", {"powr": "stop"}, r'line 15: unknown key "powr", .*"power"'),
    ("unknown_inner", {"machine-config": {**GOOD, "mem_size": 3}}, r'machine-config: unknown key "mem_size"'),
    ("no_name", {"name": None}, r'key "name" is missing'),
    ("long_name", {"name": "x" * 40}, r"name: 40 characters"),
    ("taken_name", {"name": "good"}, r'a VM named "good" exists'),
    ("no_boot", {"boot-source": None}, r'key "boot-source" is missing'),
    ("bad_type", {"machine-config": {**GOOD, "vcpu_count": "two"}}, r"machine-config\.vcpu_count: must be a number"),
    ("fraction", {"machine-config": {**GOOD, "vcpu_count": 1.5}}, r"machine-config\.vcpu_count: "),
    ("no_vcpu", {"machine-config": {**GOOD, "vcpu_count": 0}}, r"machine-config\.vcpu_count: "),
    ("many_vcpus", {"machine-config": {**GOOD, "vcpu_count": 1000}}, r"machine-config\.vcpu_count: "),
    ("no_kernel", {"boot-source": {"kernel_image_path": "nowhere.bz"}}, r"nowhere\.bz: no such file"),
    ("no_initrd", {"boot-source": {"kernel_image_path": "hello.bz", "initrd_path": "lost"}}, r"lost: no such file"),
    ("huge", {"machine-config": {**GOOD, "mem_size_mib": 99999}}, r"99999 MiB asked, \d+ MiB free"),
    ("tiny", {"machine-config": {**GOOD, "mem_size_mib": 0}}, r"machine-config\.mem_size_mib: "),
    ("cpu", {"cpus": [7]}, r"cpus: cpu 7: this node has CPUs 0-1"),
    ("cpu_count", {"cpus": [0, 1]}, r"cpus: more CPUs"),
    ("power", {"power": "explode"}, r'power: must be "stop" or "node"'),
    ("not_a_kernel", {"boot-source": {"kernel_image_path": "vms/syntax.json"}}, r"not a kernel that can be booted"),
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
    at_boot = "\n".join(command(node, "log error", log=True))
    for name, _, reason in BROKEN:
        file = f"vms/{name}.json"
        assert re.search(rf"not created: {file}: .*{reason}", at_boot) or \
            re.search(rf"vm: not started: {name}: .*{reason}", at_boot), name
        lines = command(node, f"vm create {file}")
        if name == "not_a_kernel":  # only its contents can tell: the VM exists, but does not start
            lines = command(node, f"vm start {name}")
            assert len(lines) == 1 and re.search(reason, lines[0]), lines
        else:
            assert len(lines) == 1 and re.match(rf"{file}: .*{reason}", lines[0]), (name, lines)
    assert vm_states(node)["good"][0] == "stopped"
    end(node)
