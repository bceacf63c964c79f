"""Bochs as the machine under test: Intel VMX, and a second AMD SVM. Same use as lib.machine.Machine."""

import contextlib
import fcntl
import functools
import os
import pathlib
import shlex
import socket
import struct
import subprocess
import time

import pexpect
import pexpect.fdpexpect

from lib.machine import BUILD, TOP, Machine, die_with_parent

# MACHINE= to Bochs' CPU model; the rest of the cpu: line.
MODELS = {
    "bochs-vmx": "corei7_haswell_4770",
    "bochs-vmx-skylake": "corei7_skylake_x",
    "bochs-svm": "zambezi",
    "bochs-svm-ryzen": "ryzen",
}

# Without VBE: GRUB, asked for a framebuffer, does not come back from this VGA BIOS.
CONFIG = """\
plugin_ctrl: unmapped=true, biosdev=true, serial=true, extfpuirq=true, speaker=false, parallel=false
display_library: rfb, options="timeout=0"
config_interface: textconfig
cpu: model={model}, count={cpus}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1{cpu_options}
memory: guest={memory}, host={memory}
romimage: file={firmware}
vga: extension=none
vgaromimage: file=/usr/share/vgabios/vgabios.bin
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}
port_e9_hack: enabled=1
clock: sync=none, time0=1700000000
log: bochs.log
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
"""

BIOS = "/usr/share/bochs/BIOS-bochs-latest"

CDROM = """\
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={iso}, status=inserted
"""

# Kernel and modules are in memory when the BIOS calls the ROM that enters the kernel: five times as fast as a CD.
MEMORY = """\
boot: cdrom
optromimage1: file="boot.rom", address=0x{rom:x}
optramimage1: file="memory.img", address=0x{image:x}
"""

ROM_BASE = 0xd0000
IMAGE_BASE = 64 << 20  # see bochs_rom.asm for these three
BLOCK = 128 << 10
STAMPS = 64
MULTIBOOT_MAGIC = 0x1badb002
MULTIBOOT_SEARCH = 8192  # the header is in as many bytes of the file
RECORD_SIZE = 128
RECORD_FLAGS = 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9  # command line, modules, memory map, loader's name
PAGE = 4096
ACPI_SIZE = 64 << 10  # of the BIOS's tables, at the end of memory
RAM, RESERVED, ACPI = 1, 2, 3


def align(size):
    return -size % PAGE


def kernel_image(path):
    """What a multiboot 1 loader makes of a kernel's file: (bytes to load, address, end of bss, entry)."""
    data = path.read_bytes()
    at = data.index(struct.pack("<I", MULTIBOOT_MAGIC), 0, MULTIBOOT_SEARCH)
    header, load, load_end, bss_end, entry = struct.unpack_from("<5I", data, at + 12)
    offset = at - (header - load)
    return data[offset:offset + load_end - load], load, bss_end, entry


def memory_map(memory):
    """The ranges that BIOS-bochs reports by INT 15h, function E820h, as multiboot 1 has them."""
    top = memory << 20
    ranges = [(0, 0x9fc00, RAM), (0x9fc00, 0x400, RESERVED), (0xe8000, 0x18000, RESERVED),
              (0x100000, top - ACPI_SIZE - 0x100000, RAM), (top - ACPI_SIZE, ACPI_SIZE, ACPI),
              (0xfffc0000, 0x40000, RESERVED)]
    return b"".join(struct.pack("<IQQI", 20, base, length, kind) for base, length, kind in ranges)


def module_image(base, command_line, modules, tree, memory):
    """Multiboot 1 information, to lie at `base`, with all that it points to behind it: modules, their names."""
    files = [(pathlib.Path(tree) / line.split()[0]).read_bytes() for line in modules]
    texts = [line.encode() + b"\0" for line in (command_line, "the test's option ROM", *modules)]
    ranges = memory_map(memory)
    ranges_at = base + RECORD_SIZE
    list_at = ranges_at + len(ranges)
    text_at = list_at + 16 * len(files)
    text_starts = [text_at + sum(map(len, texts[:i])) for i in range(len(texts))]
    head_size = text_at + sum(map(len, texts)) - base
    at = base + head_size + align(head_size)
    rows, body = b"", b""
    for content, name in zip(files, text_starts[2:]):
        rows += struct.pack("<4I", at, at + len(content), name, 0)
        body += content + bytes(align(len(content)))
        at += len(content) + align(len(content))
    record = struct.pack("<16I", RECORD_FLAGS, 0, 0, 0, text_starts[0], len(files), list_at, 0, 0, 0, 0, len(ranges),
                         ranges_at, 0, 0, 0) + struct.pack("<I", text_starts[1])
    head = record.ljust(RECORD_SIZE, b"\0") + ranges + rows + b"".join(texts)
    return head + bytes(align(head_size)) + body


def put_in_memory(directory, kernel, command_line, modules, tree, memory):
    """Files of a machine that finds the kernel in its memory; their lines of the configuration."""
    image, load, bss_end, entry = kernel_image(pathlib.Path(kernel))
    record = bss_end + align(bss_end)
    payload = image.ljust(record - load, b"\0") + module_image(record, command_line, modules, tree, memory)
    with open(directory / "memory.img", "wb") as file:
        for number in range(1, STAMPS + 1):
            file.seek(number * BLOCK)
            file.write(struct.pack("<I", number))
        file.seek((STAMPS + 1) * BLOCK)
        file.write(payload)
    numbers = {"IMAGE": IMAGE_BASE, "BLOCK": BLOCK, "STAMPS": STAMPS, "SIZE": len(payload), "TARGET": load,
               "ENTRY": entry, "RECORD": record, "ROM_BASE": ROM_BASE}
    rom = directory / "boot.rom"
    subprocess.run(["nasm", "-f", "bin", *(f"-D{name}={value}" for name, value in numbers.items()), "-o", rom,
                    TOP / "tests/lib/bochs_rom.asm"], check=True)
    code = bytearray(rom.read_bytes())
    code[-1] = -sum(code) & 0xff
    rom.write_bytes(code)
    return MEMORY.format(rom=ROM_BASE, image=IMAGE_BASE)


def prepare(directory, model, port, *, iso=None, kernel=None, command_line="", modules=(), tree=BUILD / "image/boot",
            cpus=1, memory=512, firmware=BIOS):
    """All files of a machine, in its directory; returns the command."""
    name = MODELS[model]
    text = CONFIG.format(model=name, cpus=cpus, memory=memory, port=port, firmware=firmware,
                         cpu_options=", mwait_is_nop=1" if name == "ryzen" else "")
    if kernel:
        text += put_in_memory(directory, kernel, command_line, modules, tree, memory)
    elif iso:
        text += CDROM.format(iso=pathlib.Path(iso).resolve())
    (directory / "machine.rc").write_text(text)
    (directory / "go").write_text("c\n")  # the package's debugger waits for this
    return ["bochs", "-q", "-f", "machine.rc", "-rc", "go"]


def listens(process):
    """Whether it has a TCP socket that listens."""
    sockets = set()
    with contextlib.suppress(OSError):
        sockets = {os.readlink(path) for path in pathlib.Path(f"/proc/{process.pid}/fd").iterdir()}
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[3] == "0A" and f"socket:[{row[9]}]" in sockets for row in rows)


@contextlib.contextmanager
def one_at_a_time():
    """Of two that try the same port for their screen at the same time, one ends ("RFB could not bind any port"): both
    bind it, since neither listens yet, and a socket that is bound cannot try the next port."""
    with open(BUILD / "bochs.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start(directory, model, **what):
    """Start a machine; returns its process and the socket of its serial line."""
    with one_at_a_time(), socket.create_server(("127.0.0.1", 0)) as server:
        command = prepare(directory, model, server.getsockname()[1], **what)
        with open(directory / "emulator.log", "wb") as log:
            process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**os.environ, "TERM": "dumb"}, preexec_fn=die_with_parent)
        server.settimeout(30)
        try:
            line = server.accept()[0]
        except socket.timeout:
            process.kill()
            raise AssertionError(f"Bochs did not start: {directory}/emulator.log") from None
        while process.poll() is None and not listens(process):
            time.sleep(0.01)
        return process, line


class BochsMachine(Machine):
    """
    model    key of MODELS
    firmware the flash image, at most 4 MiB
    others   as of Machine; a kernel and its modules are put into memory, and entered by an option ROM
    """

    def __init__(self, scratch, model, *, memory="512M", timeout=120, **what):
        self.scratch = pathlib.Path(scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.timeout = timeout
        self.output = bytearray()
        self.process, self.socket = start(self.scratch, model, memory=int(memory.rstrip("M")), **what)
        self.command = f"cd {shlex.quote(str(self.scratch))} && bochs -q -f machine.rc -rc go " \
                       "(with the serial line's socket open, see com1 in machine.rc)"
        self.console = pexpect.fdpexpect.fdspawn(self.socket.fileno(), timeout=timeout)
        self.console.delaybeforesend = None
        self.log = open(self.scratch / "serial.log", "wb")
        self.console.logfile_read = self

    def wait(self, timeout=None, unless=None):
        """As Machine.wait(). Bochs' own status says nothing: 0 when the node powered the machine off."""
        super().wait(timeout, unless)
        return 0 if "soft power off" in (self.scratch / "bochs.log").read_text(errors="replace") else 1

    def emulator_log(self):
        return (self.scratch / "emulator.log").read_text(errors="replace")


def machine(kind, scratch, **what):
    """A machine by the name that MACHINE= has: "qemu", or one of MODELS."""
    maker = Machine if kind == "qemu" else functools.partial(BochsMachine, model=kind)
    return maker(scratch, **what)
