"""What the system tests share: prompts, marks in the output, steps that many tests take."""

import itertools
import re
import time

SHELL = r"orthocone> "
GUEST = r"~ # "
BANNER = r"Orthocone guest: Linux"
KEY_CONSOLE = "\x1d"  # Ctrl-]
LINUX_BOOT = 150  # seconds; some 5 on an idle machine

marks = itertools.count(1)


def guest_shell(node, seconds=LINUX_BOOT):
    """Wait until Linux in the VM in front is at its shell. Its kernel may warn of a slow host at any time ("hrtimer:
    interrupt took ..."): from here on that stays out of the answers to commands."""
    node.expect(BANNER, seconds)
    node.expect(GUEST)
    node.run("dmesg -n 4", GUEST)


def command(node, line, log=False, timeout=None):
    """A command of the kernel's shell; the lines it prints, those of the log only if asked for. A log line may come at
    any time and draws the prompt anew, so the end is a mark of our own, not the prompt."""
    mark = f"mark-{next(marks)}"
    node.sendline(line)
    node.sendline(f"echo {mark}")
    node.expect(rf"\n{mark}(?!\d)", timeout)
    lines = node.before.replace("\x1b[K", "").splitlines()
    others = SHELL if log else rf"{SHELL}|^\[ *\d+\.\d+\] "
    return [text for text in lines if text and not re.search(others, text)]


def to_node(node):
    """From a guest's console to the kernel's shell."""
    node.send(KEY_CONSOLE)
    node.expect(r"\[console: shell")


def to_guest(node, name):
    """From the kernel's shell to the console of the guest left last."""
    node.send(KEY_CONSOLE)
    node.expect(rf"\[console: {name}")


def vm_states(node):
    """{name: (state, reason)} by "vm list"."""
    states = {}
    for row in command(node, "vm list"):
        match = re.match(r"(\S+) +(\S+) +\d+ +\d+ MiB +(.*)", row)
        if match:
            states[match[1]] = (match[2], match[3])
    return states


def free_kib(node):
    """The node's free memory, with the pages that object caches keep for reuse. An idle CPU gives back what detached
    threads had, so there must be one first."""
    command(node, "sleep 1")
    free = sum(int(kib) for kib in re.findall(r"(\d+) KiB free,", "\n".join(command(node, "mem"))))
    return free + 4 * sum(int(row.split()[-1]) for row in command(node, "mem caches")[1:])


def inflate(node, mib, seconds=60):
    """In the kernel's shell: the balloon of the guest "linux", until its driver has given that much."""
    command(node, f"vm balloon linux {mib}M")
    limit = time.monotonic() + seconds
    while f"balloon {mib} MiB given by the guest" not in "\n".join(command(node, "vm balloon linux")):
        assert time.monotonic() < limit
        time.sleep(0.5)


def balloon_interrupts(node):
    """{interrupt's name: (count, its line's text)} of the balloon's, by Linux."""
    rows = re.findall(r"^ *\d+: +((?:\d+ +)+)(\D.*?) +(virtio\S*)$", node.run("cat /proc/interrupts", GUEST), re.M)
    return {name: (sum(int(count) for count in counts.split()), text) for counts, text, name in rows}


def end(node):
    """Power the node off by its shell; or by that of the guest in front, whose manifest says "power": "node"."""
    node.sendline("poweroff")
    assert node.wait() == 0
