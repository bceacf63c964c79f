"""Boot protocols beside Linux's own: PVH with Debian's vmlinux, multiboot 1 and 2 with our own kernel as the guest."""

import struct

from lib.vm import KERNEL, LINUX, Tree, linux_manifest, vmlinux

from session import end, guest_shell

MULTIBOOT2_MAGIC = struct.pack("<I", 0xE85250D6)


def own_manifest(name):
    return {
        "name": name,
        "boot-source": {"kernel_image_path": f"{name}.elf", "boot_args": "loglevel=info guest=yes"},
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 64},
        "cpus": [1, 2],
    }


def boot_own_kernel(machine, scratch, name, image):
    tree = Tree(scratch / "tree")
    tree.add(f"{name}.elf", image)
    tree.add_vm(own_manifest(name))
    return machine(**tree.arguments(), cpus=3)


def end_both(node):
    """The inner kernel finds no SVM, stays at its shell, and powers itself off; then the outer one."""
    node.expect(r"no hardware virtualisation")
    node.expect(r"orthocone>")
    node.sendline("poweroff")
    node.expect(r"vm inner: stopped: powered off")
    end(node)


def test_linux_by_pvh(machine, scratch):
    tree = Tree(scratch / "tree")
    vm = linux_manifest()
    vm["boot-source"]["kernel_image_path"] = "vmlinux"
    tree.add("vmlinux", vmlinux((LINUX / "vmlinuz").read_bytes()))
    tree.add_vm(vm)
    node = machine(**tree.arguments())
    guest_shell(node)
    node.sendline("cat /proc/cmdline; free -m")
    node.expect(r"console=ttyS0")
    node.expect(r"Mem: +2\d\d")
    end(node)


def test_own_kernel_by_multiboot_2(machine, scratch):
    node = boot_own_kernel(machine, scratch, "inner", KERNEL)
    node.expect(r"boot: multiboot2 by Orthocone")
    node.expect(r'boot: command line "[^"]*guest=yes"')
    node.expect(r"cpu: 2 of 2 online")
    end_both(node)


def test_own_kernel_by_multiboot_1(machine, scratch):
    image = KERNEL.read_bytes().replace(MULTIBOOT2_MAGIC, bytes(4), 1)
    node = boot_own_kernel(machine, scratch, "inner", image)
    node.expect(r"boot: multiboot1 by Orthocone")
    node.expect(r"memory: node 0: 6\d MiB")
    end_both(node)


def test_own_kernel_by_pvh(machine, scratch):
    tree = Tree(scratch / "tree")
    tree.add("inner.elf", KERNEL)
    vm = own_manifest("inner")
    vm["boot-source"]["protocol"] = "pvh"
    tree.add_vm(vm)
    node = machine(**tree.arguments(), cpus=3)
    node.expect(r"boot: pvh by PVH")
    node.expect(r"cpu: 2 of 2 online")
    end_both(node)
