# Parts that are built from Debian's sources with our flags, once; "make clean" keeps them.
# A stamp is named by the content of its recipe, not by a date: a copied cache stays valid.
#
# zydis-flags and cjson-flags are for the sources that use them, as cflags-<source> in a files.mk.

# $(call recipe-sum,files)
recipe-sum = $(firstword $(shell cat $1 | cksum))

# ---------------------------------------------------------------- newlib: C and math library

newlib           := $(third-party)/newlib
newlib-flags     := -D__DYNAMIC_REENT__ -isystem $(newlib)/include
newlib-libraries := $(newlib)/lib/libc.a $(newlib)/lib/libm.a

newlib-stamp := $(newlib)/.built-$(call recipe-sum,tools/build-newlib tools/newlib-cc)
$(newlib-stamp): | $(build)/.packages
	@echo 'Building newlib (once, about a minute)'
	$(quiet)NEWLIB_CC=gcc tools/build-newlib /usr/src/newlib/newlib-*.tar.xz $(newlib)
	$(quiet)touch $@
$(newlib-libraries): $(newlib-stamp) ;

# ---------------------------------------------------------------- Zydis: instruction decoder

zydis         := $(third-party)/zydis
# Minimal mode has no operand tables: 113 KiB instead of 262.
zydis-flags   := -isystem $(zydis)/include -DZYAN_NO_LIBC \
	-DZYDIS_STATIC_BUILD -DZYCORE_STATIC_BUILD -DZYDIS_DISABLE_FORMATTER \
	-DZYDIS_DISABLE_ENCODER -DZYDIS_DISABLE_SEGMENT -DZYDIS_DISABLE_AVX512 \
	-DZYDIS_DISABLE_KNC -DZYDIS_MINIMAL_MODE
zydis-library      := $(zydis)/libzydis.a
zydis-host-library := $(zydis)/libzydis-host.a
zydis-sources := Decoder.c DecoderData.c SharedData.c Mnemonic.c

# ---------------------------------------------------------------- cJSON: the manifest's syntax

cjson              := $(third-party)/cjson
cjson-flags        := -isystem $(cjson)/include
cjson-library      := $(cjson)/libcjson.a
cjson-host-library := $(cjson)/libcjson-host.a

# Both run on the kernel's side without any of its headers. Zydis decodes on the path of an exit, so
# it must not touch the FPU; cJSON computes with doubles, its callers own FPU state.
third-party-flags := -std=gnu17 -O2 -mcmodel=kernel -mno-red-zone -fno-pic -fno-pie \
	-fno-stack-protector -fno-omit-frame-pointer -fno-asynchronous-unwind-tables \
	-fcf-protection=none -ffunction-sections -fdata-sections

zydis-stamp := $(zydis)/.built-$(call recipe-sum,tools/third-party.mk tools/zydis-libc.h)
$(zydis-stamp): | $(build)/.packages
	$(quiet)tools/bootstrap source zydis $(zydis)/src
	@echo 'Building Zydis (once)'
	$(quiet)rm -rf $(zydis)/include && mkdir -p $(zydis)/include $(zydis)/obj $(zydis)/host
	$(quiet)cp -r $(zydis)/src/include/Zydis /usr/include/Zycore $(zydis)/include/
	$(quiet)for source in $(zydis-sources); do \
		gcc $(third-party-flags) -ffreestanding -mgeneral-regs-only $(zydis-flags) \
			-include tools/zydis-libc.h -I$(zydis)/src/src -c $(zydis)/src/src/$$source -o $(zydis)/obj/$$source.o || exit 1; \
		gcc -std=gnu17 -O2 -g $(zydis-flags) \
			-I$(zydis)/src/src -c $(zydis)/src/src/$$source -o $(zydis)/host/$$source.o || exit 1; done
	$(quiet)rm -f $(zydis)/*.a $(zydis)/.built*
	$(quiet)$(AR) rcs $(zydis-library) $(zydis)/obj/*.o
	$(quiet)$(AR) rcs $(zydis-host-library) $(zydis)/host/*.o
	$(quiet)rm -rf $(zydis)/obj $(zydis)/host $(zydis)/src
	$(quiet)touch $@
$(zydis-library) $(zydis-host-library): $(zydis-stamp) ;

cjson-stamp := $(cjson)/.built-$(call recipe-sum,tools/third-party.mk)
$(cjson-stamp): | $(build)/.packages $(newlib-stamp)
	$(quiet)tools/bootstrap source cjson $(cjson)/src
	@echo 'Building cJSON (once)'
	$(quiet)mkdir -p $(cjson)/include
	$(quiet)cp $(cjson)/src/cJSON.h $(cjson)/include/
	$(quiet)gcc $(third-party-flags) -DCJSON_HIDE_SYMBOLS -U__linux__ -nostdinc $(newlib-flags) \
		-isystem $$(gcc -print-file-name=include) -c $(cjson)/src/cJSON.c -o $(cjson)/cJSON.o
	$(quiet)gcc -std=gnu17 -O2 -g -DCJSON_HIDE_SYMBOLS -c $(cjson)/src/cJSON.c -o $(cjson)/cJSON-host.o
	$(quiet)rm -f $(cjson)/*.a $(cjson)/.built*
	$(quiet)$(AR) rcs $(cjson-library) $(cjson)/cJSON.o
	$(quiet)$(AR) rcs $(cjson-host-library) $(cjson)/cJSON-host.o
	$(quiet)rm -rf $(cjson)/*.o $(cjson)/src
	$(quiet)touch $@
$(cjson-library) $(cjson-host-library): $(cjson-stamp) ;

third-party-headers := $(newlib-stamp) $(zydis-stamp) $(cjson-stamp)
