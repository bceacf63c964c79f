#!/usr/bin/python3
"""Make nasm's debug information independent of where the tree lies: tools/nasm-dwarf.py <object> <folder>

nasm writes the folder of the source, absolute and resolved, as the unit's compilation directory; names of files are as
they were given, relative to the folder that nasm ran in. The compilation directory becomes ".", as in what the
compiler writes with -ffile-prefix-map. objcopy closes the gap that the shorter text leaves in the file.
Spec: ELF-64 Object File Format 1.5; DWARF 4 section 7.5.1.
"""

import pathlib
import struct
import subprocess
import sys

SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, align, entry size
RELOCATION = struct.Struct("<QQq")  # offset, info, addend


def sections(image):
    """{name: (offset of its header, the header's fields)}"""
    (table,) = struct.unpack_from("<Q", image, 40)
    size, count, names = struct.unpack_from("<HHH", image, 58)
    headers = [(table + i * size, list(SECTION.unpack_from(image, table + i * size))) for i in range(count)]
    texts = headers[names][1][4]
    return {bytes(image[texts + h[0]:image.index(0, texts + h[0])]).decode(): (at, h) for at, h in headers}


def main():
    path, folder = pathlib.Path(sys.argv[1]), sys.argv[2]
    image = bytearray(path.read_bytes())
    found = sections(image)
    if ".debug_info" not in found:
        return
    at, header = found[".debug_info"]
    start, size = header[4], header[5]
    unit = image[start:start + size]
    begin = unit.find(folder.encode())
    if begin < 0:
        sys.exit(f"nasm-dwarf: no {folder} in {path}")
    end = unit.index(0, begin)
    shorter = end - begin - 1
    unit[begin:end] = b"."
    struct.pack_into("<I", unit, 0, struct.unpack_from("<I", unit)[0] - shorter)
    image[start:start + size] = unit + bytes(shorter)
    header[5] -= shorter
    SECTION.pack_into(image, at, *header)
    _, relocations = found[".rela.debug_info"]
    for entry in range(relocations[4], relocations[4] + relocations[5], RELOCATION.size):
        offset, info, addend = RELOCATION.unpack_from(image, entry)
        if offset > begin:
            RELOCATION.pack_into(image, entry, offset - shorter, info, addend)
    path.write_bytes(image)
    subprocess.run(["objcopy", path], check=True)


if __name__ == "__main__":
    main()
