"""Jobs of the test run: what a tier hands to tests/run."""

import dataclasses
import typing


@dataclasses.dataclass
class Result:
    """One test's outcome. `status` is "pass", "fail" or "skip"; `detail` is shown for a failure."""

    name: str
    status: str
    detail: str = ""


@dataclasses.dataclass
class Job:
    """One process that runs one or several tests.

    command   what to run; its output goes to a log file
    timeout   seconds, see lib.patience; a job that takes longer is a hang and fails
    judge     (exit status, output text) -> list of Result
    weight    jobs with a high weight start first
    machine   what MACHINE= selects: "qemu", or one of lib.bochs.MODELS
    cell      (row, column) of the table that the run ends with, if it belongs there
    """

    tier: str
    name: str
    command: list
    timeout: int
    judge: typing.Callable
    weight: int = 0
    environment: dict = dataclasses.field(default_factory=dict)
    machine: str = "qemu"
    cell: tuple = ()


def last_lines(output, count=25):
    return "\n".join(output.rstrip("\n").splitlines()[-count:])
