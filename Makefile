# potluck: one Makefile, no configure step.  `make help` lists the targets.
#
# Objects of a variant live in build/$(BUILD)/, so variants never mix. They
# depend on the headers they include, on this file and on the flags in use.
BUILD ?= release
OUT := build/$(BUILD)

PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
FUZZ_CC ?= clang
ARM64_CC ?= aarch64-linux-gnu-gcc
INSTALL ?= install
JOBS ?= $(shell nproc)

# Short lines; V=1 shows the commands.
V ?= 0
ifeq ($(V),0)
Q := @
say = @echo "  $(1) $(2)"
endif

# ------------------------------------------------------------- variants
SANITIZE.release :=
SANITIZE.noopt :=
SANITIZE.asan := -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZE.tsan := -fsanitize=thread
SANITIZE.fuzz := -fsanitize=fuzzer-no-link,address,undefined \
  -fno-sanitize-recover=all
SANITIZE.arm64 :=
SANITIZE.lint :=

# _FORTIFY_SOURCE does nothing without optimisation, and gets in the way of
# the sanitizers' own checks.
FLAGS.release := -O2 -D_FORTIFY_SOURCE=3
FLAGS.noopt := -O0 -DPOTLUCK_DEBUG
# A report names file and line; more would only make 100 programs twice as big.
FLAGS.asan := -O1 -g1 -DPOTLUCK_DEBUG
FLAGS.tsan := -O1 -g1 -DPOTLUCK_DEBUG
FLAGS.fuzz := -O1 -DPOTLUCK_DEBUG
FLAGS.arm64 := -O2 -D_FORTIFY_SOURCE=3
FLAGS.lint := -O1 -DPOTLUCK_DEBUG
ifeq ($(FLAGS.$(BUILD)),)
$(error BUILD=$(BUILD) is not one of release, noopt, asan, tsan, fuzz, arm64, lint)
endif
ifeq ($(BUILD),fuzz)
override CC := $(FUZZ_CC)
endif
ifeq ($(BUILD),lint)
override CC := clang
endif
ifeq ($(BUILD),arm64)
override CC := $(ARM64_CC)
# OpenBLAS's headers do not depend on the architecture, but lie in a folder
# that is named after it.
override CPPFLAGS += -idirafter /usr/include/$(shell cc -print-multiarch)
endif

# ---------------------------------------------------------------- flags
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wdouble-promotion \
  -Wformat=2 -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes \
  -Wold-style-definition -Wcast-align -Wcast-qual -Wwrite-strings \
  -Wimplicit-fallthrough -Wswitch-enum -Wnull-dereference
ifeq (,$(findstring clang,$(shell $(CC) --version)))
WARN += -Wlogical-op -Wduplicated-cond -Wduplicated-branches
endif
ifeq ($(CI),true)
WARN += -Werror
endif

ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
HARDEN := -fstack-protector-strong -fstack-clash-protection -fPIE
ifeq ($(ARCH),x86_64)
HARDEN += -fcf-protection
endif

# Numerics (docs/NUMERICS.md): no contraction, no fast math. No -march=native
# either: one binary serves every machine of a pool.
# _GNU_SOURCE (which implies POSIX.1-2008) is for the affinity mask.
override CPPFLAGS += -I. -I$(OUT) -D_GNU_SOURCE
BASE_CFLAGS := -std=c17 -g -fno-omit-frame-pointer -ffp-contract=off \
  -fno-math-errno -pthread $(HARDEN) $(FLAGS.$(BUILD)) $(SANITIZE.$(BUILD)) \
  $(CFLAGS)
BASE_LDFLAGS := -pie -Wl,-z,relro,-z,now,--as-needed -pthread \
  $(SANITIZE.$(BUILD)) $(LDFLAGS)
OPENBLAS_LIBS ?= -lopenblas
LIBS := $(OPENBLAS_LIBS) -lprotobuf-c -ljansson -lsodium -lzmq -luv \
  -lmicrohttpd -lcurl -lpcre2-8 -lutf8proc -lm

# One instruction set a file, named by its suffix; a file compiles to nothing
# on another architecture, so no flags there.
ifeq ($(ARCH),x86_64)
$(OUT)/%_sse41.o $(OUT)/%_sse41.tidy: ISA_FLAGS := -msse4.1
$(OUT)/%_sse4.o $(OUT)/%_sse4.tidy: ISA_FLAGS := -msse4.1
$(OUT)/%_avx.o $(OUT)/%_avx.tidy: ISA_FLAGS := -mavx
$(OUT)/%_f16c.o $(OUT)/%_f16c.tidy: ISA_FLAGS := -mavx -mf16c
$(OUT)/%_avx2.o $(OUT)/%_avx2.tidy: ISA_FLAGS := -mavx2 -mf16c
$(OUT)/%_avxvnni.o $(OUT)/%_avxvnni.tidy: ISA_FLAGS := -mavx2 -mf16c \
  -mavxvnni
$(OUT)/%_avx512vl.o $(OUT)/%_avx512vl.tidy $(OUT)/%_avx512vnni.o \
  $(OUT)/%_avx512vnni.tidy: ISA_FLAGS := -mavx512f -mavx512bw -mavx512dq \
  -mavx512vl -mavx512vnni -mavx2 -mf16c
$(OUT)/%_vnni.o $(OUT)/%_vnni.tidy: ISA_FLAGS := -mavx512f -mavx512bw \
  -mavx512vl -mavx512vnni -mf16c -mfma
endif
# gcc puts additions off until their sums are wanted (TER), and makes trees of
# them: all products of a chain then wait on the stack, which costs kernels with
# 16 registers a third of their speed.
ifeq (,$(findstring clang,$(shell $(CC) --version)))
$(OUT)/engine/kernels_%.o: KERNEL_FLAGS := -fno-tree-ter -fno-tree-reassoc
endif
# No fuzzer enters these, and clang takes minutes to instrument their unrolled
# loops.
ifeq ($(BUILD),fuzz)
$(OUT)/engine/%_sse4.o $(OUT)/engine/%_avx.o $(OUT)/engine/%_f16c.o \
  $(OUT)/engine/%_avx2.o $(OUT)/engine/%_avxvnni.o $(OUT)/engine/%_avx512vl.o \
  $(OUT)/engine/%_avx512vnni.o: ISA_FLAGS += -fno-sanitize=all
endif
ifeq ($(ARCH),aarch64)
$(OUT)/%_neondotprod.o: ISA_FLAGS := -march=armv8.2-a+dotprod
endif
# cmocka's macros do not survive these.
$(OUT)/tests/%.o $(OUT)/tests/%.tidy: WARN_OFF := -Wno-conversion -Wno-cast-qual \
  -Wno-double-promotion -Wno-float-conversion -Wno-sign-conversion

# ---------------------------------------------------------------- files
# A folder with a main.c is an executable; its other files form an archive of
# their own, so that tests link them too.
EXE.client := potluck
EXE.coordinator := potluck-coordinator
EXE.worker := potluck-worker
PARTS := $(patsubst %/main.c,%,$(wildcard client/main.c coordinator/main.c \
  worker/main.c))
EXES := $(foreach p,$(PARTS),$(OUT)/$(EXE.$(p)))

LIB_SRC := $(wildcard common/*.c engine/*.c proto/*.c)
# Generated from proto/*.proto into the variant's own folder.
PB := $(patsubst %.proto,$(OUT)/%.pb-c,$(wildcard proto/*.proto))
LIB_OBJ := $(LIB_SRC:%.c=$(OUT)/%.o) $(PB:%=%.o)
part_src = $(filter-out $(1)/main.c,$(wildcard $(1)/*.c))
PART_LIBS := $(foreach p,client coordinator worker,$(if \
  $(call part_src,$(p)),$(OUT)/lib$(p).a))
LIBPOTLUCK := $(OUT)/libpotluck.a

TESTLIB_OBJ := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/lib/*.c))
# The demo needs a tool, but has no cmocka.
TOOLLIB_OBJ := $(patsubst %.c,$(OUT)/%.o,$(if $(wildcard tests/lib/*.c),\
  $(shell grep -L cmocka tests/lib/*.c)))
# Those that take longest begin first, so that none is left alone at the end.
TESTS := $(patsubst %.c,$(OUT)/%,$(wildcard tests/net/*.c tests/golden/*.c \
  tests/unit/*.c))
# The simulated pool: its files are linked to its tests, test_NAME.c.
SIM_TESTS := $(patsubst %.c,$(OUT)/%,$(wildcard tests/sim/test_*.c))
SIM_OBJ := $(patsubst %.c,$(OUT)/%.o,$(filter-out \
  $(wildcard tests/sim/test_*.c),$(wildcard tests/sim/*.c)))
TOOLS := $(patsubst %.c,$(OUT)/%,$(wildcard tests/tools/*.c))
# A benchmark is bench_NAME.c; other files of the folder are linked to each.
BENCHES := $(patsubst %.c,$(OUT)/%,$(wildcard tests/bench/bench_*.c))
BENCH_OBJ := $(patsubst %.c,$(OUT)/%.o,$(filter-out \
  $(wildcard tests/bench/bench_*.c),$(wildcard tests/bench/*.c)))
FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS := $(FUZZ_NAMES:%=$(OUT)/tests/fuzz/fuzz_%)
REPLAYS := $(FUZZ_NAMES:%=$(OUT)/tests/fuzz/replay_%)

.PHONY: all check asan tsan valgrind lint bench mutants fuzz fuzz-replay \
  arm64 fresh install uninstall clean help tools tests objects FORCE
.DELETE_ON_ERROR:
# Objects of test programs are worth keeping between runs.
.SECONDARY:

## all: every executable (the default)
all: $(EXES) $(LIBPOTLUCK)

# ---------------------------------------------------------------- rules
# The flags in use; rewritten only when they change, so that CC=clang or
# CI=true rebuilds what it must.
FLAGS_NOW := $(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(WARN) $(BASE_LDFLAGS) $(LIBS)
ifneq ($(strip $(file <$(OUT)/flags)),$(strip $(FLAGS_NOW)))
$(OUT)/flags: FORCE
	$(shell mkdir -p $(@D))$(file >$@,$(FLAGS_NOW))
	@:
endif

$(OUT)/%.o: %.c Makefile $(OUT)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(WARN) $(WARN_OFF) $(ISA_FLAGS) \
	  $(KERNEL_FLAGS) -MMD -MP -c $< -o $@

# Both files are made by one run; not ours, so not held to our warnings.
$(OUT)/%.pb-c.c $(OUT)/%.pb-c.h: %.proto Makefile
	@mkdir -p $(@D)
	$(call say,PROTOC,$@)
	$(Q)protoc-c --c_out=$(OUT) $<
$(PB:%=%.o): %.o: %.c Makefile $(OUT)/flags
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(BASE_CFLAGS) -w -MMD -MP -c $< -o $@
# Whoever includes it says so in its .d file, but not before it was built.
WIRE := $(basename $(wildcard proto/wire*.c))
$(foreach w,$(WIRE),$(OUT)/$(w).o $(OUT)/$(w).tidy) \
  $(OUT)/proto/wire_internal.h.ok: | $(PB:%=%.h)

# `q` and not `r`: two folders may have a net.o each.
$(LIBPOTLUCK): $(LIB_OBJ)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) qcs $@ $^

define part_rules
$(OUT)/lib$(1).a: $(patsubst %.c,$(OUT)/%.o,$(call part_src,$(1)))
	@rm -f $$@
	$$(call say,AR,$$@)
	$$(Q)$$(AR) qcs $$@ $$^
$(OUT)/$(EXE.$(1)): $(OUT)/$(1)/main.o \
  $(filter $(OUT)/lib$(1).a,$(PART_LIBS)) $(LIBPOTLUCK)
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(BASE_LDFLAGS) -o $$@ $$^ $(LIBS) $(LIBS.$(1))
endef
$(foreach p,client coordinator worker,$(eval $(call part_rules,$(p))))

# Some tests run the programs; those need not be older than the test.
$(TESTS): | $(EXES)
$(TESTS): $(OUT)/%: $(OUT)/%.o $(TESTLIB_OBJ) $(PART_LIBS) $(LIBPOTLUCK)
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)
$(SIM_TESTS): $(OUT)/%: $(OUT)/%.o $(SIM_OBJ) $(TESTLIB_OBJ) \
  $(PART_LIBS) $(LIBPOTLUCK)
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)
$(TOOLS): $(OUT)/%: $(OUT)/%.o $(TOOLLIB_OBJ) $(PART_LIBS) $(LIBPOTLUCK)
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_LDFLAGS) -o $@ $^ $(LIBS)
# This one starts real pools, as the tests of the pool do.
POOL_BENCH := $(OUT)/tests/bench/bench_pool
$(POOL_BENCH): $(OUT)/%: $(OUT)/%.o $(TESTLIB_OBJ) $(PART_LIBS) $(LIBPOTLUCK)
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)
$(filter-out $(POOL_BENCH),$(BENCHES)): $(OUT)/%: $(OUT)/%.o $(BENCH_OBJ) \
  $(LIBPOTLUCK)
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_LDFLAGS) -o $@ $^ $(LIBS)
$(FUZZERS): $(OUT)/%: $(OUT)/%.o $(TOOLLIB_OBJ) $(PART_LIBS) $(LIBPOTLUCK)
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
$(REPLAYS): $(OUT)/tests/fuzz/replay_%: $(OUT)/tests/fuzz/fuzz_%.o \
  $(OUT)/tests/fuzz/replay_main.o $(TOOLLIB_OBJ) $(PART_LIBS) \
  $(LIBPOTLUCK)
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_LDFLAGS) -o $@ $^ $(LIBS)

tools: $(TOOLS)
tests: $(TESTS) $(SIM_TESTS)
objects: $(LIB_OBJ) $(PART_LIBS)

# --------------------------------------------------------------- checks
# Golden and tool-using tests find programs of their own variant here.
# One more at a time than there are cores, as those that start pools wait often.
RUN_TESTS = POTLUCK_BUILD=$(OUT) JOBS=$$(($(JOBS) + 1)) sh tests/run.sh

## check: unit and golden tests, one process each (BUILD=... for a variant)
check: $(TESTS) $(SIM_TESTS) $(TOOLS) $(EXES)
	@$(RUN_TESTS) $(TESTS) $(SIM_TESTS)

## asan, tsan: the same tests under ASan + UBSan, under TSan
asan:
	@$(MAKE) --no-print-directory BUILD=$@ check
# Not under TSan: programs that never start a thread, nor a program that does
# (seen by counting calls of pthread_create), and golden tests, which compare
# numbers that the others compute in the same threads: none of them can show a
# race.  Whoever makes one of these start a
# thread takes it off the list.
ONE_THREAD := admit api api_chat api_request buf cell chat chat_input child \
  client_parts cluster conform gen_model gguf gguf_bad gguf_files \
  gguf_strip head jinja join kernels kv link machine model model_arch moe \
  numerics oracle_file plan plan_check plan_json progress quant \
  quant_search quant_vectors rng sample sched session spread status store \
  tokenizer tokenizer_bad tokenizer_bpe tokenizer_pre tokenizer_text vec \
  wire wire_bad
tsan:
	@$(MAKE) --no-print-directory BUILD=$@ check SIM_TESTS= \
	  TESTS='$(patsubst $(OUT)/%,build/tsan/%,$(filter-out \
	  $(OUT)/tests/golden/% $(ONE_THREAD:%=$(OUT)/tests/unit/test_%),\
	  $(TESTS)))'

## sim: a pool in virtual time; SEEDS=10000 FIRST=1, VERBOSE=1 for one seed
.PHONY: sim
sim: $(OUT)/tests/sim/test_sim
	@$<

## valgrind: the unit tests under valgrind (leaks, uninitialised values)
valgrind: $(filter $(OUT)/tests/unit/%,$(TESTS)) $(TOOLS)
	@WRAP="$(VALGRIND)" TIMEOUT=1800 \
	  $(RUN_TESTS) $(filter $(OUT)/tests/unit/%,$(TESTS))

## valgrind-pool: a pool of real processes, each under valgrind
VALGRIND := valgrind -q --error-exitcode=99 --leak-check=full \
  --suppressions=tests/valgrind.supp --errors-for-leak-kinds=definite
.PHONY: valgrind-pool
valgrind-pool: $(OUT)/tests/net/test_pool $(EXES)
	@LAN_WRAP="$(VALGRIND)" $(RUN_TESTS) $<

## lint: format, layers, banned words, headers alone, clang-tidy, cppcheck
lint:
	@bad=0; sh tests/lint.sh || bad=1; \
	$(MAKE) --no-print-directory -k -j$(JOBS) BUILD=lint headers tidy || \
	  bad=1; \
	[ $$bad = 1 ] || echo "lint: nothing to say"; exit $$bad

# clang-tidy also prints clang's own warnings, so the tree stays free of
# those too.  Stamps, as a file that has not changed needs no second look.
LINT_C := $(wildcard $(foreach d,common engine proto coordinator worker \
  client tests/lib tests/unit tests/golden tests/tools tests/fuzz \
  tests/sim tests/bench tests/arm64,$(d)/*.c))
LINT_H := $(wildcard $(foreach d,common engine proto coordinator worker \
  client tests/lib tests/sim tests/bench,$(d)/*.h))
.PHONY: headers tidy
headers: $(LINT_H:%=$(OUT)/%.ok)
tidy: $(LINT_C:%.c=$(OUT)/%.tidy)
MODELS := -include tests/lint_models.h
$(OUT)/common/%.tidy: MODELS :=
# Tests run under the sanitizers, and the analyzer does not take cmocka's
# assertions for the end of a path.
$(OUT)/tests/%.tidy: MODELS :=
$(OUT)/tests/%.tidy: TIDY_CHECKS := --checks=-clang-analyzer-*
# It does not know that the tree's program fills a stack before it is read.
$(OUT)/engine/kernels_%.tidy: TIDY_CHECKS := --checks=$\
  -clang-analyzer-core.uninitialized.Assign,$\
  -clang-analyzer-core.UndefinedBinaryOperatorResult
$(OUT)/%.tidy: %.c .clang-tidy Makefile tests/lint_models.h $(LINT_H)
	@mkdir -p $(@D)
	$(call say,TIDY,$<)
	$(Q)clang-tidy --quiet $(TIDY_CHECKS) $< -- $(CPPFLAGS) \
	  $(BASE_CFLAGS) $(WARN) $(WARN_OFF) $(ISA_FLAGS) $(MODELS) 2>$@.log || { cat $@.log; exit 1; }
	@touch $@
# A header that includes what it needs compiles alone.
$(OUT)/%.h.ok: %.h Makefile $(LINT_H)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(WARN) -Werror \
	  -Wno-unused-function -Wno-empty-translation-unit -fsyntax-only -x c $<
	@touch $@

## mutants: one-line bugs, each of which must turn a named test red
##   (SHARE=2/4: every fourth of them, from the second on)
mutants:
	@MAKE="$(MAKE)" sh tests/mutants/run.sh

## blas-variants: the products under each OpenBLAS of Debian; needs apt
.PHONY: blas-variants
BLAS_TESTS := $(patsubst %,$(OUT)/tests/unit/%,test_blas test_kernels \
  test_kernels_extreme)
blas-variants: $(BLAS_TESTS)
	@POTLUCK_BUILD=$(OUT) sh tests/blas_variants.sh

## fuzz: libFuzzer over each target for FUZZ_SECONDS (60); needs clang
fuzz:
	@$(MAKE) --no-print-directory BUILD=fuzz fuzz-run
.PHONY: fuzz-run
fuzz-run: $(FUZZERS)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) sh tests/fuzz/run.sh $(OUT) $(FUZZ_NAMES)

## fuzz-replay: the recorded inputs of every fuzz target, under ASan + UBSan
fuzz-replay:
	@$(MAKE) --no-print-directory BUILD=asan fuzz-replay-run
.PHONY: fuzz-replay-run
fuzz-replay-run: $(REPLAYS)
	@sh tests/fuzz/replay.sh $(OUT) $(FUZZ_NAMES)

## arm64: compile check for 64-bit ARM; needs ARM64_CC
arm64:
	@$(MAKE) --no-print-directory BUILD=arm64 objects

## arm64-check: the engine's tests for 64-bit ARM, in an emulator (qemu-user)
ARM64_TESTS := $(patsubst %,$(OUT)/tests/arm64/test_%,kernels vec numerics \
  quant attention head moe step)
.PHONY: arm64-check arm64-run
arm64-check:
	@$(MAKE) --no-print-directory BUILD=arm64 arm64-run
arm64-run: $(ARM64_TESTS)
	@JOBS=$(JOBS) sh tests/arm64/run.sh $(OUT)/tests/arm64
$(ARM64_TESTS): $(OUT)/tests/arm64/%: $(OUT)/tests/unit/%.o \
  $(OUT)/tests/arm64/stand_in.o $(OUT)/libtest.a $(LIBPOTLUCK)
	$(call say,LD,$@)
	$(Q)$(CC) -static -pthread -o $@ $^ -lm
# Only what a test calls is linked: the rest wants libraries.
$(OUT)/libtest.a: $(TESTLIB_OBJ)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) qcs $@ $^

## conformance: against llama.cpp itself; MODULES=DIR with node-llama-cpp
.PHONY: conformance
conformance: $(TOOLS) $(OUT)/tests/golden/test_conformance \
  $(OUT)/tests/golden/test_exact
	@POTLUCK_BUILD=$(OUT) sh tests/golden/conformance.sh \
	  $(or $(MODULES),$(NODE_PATH))

## bench: tables of speed, beside llama.cpp with MODULES=DIR, which has
##   node-llama-cpp: then into docs/PERFORMANCE.md
bench: $(EXES) $(TOOLS) $(BENCHES)
	@POTLUCK_BUILD=$(OUT) sh tests/bench/run.sh \
	  $(or $(MODULES),$(NODE_PATH))

## counts: instructions of a small decode, against those recorded
##   (counts-record: record them anew)
.PHONY: counts counts-record
counts: $(EXES) $(OUT)/tests/tools/make_model
	@POTLUCK_BUILD=$(OUT) CC="$(CC)" sh tests/bench/counts.sh
counts-record: $(EXES) $(OUT)/tests/tools/make_model
	@POTLUCK_BUILD=$(OUT) CC="$(CC)" sh tests/bench/counts.sh --record

## bench-freeze: what the definition of docs/NUMERICS.md costs
.PHONY: bench-freeze
bench-freeze: $(OUT)/tests/bench/bench_freeze
	@$<

## fresh: the demo in a bare Debian (needs root and debootstrap)
fresh:
	@sh deploy/fresh.sh

# -------------------------------------------------------------- install
## install, uninstall: into DESTDIR and PREFIX (/usr/local)
install: $(EXES)
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/bin
	$(INSTALL) -m 755 $(EXES) $(DESTDIR)$(PREFIX)/bin
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/potluck
	$(INSTALL) -m 644 deploy/demo/potluck-demo.gguf \
		$(DESTDIR)$(PREFIX)/share/potluck
uninstall:
	rm -f $(foreach p,$(PARTS),$(DESTDIR)$(PREFIX)/bin/$(EXE.$(p)))
	rm -rf $(DESTDIR)$(PREFIX)/share/potluck

## clean: remove build/
clean:
	rm -rf build

help:
	@sed -n 's/^## //p' Makefile

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
