/* Fuzz targets: functions that any bytes may be given to. make fuzz runs them under libFuzzer;
 * tests/host/test_fuzz.c runs their corpora in every test run. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The devices of vmm/dev/table.c, each by itself, the LAPIC, and a PCI function of a host's own. */
#define FUZZ_DEVICES(X)                                                                            \
    X(vpic)                                                                                        \
    X(vioapic)                                                                                     \
    X(vlapic)                                                                                      \
    X(vpit)                                                                                        \
    X(vrtc)                                                                                        \
    X(vhpet)                                                                                       \
    X(vpm)                                                                                         \
    X(vuart)                                                                                       \
    X(vi8042)                                                                                      \
    X(vpci)                                                                                        \
    X(vreset)                                                                                      \
    X(vcrtc)                                                                                       \
    X(vdebug)                                                                                      \
    X(vexit)                                                                                       \
    X(vfwcfg)                                                                                      \
    X(vballoon)                                                                                    \
    X(board)

#define FUZZ_TARGETS(X)                                                                            \
    X(devices)    /* accesses to ports, device memory and MSRs, time, interrupts */                \
    X(checkpoint) /* a saved state of all devices */                                               \
    X(restore)    /* a checkpoint of a whole VM */                                                 \
    X(exits)      /* the run loop and every handler */                                             \
    X(walk)       /* guest page tables */                                                          \
    X(emulator)   /* instructions */                                                               \
    X(manifest)                                                                                    \
    X(bzimage) /* a Linux kernel file */                                                           \
    X(kernels) /* files for the other loaders */                                                   \
    X(pack)    /* a ROM's container, an LZ4 block, a kernel */                                     \
    FUZZ_DEVICES(X)

#define X(name) void fuzz_##name(const uint8_t *data, size_t size);
FUZZ_TARGETS(X)
#undef X

/* The bytes of an input, one after the other; zeros behind its end. */
struct fuzz_bytes {
    const uint8_t *at, *end;
};

static inline uint8_t fuzz_byte(struct fuzz_bytes *b)
{
    return b->at < b->end ? *b->at++ : 0;
}

static inline uint64_t fuzz_number(struct fuzz_bytes *b, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)fuzz_byte(b) << (8 * i);
    }
    return value;
}
