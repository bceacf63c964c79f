"""The UEFI application: kernel and files inside it, or in a container beside it."""

import subprocess

from lib import rom
from lib.machine import BUILD, TOP
from lib.vm import KERNEL, Tree, manifest

from session import SHELL, end, guest_shell

APPLICATION = BUILD / "orthocone.efi"
STUB = BUILD / "efi/stub.elf"


def volume(scratch, application, files=(), path="EFI/BOOT/BOOTX64.EFI"):
    """QEMU's arguments for a disk with a FAT file system of these files."""
    tree = scratch / "volume"
    (tree / path).parent.mkdir(parents=True)
    (tree / path).symlink_to(application)
    for name, content in dict(files).items():
        (tree / name).write_bytes(content)
    return {"firmware": "uefi", "extra": ["-drive", f"file=fat:rw:{tree},format=raw,if=ide"]}


def pack(path, *arguments):
    text, good = rom.run("pack", path, *arguments)
    assert good, text
    return path.read_bytes()


def application(scratch, *arguments):
    """A small one."""
    pack(scratch / "inside", *arguments)
    subprocess.run([TOP / "tools/mkefi", scratch / "small.efi", STUB, scratch / "inside"], check=True)
    return scratch / "small.efi"


def hello(scratch):
    tree = Tree(scratch / "tree")
    tree.add_vm(manifest("hello"))
    return ["--tree", tree.directory, "--files", *tree.modules]


def test_to_guest_shell_and_off(machine, scratch):
    node = machine(**volume(scratch, APPLICATION))
    node.expect(r"Orthocone \S+")
    node.expect(r"acpi: \d+ tables, 2 CPUs, 1 IOAPICs, HPET yes, PM timer yes, S5 yes")
    node.expect(r"boot: multiboot2 by UEFI")
    guest_shell(node)
    node.sendline("poweroff")
    assert node.wait() == 0


def test_container_beside_it(machine, scratch):
    files = {"orthocone.pack": pack(scratch / "beside", "--cmdline", "loglevel=info", *hello(scratch))}
    node = machine(**volume(scratch, application(scratch, "--kernel", f"A={KERNEL}", "--cmdline", "inside"), files))
    node.expect(r'boot: command line "loglevel=info"')
    node.expect(r"vm hello: ")
    node.expect(SHELL)
    end(node)


def test_kernel_beside_it(machine, scratch):
    files = {"orthocone.pack": pack(scratch / "beside", "--kernel", f"A={KERNEL}")}
    node = machine(**volume(scratch, application(scratch, "--cmdline", "inside"), files))
    node.expect(r'boot: command line ""')
    node.expect(SHELL)
    end(node)


def test_damaged_container_beside_it(machine, scratch):
    files = {"orthocone.pack": pack(scratch / "beside", *hello(scratch))[:-5000]}
    node = machine(**volume(scratch, application(scratch, "--kernel", f"A={KERNEL}", "--cmdline", "inside"), files))
    node.expect(r"efi: orthocone.pack: its header is malformed; it is left out")
    node.expect(r'boot: command line "inside"')
    node.expect(SHELL)
    end(node)


def test_damaged_part(machine, scratch):
    beside = bytearray(pack(scratch / "beside", *hello(scratch)))
    beside[4096 + 10] ^= 1  # the manifest comes first
    node = machine(**volume(scratch, application(scratch, "--kernel", f"A={KERNEL}"), {"orthocone.pack": beside}))
    node.expect(r"efi: \S+: its checksum is wrong; it is left out")
    node.expect(SHELL)
    end(node)


def test_without_kernel(machine, scratch):
    node = machine(**volume(scratch, application(scratch, "--cmdline", "alone")))
    node.expect(r"efi: there is no kernel, neither inside nor in orthocone.pack")


def test_arguments(machine, scratch):
    """Of the UEFI shell; they win over the container's command line."""
    script = {"startup.nsh": b"fs0:\\node.efi loglevel=info panic=reset\r\n"}
    app = application(scratch, "--kernel", f"A={KERNEL}", "--cmdline", "inside")
    node = machine(**volume(scratch, app, script, "node.efi"))
    node.expect(r'boot: command line "loglevel=info panic=reset"')
    node.expect(SHELL)
    end(node)
