#define NK_VERSION "c13c3a7"
