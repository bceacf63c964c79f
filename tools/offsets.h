/* What an offsets.c uses to hand numbers of C to nasm.
 *
 * An offsets.c is compiled to assembly only; each line leaves a marker there, and tools/offsets.py
 * turns the markers into "%define NAME value" in build/gen/<folder>_offsets.inc. The build includes
 * this header into every offsets.c. */
#pragma once

#define OFFSETS_VALUE(name, value)                                                                 \
    __asm__ volatile(".ascii \"->" #name " %c0\"" : : "i"((long long)(value)))
#define OFFSETS_MEMBER(name, type, member) OFFSETS_VALUE(name, __builtin_offsetof(type, member))
