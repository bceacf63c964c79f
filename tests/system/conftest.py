"""Fixtures of the system tests: each is a process of its own, with its own directory (SCRATCH)."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import lib.bochs  # noqa: E402
from lib.vm import Tree  # noqa: E402


BROKEN_PLACE = b"where QEMU's TCG can break it"


@pytest.fixture
def scratch(tmp_path):
    """A directory for this test alone."""
    return pathlib.Path(os.environ.get("SCRATCH", tmp_path))


@pytest.fixture
def machine(scratch):
    """Start machines: machine(iso=..., cpus=2), see lib.machine.Machine; machine("bochs-vmx", ...), see lib.bochs. They
    end with the test. In QEMU no VM is on CPU 0 of several: docs/backends.md."""
    machines = []

    def start(kind="qemu", **arguments):
        machines.append(lib.bochs.machine(kind, scratch / f"machine{len(machines)}", **arguments))
        return machines[-1]

    yield start
    for started in machines:
        started.close()
    assert not any(BROKEN_PLACE in started.output for started in machines)


@pytest.fixture
def start(machine, scratch):
    """start(manifest, ...): a machine that starts these VMs; what else is named goes to machine()."""

    def with_vms(*vms, **arguments):
        tree = Tree(scratch / "tree")
        for vm in vms:
            tree.add_vm(vm)
        return machine(**tree.arguments(), **arguments)

    return with_vms
