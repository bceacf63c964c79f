"""The host tier: the VMM library as a process, under sanitizers."""

import re

from lib import tap
from lib.jobs import Job
from lib.machine import BUILD, TOP

TIMEOUT = 300


def programs():
    """The programs that tests/host/files.mk lists."""
    listing = (TOP / "tests/host/files.mk").read_text().replace("\\\n", " ")
    rows = re.findall(r"^host-test-y\s*\+?=\s*(.*)$", listing, re.M)
    return [source.removesuffix(".c") for row in rows for source in row.split()]


def jobs():
    for program in programs():
        name = program.removeprefix("test_")

        def judge(status, output, name=name):
            return tap.judge(name, output, status, 0)

        environment = {
            "CMOCKA_MESSAGE_OUTPUT": "TAP",
            "ASAN_OPTIONS": "abort_on_error=0:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        yield Job("host", name, [str(BUILD / "host" / program)], TIMEOUT, judge,
                  environment=environment)
