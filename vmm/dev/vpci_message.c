/* Interrupts that a PCI function sends as messages: the MSI and MSI-X capabilities, MSI-X's table
 * and pending bits in a memory range of the function.
 * Spec: PCI Local Bus 3.0 section 6.8.
 *
 * A vector is sent while its function masters the bus and neither the function nor the vector is
 * masked; raised at any other time, it is pending, once, until it can be sent. */
#include "dev/vpci_message.h"

#include "core/bus.h"
#include "core/irq.h"
#include "core/vm.h"

#define CONFIG_COMMAND 0x04
#define COMMAND_MASTER 0x04

#define CAP_MSI   0x05
#define CAP_MSIX  0x11
#define CONTROL   2 /* of a capability, 16 bits */
#define MSI_SIZE  24
#define MSIX_SIZE 12

/* MSI, in its longest form: 64-bit address, a mask bit for each vector. */
#define MSI_ADDRESS          4
#define MSI_DATA             12
#define MSI_MASK             16
#define MSI_PENDING          20
#define MSI_ENABLE           0x0001
#define MSI_COUNT_SHIFT      1                    /* log2 of the vectors that there are */
#define MSI_GRANTED(control) ((control) >> 4 & 7) /* log2 of those that the guest grants */
#define MSI_GRANTED_BITS     0x0070
#define MSI_64BIT            0x0080
#define MSI_MASKABLE         0x0100

#define MSIX_TABLE      4 /* offset in a range, and in the low bits which one */
#define MSIX_PENDING    8
#define MSIX_MASK       0x4000
#define MSIX_ENABLE     0x8000
#define MSIX_RANGE_SIZE 0x1000
#define MSIX_PENDING_AT 0x800 /* in the range; the table begins it */

#define ENTRY_DATA    8
#define ENTRY_CONTROL 12
#define ENTRY_MASKED  0x01

static void lock(struct vpci_function *f)
{
    f->dev->vm->ops->lock(f->dev->vm->host, &f->messages.lock);
}

static void unlock(struct vpci_function *f)
{
    f->dev->vm->ops->unlock(f->dev->vm->host, &f->messages.lock);
}

/* --- sending: the messages' lock held -----------------------------------------------------------
 */

static unsigned msi_control(const struct vpci_function *f)
{
    return vpci_get(f->config, f->messages.msi_at + CONTROL, 2);
}

static unsigned msix_control(const struct vpci_function *f)
{
    return vpci_get(f->config, f->messages.msix_at + CONTROL, 2);
}

/* With both switched on, which the specification leaves open, MSI-X counts. */
static enum vpci_signal signal_of(const struct vpci_function *f)
{
    if (f->messages.msix_at != 0 && (msix_control(f) & MSIX_ENABLE) != 0) {
        return VPCI_MSIX;
    }
    return f->messages.msi_at != 0 && (msi_control(f) & MSI_ENABLE) != 0 ? VPCI_MSI : VPCI_PIN;
}

/* Of the kind that is on. */
static unsigned vector_count(const struct vpci_function *f)
{
    return f->messages.signal == VPCI_MSIX  ? f->msix_vectors
           : f->messages.signal == VPCI_MSI ? f->msi_vectors
                                            : 0;
}

/* A bit for each vector that the guest masks. */
static uint32_t masked_vectors(const struct vpci_function *f)
{
    const struct vpci_messages *m = &f->messages;
    uint32_t masked = 0;

    if ((vpci_get(f->config, CONFIG_COMMAND, 2) & COMMAND_MASTER) == 0) {
        return UINT32_MAX;
    }
    if (m->signal == VPCI_MSI) {
        return vpci_get(f->config, m->msi_at + MSI_MASK, 4);
    }
    if ((msix_control(f) & MSIX_MASK) != 0) {
        return UINT32_MAX;
    }
    for (unsigned i = 0; i < f->msix_vectors; i++) {
        masked |= (uint32_t)(m->table[i][ENTRY_CONTROL] & ENTRY_MASKED) << i;
    }
    return masked;
}

/* What of MSI's datum is the vector. */
static uint32_t granted_bits(const struct vpci_function *f)
{
    return (1u << MSI_GRANTED(msi_control(f))) - 1;
}

/* MSI has one address and one datum. */
static void send(struct vpci_function *f, unsigned vector)
{
    const struct vpci_messages *m = &f->messages;
    const uint8_t *address = m->table[vector], *data = m->table[vector] + ENTRY_DATA;
    uint32_t low_bits = 0;

    if (m->signal == VPCI_MSI) {
        address = f->config + m->msi_at + MSI_ADDRESS;
        data = f->config + m->msi_at + MSI_DATA;
        low_bits = granted_bits(f);
    }
    f->messages.sent++;
    vmm_irq_msi(f->dev->vm, vpci_get(address, 0, 4) | (uint64_t)vpci_get(address, 4, 4) << 32,
                (vpci_get(data, 0, m->signal == VPCI_MSI ? 2 : 4) & ~low_bits) |
                    (vector & low_bits));
}

static void send_pending(struct vpci_function *f)
{
    struct vpci_messages *m = &f->messages;
    uint32_t ready = m->pending;

    if (ready == 0) {
        return;
    }
    ready &= ~masked_vectors(f);
    m->pending &= ~ready;
    for (; ready != 0; ready &= ready - 1) {
        send(f, (unsigned)__builtin_ctz(ready));
    }
}

void vpci_message(struct vpci_function *f, unsigned vector)
{
    struct vpci_messages *m = &f->messages;

    lock(f);
    if (vector < vector_count(f)) {
        m->pending |= 1u << (m->signal == VPCI_MSI ? vector & granted_bits(f) : vector);
        send_pending(f);
    }
    unlock(f);
}

/* --- what the guest writes ----------------------------------------------------------------------
 */

static unsigned log2_of(unsigned count)
{
    return (unsigned)__builtin_ctz(count);
}

/* No more than there are: encodings above are reserved. */
static void limit_granted(struct vpci_function *f)
{
    unsigned control = msi_control(f), most = log2_of(f->msi_vectors);

    if (MSI_GRANTED(control) > most) {
        control = (control & ~(unsigned)MSI_GRANTED_BITS) | most << 4;
        vpci_put(f->config, f->messages.msi_at + CONTROL, control, 2);
    }
}

/* Configuration space may say otherwise now. */
static void configured(struct vpci_function *f)
{
    struct vpci_messages *m = &f->messages;
    enum vpci_signal signal;

    if (m->msi_at != 0) {
        limit_granted(f);
    }
    signal = signal_of(f);
    if (signal != m->signal) {
        m->pending = 0;
        __atomic_store_n(&m->signal, signal, __ATOMIC_RELEASE);
    }
    send_pending(f);
}

void vpci_messages_write_config(struct vpci_function *f, unsigned at, const struct vdev_access *a)
{
    lock(f);
    for (unsigned i = 0; i < a->size; i++) {
        uint8_t bits = f->writable[at + i];

        f->config[at + i] =
            (uint8_t)((f->config[at + i] & ~bits) | ((uint8_t)(a->value >> (8 * i)) & bits));
    }
    configured(f);
    unlock(f);
}

void vpci_messages_fill_config(struct vpci_function *f)
{
    struct vpci_messages *m = &f->messages;

    if (m->msi_at != 0) {
        lock(f);
        vpci_put(f->config, m->msi_at + MSI_PENDING, m->signal == VPCI_MSI ? m->pending : 0, 4);
        unlock(f);
    }
}

/* Addresses are of double words; of the control there is the mask bit only. */
static uint8_t table_writable(unsigned at)
{
    static const uint8_t writable_table[VPCI_VECTOR_SIZE] = {
        0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ENTRY_MASKED,
    };

    return writable_table[at % VPCI_VECTOR_SIZE];
}

static void table_write(struct vpci_function *f, unsigned at, uint8_t value)
{
    uint8_t bits = table_writable(at);
    uint8_t *byte = &f->messages.table[at / VPCI_VECTOR_SIZE][at % VPCI_VECTOR_SIZE];

    *byte = (uint8_t)((*byte & ~bits) | (value & bits));
}

static uint8_t range_read(const struct vpci_function *f, unsigned at)
{
    if (at < (unsigned)f->msix_vectors * VPCI_VECTOR_SIZE) {
        return f->messages.table[at / VPCI_VECTOR_SIZE][at % VPCI_VECTOR_SIZE];
    }
    if (at - MSIX_PENDING_AT < sizeof(f->messages.pending)) {
        return (uint8_t)(f->messages.pending >> (8 * (at - MSIX_PENDING_AT)));
    }
    return 0;
}

/* Guests use double and quad words; other accesses take the bytes that they name. */
static void range_access(struct vdev *dev, struct vdev_access *a)
{
    struct vpci_function *f = dev->pci_function;
    unsigned at = (unsigned)a->offset;
    uint64_t value = 0;

    lock(f);
    for (unsigned i = 0; i < a->size; i++) {
        if (a->write && at + i < (unsigned)f->msix_vectors * VPCI_VECTOR_SIZE) {
            table_write(f, at + i, (uint8_t)(a->value >> (8 * i)));
        }
        value |= (uint64_t)range_read(f, at + i) << (8 * i);
    }
    if (a->write) {
        send_pending(f);
    } else {
        a->value = value;
    }
    unlock(f);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static bool create_msix(struct vpci_function *f)
{
    unsigned at = vpci_add_capability(f, CAP_MSIX, MSIX_SIZE);

    if (at == 0) {
        return false;
    }
    f->messages.msix_at = (uint8_t)at;
    vpci_put(f->config, at + CONTROL, f->msix_vectors - 1u, 2);
    vpci_put(f->writable, at + CONTROL, MSIX_ENABLE | MSIX_MASK, 2);
    vpci_put(f->config, at + MSIX_TABLE, f->msix_bar, 4);
    vpci_put(f->config, at + MSIX_PENDING, MSIX_PENDING_AT | f->msix_bar, 4);
    f->bar[f->msix_bar].size = MSIX_RANGE_SIZE;
    f->bar[f->msix_bar].fn = range_access;
    return true;
}

static bool create_msi(struct vpci_function *f)
{
    unsigned at = vpci_add_capability(f, CAP_MSI, MSI_SIZE);

    if (at == 0) {
        return false;
    }
    f->messages.msi_at = (uint8_t)at;
    vpci_put(f->config, at + CONTROL,
             MSI_64BIT | MSI_MASKABLE | log2_of(f->msi_vectors) << MSI_COUNT_SHIFT, 2);
    vpci_put(f->writable, at + CONTROL, MSI_ENABLE | MSI_GRANTED_BITS, 2);
    vpci_put(f->writable, at + MSI_ADDRESS, 0xfffffffc, 4);
    vpci_put(f->writable, at + MSI_ADDRESS + 4, UINT32_MAX, 4);
    vpci_put(f->writable, at + MSI_DATA, 0xffff, 2);
    vpci_put(f->writable, at + MSI_MASK, UINT32_MAX >> (32 - f->msi_vectors), 4);
    return true;
}

int vpci_messages_create(struct vpci_function *f)
{
    if (f->dev->vm->config.no_msi) {
        f->msi_vectors = f->msix_vectors = 0;
    }
    if (f->msi_vectors > VPCI_VECTORS || (f->msi_vectors & (f->msi_vectors - 1)) != 0 ||
        f->msix_vectors > VPCI_VECTORS || f->msix_bar >= VPCI_BARS ||
        (f->msix_vectors != 0 && f->bar[f->msix_bar].size != 0)) {
        return -VMM_EINVAL;
    }
    if ((f->msi_vectors != 0 && !create_msi(f)) || (f->msix_vectors != 0 && !create_msix(f))) {
        return -VMM_EINVAL;
    }
    return 0;
}

void vpci_messages_reset(struct vpci_function *f)
{
    struct vpci_messages *m = &f->messages;

    lock(f);
    for (unsigned i = 0; i < VPCI_CONFIG_SIZE; i++) {
        f->config[i] &= (uint8_t)~f->writable[i];
    }
    __builtin_memset(m->table, 0, sizeof(m->table));
    for (unsigned i = 0; i < VPCI_VECTORS; i++) {
        m->table[i][ENTRY_CONTROL] = ENTRY_MASKED;
    }
    m->pending = 0;
    m->sent = 0;
    configured(f);
    unlock(f);
}

/* The stream may sleep, and the host may raise a vector meanwhile. */
int vpci_messages_transfer(struct vpci_function *f, struct vdev_stream *s)
{
    struct vpci_messages *m = &f->messages;
    uint8_t vectors[2] = {f->msi_vectors, f->msix_vectors};
    uint8_t table[VPCI_VECTORS][VPCI_VECTOR_SIZE];
    uint32_t pending = __atomic_load_n(&m->pending, __ATOMIC_RELAXED), before = pending;
    int error = s->transfer(s, vectors, sizeof(vectors));

    if (error == 0 && (vectors[0] != f->msi_vectors || vectors[1] != f->msix_vectors)) {
        return -VMM_EINVAL; /* with "msi": false in one manifest, not in the other */
    }
    __builtin_memcpy(table, m->table, sizeof(table));
    if (error == 0) {
        error = s->transfer(s, table, sizeof(table[0]) * f->msix_vectors);
    }
    if (error == 0) {
        error = s->transfer(s, &pending, sizeof(pending));
    }
    if (error == 0) {
        lock(f);
        for (unsigned at = 0; at < (unsigned)f->msix_vectors * VPCI_VECTOR_SIZE; at++) {
            table_write(f, at, table[at / VPCI_VECTOR_SIZE][at % VPCI_VECTOR_SIZE]);
        }
        m->pending ^= pending ^ before; /* nothing, when it was saved */
        unlock(f);
    }
    return error;
}

/* Nothing is sent: what is pending was so before. */
void vpci_messages_loaded(struct vpci_function *f)
{
    struct vpci_messages *m = &f->messages;

    lock(f);
    if (m->msi_at != 0) {
        limit_granted(f);
    }
    __atomic_store_n(&m->signal, signal_of(f), __ATOMIC_RELEASE);
    m->pending &= (uint32_t)((UINT64_C(1) << vector_count(f)) - 1);
    unlock(f);
}

void vpci_messages_report(struct vpci_function *f, struct vm_pci_function *out)
{
    const struct vpci_messages *m = &f->messages;

    lock(f);
    out->signal = (enum vpci_signal)m->signal;
    out->vectors = vector_count(f);
    out->masked = masked_vectors(f) & (uint32_t)((UINT64_C(1) << out->vectors) - 1);
    out->pending = m->pending;
    out->sent = m->sent;
    unlock(f);
}
