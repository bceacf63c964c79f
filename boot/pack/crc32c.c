#include "boot/pack/crc32c.h"

#include <stdbool.h>

#define POLYNOMIAL 0x82f63b78u /* bits reversed */
#define SLICES     8

#define CPUID_1_ECX_SSE42 (1u << 20)

static uint32_t table[SLICES][256]; /* [k][b]: b followed by k zero bytes */

static void fill_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        }
        table[0][b] = crc;
    }
    for (uint32_t b = 0; b < 256; b++) {
        for (unsigned k = 1; k < SLICES; k++) {
            table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 0xff];
        }
    }
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t v;
    __builtin_memcpy(&v, at, sizeof(v));
    return v;
}

uint32_t crc32c_by_table(uint32_t before, const void *data, size_t size)
{
    const uint8_t *at = data;
    uint32_t crc = ~before;
    if (table[0][1] == 0) {
        fill_table();
    }
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t v = load64(at) ^ crc;
        crc = table[7][v & 0xff] ^ table[6][v >> 8 & 0xff] ^ table[5][v >> 16 & 0xff] ^
              table[4][v >> 24 & 0xff] ^ table[3][v >> 32 & 0xff] ^ table[2][v >> 40 & 0xff] ^
              table[1][v >> 48 & 0xff] ^ table[0][v >> 56];
    }
    for (; size > 0; size--, at++) {
        crc = crc >> 8 ^ table[0][(crc ^ *at) & 0xff];
    }
    return ~crc;
}

static bool has_instruction(void)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return (ecx & CPUID_1_ECX_SSE42) != 0;
}

static uint64_t step8(uint64_t crc, const uint8_t *at)
{
    __asm__("crc32q %1, %0" : "+r"(crc) : "m"(*(const uint64_t *)at));
    return crc;
}

uint32_t crc32c(uint32_t before, const void *data, size_t size)
{
    const uint8_t *at = data;
    uint64_t crc = ~before;
    if (!has_instruction()) {
        return crc32c_by_table(before, data, size);
    }
    for (; size >= 32; size -= 32, at += 32) {
        crc = step8(step8(step8(step8(crc, at), at + 8), at + 16), at + 24);
    }
    for (; size > 0; size--, at++) {
        __asm__("crc32b %1, %k0" : "+r"(crc) : "m"(*at));
    }
    return ~(uint32_t)crc;
}
