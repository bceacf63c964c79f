"""The flash image: from the reset vector to the guest's shell, with damage on the way."""

import pytest
from lib import bochs, rom
from lib.machine import BUILD
from lib.vm import Tree, manifest

from session import GUEST, SHELL, command, end, guest_shell

ROM = BUILD / "orthocone.rom"
SMALL = BUILD / "orthocone-small.rom"
HANGS = b"\xfa\xf4\xeb\xfd"  # cli; hlt; and again
RESETS = b"\xb0\x06\x66\xba\xf9\x0c\xee\xf4"  # mov al, 6; mov dx, 0xcf9; out dx, al; hlt


def wired(path, machine_type, way):
    """QEMU's arguments for a flash image, as the firmware file or as a flash part."""
    if way == "bios":
        return {"extra": ["-M", machine_type, "-bios", str(path)]}
    return {"extra": ["-M", f"{machine_type},max-fw-size=16777216", "-drive",
                      f"if=pflash,format=raw,snapshot=on,file={path}"]}


@pytest.mark.parametrize("way", ["bios", "pflash"])
@pytest.mark.parametrize("machine_type", ["pc", "q35"])
def test_to_guest_shell_and_off(machine, machine_type, way):
    node = machine(**wired(ROM, machine_type, way))
    node.expect(r"rom: Orthocone, 16384 KiB of flash")
    node.expect(r"rom: 1023 MiB of RAM by fw_cfg")
    node.expect(r"rom: acpi: tables by fw_cfg")
    node.expect(r"rom: kernel orthocone from slot A, new, try 1 of 3")
    node.expect(r"acpi: \d+ tables, 2 CPUs, 1 IOAPICs, HPET yes, PM timer yes, S5 yes")
    node.expect(r"boot: multiboot2 by Orthocone ROM, slot A")
    guest_shell(node)
    assert node.run("uname -s", GUEST) == "Linux"
    node.sendline("poweroff")
    assert node.wait() == 0


def test_sizes():
    assert ROM.stat().st_size <= 16 << 20
    assert SMALL.stat().st_size <= 512 << 10


@pytest.mark.parametrize("arguments", [
    {"cpus": 1, "memory": "4M"},
    {"cpus": 8, "memory": "6G"},
    {"cpus": 2, "memory": "512M", "cpu": "qemu64"},  # checksums without SSE 4.2
], ids=["least", "many", "old"])
def test_small_image_to_shell(machine, arguments):
    node = machine(**wired(SMALL, "pc", "bios"), **arguments)
    node.expect(rf"cpu: {arguments['cpus']} of {arguments['cpus']} online")
    node.expect(SHELL)
    end(node)


def test_files_too_large_for_ram(machine):
    node = machine(**wired(ROM, "pc", "bios"), cpus=1, memory="12M")
    node.expect(r"rom: file linux/vmlinuz: there is no RAM for it; it is left out")
    node.expect(r"vm: not created: vms/linux.json: .*256 MiB asked")
    node.expect(SHELL)
    end(node)


def test_cpu_without_long_mode(machine):
    node = machine(**wired(SMALL, "pc", "bios"), cpus=1, memory="64M", cpu="qemu32")
    node.expect(r"rom: this CPU has no 64-bit mode; the machine stops here")


def test_devices_behind_bridges(machine, scratch):
    disk = scratch / "disk"
    disk.write_bytes(bytes(1 << 20))
    drive = ["-drive", f"if=none,id=disk,format=raw,file={disk}"]
    places = {
        "pc": ["-device", "pci-bridge,id=b1,chassis_nr=1", "-device", "pci-bridge,id=b2,bus=b1,chassis_nr=2,addr=2",
               "-device", "virtio-blk-pci,drive=disk,bus=b2,addr=3", "-device", "e1000,bus=b1,addr=4"],
        "q35": ["-device", "pcie-root-port,id=p1,chassis=1,slot=1", "-device", "pcie-root-port,id=p2,chassis=2,slot=2",
                "-device", "virtio-blk-pci,drive=disk,bus=p1", "-device", "e1000e,bus=p2"],
    }
    for machine_type, devices in places.items():
        arguments = wired(SMALL, machine_type, "bios")
        arguments["extra"] += drive + devices
        node = machine(**arguments)
        node.expect(SHELL)
        assert "no room" not in node.text
        assert any("1 MiB" in row or "2048" in row for row in command(node, "block")), "\n".join(command(node, "block"))
        assert len(command(node, "net")) > 1
        end(node)


# ---------------------------------------------------------------- damage

# The part with a flipped bit -> the lines that name it. The node comes up in spite of each.
DAMAGE = {
    "directory, copy 1": [r"rom: directory, copy 1: its checksum is wrong"],
    "directory, copy 2": [r"rom: directory, copy 2: its checksum is wrong"],
    "loader, copy 1": [r"rom: the loader's first copy is damaged, the second one is taken",
                       r"rom: loader, copy 1: its checksum is wrong; the other one runs"],
    "loader, copy 2": [r"rom: loader, copy 2: its checksum is wrong; the other one runs"],
    "boot block": [r"rom: boot block: its checksum is wrong; it still works"],
    "kernel:A": [r"rom: kernel orthocone in slot A: its checksum is wrong",
                 r"rom: slot A is active but not usable, slot B is taken",
                 r"boot: multiboot2 by Orthocone ROM, slot B"],
    "kernel:B": [r"rom: kernel orthocone in slot B: its checksum is wrong",
                 r"boot: multiboot2 by Orthocone ROM, slot A"],
    "cmdline": [r"rom: command line: its checksum is wrong; it is left out", r'boot: command line ""'],
    "hello.bz": [r"rom: file hello.bz: its checksum is wrong; it is left out",
                 r"vm: not created: vms/hello.json: .*hello.bz"],
    "vms/hello.json": [r"rom: file vms/hello.json: its checksum is wrong; it is left out"],
}


def small_rom(scratch, **more):
    """Two kernels, a command line and a guest of our own."""
    tree = Tree(scratch / "tree")
    tree.add_vm(manifest("hello", cpus=(0,)))
    return rom.create(scratch / "test.rom", cmdline="loglevel=info", files=tree.modules, tree=tree.directory, **more)


def test_undamaged(machine, scratch):
    node = machine(**wired(small_rom(scratch), "pc", "bios"), cpus=1)
    node.expect(r'boot: command line "loglevel=info"')
    node.expect(r"vm hello: ")
    node.expect(SHELL)
    assert "wrong" not in node.text
    end(node)


@pytest.mark.parametrize("part", DAMAGE)
def test_flipped_bit(machine, scratch, part):
    image = small_rom(scratch)
    offset, size = rom.layout(image)[part]
    # In the boot block: in one of its texts, for a bit in its code may stop anything.
    rom.flip(image, offset + (image.read_bytes()[offset:].index(b"both copies") if part == "boot block" else size // 2))
    node = machine(**wired(image, "pc", "bios"), cpus=1)
    for line in DAMAGE[part]:
        node.expect(line)
    node.expect(SHELL)
    end(node)


@pytest.mark.parametrize("field", [12, 16, 20, 24], ids=["loader-1", "loader-2", "directory-1", "directory-2"])
def test_flipped_bit_in_the_anchor(machine, scratch, field):
    """What the boot block says of where things are: the other copy is found."""
    image = small_rom(scratch)
    rom.flip(image, image.stat().st_size - 4096 + 0xfc0 + field + 3, 7)  # far outside
    node = machine(**wired(image, "pc", "bios"), cpus=1)
    node.expect(r"rom: boot block: its checksum is wrong; it still works")
    node.expect(SHELL)
    end(node)


@pytest.mark.parametrize("parts, line", [
    (["directory, copy 1", "directory, copy 2"], r"rom: no copy of the directory is good"),
    (["loader, copy 1", "loader, copy 2"], r"rom: both copies of the loader are damaged"),
    (["kernel:A", "kernel:B"], r"rom: no kernel can be started"),
], ids=["directories", "loaders", "kernels"])
def test_nothing_left(machine, scratch, parts, line):
    image = small_rom(scratch)
    places = rom.layout(image)
    for part in parts:
        rom.flip(image, places[part][0] + places[part][1] // 2)
    node = machine(**wired(image, "pc", "bios"), cpus=1)
    node.expect(line)
    node.expect(r"the machine stops here")


# ---------------------------------------------------------------- updates

def updated(scratch, kernel):
    """A sound kernel in slot A, `kernel` in slot B, which is active."""
    file = scratch / "kernel"
    file.write_bytes(kernel)
    image = small_rom(scratch)
    assert rom.run("replace", image, "kernel:B", file)[1]
    assert rom.run("activate", image, "B")[1]
    return image


@pytest.mark.parametrize("way", ["bios", "pflash"])
def test_kernel_that_never_gets_ready(machine, scratch, way):
    node = machine(**wired(updated(scratch, rom.tiny_kernel(RESETS)), "q35", way), cpus=1, reboot=True)
    for number in (1, 2, 3):
        node.expect(rf"rom: kernel orthocone from slot B, new, try {number} of 3")
    node.expect(r"rom: slot B is active but never got ready, slot A is taken")
    node.expect(SHELL)
    node.sendline("reboot")
    node.expect(r"rom: slot B is active but never got ready, slot A is taken")
    node.expect(r"rom: kernel orthocone from slot A, known to be good, try 1 of 3")
    node.expect(SHELL)
    rows = command(node, "rom")
    assert [row.split()[0] for row in rows] == ["SLOT", "A", "B"]
    assert rows[1].endswith("0  good") and " now " in rows[1]
    assert rows[2].endswith("3  left alone: it never got ready")
    assert command(node, "rom retry")[2].endswith("0  new")
    node.sendline("reboot")
    node.expect(r"rom: kernel orthocone from slot B, new, try 1 of 3")


def test_kernel_that_hangs(machine, scratch):
    """The chipset's watchdog resets: its two minutes pass at once, as time is counted in instructions."""
    arguments = wired(updated(scratch, rom.tiny_kernel(HANGS)), "q35", "bios")
    arguments["extra"] += ["-global", "ICH9-LPC.noreboot=false", "-icount", "shift=0,sleep=off"]
    node = machine(**arguments, cpus=1, reboot=True)
    for number in (1, 2, 3):
        node.expect(rf"rom: kernel orthocone from slot B, new, try {number} of 3")
    node.expect(r"rom: slot B is active but never got ready, slot A is taken")
    node.expect(SHELL)
    # It does not end a node that got ready: an idle one's time jumps to the next timer, which would be this one.
    node.sendline("echo still here")
    node.expect(r"\nstill here")
    end(node)


def test_update_that_is_no_kernel(machine, scratch):
    node = machine(**wired(updated(scratch, b"#!/bin/sh\n" * 100), "pc", "bios"), cpus=1)
    node.expect(r"rom: kernel orthocone in slot B: it is no 64-bit ELF image")
    node.expect(r"rom: slot B is active but not usable, slot A is taken")
    node.expect(SHELL)
    end(node)


def test_update_that_works_is_marked_good(machine, scratch):
    node = machine(**wired(updated(scratch, rom.KERNEL.read_bytes()), "pc", "bios"), cpus=1, reboot=True)
    node.expect(r"rom: kernel orthocone from slot B, new, try 1 of 3")
    for _ in range(4):  # more often than there are tries
        node.expect(SHELL)
        node.sendline("reboot")
        node.expect(r"rom: kernel orthocone from slot B, known to be good, try 1 of 3")
    node.expect(SHELL)
    end(node)


# ---------------------------------------------------------------- without fw_cfg

@pytest.mark.parametrize("model", ["bochs-vmx", "bochs-svm"])
def test_without_fwcfg(scratch, model):
    """Bochs tells firmware nothing: RAM's size is in CMOS, and the loader finds CPUs and makes the ACPI tables."""
    with bochs.machine(model, scratch / "bochs", firmware=small_rom(scratch), cpus=2, memory="128M") as node:
        node.expect(r"rom: 127 MiB of RAM by CMOS")
        node.expect(r"rom: acpi: tables of the loader's own")
        node.expect(r"acpi: 3 tables, 2 CPUs, 1 IOAPICs, HPET yes, PM timer yes, S5 yes")
        node.expect(r"cpu: 2 of 2 online")
        node.expect(r"vm hello: ")
        node.expect(SHELL)
        end(node)
