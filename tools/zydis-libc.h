/* Included before each of Zydis's sources: its own memset for builds without a C library writes
 * byte by byte through a volatile pointer, 2,000 instructions for each instruction decoded. */
#include <Zycore/LibC.h>
#define ZYAN_MEMSET(to, value, count) __builtin_memset(to, value, count)
#define ZYAN_MEMCPY(to, from, count)  __builtin_memcpy(to, from, count)
