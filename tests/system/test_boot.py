"""Every road from power-on to a Linux guest's shell, and the way out."""

import pytest
from lib import rom
from lib.machine import BUILD
from lib.vm import KERNEL, Tree, linux_manifest

from session import GUEST, end, guest_shell

IMAGES = {"iso": BUILD / "orthocone.iso", "disk": BUILD / "orthocone.img"}


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
@pytest.mark.parametrize("medium", ["iso", "disk"])
def test_image_to_guest_shell_and_off(machine, medium, firmware):
    node = machine(**{medium: IMAGES[medium]}, firmware=firmware)
    node.expect(r"Orthocone \S+")
    node.expect(r"boot: multiboot2 by GRUB")
    guest_shell(node)
    assert node.run("uname -s", GUEST) == "Linux"
    end(node)


def test_kernel_option_to_guest_shell_and_off(start):
    node = start(linux_manifest())
    node.expect(r"boot: multiboot1 by ")
    guest_shell(node)
    assert node.run("cat /proc/cmdline", GUEST) == "console=ttyS0"
    end(node)


def test_pvh_to_guest_shell_and_off(machine, scratch):
    """QEMU prefers multiboot where it sees its header, so that one is wiped out. A PVH loader has one initrd: a
    container of all files."""
    kernel = bytearray(KERNEL.read_bytes())
    header = kernel.index((0x1badb002).to_bytes(4, "little"), 0, 8192)
    kernel[header:header + 4] = bytes(4)
    (scratch / "kernel").write_bytes(kernel)
    tree = Tree(scratch / "tree")
    tree.add_vm(linux_manifest())
    text, good = rom.run("pack", scratch / "pack", "--tree", tree.directory, "--files", *tree.modules)
    assert good, text
    node = machine(kernel=scratch / "kernel", command_line="loglevel=info", extra=["-initrd", str(scratch / "pack")])
    node.expect(r"boot: pvh by PVH")
    node.expect(r'boot: command line "loglevel=info"')
    guest_shell(node)
    end(node)


def test_ipxe_to_guest_shell_and_off(machine, scratch):
    """The network card's iPXE fetches kernel and modules by TFTP and enters by multiboot 1."""
    tree = Tree(scratch / "tree")
    tree.add_vm(linux_manifest())
    tree.add("orthocone.elf", KERNEL)
    tree.add("boot.ipxe", "#!ipxe\ndhcp\nkernel orthocone.elf loglevel=info\n" +
             "".join(f"module {name}\n" for name in tree.modules if "/" in name) + "boot\n")
    net = ["-netdev", f"user,id=net,tftp={tree.directory},bootfile=boot.ipxe", "-device", "e1000,netdev=net"]
    node = machine(extra=net + ["-boot", "n"])
    node.expect(r"boot: multiboot1 by iPXE")
    guest_shell(node)
    end(node)


def test_coreboot_payload_to_guest_shell_and_off(machine):
    """The payload is entered by its ELF header alone; the modules are files of the flash."""
    node = machine(firmware=BUILD / "coreboot.rom")
    node.expect(r"Orthocone \S+")
    node.expect(r"boot: coreboot by ")
    guest_shell(node)
    end(node)
