"""Firmware in a VM, from the reset vector on."""

import pathlib

from lib.vm import Tree

from session import command, end, to_node, vm_states

SEABIOS = pathlib.Path("/usr/share/seabios/bios-256k.bin")


def test_seabios_finds_nothing_to_boot(machine, scratch):
    tree = Tree(scratch / "tree")
    tree.add("bios.bin", SEABIOS)
    tree.add_vm({
        "name": "bios",
        "boot-source": {"firmware_path": "bios.bin"},
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 64},
        "cpus": [1, 2],
    })
    node = machine(**tree.arguments(), cpus=3)
    node.expect(r"SeaBIOS \(version ")  # on the guest's serial console
    node.expect(r"No bootable device")
    to_node(node)
    log = "\n".join(command(node, "log info", log=True))
    for line in ("bios: Found QEMU fw_cfg", "len 0x0000000004000000 [RAM]", "bios: Found 4 PCI devices",
                 "bios: Found 2 cpu(s)"):
        assert line in log, line
    assert vm_states(node)["bios"][0] == "running"
    end(node)
