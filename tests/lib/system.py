"""The system tier: pytest drives QEMU with real guests, each test in a process of its own."""

import re
import subprocess

from lib.bochs import MODELS
from lib.guest import column
from lib.jobs import Job, Result, last_lines
from lib.machine import TOP

PYTEST = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
TIMEOUT = 300
BOCHS_TIMEOUT = 900


def on_machine(test):
    """The machine of a test that is run on several, which its last parameter names, and the rest of its name."""
    match = re.fullmatch(r"test_(\w+)\[(?:(.*)-)??(qemu|bochs-[\w-]+)\]", test)
    return (match[3], " ".join(filter(None, (match[1], match[2])))) if match else ("qemu", None)


def jobs():
    collected = subprocess.run(PYTEST + ["--collect-only", "tests/system"], cwd=TOP, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    tests = re.findall(r"^(tests/system/\S+\.py)::(.+)$", collected.stdout, re.M)
    if collected.returncode not in (0, 5):
        yield Job("system", "collection", ["false"], 10, lambda status, output:
                  [Result("collection", "fail", last_lines(collected.stdout))])
    for path, test in tests:
        area = path.removeprefix("tests/system/test_").removesuffix(".py")
        name = f"{area}: {test.removeprefix('test_')}"

        def judge(status, output, name=name):
            skipped = re.search(r"^\d+ skipped", output, re.M)
            if status == 0 and not skipped:
                return [Result(name, "pass")]
            return [Result(name, "fail", ("skipped\n" if skipped else "") + last_lines(output, 60))]

        command = PYTEST + ["-rs", "--tb=short", f"{path}::{test}"]
        machine, row = on_machine(test)
        yield Job("system", name, command, BOCHS_TIMEOUT if machine in MODELS else TIMEOUT, judge, weight=20,
                  machine=machine, cell=(row, column(machine)) if row else ())
