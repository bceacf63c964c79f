"""The kernel's own shell, and the machine without hardware virtualisation."""

import re
import time
import datetime

import pytest
from lib.machine import BUILD
from lib.vm import KERNEL, Tree, manifest

from session import SHELL, command, end


def text_of(node, line, log=False):
    return "\n".join(command(node, line, log))


def test_commands(machine):
    node = machine(kernel=KERNEL, command_line="loglevel=info", cpus=2)
    node.expect(SHELL)
    helped = text_of(node, "help")
    for command in ("help", "ps", "mem", "cpu", "irq", "log", "vm", "reboot", "poweroff"):
        assert re.search(rf"^ +{command} ", helped, re.M), command
        assert command in text_of(node, f"help {command}")

    threads = text_of(node, "ps")
    assert re.search(r"^ +\d+ shell +running", threads, re.M | re.I)
    assert len(re.findall(r"idle", threads)) == 2
    assert re.search(r"RAM: \d+ KiB", text_of(node, "mem"))
    assert "kmalloc" in text_of(node, "mem caches")
    assert len(text_of(node, "cpu").splitlines()) == 3
    assert re.search(r"^ +4 .* (uart|serial|com1)", text_of(node, "irq"), re.M | re.I)
    log = text_of(node, "log", log=True)
    assert "boot: multiboot1" in log and "2 of 2 online" in log
    assert text_of(node, "echo one  two") == "one two"
    assert text_of(node, "vm list").splitlines()[0].startswith("NAME")

    date = datetime.datetime.strptime(text_of(node, "date"), "%Y-%m-%d %H:%M:%S UTC")
    assert abs(date.replace(tzinfo=datetime.timezone.utc).timestamp() - time.time()) < 5

    assert 'did you mean "mem"' in text_of(node, "memm")
    assert 'unknown command "xyzzy"' in text_of(node, "xyzzy")
    assert "usage: vm" in text_of(node, "vm")
    assert "unknown action" in text_of(node, "vm fly")
    end(node)


WRONG_OPTIONS = {
    "loglevel=loud": "loglevel=loud: not one of error, warn, info, debug",
    "panic=reboot": "panic=reboot: not one of halt, reset, exit",
    "idle=busy": "idle=busy: neither mwait nor hlt",
    "gdb=com1": "gdb=com1: not com2 or wait",
    "watchdog=never": "watchdog=never: not a number of seconds up to 3600",
    "autostart=yes": "autostart=yes: not no",
    "screen=off": "screen=off: not no",
    "devices=all": "devices=all: not none",
    "isolate=1,5": "isolate: there is no CPU 5",
    "services=7": "services=7: there are no such CPUs",
    "svm.features=-nrip,-clena": 'svm.features: "-clena" is none of -nrip,-clean,',
}


def test_wrong_options(machine):
    node = machine(kernel=KERNEL, command_line=" ".join(WRONG_OPTIONS))
    node.expect(SHELL)
    log = text_of(node, "log warn", log=True)
    for line in WRONG_OPTIONS.values():
        assert line in log
    end(node)


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
    end(node)


def test_pipes(machine):
    node = machine(kernel=KERNEL)
    node.expect(SHELL)
    assert text_of(node, "help | match poweroff").splitlines()[-1].lstrip().startswith("poweroff")
    assert text_of(node, 'echo one two | match "e t"').endswith("one two")
    assert "more" in text_of(node, "help | less")
    assert "nested-paging" in text_of(node, "cpu features")
    node.sendline("log debug | more")
    node.expect("--more--")
    first = node.before
    node.send("\r")
    node.expect("--more--")
    assert node.before.replace("\x1b[K", "").count("\n") == 1
    node.send("q")
    node.expect(SHELL)
    assert 18 <= first.count("\n") <= 24  # 23 lines, of which long ones count twice
    node.sendline("log error | more")  # nothing to wait for
    node.expect(SHELL)
    end(node)


def test_tests_in_the_shell(machine):
    node = machine(kernel=BUILD / "orthocone-test.elf", command_line="ktest=shell", cpus=1)
    node.expect(SHELL)
    assert "ok 1 ring_put_and_get" in text_of(node, "test ring_*")
    assert "bench: " in text_of(node, "bench spin_locks")
    assert "test" in text_of(node, "help | match patt")
    end(node)


def test_log_of_the_previous_boot(machine):
    node = machine(kernel=KERNEL, reboot=True, command_line="panic=reset")
    node.expect(SHELL)
    assert "left no log" in text_of(node, "log previous")
    node.sendline("reboot")
    node.expect(r"log: that of the previous boot is there")
    node.expect(SHELL)
    text = text_of(node, "log previous", log=True)
    assert "node: ready" in text and "previous boot" not in text
    assert "node: ready" in text_of(node, "log previous ready", log=True)
    end(node)


def test_panic_in_the_previous_log(machine):
    node = machine(kernel=BUILD / "orthocone-test.elf", reboot=True, cpus=1,
                   command_line="ktest=shell panic=reset loglevel=error")
    node.expect(SHELL)
    node.sendline('panic "a reason"')
    node.expect("PANIC on CPU 0")
    node.expect(SHELL)
    text = text_of(node, "log previous", log=True)
    assert re.search(r"PANIC on CPU 0.*a reason", text) and "end of panic report" in text
    end(node)


def test_reboot(machine):
    node = machine(kernel=KERNEL, reboot=True)
    node.expect(SHELL)
    node.sendline("reboot")
    node.expect(r"Orthocone \S+")
    node.expect(SHELL)
    end(node)


@pytest.mark.parametrize("cpu", ["max,-svm", "qemu64,-svm"])
def test_without_svm(machine, scratch, cpu):
    tree = Tree(scratch / "tree")
    tree.add_vm(manifest("hello"))
    node = machine(**tree.arguments(), cpu=cpu)
    node.expect(r"no virtual machines on this node: (.*?)\r\n")
    assert "no hardware virtualisation" in node.match[0]
    node.expect(SHELL)
    assert "no hardware virtualisation" in text_of(node, "vm list")
    end(node)


@pytest.mark.parametrize("memory", ["32M", "6G"])
def test_memory_sizes(machine, memory):
    node = machine(kernel=KERNEL, memory=memory, cpus=1)
    node.expect(SHELL)
    end(node)


def test_repeat(machine):
    node = machine(kernel=KERNEL, cpus=1)
    node.expect(SHELL)
    assert text_of(node, 'repeat 2 echo "a  b" then echo c').endswith("a  b\nc\na  b\nc")
    assert text_of(node, "repeat 5 echo x then vm lst").splitlines()[-1] == "repeat: failed in round 1 of 5"
    assert text_of(node, "repeat 3 echo x then echo y | match y") == "y\ny\ny"
    assert "usage: repeat" in text_of(node, "repeat 3 repeat 3 echo x")
    assert "usage: repeat" in text_of(node, "repeat x echo y")
    node.sendline("repeat 100000 sleep 10")
    node.expect(r"repeat 100000")
    node.send("\x03")
    node.expect(r"repeat: stopped in round \d+ of 100000")
    node.sendline("sleep 1000000000")
    node.expect(r"sleep 1000000000")
    node.send("\x03")
    node.expect(SHELL)
    end(node)
