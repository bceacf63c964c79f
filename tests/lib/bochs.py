"""Bochs as the machine under test: Intel VMX, and a second AMD SVM. Same use as lib.machine.Machine."""

import functools
import os
import pathlib
import shlex
import shutil
import socket
import subprocess

import pexpect
import pexpect.fdpexpect

from lib.machine import BUILD, Machine, die_with_parent

# MACHINE= to Bochs' CPU model; the rest of the cpu: line.
MODELS = {
    "bochs-vmx": "corei7_haswell_4770",
    "bochs-vmx-skylake": "corei7_skylake_x",
    "bochs-svm": "ryzen",
    "bochs-svm-zambezi": "zambezi",
}

# Without VBE: GRUB, asked for a framebuffer, does not come back from this VGA BIOS.
CONFIG = """\
plugin_ctrl: unmapped=true, biosdev=true, serial=true, extfpuirq=true, speaker=false, parallel=false
display_library: rfb, options="timeout=0"
config_interface: textconfig
cpu: model={model}, count={cpus}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1{cpu_options}
memory: guest={memory}, host={memory}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
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

CDROM = """\
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={iso}, status=inserted
"""

GRUB = """\
serial --unit=0 --speed=115200
terminal_output console
multiboot2 /boot/orthocone.elf {command_line}
{modules}boot
"""
GRUB_MODULES = "multiboot2 normal serial terminal boot iso9660"


def make_iso(directory, kernel, command_line, modules, tree):
    """A BIOS-only image with this kernel and these modules: Bochs has no other loader."""
    staging = directory / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "boot/grub").mkdir(parents=True)
    shutil.copy(kernel, staging / "boot/orthocone.elf")
    lines = ""
    for module in modules:
        path = staging / "boot" / module.split()[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pathlib.Path(tree) / module.split()[0], path)
        lines += f"module2 /boot/{module.split()[0]} {module}\n"
    (staging / "boot/grub/grub.cfg").write_text(GRUB.format(command_line=command_line, modules=lines))
    image = directory / "boot.iso"
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", image, "--fonts=", "--locales=",
                    "--themes=", f"--install-modules={GRUB_MODULES}", staging], check=True, capture_output=True)
    shutil.rmtree(staging)
    return image


def prepare(directory, model, port, *, iso=None, kernel=None, command_line="", modules=(), tree=BUILD / "image/boot",
            cpus=1, memory=512):
    """All files of a machine, in its directory; returns the command."""
    name = MODELS[model]
    text = CONFIG.format(model=name, cpus=cpus, memory=memory, port=port,
                         cpu_options=", mwait_is_nop=1" if name == "ryzen" else "")
    image = iso or make_iso(directory, kernel, command_line, modules, tree)
    text += CDROM.format(iso=pathlib.Path(image).resolve())
    (directory / "machine.rc").write_text(text)
    (directory / "go").write_text("c\n")  # the package's debugger waits for this
    return ["bochs", "-q", "-f", "machine.rc", "-rc", "go"]


def start(directory, model, **what):
    """Start a machine; returns its process and the socket of its serial line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = prepare(directory, model, server.getsockname()[1], **what)
        with open(directory / "emulator.log", "wb") as log:
            process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**os.environ, "TERM": "dumb"}, preexec_fn=die_with_parent)
        server.settimeout(30)
        try:
            return process, server.accept()[0]
        except socket.timeout:
            process.kill()
            raise AssertionError(f"Bochs did not start: {directory}/emulator.log") from None


class BochsMachine(Machine):
    """
    model    key of MODELS
    others   as of Machine; a kernel and its modules are put into an ISO image of their own
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
