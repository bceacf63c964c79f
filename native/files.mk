# Native applications: native/<name>/*.c become build/native/<name>, a boot module.
native-y += hello stream

native-flags-stream := -O3

# For tests only, not in the ISO.
native-test-y += checks
