#!/usr/bin/python3
"""Turn the markers that tools/offsets.h leaves in a compiled offsets.c into nasm definitions.

Usage: offsets.py <assembly> <output.inc>
"""

import re
import sys

MARKER = re.compile(r'^\s*\.ascii\s+"->(\w+) (-?\d+)"', re.M)


def main():
    source, output = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        values = MARKER.findall(file.read())
    names = [name for name, _ in values]
    repeated = {name for name in names if names.count(name) > 1}
    if not values or repeated:
        print(f"{source}: no marker, or repeated names: {sorted(repeated)}", file=sys.stderr)
        return 1
    with open(output, "w", encoding="ascii") as file:
        for name, value in values:
            # Unsigned, so that nasm takes values above 2^63 - 1 as well.
            file.write(f"%define {name} 0x{int(value) & (2**64 - 1):x}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
