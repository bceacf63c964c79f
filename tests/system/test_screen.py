"""Screen and keyboard: QEMU's VGA and PS/2 keyboard, by its monitor."""

import json
import re
import socket
import time

import pytest
from lib.machine import BUILD, TOP
from lib.vm import KERNEL

from session import SHELL, command, end

COLUMNS, ROWS = 80, 25
KEYS = {" ": "spc"}


class Monitor:
    """QEMU's machine protocol on a socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rw")
        self.stream.readline()
        self.run("qmp_capabilities")

    def run(self, name, **arguments):
        self.stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "event" not in answer:
                assert "error" not in answer, answer
                return answer["return"]

    def human(self, line):
        return self.run("human-monitor-command", **{"command-line": line})

    def type(self, text):
        for char in text:
            self.human(f"sendkey {KEYS.get(char, char)} 20")
            time.sleep(0.05)


@pytest.fixture
def with_monitor(machine, scratch):
    def start(ready=SHELL, **arguments):
        path = scratch / "qmp.sock"
        node = machine(extra=["-qmp", f"unix:{path},server=on,wait=off"], **arguments)
        node.expect(ready, 150)
        return node, Monitor(path)

    return start


def vga_lines(monitor, scratch):
    monitor.run("pmemsave", val=0xb8000, size=2 * COLUMNS * ROWS, filename=f"{scratch}/vga")
    cells = (scratch / "vga").read_bytes()[::2].decode("ascii")
    return [cells[at:at + COLUMNS].rstrip() for at in range(0, COLUMNS * ROWS, COLUMNS)]


def wait_for(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def test_text_mode_and_keyboard(with_monitor, scratch):
    node, monitor = with_monitor(kernel=KERNEL)

    def shows(pattern):
        wait_for(lambda: re.search(pattern, "\n".join(vga_lines(monitor, scratch)), re.M),
                 lambda: "\n".join(vga_lines(monitor, scratch)))

    shows(r"^\[ +0\.\d+\] Orthocone ")  # the log from its first line on
    shows(r"^orthocone>$")
    monitor.type("echo frm")
    monitor.human("sendkey left")
    monitor.type("ox")
    monitor.human("sendkey backspace")
    monitor.human("sendkey ret")
    node.expect(r"\nfrom\r\n")
    shows(r"^from\n+orthocone>$")
    monitor.human("sendkey up")
    monitor.human("sendkey ret")
    node.expect(r"\nfrom\r\n")
    assert command(node, "echo by serial line")[-1] == "by serial line"
    shows(r"^by serial line$")
    command(node, "help")
    shows(r"poweroff")
    lines = vga_lines(monitor, scratch)
    assert not any("Orthocone " in line for line in lines)  # scrolled away
    command(node, "clear")
    wait_for(lambda: sum(1 for line in vga_lines(monitor, scratch) if line) <= 3,
             lambda: "\n".join(vga_lines(monitor, scratch)))
    end(node)


CELL_WIDTH, CELL_HEIGHT = 8, 16


def font():
    """{the 7 lines of dots: letter}, from the font's source."""
    rows = re.findall(r"\['(\\?.)' - FIRST\] = \{(.*?)\}", (TOP / "drivers/font.c").read_text())
    return {tuple(int(dots, 16) for dots in row.split(", ")): letter[-1] for letter, row in rows}


def framebuffer_lines(monitor, scratch):
    """The text on a graphical screen; '?' for what is no letter."""
    path = scratch / "screen.ppm"
    monitor.run("screendump", filename=str(path))
    header = re.match(rb"P6\s(\d+) (\d+)\s255\s", path.read_bytes())
    width, height = int(header[1]), int(header[2])
    green = path.read_bytes()[header.end() + 1::3]
    letters = font()
    lines = []
    for top in range(0, height - CELL_HEIGHT + 1, CELL_HEIGHT):
        line = ""
        for left in range(0, width - CELL_WIDTH + 1, CELL_WIDTH):
            rows = [green[(top + 1 + 2 * dot) * width + left:][:CELL_WIDTH] for dot in range(7)]
            dots = tuple(sum(1 << (4 - x) for x in range(5) if row[x + 1] > 64) for row in rows)
            line += letters.get(dots, "?")
        lines.append(line.rstrip())
    return lines


def test_framebuffer(with_monitor, scratch):
    _, monitor = with_monitor(ready="vm linux: 1 vCPU", iso=BUILD / "orthocone.iso", firmware="uefi")

    def shown():
        return "\n".join(framebuffer_lines(monitor, scratch))

    wait_for(lambda: re.search(r"^\[ +\d+\.\d+\] Orthocone ", shown(), re.M), shown)
    wait_for(lambda: re.search(r"^\[ +\d+\.\d+\] virtualisation: ", shown(), re.M), shown)
