"""The kernel's own shell, and the machine without hardware virtualisation."""

import re
import time
import datetime

import pytest
from lib.vm import KERNEL, Tree, manifest

from session import SHELL


def test_commands(machine):
    node = machine(kernel=KERNEL, command_line="loglevel=info", cpus=2)
    node.expect(SHELL)
    helped = node.run("help", SHELL)
    for command in ("help", "ps", "mem", "cpu", "irq", "log", "vm", "reboot", "poweroff"):
        assert re.search(rf"^ +{command} ", helped, re.M), command
        assert command in node.run(f"help {command}", SHELL)

    threads = node.run("ps", SHELL)
    assert re.search(r"^ +\d+ shell +running", threads, re.M | re.I)
    assert len(re.findall(r"idle", threads)) == 2
    assert re.search(r"RAM: \d+ KiB", node.run("mem", SHELL))
    assert "kmalloc" in node.run("mem caches", SHELL)
    assert len(node.run("cpu", SHELL).splitlines()) == 3
    assert re.search(r"^ +4 .* (uart|serial|com1)", node.run("irq", SHELL), re.M | re.I)
    log = node.run("log", SHELL)
    assert "boot: multiboot1" in log and "2 of 2 online" in log
    assert node.run("echo one  two", SHELL) == "one two"
    assert node.run("vm list", SHELL).splitlines()[0].startswith("NAME")

    date = datetime.datetime.strptime(node.run("date", SHELL), "%Y-%m-%d %H:%M:%S UTC")
    assert abs(date.replace(tzinfo=datetime.timezone.utc).timestamp() - time.time()) < 5

    assert 'did you mean "mem"' in node.run("memm", SHELL)
    assert 'unknown command "xyzzy"' in node.run("xyzzy", SHELL)
    assert "usage: vm" in node.run("vm", SHELL)
    assert "unknown action" in node.run("vm fly", SHELL)
    node.sendline("poweroff")
    assert node.wait() == 0


def test_line_editing(machine):
    node = machine(kernel=KERNEL)
    node.expect(SHELL)
    node.send("ech\t")
    node.expect(r"echo ")
    node.send("wrng\x1b[D\x1b[Do\r")  # an "o" two places to the left
    node.expect(r"\r\nwrong\r\n")
    node.expect(SHELL)
    node.send("\x1b[A\r")  # the line before
    node.expect(r"\r\nwrong\r\n")
    node.expect(SHELL)
    node.send("garbage\x03")
    node.expect(SHELL)
    node.sendline("poweroff")
    assert node.wait() == 0


def test_reboot(machine):
    node = machine(kernel=KERNEL, reboot=True)
    node.expect(SHELL)
    node.sendline("reboot")
    node.expect(r"Orthocone \S+")
    node.expect(SHELL)
    node.sendline("poweroff")
    assert node.wait() == 0


@pytest.mark.parametrize("cpu", ["max,-svm", "qemu64,-svm"])
def test_without_svm(machine, scratch, cpu):
    tree = Tree(scratch / "tree")
    tree.add_vm(manifest("hello"))
    node = machine(**tree.arguments(), cpu=cpu)
    node.expect(r"no virtual machines on this node: (.*?)\r\n")
    assert "no hardware virtualisation" in node.match[0]
    node.expect(SHELL)
    assert "no hardware virtualisation" in node.run("vm list", SHELL)
    node.sendline("poweroff")
    assert node.wait() == 0


@pytest.mark.parametrize("memory", ["32M", "6G"])
def test_memory_sizes(machine, memory):
    node = machine(kernel=KERNEL, memory=memory, cpus=1)
    node.expect(SHELL)
    node.sendline("poweroff")
    assert node.wait() == 0
