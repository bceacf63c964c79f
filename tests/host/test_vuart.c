/* The 16550A, register by register. */
#include <string.h>
#include "pc.h"

#define BASE PLATFORM_COM1
#define DATA (BASE + 0)
#define IER  (BASE + 1)
#define IIR  (BASE + 2)
#define FCR  (BASE + 2)
#define LCR  (BASE + 3)
#define MCR  (BASE + 4)
#define LSR  (BASE + 5)
#define MSR  (BASE + 6)
#define SCR  (BASE + 7)

#define VECTOR 0x24

static struct fixture *uart_create(void)
{
    struct fixture *f = pc_create(1);

    pc_init_pics(f);
    fixture_out(f, MCR, 1, 0x0b); /* DTR, RTS, OUT2 */
    return f;
}

static unsigned in(struct fixture *f, uint16_t port)
{
    return (unsigned)fixture_in(f, port, 1);
}

static void out(struct fixture *f, uint16_t port, unsigned value)
{
    fixture_out(f, port, 1, value);
}

static void type(struct fixture *f, const char *text)
{
    posix_host_type(f->host, "test", text, strlen(text));
}

static void values_after_reset(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(in(f, IER), 0);
    assert_int_equal(in(f, IIR), 0x01);
    assert_int_equal(in(f, LCR), 0);
    assert_int_equal(in(f, MCR), 0);
    assert_int_equal(in(f, LSR), 0x60);
    assert_int_equal(in(f, MSR), 0xb0);
    fixture_destroy(f);
}

static void output_reaches_the_stream(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    for (const char *c = "hello\n"; *c != '\0'; c++) {
        assert_int_equal(in(f, LSR) & 0x60, 0x60);
        out(f, DATA, (unsigned char)*c);
    }
    assert_string_equal(posix_host_output(f->host, "test"), "hello\n");
    fixture_destroy(f);
}

static void divisor_latch(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, LCR, 0x83);
    assert_int_equal(in(f, DATA), 1);
    assert_int_equal(in(f, IER), 0);
    out(f, DATA, 0x0c);
    out(f, IER, 0x55);
    out(f, LCR, 0x03);
    assert_int_equal(in(f, IER), 0);
    out(f, LCR, 0x83);
    assert_int_equal(in(f, DATA), 0x0c);
    assert_int_equal(in(f, IER), 0x55);
    assert_string_equal(posix_host_output(f->host, "test"), "");
    fixture_destroy(f);
}

static void registers_keep_their_bits(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, IER, 0xff);
    assert_int_equal(in(f, IER), 0x0f);
    out(f, LCR, 0x7f);
    assert_int_equal(in(f, LCR), 0x7f);
    out(f, MCR, 0xff);
    assert_int_equal(in(f, MCR), 0x1f);
    out(f, SCR, 0xa5);
    assert_int_equal(in(f, SCR), 0xa5);
    out(f, LSR, 0xff);
    out(f, MSR, 0xff);
    assert_int_equal(in(f, LSR) & 0x60, 0x60);
    fixture_destroy(f);
}

static void fcr_enables_the_fifos(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    assert_int_equal(in(f, IIR) & 0xc0, 0x00);
    out(f, FCR, 0x01);
    assert_int_equal(in(f, IIR) & 0xc0, 0xc0);
    type(f, "abc");
    out(f, FCR, 0x03); /* clears the receiver */
    assert_int_equal(in(f, LSR) & 1, 0);
    type(f, "d");
    assert_int_equal(in(f, DATA), 'd');
    out(f, FCR, 0x00);
    assert_int_equal(in(f, IIR) & 0xc0, 0x00);
    fixture_destroy(f);
}

static void received_bytes_come_in_order(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    type(f, "xyz");
    for (const char *c = "xyz"; *c != '\0'; c++) {
        assert_int_equal(in(f, LSR) & 1, 1);
        assert_int_equal(in(f, DATA), *c);
    }
    assert_int_equal(in(f, LSR) & 3, 0);
    assert_int_equal(in(f, DATA), 0);
    fixture_destroy(f);
}

static void trigger_level_and_timeout(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, IER, 0x01);
    out(f, FCR, 0x81); /* trigger at 8 */
    type(f, "1234567");
    assert_int_equal(in(f, IIR), 0xcc); /* fewer, and no more come */
    type(f, "8");
    assert_int_equal(in(f, IIR), 0xc4);
    in(f, DATA);
    assert_int_equal(in(f, IIR), 0xcc);
    for (unsigned i = 0; i < 7; i++) {
        in(f, DATA);
    }
    assert_int_equal(in(f, IIR), 0xc1);
    fixture_destroy(f);
}

static void receive_interrupt(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    type(f, "a");
    assert_int_equal(pc_take(f->vcpu), -1); /* not enabled */
    out(f, IER, 0x01);
    assert_int_equal(in(f, IIR), 0x04);
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    in(f, DATA);
    assert_int_equal(in(f, IIR), 0x01);
    type(f, "b");
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    fixture_destroy(f);
}

static void transmit_interrupt(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, IER, 0x02); /* the register is empty: at once */
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    assert_int_equal(in(f, IIR), 0x02);
    assert_int_equal(in(f, IIR), 0x01); /* reading it was its end */
    out(f, DATA, 'a');
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    out(f, DATA, 'b'); /* a write ends it too, and begins the next */
    assert_int_equal(pc_serve(f, f->vcpu), VECTOR);
    assert_int_equal(in(f, IIR), 0x02);
    out(f, IER, 0x00);
    assert_int_equal(in(f, IIR), 0x01);
    out(f, IER, 0x02);
    assert_int_equal(in(f, IIR), 0x02);
    fixture_destroy(f);
}

static void interrupt_priorities(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, IER, 0x0f);
    out(f, MCR, 0x18); /* loopback: modem lines change */
    for (unsigned i = 0; i < 2; i++) {
        out(f, DATA, 'a'); /* the second one overruns */
    }
    assert_int_equal(in(f, IIR), 0x06);
    assert_int_equal(in(f, LSR) & 0x1f, 0x03);
    assert_int_equal(in(f, IIR), 0x04);
    in(f, DATA);
    assert_int_equal(in(f, IIR), 0x02);
    assert_int_equal(in(f, IIR), 0x00);
    in(f, MSR);
    assert_int_equal(in(f, IIR), 0x01);
    fixture_destroy(f);
}

static void out2_gates_the_interrupt(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, MCR, 0x03);
    out(f, IER, 0x02);
    assert_int_equal(pc_take(f->vcpu), -1);
    out(f, MCR, 0x0b);
    assert_int_equal(pc_take(f->vcpu), VECTOR);
    fixture_destroy(f);
}

static void modem_status_in_loopback(void **state)
{
    struct fixture *f = uart_create();
    static const uint8_t line_table[4][2] = {
        {0x01, 0x20}, {0x02, 0x10}, {0x04, 0x40}, {0x08, 0x80}};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        out(f, MCR, 0x10);
        in(f, MSR);
        assert_int_equal(in(f, MSR), 0);
        out(f, MCR, 0x10u | line_table[i][0]);
        assert_int_equal(in(f, MSR) & 0xf0, line_table[i][1]);
        assert_int_equal(in(f, MSR) & 0x0f, 0); /* deltas are gone once read */
    }
    out(f, MCR, 0x14); /* RI is told of when it ends */
    in(f, MSR);
    out(f, MCR, 0x10);
    assert_int_equal(in(f, MSR), 0x04);
    fixture_destroy(f);
}

static void loopback_of_data_and_break(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, FCR, 0x01);
    out(f, MCR, 0x1b);
    type(f, "typed");
    for (unsigned i = 0; i < 17; i++) {
        out(f, DATA, 'A' + i);
    }
    assert_int_equal(in(f, LSR) & 0x1f, 0x03); /* sixteen fit */
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(in(f, DATA), 'A' + i);
    }
    assert_int_equal(in(f, LSR) & 0x01, 0);
    out(f, LCR, 0x43);
    assert_int_equal(in(f, LSR) & 0x11, 0x11);
    assert_int_equal(in(f, DATA), 0);
    out(f, LCR, 0x03);
    out(f, MCR, 0x0b);
    assert_int_equal(in(f, DATA), 't'); /* the line waited */
    assert_string_equal(posix_host_output(f->host, "test"), "");
    fixture_destroy(f);
}

/* A paste of 4 KiB, three times over, at a guest that is slow to read: nothing is lost. */
static void a_paste_is_not_lost(void **state)
{
    struct fixture *f = uart_create();
    char text[3 * 4096];
    unsigned got = 0;

    (void)state;
    for (unsigned i = 0; i < sizeof(text); i++) {
        text[i] = (char)('!' + i * 7 % 90);
    }
    out(f, FCR, 0x81);
    out(f, IER, 0x01);
    posix_host_type(f->host, "test", text, sizeof(text));
    while (pc_serve(f, f->vcpu) == VECTOR) {
        while ((in(f, IIR) & 0x3f) != 0x01) {
            for (unsigned i = 0; i < 16 && (in(f, LSR) & 1) != 0; i++) {
                assert_int_equal(in(f, DATA), text[got]);
                got++;
            }
        }
    }
    assert_int_equal(got, sizeof(text));
    assert_int_equal(in(f, LSR) & 0x02, 0);
    assert_null(strstr(posix_host_log(f->host), "lost"));
    fixture_destroy(f);
}

static void more_than_the_queue_is_said_to_be_lost(void **state)
{
    struct fixture *f = uart_create();
    static char text[20000];

    (void)state;
    memset(text, 'x', sizeof(text));
    posix_host_type(f->host, "test", text, sizeof(text));
    assert_non_null(strstr(posix_host_log(f->host), "console input lost"));
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        type(f, "some text that is typed");
        pc_fuzz_ports(f, BASE, 8, 1000);
    }
    pc_check_save(f);
    fixture_destroy(f);
}

/* A stream that is full: the transmitter does not empty, nothing is lost, and it says when it goes
 * on. */
static void a_full_stream_holds_the_transmitter(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, FCR, 0x01);
    out(f, IER, 0x02);
    assert_int_equal(in(f, IIR), 0xc2);
    posix_host_set_room(f->host, "test", 3);
    for (unsigned i = 0; i < 10; i++) {
        out(f, DATA, '0' + i);
    }
    assert_string_equal(posix_host_output(f->host, "test"), "012");
    assert_int_equal(in(f, LSR), 0x00);
    assert_int_equal(in(f, IIR), 0xc1);
    pc_advance_ns(f, 5000000); /* still full */
    assert_int_equal(in(f, LSR), 0x00);
    posix_host_set_room(f->host, "test", 4);
    pc_advance_ns(f, 1000000);
    assert_string_equal(posix_host_output(f->host, "test"), "0123456");
    assert_int_equal(in(f, LSR), 0x00);
    posix_host_set_room(f->host, "test", SIZE_MAX);
    pc_advance_ns(f, 1000000);
    assert_string_equal(posix_host_output(f->host, "test"), "0123456789");
    assert_int_equal(in(f, LSR), 0x60);
    assert_int_equal(in(f, IIR), 0xc2);
    out(f, DATA, '!');
    assert_string_equal(posix_host_output(f->host, "test"), "0123456789!");
    fixture_destroy(f);
}

/* It goes into a checkpoint, and out of it. */
static void a_full_transmitter_is_saved(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, FCR, 0x01);
    posix_host_set_room(f->host, "test", 0);
    out(f, DATA, 'a');
    out(f, DATA, 'b');
    pc_check_save(f);
    out(f, MCR, 0x08);
    fixture_destroy(f);
}

static void a_break_comes_in_its_place(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    out(f, FCR, 0x01);
    out(f, IER, 0x04);
    type(f, "ab");
    posix_host_break(f->host, "test");
    posix_host_break(f->host, "test"); /* two at once are one, or two */
    type(f, "c");
    assert_int_equal(in(f, LSR), 0x61);
    assert_int_equal(in(f, DATA), 'a');
    assert_int_equal(in(f, LSR), 0x61);
    assert_int_equal(in(f, DATA), 'b');
    assert_int_equal(in(f, IIR), 0xc6);
    assert_int_equal(in(f, LSR), 0x79); /* break, framing error */
    assert_int_equal(in(f, LSR), 0x61); /* told once */
    assert_int_equal(in(f, DATA), 0);
    while ((in(f, LSR) & 0x10) != 0) {
        assert_int_equal(in(f, DATA), 0);
    }
    assert_int_equal(in(f, DATA), 'c');
    assert_int_equal(in(f, LSR), 0x60);
    fixture_destroy(f);
}

/* Behind more than the FIFO holds, and without FIFOs. */
static void a_break_waits_in_the_queue(void **state)
{
    struct fixture *f = uart_create();

    (void)state;
    type(f, "0123456789");
    posix_host_break(f->host, "test");
    type(f, "x");
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(in(f, LSR), 0x61);
        assert_int_equal(in(f, DATA), '0' + i);
    }
    assert_int_equal(in(f, LSR), 0x79);
    assert_int_equal(in(f, DATA), 0);
    assert_int_equal(in(f, LSR), 0x61);
    assert_int_equal(in(f, DATA), 'x');
    assert_int_equal(in(f, LSR), 0x60);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(a_full_stream_holds_the_transmitter),
             cmocka_unit_test(a_full_transmitter_is_saved),
             cmocka_unit_test(a_break_comes_in_its_place),
             cmocka_unit_test(a_break_waits_in_the_queue), cmocka_unit_test(values_after_reset),
             cmocka_unit_test(output_reaches_the_stream), cmocka_unit_test(divisor_latch),
             cmocka_unit_test(registers_keep_their_bits), cmocka_unit_test(fcr_enables_the_fifos),
             cmocka_unit_test(received_bytes_come_in_order),
             cmocka_unit_test(trigger_level_and_timeout), cmocka_unit_test(receive_interrupt),
             cmocka_unit_test(transmit_interrupt), cmocka_unit_test(interrupt_priorities),
             cmocka_unit_test(out2_gates_the_interrupt), cmocka_unit_test(modem_status_in_loopback),
             cmocka_unit_test(loopback_of_data_and_break), cmocka_unit_test(a_paste_is_not_lost),
             cmocka_unit_test(more_than_the_queue_is_said_to_be_lost),
             cmocka_unit_test(random_accesses))
