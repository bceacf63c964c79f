"""Guests' consoles: nothing of what they write is lost, a break reaches them, the way out always works."""

import re
import time

from lib.vm import Tree, linux_manifest, manifest

from session import GUEST, KEY_CONSOLE, command, end, guest_shell, to_guest, to_node, vm_states

LINES = 16000  # more than a stream keeps before it grows


def start_linux(machine, scratch, *more):
    tree = Tree(scratch / "tree")
    for vm in (*more, linux_manifest(power="stop")):
        tree.add_vm(vm)
    node = machine(**tree.arguments(), cpus=3)
    guest_shell(node)
    return node


def check_lines(text):
    """Every number, once, in order."""
    numbers = [int(n) for n in re.findall(r"(?m)^(\d+)\r?$", text)]
    assert numbers == list(range(1, LINES + 1))


def test_background_output_is_kept(machine, scratch):
    node = start_linux(machine, scratch)
    node.sendline(f"sleep 1; seq 1 {LINES}; echo do''ne > /tmp/done; echo al''l")
    to_node(node)
    while f"{LINES}" not in "".join(command(node, "vm output linux 1")):
        time.sleep(0.5)
    to_guest(node, "linux")
    node.expect(r"all\r", 200)
    assert "were lost" not in node.before
    check_lines(node.before)
    node.expect(GUEST)
    to_node(node)
    end(node)


def test_nobody_reads_the_line(machine, scratch):
    """The terminal stands still; the guest goes on, waits for the line where it must, and loses nothing."""
    node = start_linux(machine, scratch)
    node.sendline(f"seq 1 {LINES}; echo al''l")
    time.sleep(5)
    node.expect(r"all\r", 200)
    check_lines(node.before)
    to_node(node)
    end(node)


def test_break(machine, scratch):
    node = start_linux(machine, scratch)
    node.send(KEY_CONSOLE + "\x02")
    node.expect(r"\[console: linux")
    node.send("h")
    node.expect(r"sysrq: HELP")
    to_node(node)
    command(node, "vm send-break linux")
    to_guest(node, "linux")
    node.send("h")
    node.expect(r"sysrq: HELP")
    to_node(node)
    end(node)


def test_the_way_out_works_always(machine, scratch):
    """Beside guests that write without end, spin or have crashed."""
    node = start_linux(machine, scratch, manifest("ending", name="spin", args="end=spin", cpus=(2,)),
                       manifest("ending", name="dead", args="end=triple", cpus=(2,)))
    node.sendline("yes yes yes")
    node.expect(r"yes yes yes\r\nyes")
    to_node(node)
    assert vm_states(node)["linux"][0] == "running"
    to_guest(node, "linux")
    node.send(KEY_CONSOLE + "\x0e")  # the next console
    node.expect(r"\[console: (spin|dead)")
    node.send(KEY_CONSOLE + "\x0e")
    node.expect(r"\[console: (spin|dead)")
    to_node(node)
    node.sendline("vm kill linux")
    node.sendline("vm kill spin")
    while set(vm_states(node)) != {"dead"}:
        time.sleep(0.1)
    end(node)
