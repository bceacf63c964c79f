"""Files and guests that mean no good: broken kernels, damaged checkpoints, guests that try everything. One clear line
for each, nothing lost, nobody else concerned."""

import random
import re
import struct
import time

import pytest
from lib.vm import GUESTS, Tree, manifest

from session import command, end, free_kib, to_node, vm_states

LOAD = 0x100000


def put(image, offset, form, *values):
    """The image with some bytes changed."""
    changed = bytearray(image)
    struct.pack_into(form, changed, offset, *values)
    return bytes(changed)


def elf():
    """One segment at 1 MiB, and a note for PVH."""
    image = bytes(1024)
    image = put(image, 0, "<4sBBB9xHHIQQ", b"\x7fELF", 2, 1, 1, 2, 62, 1, LOAD, 64)
    image = put(image, 54, "<HH", 56, 2)
    image = put(image, 64, "<IIQQQQQQ", 1, 7, 0x300, LOAD, LOAD, 0x100, 0x200, 4096)
    image = put(image, 120, "<IIQQQQQQ", 4, 4, 0x200, 0, 0, 20, 20, 4)
    return put(image, 0x200, "<III4sI", 4, 4, 18, b"Xen", LOAD)


def multiboot(image, flags, *fields):
    """The image with a header at 0x180."""
    image = put(image, 0x180, "<III", 0x1badb002, flags, -(0x1badb002 + flags) & 0xffffffff)
    return put(image, 0x18c, f"<{len(fields)}I", *fields)


def broken_kernels():
    """(name, file, protocol, what the line says)"""
    linux, text = (GUESTS / "hello.bz").read_bytes(), b"This is no kernel.\n" * 99
    pvh, none = elf(), "not a kernel that can be booted"
    fields = (LOAD + 0x180, LOAD)
    return [
        ("text", text, None, none),
        ("cut-linux", linux[:-2000], None, "truncated: shorter than its header says"),
        ("only-setup", linux[:1024], None, "truncated: shorter than its header says"),
        ("old-linux", put(linux, 0x206, "<H", 0x201), None, "boot protocol older than 2.02"),
        ("large-linux", put(linux, 0x260, "<I", 0xffffffff), None, r"needs \d+ KiB of RAM at 0x100000, and RAM ends"),
        ("text-linux32", text, "linux32", "not a Linux kernel"),
        ("text-pvh", text, "pvh", "no ELF file"),
        ("text-multiboot", text, "multiboot", "no multiboot header"),
        ("text-multiboot2", text, "multiboot2", "no multiboot2 header"),
        ("cut-elf", pvh[:100], None, "truncated: a program header or segment lies beyond its end"),
        ("low-elf", put(pvh, 88, "<Q", 0x1000), None, "a segment lies below 1 MiB"),
        ("high-elf", put(pvh, 88, "<Q", 1 << 40), None, "a segment lies beyond the guest's RAM"),
        ("wide-elf", put(pvh, 104, "<Q", 1 << 33), None, "a segment lies beyond the guest's RAM"),
        ("round-elf", put(pvh, 88, "<Q", (1 << 64) - 4096), None, "a segment lies beyond the guest's RAM"),
        ("no-note", put(pvh, 120, "<I", 0), None, none),
        ("odd-multiboot", multiboot(pvh, 0x8003), None, "multiboot header: demands something unknown"),
        ("long-multiboot", multiboot(bytes(1024), 0x10003, *fields, LOAD + 9999, 0, LOAD), None,
         "multiboot header: the image is longer than the file"),
        ("low-multiboot", multiboot(bytes(1024), 0x10003, 0x1180, 0x1000, 0, 0, LOAD), None, "does not fit"),
    ]


def test_broken_kernels(machine, scratch):
    """The line says which file it is and what is wrong with it."""
    rows, free = broken_kernels(), []
    for first in (0, 9):  # as many modules as fit
        tree = Tree(scratch / f"tree{first}")
        for name, file, protocol, _ in rows[first:first + 9]:
            vm = manifest("hello", name=name, memory=32)
            vm["boot-source"] = {"kernel_image_path": f"{name}.bin", **({"protocol": protocol} if protocol else {})}
            tree.add(f"{name}.bin", file)
            tree.add_vm(vm)
        node = machine(**tree.arguments(), command_line="autostart=no")
        node.expect(r"orthocone> ")
        for name, _, _, why in rows[first:first + 9]:
            command(node, f"vm create vms/{name}.json")
            lines = command(node, f"vm start {name}")
            assert len(lines) == 1 and re.search(rf"{name}: {name}\.bin: .*{why}", lines[0]), (name, lines)
            assert vm_states(node)[name][0] == "created"
            command(node, f"vm kill {name}")
            free.append(free_kib(node))
        assert free[-1] >= free[-8] - 64, free
        end(node)


# --- checkpoints --------------------------------------------------------------------------------

HEADER = 4096  # of an image on a device; the stream follows
INFO_BYTES = 8 + 32 + 128  # in it: how long the stream is
STREAM_HEADER = 16


class Image:
    """A checkpoint on a disk, which can be damaged and mended."""

    def __init__(self, path):
        self.path = path
        self.good = None

    def read(self):
        self.good = self.path.read_bytes()
        self.length = struct.unpack_from("<Q", self.good, INFO_BYTES)[0]

    def write(self, changes):
        with open(self.path, "r+b", buffering=0) as file:
            for offset, data in changes.items():
                file.seek(offset)
                file.write(data)

    def mend(self, changes):
        self.write({offset: self.good[offset:offset + len(data)] for offset, data in changes.items()})


def damages(image):
    """(what the line says, {offset: bytes})"""
    record = HEADER + STREAM_HEADER
    flips = random.Random(1)
    yield "no checkpoint is on it", {0: b"\0"}
    yield "checkpoint: this is none", {HEADER: b"\xff"}
    yield r"it has version 77, this library reads \d+", {HEADER + 8: struct.pack("<I", 77)}
    for length in (0, 10, 40, 5000, image.length - 1):
        yield "it ends too early, or cannot be read", {INFO_BYTES: struct.pack("<Q", length)}
    yield "a record is too long", {record + 8: struct.pack("<Q", 1 << 60)}
    yield "its parts are not in order", {record: struct.pack("<I", 99)}
    yield "a wrong checksum", {record + 24: b"\x77"}
    yield "checkpoint: .", {HEADER + STREAM_HEADER: flips.randbytes(4096)}
    for _ in range(12):
        at = HEADER + STREAM_HEADER + flips.randrange(image.length - STREAM_HEADER)
        yield "checkpoint: .", {at: bytes([image.good[at] ^ 1 << flips.randrange(8)])}


def test_damaged_checkpoints(machine, scratch):
    """Into a VM that stands, into none, and with one of the name running."""
    image = Image(scratch / "disk")
    image.path.write_bytes(bytes(32 << 20))
    drive = ("-drive", f"file={image.path},format=raw,if=none,id=d,cache=writethrough",
             "-device", "virtio-blk-pci,drive=d")
    tree = Tree(scratch / "tree")
    for name in ("a", "running"):
        tree.add_vm(manifest("ending", name=name, args="end=halt", memory=4))
    node = machine(**tree.arguments(), extra=drive)
    node.expect(r"ending: halt")
    to_node(node)
    assert "checkpoint in" in " ".join(command(node, "vm checkpoint a block:vd0"))
    image.read()
    command(node, "vm stop a")

    def refused(name, why):
        lines = command(node, f"vm restore {name} block:vd0")
        assert len(lines) == 1 and re.search(why, lines[0]), (why, lines)

    free = None
    for why, changes in damages(image):
        image.write(changes)
        refused("a", why)
        assert vm_states(node)["a"][0] == "stopped"
        free = free or free_kib(node)
        image.mend(changes)
    command(node, "vm start a")
    assert vm_states(node)["a"][0] == "running"
    refused("a", "it is running")
    command(node, "vm stop a")
    assert free_kib(node) >= free - 64
    command(node, "vm kill a")
    free = free_kib(node)
    for why, changes in damages(image):
        image.write(changes)
        refused("a", why)
        assert set(vm_states(node)) == {"running"}
        image.mend(changes)
    assert free_kib(node) >= free - 64
    assert vm_states(node)["running"][0] == "running"
    assert "restored" in " ".join(command(node, "vm restore a block:vd0"))  # it was the damage, not the image
    assert vm_states(node)["a"][0] == "running"
    end(node)


# --- guests -------------------------------------------------------------------------------------

REPORT = r"steady: (\d+) sums, (\d+) ticks, (\d+) ms, (\d+) wrong"
ENDS = r"triple fault|instruction that is not emulated|guest state refused by the hardware|stopped by the host|" \
    r"powered off by the guest|ended by the guest|host error|unknown exit"


def reports(node):
    return re.findall(REPORT, "\n".join(command(node, "vm output steady")))


# With a second vCPU, which changes what the first one runs, QEMU meets its own end now and then ("tcg fatal error").
@pytest.mark.parametrize("kind,cpus,seeds", [("qemu", (1,), range(1, 11)), ("bochs-vmx", (0, 0), range(1, 4))],
                         ids=["qemu", "bochs-vmx"])
def test_guests_that_try_everything(machine, scratch, kind, cpus, seeds):
    """One guest after the other, each with another seed, beside one that computes and keeps time."""
    tree = Tree(scratch / "tree")
    last = 0 if kind != "qemu" else 2
    for seed in seeds:
        tree.add_vm(manifest("wild", name=f"wild{seed}", args=f"seed={seed} count=1000000", cpus=cpus, memory=8))
    tree.add_vm(manifest("steady", cpus=(last,), memory=16))
    node = machine(kind, cpus=last + 1, memory="512M", **tree.arguments(), command_line="autostart=no")
    node.expect(r"orthocone> ")
    command(node, "loglevel warn")
    command(node, "vm create vms/steady.json")
    command(node, "vm start steady")
    node.sendline("console steady")
    node.expect(REPORT)
    to_node(node)

    def run(seed):
        name = f"wild{seed}"
        command(node, f"vm create vms/{name}.json")
        command(node, f"vm start {name}")
        time.sleep(1)
        state, reason = vm_states(node)[name]
        assert state == "running" or re.fullmatch(ENDS, reason), (seed, state, reason)
        command(node, f"vm regs {name}")
        output = "".join(command(node, f"vm output {name}"))
        assert "wild: seed" in output and "survived" not in output
        command(node, f"vm kill {name}")

    run(seeds[0])  # caches fill
    free, before = free_kib(node), len(reports(node))
    for seed in seeds:
        run(seed)
    assert free_kib(node) >= free - 64
    log = " ".join(command(node, "log error", log=True))
    assert not re.search(r"did not come back|assertion|watchdog|held too long", log)
    node.sendline("console steady")
    node.expect(REPORT)
    to_node(node)
    after = reports(node)
    assert len(after) >= before and all(row[3] == "0" for row in after)
    end(node)
