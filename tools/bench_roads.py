"""How long it takes from reset: to the kernel's shell, to a guest's first instruction, to the guest's shell."""

import os
import re
import struct
import subprocess

from lib import rom
from lib.machine import BUILD, TOP, Machine
from lib.vm import GUESTS, KERNEL, LINUX, Tree, linux_manifest, manifest
from session import SHELL, command

FLASH_KIB = 16384
GRUB_MODULES = "multiboot2 normal serial terminal echo boot iso9660 fat search search_fs_file all_video configfile"


def like_linux():
    """The guest that tells its TSC first of all, as large as Debian's kernel: (image, initrd)."""
    image = bytearray((GUESTS / "hello.bz").read_bytes())
    linux = (LINUX / "vmlinuz").read_bytes()
    image += linux[len(image):]
    setup = (image[0x1f1] + 1) * 512
    struct.pack_into("<I", image, 0x1f4, (len(image) - setup) // 16)
    struct.pack_into("<I", image, 0x260, max(struct.unpack_from("<I", image, 0x260)[0], len(image)))
    return bytes(image)


def road_rom(scratch, files):
    image = rom.create(scratch / "node.rom", size=FLASH_KIB, kernels=[("A", KERNEL), ("B", KERNEL)],
                       files=files.modules, tree=files.directory)
    return {"firmware": image}


def road_iso(scratch, files):
    image = scratch / "node.iso"
    (files.directory / "orthocone.elf").symlink_to(KERNEL)
    subprocess.run([TOP / "tools/mkiso", image, TOP / "iso/grub.cfg.in", "", GRUB_MODULES, files.directory,
                    *files.modules], check=True, env={"SOURCE_DATE_EPOCH": "0", **os.environ})
    return {"iso": image}


def road_kernel(_, files):
    return files.arguments()


ROADS = {"rom": road_rom, "kernel": road_kernel, "iso": road_iso}


def seconds(pattern, text):
    """The time stamp of a line of the log, in instructions."""
    match = re.search(r"^\[ *(\d+)\.(\d+)\] (?:debug: )?" + pattern, text, re.M)
    return int(match[1]) * 10**9 + int(match[2]) * 1000


def boot(scratch, counted, road, files, label):
    """{what: instructions from reset} of a boot whose guest prints `label` and its TSC, and ends."""
    scratch.mkdir(parents=True)
    with Machine(scratch / "machine", **counted, **ROADS[road](scratch, files)) as node:
        node.expect(label + r"(\d+)\D")  # all digits: a part of the line may come first
        guest = int(node.match[0])
        node.expect(r"vm \S+: stopped")
        node.sendline()
        node.expect(SHELL)
        log = "\n".join(command(node, "log debug", log=True))
    entry = int(re.search(r"the TSC was at (\d+) when", log)[1])
    return {"entry": entry, "shell": entry + seconds("node: ready", log),
            "guest": entry + seconds("vm: power on", log) + guest}


def measure(scratch, counted, initrd):
    """`initrd`: bytes of one whose guest prints its TSC when its shell starts."""
    result = {}
    for road in ROADS:
        where = scratch / road
        first = Tree(where / "first-tree")
        first.add("hello.bz", like_linux())
        first.add("linux/initrd", initrd)
        small = manifest("hello", cpus=(0,), memory=256)
        small["boot-source"]["initrd_path"] = "linux/initrd"
        first.add_vm(small)
        got = boot(where / "first", counted, road, first, "hello: tsc ")
        result[f"{road}.entry"] = got["entry"] / 1e6
        result[f"{road}.first"] = got["guest"] / 1e6
        shell = Tree(where / "shell-tree")
        shell.add("linux/initrd", initrd)
        shell.add_vm(linux_manifest(args="console=ttyS0 quiet", cpus=(0,), power="stop"))
        got = boot(where / "shell", counted, road, shell, "bench: init_tsc ")
        result[f"{road}.shell"] = got["shell"] / 1e6
        result[f"{road}.guest"] = got["guest"] / 1e6
    return result
