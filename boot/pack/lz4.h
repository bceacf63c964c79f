/* LZ4 blocks. Spec: lz4's doc/lz4_Block_format.md. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Unpack a block of size_in bytes into at most size_out ones; what is in it may be anything.
 * Returns how many bytes came out, or -1 when the block is malformed or yields more. */
ptrdiff_t lz4_unpack(const uint8_t *in, size_t size_in, uint8_t *out, size_t size_out);
