"""A QEMU machine under test: started in its own scratch directory, driven over its serial line."""

import ctypes
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess

import pexpect
import pexpect.fdpexpect

from lib.patience import Limit

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = TOP / "build"
OVMF = "/usr/share/ovmf/OVMF.fd"

LAST_OUTPUT = 3000  # bytes of the serial line shown with a failure
ENDING = 60  # seconds from the end of the serial line to that of the process
PR_SET_PDEATHSIG = 1


class MachineError(AssertionError):
    """What was expected did not come; the text has the last output and how to do it again."""


def die_with_parent():
    """In a child: be killed when the test ends, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine:
    """
    scratch   directory for this machine's files: serial.log, qemu.log, command
    iso       boot this ISO image ...
    disk      ... or this raw disk image, which is not written to ...
    kernel    ... or this multiboot kernel, with command_line and modules
    modules   names below `tree`; "name" or "name arguments", as in grub.cfg
    firmware  "bios", "uefi" or the path of a flash image
    cpu       QEMU's -cpu; "max" has AMD SVM
    com2      what the second serial port leads to, as QEMU names it
    stamps    have QEMU stamp each byte of the first serial port with the host's time, for sent_lines()
    extra     further arguments for QEMU
    timeout   seconds that expect() waits unless told otherwise; a busy host's do not count, see lib.patience
    """

    def __init__(self, scratch, *, iso=None, disk=None, kernel=None, command_line="", modules=(),
                 tree=BUILD / "image/boot", firmware="bios", cpus=2, memory="1G", cpu="max",
                 reboot=False, com2=None, stamps=False, extra=(), timeout=60):
        self.scratch = pathlib.Path(scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.timeout = timeout
        self.output = bytearray()

        qemu = os.environ.get("QEMU", "qemu-system-x86_64")
        arguments = [qemu] + ([] if "-accel" in extra else ["-accel", "tcg"])
        arguments += ["-cpu", cpu, "-smp", str(cpus), "-m", str(memory)]
        arguments += ["-nic", "none", "-display", "none", "-monitor", "none"]
        arguments += [] if reboot else ["-no-reboot"]
        firmware = {"bios": None, "uefi": OVMF}.get(firmware, firmware)
        arguments += ["-bios", str(firmware)] if firmware else []
        arguments += ["-cdrom", str(iso)] if iso else []
        arguments += ["-drive", f"file={disk},format=raw,snapshot=on"] if disk else []
        if kernel:
            arguments += ["-kernel", str(kernel)]
            arguments += ["-append", command_line] if command_line else []
            arguments += ["-initrd", ",".join(modules)] if modules else []
        if stamps:
            arguments += ["-msg", "timestamp=on", "-trace", "serial_write", "-D", str(self.scratch / "trace.log")]
        arguments += list(extra)
        directory = tree if modules else self.scratch

        second = ["-serial", com2] if com2 else []
        stdio = ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", *second]
        self.command = f"cd {shlex.quote(str(directory))} && {shlex.join(arguments + stdio)}"
        (self.scratch / "command").write_text(self.command + "\n")

        ours, theirs = socket.socketpair()
        self.socket = ours
        wires = ["-chardev", f"socket,id=console,fd={theirs.fileno()}"]
        wires += ["-serial", "chardev:console", *second]
        with open(self.scratch / "qemu.log", "wb") as log:
            self.process = subprocess.Popen(
                arguments + wires, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[theirs.fileno()], preexec_fn=die_with_parent)
        theirs.close()
        self.console = pexpect.fdpexpect.fdspawn(ours.fileno(), timeout=timeout)
        self.console.delaybeforesend = None
        self.log = open(self.scratch / "serial.log", "wb")
        self.console.logfile_read = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # pexpect writes what it reads here.
    def write(self, data):
        self.output += data
        self.log.write(data)

    def flush(self):
        self.log.flush()

    def expect(self, pattern, timeout=None):
        """Wait for a regular expression, or the first of several, whose index is returned."""
        patterns = pattern if isinstance(pattern, (list, tuple)) else [pattern]
        compiled = [p.encode() if isinstance(p, str) else p for p in patterns]
        seconds = self.timeout if timeout is None else timeout
        try:
            return self.console_expect(compiled, seconds)
        except pexpect.TIMEOUT:
            raise self.error(f"no {patterns} within {seconds} s") from None
        except (pexpect.EOF, ConnectionResetError):
            status = self.process.wait(ENDING)
            raise self.error(f"no {patterns}: the machine ended with status {status}") from None

    def console_expect(self, patterns, seconds):
        limit = Limit(seconds, lambda: [self.process.pid])
        while True:
            left = limit.left()
            try:
                return self.console.expect(patterns, timeout=left)
            except pexpect.TIMEOUT:
                if left == 0:
                    raise

    @property
    def before(self):
        """What came before the match of the last expect(), as text with plain line ends."""
        return text(self.console.before)

    @property
    def match(self):
        """The groups of the last match, as text."""
        return [text(group) for group in self.console.match.groups()]

    @property
    def text(self):
        """All that came so far."""
        return text(self.output)

    def send(self, keys):
        self.console.send(keys)

    def sendline(self, line=""):
        """Type a line and the Enter key."""
        self.console.send(line + "\r")

    def run(self, line, prompt, timeout=None):
        """Type a command and return what it prints until the prompt, without the echo."""
        self.sendline(line)
        # A prompt that was shown again before the command came is not its end. Terminals wrap longer lines.
        echo = re.escape(line) if len(line) < 60 else ""
        self.expect(echo + r"\r*\n", timeout)
        self.expect(prompt, timeout)
        return self.before.strip("\n")

    def sent_lines(self):
        """Each line of the first serial port with the host's time, in seconds, of its first byte. QEMU takes it in the
        port write itself: how late this process looks does not count."""
        trace = (self.scratch / "trace.log").read_text(errors="replace")
        writes = re.findall(r"@(\d+\.\d+):serial_write write addr 0x00 val 0x(\w\w)", trace)
        output = "".join(chr(int(byte, 16)) for _, byte in writes)
        return [(float(writes[m.start()][0]), m[0]) for m in re.finditer(r"[^\r\n]+", output)]

    def wait(self, timeout=None, unless=None):
        """Wait until the machine ends by itself; QEMU's exit status. It is an error if it says `unless` before."""
        seconds = self.timeout if timeout is None else timeout
        try:
            if self.console_expect([pexpect.EOF] + ([unless.encode()] if unless else []), seconds) == 1:
                raise self.error(f"the machine said {text(self.console.match[0])}")
        except pexpect.TIMEOUT:
            raise self.error(f"the machine did not end within {seconds} s") from None
        except ConnectionResetError:
            pass
        return self.process.wait(ENDING)

    def close(self):
        """End the machine, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.socket.close()
        self.log.close()

    def emulator_log(self):
        return (self.scratch / "qemu.log").read_text(errors="replace")

    def error(self, what):
        self.flush()
        said = self.emulator_log().strip()
        parts = [what, "--- last output ---", text(self.output[-LAST_OUTPUT:])]
        parts += ["--- the emulator says ---", said] if said else []
        parts += ["--- to reproduce ---", self.command]
        return MachineError("\n".join(parts))


def text(data):
    if data is None:
        return None
    return bytes(data).decode(errors="replace").replace("\r", "")
