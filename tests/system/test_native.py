"""Native applications: boot modules with a main(), run from the shell."""

import random
import re
import shutil

import pytest
from lib.machine import BUILD
from lib.vm import KERNEL, Tree, manifest

from session import SHELL, command, end, free_kib, to_node

NATIVE = BUILD / "native"


@pytest.fixture
def node_with(machine, scratch):
    """node_with({module name: file or bytes}): a node at its shell with these modules."""

    def start(files, **arguments):
        tree = scratch / "tree"
        for name, content in files.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copy(content, path)
        node = machine(kernel=KERNEL, modules=list(files), tree=tree, **arguments)
        node.expect(SHELL)
        return node

    return start


def run(node, line):
    return "\n".join(command(node, f"run {line}", timeout=200))


def test_hello_and_stream(node_with):
    node = node_with({"native/hello": NATIVE / "hello", "native/stream": NATIVE / "stream"})
    run(node, "hello")  # what the kernel's caches keep is kept from here on
    before = free_kib(node)
    text = run(node, 'hello one "two words"')
    assert "hello from hello, with 2 arguments [one] [two words]" in text
    assert "pi is about 3.14159" in text
    assert "hello: ended with 0" in text
    assert "hello: ended with 7" in run(node, "hello status 7")
    text = run(node, "stream 2 2")
    assert len(re.findall(r"^(copy|scale|add|triad) +\d+\.\d MB/s$", text, re.M)) == 4
    assert "stream: ended with 0" in text
    assert "usage: stream" in run(node, "stream 0")
    assert 'unknown application "strem"; did you mean "stream"?' in run(node, "strem")
    assert abs(free_kib(node) - before) <= 64
    end(node)


@pytest.mark.parametrize("cpus", [1, 2])
def test_runtime(node_with, cpus):
    node = node_with({"native/checks": NATIVE / "checks"}, cpus=cpus)
    text = run(node, "checks")
    assert "checks: 0 failed" in text and "at exit" in text
    assert "checks: ended with 0" in text
    before = free_kib(node)
    assert "checks: ended with 5" in run(node, "checks exit")
    assert "checks: ended with 134" in run(node, "checks abort")
    text = "\n".join(command(node, "run checks fault", log=True))
    assert re.search(r"checks: #PF page fault at 0x8, in main\+0x", text)
    assert "checks: ended with 206" in text
    text = "\n".join(command(node, "run checks fault wild", log=True))
    assert re.search(r"checks: #GP general protection, in main\+0x", text)
    assert abs(free_kib(node) - before) <= 64
    end(node)


@pytest.mark.parametrize("cpus", [1, 3])
def test_beside_guests(machine, scratch, cpus):
    """World switches on its CPU and on others leave an application its registers and its thread-local storage."""
    first, last = (0, 0) if cpus == 1 else (1, 2)
    tree = Tree(scratch / "tree")
    tree.add_vm(manifest("steady", cpus=(first,), memory=16))
    tree.add_vm(manifest("steady", cpus=(last,), memory=16, name="other"))
    tree.add("native/checks", NATIVE / "checks")
    node = machine(**tree.arguments(), cpus=cpus)
    node.expect("sums, ")
    to_node(node)
    for _ in range(2):
        assert "checks: 0 failed" in run(node, "checks")
    for vm in ("steady", "other"):
        rows = re.findall("(\\d+) wrong", "\n".join(command(node, f"vm output {vm}")))
        assert rows and set(rows) == {"0"}
    end(node)


def test_input_and_interrupt(node_with):
    node = node_with({"native/checks": NATIVE / "checks"})
    node.sendline("run checks echo")
    node.expect("type\r\n")
    node.send("one\r")
    node.expect("line 1: one\r\n")
    node.send("twx\x7fo\r")  # mended
    node.expect("line 2: two\r\n")
    node.send("gone\x15three\r")  # begun again
    node.expect("line 3: three\r\n")
    node.send("\x04")
    node.expect("3 lines, end 1\r\n")
    node.expect("checks: ended with 3\r\n")
    node.expect(SHELL)
    for how in ("echo", "spin"):  # Ctrl-C, while it reads and while it computes
        node.sendline(f"run checks {how}")
        node.expect({"echo": "type", "spin": "spinning"}[how] + "\r\n")
        node.send("\x03")
        node.expect("checks: ended with 130\r\n")
        node.expect(SHELL)
    node.sendline("repeat 5 run checks spin")
    node.expect("spinning\r\n")
    node.send("\x03")
    node.expect("repeat: stopped in round 1 of 5")
    end(node)


def test_bad_modules(node_with):
    good = (NATIVE / "hello").read_bytes()
    renamed = good.replace(b"native_grow\0", b"native_grew\0")
    files = {
        "bad/text": b"#!/bin/sh\necho hello\n",
        "bad/empty": b"x",
        "bad/cut": good[: len(good) // 2],
        "bad/linked": good[:16] + b"\2" + good[17:],
        "bad/symbol": renamed,
    }
    reasons = {
        "text": "not a 64-bit ELF file",
        "empty": "not a 64-bit ELF file",
        "cut": "its section table is damaged or cut off",
        "linked": "not a relocatable ELF file",
        "symbol": 'the kernel has no "native_grew"',
    }
    node = node_with(files)
    for name, reason in reasons.items():
        lines = command(node, f"run bad/{name}")
        assert len(lines) <= 2 and lines[-1].startswith(f"bad/{name}: cannot be run: "), lines
        assert reason in lines[-1]
    end(node)


def test_damaged_headers(node_with):
    """Section headers with random numbers in them: refused or run, but the node stays up."""
    good = (NATIVE / "hello").read_bytes()
    table = int.from_bytes(good[0x28:0x30], "little")
    rng = random.Random(1)
    files = {}
    for number in range(16):
        damaged = bytearray(good)
        for _ in range(4):
            at = table + 64 + 8 * rng.randrange((len(good) - table) // 8 - 8)
            damaged[at:at + 8] = rng.choice([b"\xff" * 8, rng.randbytes(8), bytes(8)])
        files[f"bad/{number}"] = bytes(damaged)
    node = node_with(files)
    for name in files:
        command(node, f"run {name}")
    end(node)
