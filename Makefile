# slabfs - `make help` lists the targets.  Output goes to $(BUILD); V=1 shows the commands.

BUILD    ?= build
PREFIX   ?= /usr/local
SBINDIR  ?= $(PREFIX)/sbin
BINDIR   ?= $(PREFIX)/bin
MANDIR   ?= $(PREFIX)/share/man
PYTHON   ?= /usr/bin/python3
SANITIZE ?=

PKGS_LIB   := json-c libsodium libxxhash
PKGS_FUSE  := fuse3
PKGS_META  := sqlite3
PKG_CONFIG ?= pkg-config

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wundef -Wformat=2 -Wwrite-strings
OPT  ?= -O2 -g
ifneq ($(SANITIZE),)
comma := ,
OPT  += -fno-omit-frame-pointer $(foreach s,$(subst $(comma), ,$(SANITIZE)),-fsanitize=$(s))
LDFLAGS += $(foreach s,$(subst $(comma), ,$(SANITIZE)),-fsanitize=$(s))
endif
WERROR ?=
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Ifs/lib
CFLAGS_ALL = -std=gnu11 $(OPT) $(WARN) $(WERROR) -ffp-contract=off -fno-math-errno -pthread $(CFLAGS)
LDLIBS_LIB = $(shell $(PKG_CONFIG) --libs $(PKGS_LIB)) -lm -pthread

lib_src    := $(wildcard fs/lib/*.c)
daemon_src := $(wildcard daemon/*.c)
mount_src  := $(wildcard fs/mount/*.c)
ctl_src    := $(wildcard fs/ctl/*.c)
mkfs_src   := $(wildcard mkfs/*.c)
unit_src   := $(wildcard tests/unit/test_*.c)
fuzz_src   := $(wildcard tests/fuzz/fuzz_*.c)

obj       = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
lib      := $(BUILD)/libslab.a
programs := $(BUILD)/slabfsd $(BUILD)/slabfs $(BUILD)/slabctl $(BUILD)/mkfs.slabfs
units    := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(unit_src))
powercut := $(BUILD)/powercut/forgetfs $(BUILD)/powercut/nosync.so
fuzzers  := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(fuzz_src))

Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)  $(patsubst $(BUILD)/%,%,$(2))")

.PHONY: all help lib units fuzzers demo demo-stop test check soak bench clean install uninstall
all: $(programs)

help:
	@echo "make            the four programs, into $(BUILD)/"
	@echo "make install    into DESTDIR, PREFIX=$(PREFIX)"
	@echo "sudo make demo  install what is missing, build, start three nodes here and show them (KEEP=1: leave them up)"
	@echo "sudo make test  install what the tests need and run all of them (check: without installing and sanitizers)"
	@echo "sudo make soak  the long random tests: half an hour"
	@echo "sudo make bench measure, and print one table"
	@echo "make units      unit tests in C;  make fuzzers: fuzz targets (clang)"
	@echo "SANITIZE=address,undefined | thread, BUILD=DIR, V=1, WERROR=-Werror"

lib: $(lib)
units: $(units) $(powercut) $(BUILD)/exerciser
fuzzers: $(fuzzers)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC  ,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CPPFLAGS_$(firstword $(subst /, ,$*))) $(PKG_CFLAGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(call obj,$(lib_src)): PKG_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(PKGS_LIB))
$(BUILD)/obj/fs/lib/reduce_kernels.o: OPT += -O3
$(call obj,$(daemon_src)): PKG_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(PKGS_META) $(PKGS_LIB))
$(call obj,$(mount_src)): PKG_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(PKGS_FUSE))

$(lib): $(call obj,$(lib_src))
	$(call say,AR  ,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

define link
$(call say,LINK,$@)
$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)
endef

$(BUILD)/slabfsd: $(call obj,$(daemon_src)) $(lib)
	$(link) $(shell $(PKG_CONFIG) --libs $(PKGS_META)) $(LDLIBS_LIB)
$(BUILD)/slabfs: $(call obj,$(mount_src)) $(lib)
	$(link) $(shell $(PKG_CONFIG) --libs $(PKGS_FUSE)) $(LDLIBS_LIB)
$(BUILD)/slabctl: $(call obj,$(ctl_src)) $(lib)
	$(link) $(LDLIBS_LIB)
$(BUILD)/mkfs.slabfs: $(call obj,$(mkfs_src)) $(lib)
	$(link) $(LDLIBS_LIB)

# Unit tests link the library and the daemon's modules (all but its main).
$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(filter-out %/daemon/main.o,$(call obj,$(daemon_src))) $(lib)
	@mkdir -p $(@D)
	$(link) $(shell $(PKG_CONFIG) --libs $(PKGS_META)) $(LDLIBS_LIB)
$(patsubst tests/unit/%.c,$(BUILD)/obj/tests/unit/%.o,$(unit_src)): CPPFLAGS += -Idaemon

# Doubles of a disk that loses power, for the tests of durability; no part of what is tested, so without sanitizers.
$(BUILD)/powercut/forgetfs: $(wildcard tests/powercut/forget*)
	@mkdir -p $(@D)
	$(call say,CC  ,$@)
	$(Q)$(CC) $(CPPFLAGS) $(shell $(PKG_CONFIG) --cflags $(PKGS_FUSE)) -std=gnu11 -O2 -g $(WARN) $(WERROR) -o $@ $(filter %.c,$^) $(shell $(PKG_CONFIG) --libs $(PKGS_FUSE))
$(BUILD)/powercut/%.so: tests/powercut/%.c
	@mkdir -p $(@D)
	$(call say,CC  ,$@)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu11 -O2 $(WARN) $(WERROR) -shared -fPIC -o $@ $<

# What tests run on mounts; of no other module.
$(BUILD)/exerciser: $(BUILD)/obj/tests/exerciser.o
	$(link)

# Fuzz targets are built whole with clang's libFuzzer, apart from the other objects.
$(BUILD)/fuzz/%: tests/fuzz/%.c $(lib_src) $(wildcard fs/lib/*.h)
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)
	$(Q)clang $(CPPFLAGS) $(shell $(PKG_CONFIG) --cflags $(PKGS_LIB)) -std=gnu11 -O1 -g -ffp-contract=off -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ $< $(lib_src) $(LDLIBS_LIB)

# These install what they need and build by themselves, so that they work on a bare machine.
demo:
	@BUILD="$(BUILD)" PYTHON="$(PYTHON)" tests/demo/demo.sh
demo-stop:
	@tests/demo/demo.sh stop
test:
	@tests/install-deps.sh test
	@BUILD="$(BUILD)" PYTHON="$(PYTHON)" tests/run-tests.sh
soak:
	@tests/install-deps.sh test
	@SLABFS_LONG=1 BUILD="$(BUILD)" PYTHON="$(PYTHON)" tests/run-tests.sh -m long
check:
	@BUILD="$(BUILD)" PYTHON="$(PYTHON)" tests/run-tests.sh --ignore=tests/test_sanitizers.py
bench:
	@tests/install-deps.sh bench
	@$(MAKE) -s BUILD="$(BUILD)" all
	@SLABFS_BUILD="$(BUILD)" $(PYTHON) tests/bench/bench.py

clean:
	rm -rf $(BUILD)

install: all
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man8
	install -m 755 $(BUILD)/slabfsd $(BUILD)/mkfs.slabfs $(DESTDIR)$(SBINDIR)
	install -m 755 $(BUILD)/slabfs $(BUILD)/slabctl $(DESTDIR)$(BINDIR)
	install -m 644 docs/man/*.1 $(DESTDIR)$(MANDIR)/man1
	install -m 644 docs/man/*.8 $(DESTDIR)$(MANDIR)/man8

uninstall:
	rm -f $(DESTDIR)$(SBINDIR)/slabfsd $(DESTDIR)$(SBINDIR)/mkfs.slabfs $(DESTDIR)$(BINDIR)/slabfs $(DESTDIR)$(BINDIR)/slabctl
	rm -f $(patsubst docs/man/%.1,$(DESTDIR)$(MANDIR)/man1/%.1,$(wildcard docs/man/*.1))
	rm -f $(patsubst docs/man/%.8,$(DESTDIR)$(MANDIR)/man8/%.8,$(wildcard docs/man/*.8))

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
.SECONDARY:
