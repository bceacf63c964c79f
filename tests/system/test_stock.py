"""Guests as Debian ships them, unmodified: kernels of both architectures, memtest86+, iPXE, GRUB, Xen. tests/system/stock.mk
brings them; SeaBIOS is in test_firmware.py."""

import pytest
from lib.machine import BUILD
from lib.vm import LINUX, Tree

from session import GUEST, LINUX_BOOT, command, end, guest_shell, to_node, vm_states

STOCK = BUILD / "stock"
KERNELS = {  # kernel, initial RAM disk, what uname -m says
    "cloud": (LINUX / "vmlinuz", LINUX / "initrd", "x86_64"),
    "amd64": (STOCK / "linux-amd64", STOCK / "initrd-amd64", "x86_64"),
    "686-pae": (STOCK / "linux-686-pae", STOCK / "initrd-686-pae", "i686"),
    "686": (STOCK / "linux-686", STOCK / "initrd-686", "i686"),
}


def boot(machine, scratch, kernel, *, module=None, args="", vcpus=1, memory=64, power="stop",
         protocol=None):
    tree = Tree(scratch / "tree")
    source = {"kernel_image_path": "kernel", "boot_args": args} | ({"protocol": protocol} if protocol else {})
    tree.add("kernel", kernel)
    if module:
        source["initrd_path"] = "module"
        tree.add("module", module)
    tree.add_vm({"name": "stock", "boot-source": source, "power": power, "cpus": [1 + n % 2 for n in range(vcpus)],
                 "machine-config": {"vcpu_count": vcpus, "mem_size_mib": memory}})
    return machine(**tree.arguments(), cpus=3)


def leave(node, state="running"):
    to_node(node)
    assert vm_states(node)["stock"][0] == state
    command(node, "vm stop stock")
    end(node)


# One and two vCPUs of the cloud kernel have test_linux.py.
@pytest.mark.parametrize("name,vcpus", [("cloud", 4), ("amd64", 1), ("amd64", 2), ("amd64", 4), ("686-pae", 1),
                                        ("686-pae", 2), ("686", 1)])
def test_linux(machine, scratch, name, vcpus):
    kernel, initrd, architecture = KERNELS[name]
    node = boot(machine, scratch, kernel, module=initrd, args="console=ttyS0", vcpus=vcpus, memory=256, power="node")
    guest_shell(node)
    assert node.run("uname -m", GUEST) == architecture
    assert int(node.run("nproc", GUEST)) == vcpus
    assert node.run("dmesg | grep -E 'WARNING|BUG|Call Trace|stall|lockup'", GUEST, LINUX_BOOT) == ""
    end(node)


def test_linux_by_its_setup_code(machine, scratch):
    """The 16-bit entry: what BIOS services there are is all that this kernel learns of its memory."""
    kernel, initrd, _ = KERNELS["cloud"]
    node = boot(machine, scratch, kernel, module=initrd, args="console=ttyS0", memory=192, power="node",
                protocol="linux16")
    guest_shell(node)
    assert 150 * 1024 < int(node.run("awk '/MemTotal/ {print $2}' /proc/meminfo", GUEST)) <= 192 * 1024
    assert node.run("dmesg | grep -c 'BIOS-e820: .*usable'", GUEST) == "2"
    end(node)


def test_memtest86(machine, scratch):
    """Its own page tables, relocation and start of the second CPU; through all tests of the memory there is."""
    node = boot(machine, scratch, STOCK / "memtest", args="console=ttyS0", vcpus=2, memory=8)
    node.expect(r"Memtest86\+ v6")
    node.expect(r"2 Cores 2 Threads")
    node.expect(r"#10 \[Bit fade test", LINUX_BOOT)  # the last, which waits for minutes
    node.expect(r"Pass:  0 +Errors: 0 ")
    leave(node)


def test_ipxe(machine, scratch):
    """A real-mode program with BIOS calls for all it does."""
    node = boot(machine, scratch, STOCK / "ipxe")
    node.expect(r"iPXE initialising devices\.\.\.ok")
    node.expect(r"iPXE .* Open Source Network Boot Firmware")
    node.expect(r"Press Ctrl-B for the iPXE command line")
    node.send("\x02")
    node.expect(r"iPXE> ")
    node.sendline("set answer ${product:hex}4${version}2 && echo answer ${answer}")
    node.expect(r"\nanswer 4.*2\r")
    leave(node)


def test_grub(machine, scratch):
    """Entered by multiboot; goes back to real mode for each BIOS call."""
    node = boot(machine, scratch, STOCK / "grub")
    node.expect(r"Welcome to GRUB!")
    node.expect(r"grub> ")
    node.sendline("lsmmap")
    node.expect(r"base_addr = 0x100000, length = 0x3f00000, available RAM")
    node.expect(r"grub> ")
    node.sendline("reboot")
    node.expect(r"Welcome to GRUB!")
    node.expect(r"grub> ")
    leave(node)


def test_xen(machine, scratch):
    """By multiboot 2, with a Linux kernel to make its first domain of, which the emulator's paging keeps from starting."""
    node = boot(machine, scratch, STOCK / "xen", module=STOCK / "linux-amd64", vcpus=2, memory=256,
                 args="xen com1=115200,8n1 console=com1 loglvl=all noreboot dom0_mem=64M")
    for line in (r"\(XEN\) Xen version 4\.\d+", r"\(XEN\) Bootloader: Orthocone",
                 r"\(XEN\) SMP: Allowing 2 CPUs", r"\(XEN\) ENABLING IO-APIC IRQs", r"\(XEN\) TSC deadline timer enabled",
                 r"\(XEN\) Brought up 2 CPUs", r"\(XEN\) \*\*\* Building a PV Dom0 \*\*\*"):
        node.expect(line)
    leave(node)
