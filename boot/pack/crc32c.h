/* CRC-32C (Castagnoli), the checksum that x86 has an instruction for.
 * Spec: RFC 3720 section 12.1; Intel SDM vol. 2 "CRC32". */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The checksum of `before` followed by `size` bytes; 0 stands for nothing before. */
uint32_t crc32c(uint32_t before, const void *data, size_t size);

/* The same without the instruction, for CPUs that lack SSE 4.2. */
uint32_t crc32c_by_table(uint32_t before, const void *data, size_t size);
