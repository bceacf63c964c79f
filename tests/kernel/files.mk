# The test image is the kernel with these in place of $(node-y).
ktest-y += ktest.c ktest_main.c
ktest-y += format_test.c
