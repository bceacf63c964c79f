"""Fixtures of the system tests: each is a process of its own, with its own directory (SCRATCH)."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.machine import Machine  # noqa: E402


@pytest.fixture
def scratch(tmp_path):
    """A directory for this test alone."""
    return pathlib.Path(os.environ.get("SCRATCH", tmp_path))


@pytest.fixture
def machine(scratch):
    """Start machines: machine(iso=..., cpus=2), see lib.machine.Machine. They end with the test."""
    machines = []

    def start(**arguments):
        machines.append(Machine(scratch / f"machine{len(machines)}", **arguments))
        return machines[-1]

    yield start
    for started in machines:
        started.close()
