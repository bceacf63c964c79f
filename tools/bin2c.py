#!/usr/bin/python3
"""Turn a binary file into a C header with one constant array.

Usage: bin2c.py <array name> <input> <output.h>
"""

import sys


def main():
    name, source, output = sys.argv[1:]
    with open(source, "rb") as file:
        data = file.read()
    with open(output, "w", encoding="ascii") as file:
        file.write(f"#pragma once\n\nstatic const unsigned char {name}[{len(data)}] = {{\n")
        for start in range(0, len(data), 16):
            row = ", ".join(f"0x{byte:02x}" for byte in data[start : start + 16])
            file.write(f"    {row},\n")
        file.write("};\n")


if __name__ == "__main__":
    main()
