"""Flash images for tests: made by tools/romtool from the build's loader, and damaged on purpose."""

import importlib.machinery
import importlib.util
import struct
import subprocess

from lib.machine import BUILD, TOP
from lib.vm import KERNEL

ROMTOOL = TOP / "tools/romtool"
PARTS = ["--reset", BUILD / "rom/reset.bin", "--loader", BUILD / "rom/loader.bin"]


def load_romtool():
    loader = importlib.machinery.SourceFileLoader("romtool", str(ROMTOOL))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("romtool", loader))
    loader.exec_module(module)
    return module


def run(*arguments):
    """What romtool prints, and whether it was content."""
    done = subprocess.run(["/usr/bin/python3", ROMTOOL, *map(str, arguments)], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.strip(), done.returncode == 0


def create(path, *, size=1024, kernels=(("A", KERNEL), ("B", KERNEL)), cmdline="", files=(), tree="."):
    slots = [word for slot, kernel in kernels for word in ("--kernel", f"{slot}={kernel}")]
    text, good = run("create", path, "--size", size, *PARTS, *slots, "--cmdline", cmdline, "--tree", tree,
                     "--files", *files)
    assert good, text
    return path


def layout(path):
    """{part: (offset, bytes)} of a sound image."""
    image, _, _ = load_romtool().read_image(path)
    return {name: (offset, len(content)) for name, offset, content in image.layout()}


def flip(path, offset, bit=0):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def flip_in(path, part):
    """Flip a bit in the middle of a part."""
    offset, size = layout(path)[part]
    flip(path, offset + size // 2)


def tiny_kernel(code):
    """An ELF image of some bytes of 32-bit code, entered as a kernel is."""
    at = 0x100000
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, at, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 4096, at, at, len(code), len(code), 4096)
    return (header + segment).ljust(4096, b"\0") + code
