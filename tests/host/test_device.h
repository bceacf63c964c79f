/* A device of plain bytes that notes how it is accessed, for tests of the emulator. */
#pragma once

#include "fixture.h"

#define TEST_DEVICE_BASE UINT64_C(0x30000000)
#define TEST_DEVICE_SIZE 0x3000
#define TEST_PORT        0x500 /* IN gives the next byte of `input`, OUT appends to `output` */

struct test_device {
    uint8_t bytes[TEST_DEVICE_SIZE];
    unsigned reads, writes;
    struct vdev_access last; /* offset from TEST_DEVICE_BASE */
    uint8_t input[4096], output[4096];
    unsigned taken, put;
};

struct test_device *test_device_create(struct fixture *f);
