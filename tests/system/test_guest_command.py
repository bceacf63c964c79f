"""One kernel by one command: tools/guest, each boot protocol, and what becomes of the guest's exit code."""

import subprocess

import pytest
from lib.machine import TOP
from lib.vm import GUESTS, Tree, manifest

from session import end

BZIMAGE = GUESTS / "ending.bz"
IMAGE = GUESTS / "image.bin"
CODE = 42
LIMIT = 120


def expect(status, said, kernel, *options):
    result = subprocess.run([TOP / "tools/guest", kernel, *options], stdin=subprocess.DEVNULL, text=True,
                            errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
    assert said in result.stdout, result.stdout
    assert result.returncode == status, result.stdout


@pytest.fixture
def module(scratch):
    path = scratch / "module of one byte, named to annoy"
    path.write_bytes(bytes([CODE]))
    return path


@pytest.mark.parametrize("protocol", ["linux64", "linux32", "linux16"])
def test_linux_entries(protocol):
    expect(CODE, "ending: exit", BZIMAGE, "--protocol", protocol, f"--args=end=exit code={CODE}")


@pytest.mark.parametrize("emulator", ["bochs-vmx", "bochs-svm"])
def test_another_machine(emulator):
    expect(CODE, "ending: exit", BZIMAGE, "--machine", emulator, "--protocol=linux16", f"--args=end=exit code={CODE}")


def test_foreign_multiboot_kernel(module):
    expect(CODE, "one two=3", IMAGE, "--args=one two=3", "--module", module, "--cpus=2", "--memory=64M")


def test_several_modules(module):
    expect(CODE, "one two=3", IMAGE, "--args=one two=3", "--module", module, "--module", BZIMAGE, "--module", IMAGE)
    expect(125, "modules: its boot protocol has one", BZIMAGE, "--module", module, "--module", module)


def test_flat_image(module):
    expect(CODE, "vm guest: stopped: ended by the guest with code 42", IMAGE, "--protocol=flat32",
           "--address=0x200000", "--module", module)


def test_boot_sector_and_bios_services(machine, scratch):
    tree = Tree(scratch / "tree")
    vm = manifest("sector", memory=32)
    vm["boot-source"] = {"kernel_image_path": "sector.bin", "protocol": "flat16", "load_address": "0x7c00"}
    tree.add_vm(vm)
    node = machine(**tree.arguments())
    node.expect(r"sector: a digit\? ")
    node.send("7")
    node.expect(r"7")
    node.expect(r"vm sector: stopped: ended by the guest with code 7\r")
    end(node)


def test_ends_without_a_code():
    expect(0, "guest: powered off by the guest", BZIMAGE, "--args=end=s5")
    expect(255, "with code 100000", BZIMAGE, "--args=end=exit code=100000")
    expect(125, "guest: triple fault", BZIMAGE, "--args=end=triple")
    expect(125, "too short for a Linux kernel", GUESTS / "sector.bin", "--protocol=linux32")


def test_make_guest():
    """make itself can only say that there was a code, and which."""
    command = ["make", "guest", f"KERNEL={BZIMAGE}", "ARGS=end=exit code=3", "CPUS=2", "MEM=64"]
    result = subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
    assert result.returncode == 2 and "Error 3" in result.stdout, result.stdout


@pytest.mark.parametrize("code,status", [(CODE, 2 * CODE + 1), (256, 255)])
def test_exit_code_of_qemu(start, code, status):
    """power: node passes the code on to isa-debug-exit, which makes 2 * code + 1 of it; stop keeps it to the VM."""
    node = start(manifest("ending", name="other", args="end=exit code=9"),
                 manifest("ending", args=f"end=exit code={code}", power="node"),
                 extra=["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
    assert node.wait() == status
