#!/usr/bin/python3
"""Where the bytes of the kernel's image are, and how large the images are: tools/size.py <build> <linker's map>

A row for each folder and third-party part, of what the linker kept; names in libvmm.a are paths, so that the library's
folders are told apart. What the linker put between is the padding of sections and functions.
"""

import collections
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
from bench_targets import IMAGES  # noqa: E402

SECTIONS = ["text", "rodata", "data", "bss"]
DEEPER = "vmm"  # the folder whose folders are shown, too


def contributions(path):
    """(section of the image, name of an object, bytes) of everything in it."""
    with open(path, encoding="utf-8") as file:
        text = file.read().split("\nLinker script and memory map\n", 1)[1]
    text = re.sub(r"\n (\.\S+|COMMON)\n +0x", r"\n \1 0x", text)  # long names have a line of their own
    section = None
    for line in text.splitlines():
        head = re.match(r"\.(\w+) +0x\w+ +0x(\w+)", line)
        if head:
            section = head[1]
            if section in SECTIONS:
                yield section, None, int(head[2], 16)
        elif re.match(r"\S", line):
            section = None
        part = re.match(r" (?:\.\S+|COMMON) +0x\w+ +0x(\w+) (\S.*)", line)
        if part and section in SECTIONS:
            yield section, part[2], int(part[1], 16)


def folder_of(name):
    """["vmm", "vmm/core"] of build/libvmm.a(build/obj/vmm/core/run.o), ["newlib"] of its libc.a(...)."""
    third = re.search(r"third-party/(\w+)/", name)
    if third:
        return [f"{third[1]} (third-party)"]
    own = re.search(r"obj[^/]*/((\w+)(?:/\w+)?)/[^/]+\.o\b", name)
    if not own:
        return ["symbols for backtraces"] if "symtab" in name else ["other"]
    return [own[2], f"  {own[1]}"] if own[2] == DEEPER else [own[2]]


def image_sizes(build):
    """{row of bench_targets: KiB} of what is built."""
    listing = subprocess.run(["size", "-t", build / "libvmm.a"], stdout=subprocess.PIPE, text=True, check=True)
    code, data, _ = listing.stdout.splitlines()[-1].split()[:3]
    files = {"image.elf": "image/boot/orthocone.elf", "image.rom_small": "orthocone-small.rom",
             "image.rom": "orthocone.rom", "image.iso": "orthocone.iso"}
    sizes = {key: (build / file).stat().st_size / 1024 for key, file in files.items()}
    return sizes | {"image.library": (int(code) + int(data)) / 1024}


def show_image(map_file):
    rows = collections.defaultdict(collections.Counter)
    total, named = collections.Counter(), collections.Counter()
    for section, name, size in contributions(map_file):
        if name is None:
            total[section] += size
            continue
        named[section] += size
        for folder in folder_of(name):
            rows[folder][section] += size
    rows["padding"] = total - named

    def show(what, sizes):
        print(f"{what:26}" + "".join(f"{sizes[s]:9}" for s in SECTIONS) + f"{sum(sizes.values()):10}")

    print(f"{'bytes':26}" + "".join(f"{s:>9}" for s in SECTIONS) + f"{'total':>10}")
    last = ["symbols for backtraces", "other", "padding"]
    for folder in sorted(rows, key=lambda f: (last.index(f) + 1 if f in last else 0, "(" in f, f.strip())):
        if sum(rows[folder].values()):
            show(folder, rows[folder])
    show("kernel image", total)


def main():
    build = pathlib.Path(sys.argv[1])
    show_image(sys.argv[2])
    print(f"\n{'':52}{'KiB':>9}{'target':>9}")
    sizes = image_sizes(build)
    for row in IMAGES:
        if row.key in sizes:
            print(f"{row.what.removesuffix(', KiB'):52}{sizes[row.key]:9.1f}{row.target or '':>9}")


if __name__ == "__main__":
    main()
