# potluck: one Makefile, no configure step.  `make help` lists the targets.
BUILD ?= release
OUT := build/$(BUILD)

CC ?= cc
AR ?= ar
PREFIX ?= /usr/local
OPENBLAS_LIBS ?= -lopenblas

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wdouble-promotion \
  -Wformat=2 -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes \
  -Wold-style-definition -Wcast-align -Wcast-qual -Wwrite-strings \
  -Wimplicit-fallthrough -Wswitch-enum -Wnull-dereference
GCC_WARN := -Wlogical-op -Wduplicated-cond -Wduplicated-branches
ifneq (,$(findstring gcc,$(shell $(CC) --version | head -n 1)))
WARN += $(GCC_WARN)
else ifneq (,$(findstring Free Software,$(shell $(CC) --version)))
WARN += $(GCC_WARN)
endif
ifeq ($(CI),true)
WARN += -Werror
endif

ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
HARDEN := -fstack-protector-strong -fstack-clash-protection -fPIE
ifeq ($(ARCH),x86_64)
HARDEN += -fcf-protection
endif
LINK_HARDEN := -pie -Wl,-z,relro,-z,now

FLAGS.release := -O2 -D_FORTIFY_SOURCE=3
FLAGS.asan := -O1 -DPOTLUCK_DEBUG -fsanitize=address,undefined \
  -fno-sanitize-recover=all
FLAGS.tsan := -O1 -DPOTLUCK_DEBUG -fsanitize=thread
FLAGS.noopt := -O0 -DPOTLUCK_DEBUG
VARIANT := $(FLAGS.$(BUILD))
ifeq ($(VARIANT),)
$(error BUILD=$(BUILD) is not one of release, asan, tsan, noopt)
endif

# Numerics: no contraction, no fast math, no march=native (docs/NUMERICS.md).
override CPPFLAGS += -I. -I$(OUT) -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -D_GNU_SOURCE
BASE_CFLAGS := -std=c17 -g -fno-omit-frame-pointer -ffp-contract=off \
  -fno-math-errno -pthread $(HARDEN) $(VARIANT) $(CFLAGS)
BASE_LDFLAGS := $(LINK_HARDEN) -pthread $(filter -fsanitize=%,$(VARIANT)) \
  $(LDFLAGS)
LIBS := $(OPENBLAS_LIBS) -ljansson -lm

LIB_SRC := $(wildcard common/*.c engine/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(OUT)/%.o)
CLIENT_OBJ := $(patsubst %.c,$(OUT)/%.o,$(wildcard client/*.c))
TESTLIB_OBJ := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/lib/*.c))
TESTS := $(patsubst %.c,$(OUT)/%,$(wildcard tests/unit/*.c tests/golden/*.c))
TOOLS := $(patsubst %.c,$(OUT)/%,$(wildcard tests/tools/*.c))
BENCHES := $(patsubst %.c,$(OUT)/%,$(wildcard tests/bench/*.c))

.PHONY: all check clean
all: $(OUT)/potluck

# One ISA a file, with its own flags; empty on other architectures.
ifeq ($(ARCH),x86_64)
$(OUT)/engine/%_avx2.o: ISA_FLAGS := -mavx2 -mf16c
$(OUT)/tests/bench/%_sse41.o: ISA_FLAGS := -msse4.1
$(OUT)/tests/bench/%_vnni.o: ISA_FLAGS := -mavx512f -mavx512bw -mavx512vl \
  -mavx512vnni -mf16c -mfma
endif
# cmocka's macros do not survive -Wconversion.
$(OUT)/tests/%.o: WARN_OFF := -Wno-conversion -Wno-cast-qual \
  -Wno-double-promotion -Wno-float-conversion -Wno-sign-conversion

$(OUT)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(WARN) $(WARN_OFF) $(ISA_FLAGS) \
	  -MMD -MP -c $< -o $@

$(OUT)/libpotluck.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(OUT)/potluck: $(CLIENT_OBJ) $(OUT)/libpotluck.a
	$(CC) $(BASE_LDFLAGS) -o $@ $^ $(LIBS)

$(TESTS): $(OUT)/%: $(OUT)/%.o $(TESTLIB_OBJ) $(OUT)/libpotluck.a
	$(CC) $(BASE_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)
$(TOOLS): $(OUT)/%: $(OUT)/%.o $(TESTLIB_OBJ) $(OUT)/libpotluck.a
	$(CC) $(BASE_LDFLAGS) -o $@ $^ $(LIBS)

check: $(TESTS)
	@set -e; for t in $(TESTS); do echo "== $$t"; timeout 300 $$t; done

clean:
	rm -rf build

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
