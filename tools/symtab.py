#!/usr/bin/python3
"""Build the kernel's own symbol table, for backtraces.

Usage: symtab.py empty <output.S>
       symtab.py table <linked image> <output.S>
       symtab.py verify <first image> <second image>

The kernel is linked twice: with an empty table to learn the addresses of functions, then with the
real one. The table lies behind everything whose address is in it;
"verify" proves that no function moved.

The interface is kernel/symbols.h.
"""

import subprocess
import sys

IMAGE_BASE = 0xFFFFFFFF80000000  # NK_IMAGE_BASE of base/layout.h


def functions(image):
    """Sorted (address, name) of the image's functions, one name per address."""
    output = subprocess.check_output(["nm", "-n", image], text=True)
    chosen = {}
    for row in map(str.split, output.splitlines()):
        if len(row) != 3 or row[1] not in "tTwW" or int(row[0], 16) < IMAGE_BASE:
            continue
        # nasm's local labels carry their parent's name; the compiler's clones (.part, .isra) are
        # functions.
        parts = row[2].split(".")
        if len(parts) > 1 and parts[1] not in ("part", "isra", "constprop", "cold"):
            continue
        chosen.setdefault(int(row[0], 16), row[2])
    return sorted(chosen.items())


def emit(path, symbols):
    names = bytearray()
    rows = []
    for address, name in symbols:
        rows.append((address - IMAGE_BASE, len(names)))
        names += name.encode() + b"\0"
    with open(path, "w", encoding="ascii") as file:
        file.write('.section .symtab_nk, "a", @progbits\n.balign 8\n')
        file.write(".globl nk_symtab, nk_symtab_count, nk_symtab_names\n")
        file.write("nk_symtab:\n")
        for offset, name in rows:
            file.write(f".long {offset}, {name}\n")
        file.write(f"nk_symtab_count:\n.long {len(rows)}\n")
        file.write("nk_symtab_names:\n")
        for _, name in symbols:
            file.write(f'.asciz "{name}"\n')
        file.write(".byte 0\n")
        file.write('.section .note.GNU-stack, "", @progbits\n')


def main():
    command, *arguments = sys.argv[1:]
    if command == "empty":
        emit(arguments[0], [])
    elif command == "table":
        emit(arguments[1], functions(arguments[0]))
    elif functions(arguments[0]) != functions(arguments[1]):
        sys.exit(f"{arguments[1]}: the symbol table moved functions; is .symtab_nk behind .text?")


if __name__ == "__main__":
    main()
