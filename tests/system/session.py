"""What the system tests share: prompts, marks in the output, steps that many tests take."""

import re

SHELL = r"orthocone> "
GUEST = r"~ # "
BANNER = r"Orthocone guest: Linux"
KEY_CONSOLE = "\x1d"  # Ctrl-]
LINUX_BOOT = 150  # seconds; some 20 on an idle machine


def guest_shell(node):
    """Wait until Linux in the VM in front is at its shell."""
    node.expect(BANNER, LINUX_BOOT)
    node.expect(GUEST)


def to_node(node):
    """From a guest's console to the kernel's shell."""
    node.send(KEY_CONSOLE)
    node.expect(r"\[console: shell")
    node.sendline()
    node.expect(SHELL + r"\r\n.*" + SHELL)


def to_guest(node, name):
    """From the kernel's shell to the console of the guest left last."""
    node.send(KEY_CONSOLE)
    node.expect(rf"\[console: {name}")


def vm_states(node):
    """{name: (state, reason)} by "vm list"."""
    rows = node.run("vm list", SHELL).splitlines()
    states = {}
    for row in rows[1:]:
        name, state, _, _, _, *reason = row.split(maxsplit=5)
        states[name] = (state, " ".join(reason))
    return states


def free_kib(node):
    """The node's free memory, summed over NUMA nodes."""
    return sum(int(kib) for kib in re.findall(r"(\d+) KiB free,", node.run("mem", SHELL)))
