"""Test VMs: a directory with manifests and guest images that ride in as boot modules of -kernel."""

import json
import shutil
import struct
import subprocess

from lib.machine import BUILD

KERNEL = BUILD / "image/boot/orthocone.elf"
GUESTS = BUILD / "guests"
LINUX = BUILD / "image/boot/linux"


def manifest(guest, *, name=None, args="", memory=64, cpus=(1,), power="stop", huge_pages=None, **more):
    """The manifest of one test guest, as a dictionary to change or to write; a vCPU for each of `cpus`."""
    return {
        "name": name or guest,
        "boot-source": {"kernel_image_path": f"{guest}.bz", "boot_args": args},
        "machine-config": {"vcpu_count": len(cpus), "mem_size_mib": memory,
                           **({"huge_pages": huge_pages} if huge_pages else {})},
        "cpus": list(cpus),
        "power": power,
        **more,
    }


def linux_manifest(name="linux", *, args="console=ttyS0", memory=256, cpus=(1,), power="node", **more):
    return {
        "name": name,
        "boot-source": {"kernel_image_path": "linux/vmlinuz", "initrd_path": "linux/initrd", "boot_args": args},
        "machine-config": {"vcpu_count": len(cpus), "mem_size_mib": memory},
        "cpus": list(cpus),
        "power": power,
        **more,
    }


def vmlinux(bzimage):
    """The ELF file inside Debian's bzImage: LZ4, the old frame format, then its length."""
    setup = (bzimage[0x1F1] + 1) * 512
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    payload = bzimage[setup + offset:setup + offset + length - 4]
    return subprocess.run(["lz4", "-dc"], input=payload, stdout=subprocess.PIPE, check=True).stdout


class Tree:
    """Boot modules below a directory, for Machine(tree=..., modules=...)."""

    def __init__(self, directory):
        self.directory = directory
        self.modules = []
        shutil.rmtree(directory, ignore_errors=True)
        (directory / "vms").mkdir(parents=True)

    def add(self, name, content):
        """A file: bytes, text, or a path to link to."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            path.symlink_to(content)
        self.modules.append(name)

    def add_vm(self, vm, file=None):
        """A manifest, under vms/, and once each file it names."""
        self.add(file or f"vms/{vm['name']}.json", json.dumps(vm, indent=2))
        source = vm["boot-source"]
        for path in (source.get("kernel_image_path"), source.get("initrd_path")):
            if path and path not in self.modules:
                origin = LINUX.parent / path if path.startswith("linux/") else GUESTS / path
                self.add(path, origin)

    def arguments(self):
        return {"kernel": KERNEL, "tree": self.directory, "modules": self.modules}
