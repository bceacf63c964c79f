#!/usr/bin/python3
"""Turn a configuration into what make and the compiler read.

Usage: kconfig.py <Kconfig> <output directory> <configuration>...

Later configurations are laid over earlier ones. Writes <output>/auto.conf for make (CONFIG_X=y) and
<output>/config.h and config.inc for C and nasm, which keep their time stamps when nothing changed.
"""

import os
import sys

import kconfiglib


def write_if_changed(path, text):
    try:
        with open(path, encoding="ascii") as file:
            if file.read() == text:
                return
    except FileNotFoundError:
        pass
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def main():
    kconfig_path, output, *configurations = sys.argv[1:]
    kconfig = kconfiglib.Kconfig(kconfig_path, warn_to_stderr=False)
    kconfig.warn_assign_override = False
    kconfig.warn_assign_redun = False
    for configuration in configurations:
        kconfig.load_config(configuration, replace=configuration == configurations[0])
    for warning in kconfig.warnings:
        print(warning, file=sys.stderr)
    if kconfig.warnings:
        return 1

    make_lines = []
    header_lines = ["#pragma once"]
    nasm_lines = []
    for symbol in kconfig.unique_defined_syms:
        value = symbol.str_value
        if symbol.type == kconfiglib.BOOL:
            if value == "y":
                make_lines.append(f"CONFIG_{symbol.name} := y")
                header_lines.append(f"#define CONFIG_{symbol.name} 1")
                nasm_lines.append(f"%define CONFIG_{symbol.name} 1")
        else:
            make_lines.append(f"CONFIG_{symbol.name} := {value}")
            header_lines.append(f"#define CONFIG_{symbol.name} {value}")
            nasm_lines.append(f"%define CONFIG_{symbol.name} {value}")

    os.makedirs(output, exist_ok=True)
    write_if_changed(os.path.join(output, "config.h"), "\n".join(header_lines) + "\n")
    write_if_changed(os.path.join(output, "config.inc"), "\n".join(nasm_lines) + "\n")
    with open(os.path.join(output, "auto.conf"), "w", encoding="ascii") as file:
        file.write("\n".join(make_lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
