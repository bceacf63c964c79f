/* Tests of the keyboard's scan codes. */
#include "drivers/keyboard.h"

#include <string.h>

#include "tests/kernel/ktest.h"

/* What all these codes give together. */
static const char *decode(const char *codes, size_t count)
{
    static char text[64];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += keyboard_decode((uint8_t)codes[i], text + length);
    }
    text[length] = '\0';
    return text;
}

#define DECODE(codes) decode(codes, sizeof(codes) - 1)

KTEST(keyboard_codes)
{
    EXPECT_STREQ(DECODE("\x23\xa3\x12\x92\x26\xa6\x26\xa6\x18\x98"), "hello");
    EXPECT_STREQ(DECODE("\x2a\x23\xa3\xaa\x17\x97\x02\x36\x02\xb6\x02"), "Hi1!1");
    EXPECT_STREQ(DECODE("\x3a\xba\x1e\x02\x2a\x1e\xaa\x3a\xba\x1e"), "A1aa"); /* Caps Lock */
    EXPECT_STREQ(DECODE("\x1d\x2e\x9d\x2e"), "\x03"
                                             "c");
    EXPECT_STREQ(DECODE("\x1d\x1b\x9d"), "\x1d"); /* Ctrl-] */
    EXPECT_STREQ(DECODE("\xe0\x48\xe0\xc8\xe0\x4b\xe0\xcb"), "\x1b[A\x1b[D");
    EXPECT_STREQ(DECODE("\xe0\x53\xe0\x47"), "\x1b[3~\x1b[H");
    EXPECT_STREQ(DECODE("\xe0\x1d\x1e\xe0\x9d\x1e"), "\x01"
                                                     "a"); /* right Ctrl */
    EXPECT_STREQ(DECODE("\xe0\x2a\xe0\x37\x1e"), "a");     /* Print Screen has a false Shift */
    EXPECT_STREQ(DECODE("\x0e\x0f\x1c\x01\x39"), "\x7f\t\r\x1b ");
    EXPECT_STREQ(DECODE("\x38\x21\xb8"), "\x1b"
                                         "f");
    EXPECT_STREQ(DECODE("\x7f\x54\x3b\xbb"), ""); /* none of ours */
}
