/* Puts the mock back end's vCPU into the modes that emulator tests need. */
#pragma once

#include "fixture.h"
#include "core/emulate.h"
#include "mock_backend.h"

enum guest_mode { GUEST_REAL, GUEST_PROTECTED_16, GUEST_PROTECTED_32, GUEST_LONG };

/* Flat segments, paging off (long mode: "on", but see guest_identity_map), rip 0x1000, CPL 0. */
void guest_set_mode(struct fixture *f, enum guest_mode mode);
/* Long mode tables at 0x80000: the first 1 GiB to itself in 2 MiB pages, rights as given. */
#define GUEST_TABLES UINT64_C(0x80000)
void guest_identity_map(struct fixture *f, uint64_t leaf_bits);
void guest_set_cpl(struct fixture *f, unsigned cpl);
/* Put code at rip and in front of it nothing: bytes beyond it are INT3. */
void guest_set_code(struct fixture *f, const void *bytes, size_t count);
/* The walk of the guest's page tables, with the rights of CPL 3 or of the supervisor. */
int guest_walk(struct vcpu *v, gva_t gva, enum vmm_access access, bool user, gpa_t *out,
               struct vmm_walk_fault *fault);
uint64_t *guest_entry(struct fixture *f, uint64_t gpa); /* a table entry, or any 8 bytes of RAM */
