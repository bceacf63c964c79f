"""The kernel's gdb stub on the second serial port, driven by gdb itself."""

import re
import subprocess
import time

import pytest
from lib.machine import BUILD
from lib.vm import KERNEL

from session import SHELL, command, end

SYMBOLS = BUILD / "orthocone.elf"
SECONDS = 25


class Gdb:
    """One gdb after the other at the node's second serial port."""

    def __init__(self, path):
        self.path = path
        self.ready = path.with_suffix(".ready")

    def start(self, *commands):
        """gdb with these commands; once it says "ready", the node runs again."""
        self.ready.unlink(missing_ok=True)
        arguments = ["gdb", "-nx", "-batch", "-ex", "set pagination off", "-ex", "set confirm off",
                     "-ex", "set remotetimeout 20", "-ex", f"target remote {self.path}"]
        for line in commands:
            arguments += ["-ex", f"shell touch {self.ready}" if line == "ready" else line]
        return subprocess.Popen(arguments + [str(SYMBOLS)], text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def wait_ready(self, process):
        deadline = time.monotonic() + SECONDS
        while not self.ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("gdb did not get ready:\n" + self.finish(process))
            time.sleep(0.05)

    @staticmethod
    def finish(process):
        try:
            return process.communicate(timeout=SECONDS)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError("gdb hangs:\n" + process.communicate()[0]) from None

    def run(self, *commands):
        return self.finish(self.start(*commands))


@pytest.fixture
def debugged(machine, scratch):
    """debugged(command line): a node and the gdb for it."""

    def start(command_line, cpus=2):
        path = scratch / "gdb.sock"
        node = machine(kernel=KERNEL, command_line=command_line, cpus=cpus,
                       com2=f"unix:{path},server=on,wait=off")
        return node, Gdb(path)

    return start


def test_stop_and_look(debugged):
    node, gdb = debugged("gdb=com2")
    node.expect(SHELL)
    text = gdb.run("info threads", "print nk_cpu_count", "print/x $cs", "x/2i nk_panic",
                   "print *(int *)0x10", "print *(int *)0xdeadbeefdeadbeef",
                   "thread find shell", "detach")
    assert re.search(r"Thread \d+ \(shell, blocked", text), text
    assert len(re.findall(r"Thread \d+ \(idle", text)) == 2
    assert len(re.findall(r"on CPU [01]\)", text)) == 2
    assert "$1 = 2" in text and "$2 = 0x8" in text, text
    assert "Cannot access memory at address 0x10" in text, text
    assert "Cannot access memory at address 0xdeadbeefdeadbeef" in text, text
    assert command(node, "echo on it goes")[-1] == "on it goes"
    end(node)


def test_breakpoints_and_steps(debugged):
    node, gdb = debugged("gdb=com2")
    node.expect(SHELL)
    process = gdb.start(
        "break cmd_uptime", "ready", "continue", "bt 3", "info registers rip rdi",
        "stepi", "stepi", "info registers eflags", "next", "delete",
        "hbreak cmd_date", "continue", "bt 1", "delete",
        "set var nk_bootinfo.loader[0] = 'Q'",
        "print nk_bootinfo.loader[0]", "set $rax = 0x1234", "print/x $rax",
        "thread apply all bt 4", "detach")
    gdb.wait_ready(process)
    node.sendline("uptime")
    node.sendline("date")
    text = gdb.finish(process)
    assert "Breakpoint 1, cmd_uptime (argc=1" in text, text
    assert "shell_execute" in text, text
    assert re.search(r"Breakpoint \d, cmd_date \(argc=1", text)
    assert re.search(r"eflags +0x\w+ +\[(?!.*TF).* IF ", text), text
    assert "81 'Q'" in text and "0x1234" in text, text
    assert re.search(r"sched_wait_irqs_off|sched_run_next", text), text  # a thread off its CPU
    node.expect(r"\d days \d\d:\d\d")
    node.expect(r"UTC")
    end(node)


def test_watchpoint(debugged):
    node, gdb = debugged("gdb=com2")
    node.expect(SHELL)
    process = gdb.start("watch console_level", "ready", "continue", "bt 1", "print console_level", "detach")
    gdb.wait_ready(process)
    node.sendline("loglevel error")
    text = gdb.finish(process)
    assert re.search(r"Hardware watchpoint 1: console_level", text), text
    assert "Old value = NK_LOG_INFO" in text and "New value = NK_LOG_ERROR" in text, text
    assert "nk_log_set_console_level" in text, text
    assert command(node, "loglevel")[-1] == "error"
    end(node)


def test_wait_at_boot(debugged):
    node, gdb = debugged("gdb=wait", cpus=1)
    node.expect(r"gdb: waiting")
    text = gdb.run("bt", "break nk_node_start", "continue", "bt 1", "info threads", "delete", "detach")
    assert "kernel_main" in text and re.search(r"Breakpoint 1, .*nk_node_start", text), text
    assert re.search(r"\* \d+ +Thread \d+ \(main, running on CPU 0\)", text)
    node.expect(SHELL)
    end(node)


def test_interrupt(debugged):
    """gdb's Ctrl-C while the node runs."""
    node, gdb = debugged("gdb=com2")
    node.expect(SHELL)
    process = gdb.start("python import threading, os, signal",
                        "python threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()",
                        "continue", "info threads", "detach")
    text = gdb.finish(process)
    assert "received signal SIGINT" in text, text
    assert "shell, blocked" in text, text
    assert command(node, "echo alive")[-1] == "alive"
    end(node)
