#!/usr/bin/python3
"""Check that no source includes what its folder may not see.

The tables below are the project's layering.
"""

import pathlib
import re
import subprocess
import sys

KERNEL_SIDE = ["base/", "mm/", "sched/", "drivers/", "kernel/", "boot/bootinfo.h", "boot/ap.h", "boot/pack/slots.h",
               "config.h"]

# A source's folder (longest match wins) -> prefixes that "..." may name.
QUOTED = {
    "base": ["base/", "config.h"],
    "mm": ["mm/", "base/", "config.h"],
    "sched": ["sched/", "mm/", "base/", "config.h"],
    "boot": ["boot/", "base/", "config.h"],
    "boot/pack": ["boot/pack/"],
    "boot/efi": ["boot/efi/", "boot/pack/", "base/types.h"],
    "boot/rom": ["boot/rom/", "boot/pack/", "base/types.h", "base/x86.h"],
    "drivers": ["drivers/", "kernel/", "sched/", "mm/", "base/", "config.h"],
    "kernel": KERNEL_SIDE,
    "tests/kernel": KERNEL_SIDE + ["tests/kernel/", "boot/pack/"],
    "native": ["native/", "kernel/native_abi.h", "kernel/time.h", "sched/", "base/", "config.h"],
    "vmm": ["core/", "dev/", "load/", "para/", "dsdt_aml.h", "services_bin.h"],
    "vmm/svm": ["core/", "svm/"],
    "vmm/vmx": ["core/", "vmx/"],
}

# What <...> may name besides the compiler's freestanding headers. None: anything of the C library.
FREESTANDING = {"stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "stdalign.h", "limits.h"}
ANGLED = {
    "base": None, "mm": None, "sched": None, "boot": None, "drivers": None,
    "boot/pack": set(), "boot/rom": set(), "boot/efi": set(),
    "kernel": None, "tests/kernel": None, "native": None,
    "vmm": {"vmm/"},
}
MAY_SEE_LIBRARY = {"kernel", "tests/kernel"}
# Third-party parts are seen by the files that name them in vmm/files.mk.
THIRD_PARTY = {"Zydis/Zydis.h": "zydis-flags", "cJSON.h": "cjson-flags"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def longest(table, path):
    matches = [folder for folder in table if path.startswith(folder + "/")]
    return max(matches, key=len, default=None)


def main():
    top = pathlib.Path(__file__).resolve().parents[1]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.c", "*.h"]
    files = subprocess.run(command, cwd=top, stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split()
    rules = (top / "vmm/files.mk").read_text() if (top / "vmm/files.mk").exists() else ""
    errors = []
    checked = 0
    for path in files:
        folder = longest(QUOTED, path)
        if folder is None or not (top / path).exists():
            continue
        checked += 1
        for kind, name in INCLUDE.findall((top / path).read_text(errors="replace")):
            if kind == '"':
                allowed = any(name.startswith(prefix) for prefix in QUOTED[folder])
            elif name in THIRD_PARTY:
                allowed = re.search(rf"^cflags-{re.escape(path)}.*{THIRD_PARTY[name]}", rules, re.M)
            elif name.startswith("vmm/"):
                allowed = folder in MAY_SEE_LIBRARY or folder.startswith("vmm")
            else:
                allowed = name in FREESTANDING or ANGLED[longest(ANGLED, path)] is None
            if not allowed:
                errors.append(f"{path} may not include {name}")
    for error in errors:
        print(error)
    if not errors:
        print(f"{checked} files")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
