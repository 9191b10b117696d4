# SPDX-License-Identifier: GPL-2.0
#
# Read by kbuild this says what to build; read by make it is the developer's
# entry: 'make help' lists what there is.

ifneq ($(KERNELRELEASE),)

# The crate finds what was generated for it through this.
export ACCEL_OBJ := $(abspath $(obj))
accel-dir := $(src)
include $(src)/bindings/kbuild.mk

# Outside of a kernel tree everything is built, as modules; in one, Kconfig says.
ifneq ($(KBUILD_EXTMOD),)
export CONFIG_COMPUTE_ACCEL := m
export CONFIG_COMPUTE_ACCEL_EDU := m
export CONFIG_COMPUTE_ACCEL_PCIE_NPU := m
export CONFIG_COMPUTE_ACCEL_MOCK := m
export CONFIG_COMPUTE_ACCEL_NULL := m
accel-tools := tools/bench/kernel/ tools/testing/selftests/accel/forget/ \
	       tools/testing/selftests/accel/noreset/
endif

obj-$(CONFIG_COMPUTE_ACCEL) += accel.o drivers/ samples/
obj-m += $(accel-tools)
accel-y := accel_core.o bindings/gate.o bindings/helpers.o bindings/power.o bindings/user.o \
	   bindings/wake.o bindings/exports.o

ccflags-y += -I$(src)/include/uapi -I$(obj)/bindings

# Symbols carry a hash of all that layouts follow from, so that a driver that was
# built against another core finds none of them, and is refused.
accel-sources := $(wildcard $(src)/*.rs $(src)/bindings/*.rs $(src)/bindings/*.[ch] \
		   $(src)/include/uapi/accel/accel.h)
accel-hash := $(firstword $(shell cat $(accel-sources) \
		$(objtree)/include/config/auto.conf \
		$(objtree)/include/config/kernel.release | sha256sum))

RUSTFLAGS_accel_core.o := --emit=metadata=$(obj)/libaccel.rmeta \
			  -Cmetadata=$(accel-hash) --env-set ACCEL_OBJ=$(ACCEL_OBJ)

$(obj)/accel_core.o: $(obj)/bindings/uapi_generated.rs \
		     $(obj)/bindings/helpers_generated.rs

$(obj)/bindings/uapi_generated.rs: $(src)/include/uapi/accel/accel.h FORCE
	$(call if_changed,accel_uapi)

# What bindgen's clang does not know of gcc's flags, it does not need.
quiet_cmd_accel_helpers = BINDGEN $@
      cmd_accel_helpers = mkdir -p $(dir $@); $(BINDGEN) $< \
	$(shell grep -Ev '^\#|^$$' $(srctree)/rust/bindgen_parameters) \
	--rust-target 1.85 --use-core --ctypes-prefix ffi --no-layout-tests --no-debug '.*' \
	--enable-function-attribute-detection --no-recursive-allowlist \
	--allowlist-function 'accel_.*' --allowlist-type 'accel_(gate|opener)' --allowlist-var 'ACCEL_(PMD|FMODE)_.*' -o $@ -- \
	$(filter-out -m% -f% --param% -W%, $(c_flags)) -w --target=$(accel-target) \
	-fshort-wchar -funsigned-char -fms-extensions -fno-builtin -D__BINDGEN__ -DMODULE
accel-target := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))-linux-gnu

$(obj)/bindings/helpers_generated.rs: $(src)/bindings/helpers.h FORCE
	$(call if_changed,accel_helpers)

# Drivers may be linked to instances of other crates' generics that live here, and
# to C helpers through what is inlined: all of them are exported.
quiet_cmd_accel_exports = EXPORTS $@
      cmd_accel_exports = $(NM) -p --defined-only $(filter %.o,$^) | \
	awk '$$2 ~ /[TRDB]/ && $$3 ~ /^(_R|accel_)/ && $$3 !~ /__(pfx|cfi|odr_asan)|___module_init/ \
		{ printf "extern int %s; EXPORT_SYMBOL_NS_GPL(%s, \"ACCEL\");\n", $$3, $$3 }' | sort -u > $@

$(obj)/bindings/exports_generated.h: $(obj)/accel_core.o $(obj)/bindings/gate.o \
				     $(obj)/bindings/helpers.o $(obj)/bindings/user.o \
				     $(obj)/bindings/wake.o FORCE
	$(call if_changed,accel_exports)

$(obj)/bindings/exports.o: $(obj)/bindings/exports_generated.h

targets += bindings/uapi_generated.rs bindings/helpers_generated.rs \
	   bindings/exports_generated.h
clean-files := libaccel.rmeta

# Drivers are compiled against the core's metadata.
$(obj)/drivers $(obj)/samples $(addprefix $(obj)/,$(accel-tools:/=)): | $(obj)/accel_core.o

else

.DEFAULT_GOAL := help

# As the user wrote them: a $ in RUN is the guest's shell's, not make's.
override RUN := $(value RUN)
override PUT := $(value PUT)
export RUN PUT T FLAVOUR DIR CYCLES MINUTES REPLAY

dev := @sh tools/dev/bootstrap.sh

## run: set everything up, boot a guest, run a real job on the accelerator
run:
	$(dev) run

## test [T=pattern] [FLAVOUR=…]: all tests of host and guest, or those that fit
test:
	$(dev) test

## test-all: the tests on every kernel flavour, also debug, which is built first
test-all:
	$(dev) test --all

## stress [T=pattern] [CYCLES=1000] [FLAVOUR=…]: the life of a device, again and again
stress:
	$(dev) stress

## mutants [T=pattern]: break the code in known ways; the tests have to notice
mutants:
	$(dev) mutants

## shell [FLAVOUR=…]: an interactive guest with devices, modules and tools
shell:
	$(dev) shell

## vm RUN='command' [PUT='files'] [FLAVOUR=…]: run one command in a guest
vm:
	$(dev) vm

## modules [FLAVOUR=…]: build the modules
## modules DIR=folder [FLAVOUR=…]: build somebody's driver against them, where it is
## modules KDIR=kernel [MO=folder]: build the modules for any prepared kernel
ifeq ($(KDIR),)
modules:
	$(dev) modules
else
modules:
	$(MAKE) -C $(KDIR) M=$(CURDIR) $(if $(MO),MO=$(abspath $(MO))) modules
endif

## check: formats, lints, documentation, rules
check:
	$(dev) check

## format: rewrite files as the formatters want them
format:
	$(dev) format

## docs: make the reference of what drivers import, with rustdoc
docs:
	$(dev) docs

## bench: measure against peers, in instructions
bench:
	$(dev) bench

## fuzz [MINUTES=…]: make programs up for our calls, led by what they reach
## fuzz REPLAY=file: run the programs of a file again
fuzz:
	$(dev) fuzz

## clean: remove the build outputs; with CACHE=1 the whole cache too
ifeq ($(CACHE),)
clean:
	$(dev) clean
else
clean: distclean
endif

## distclean: remove the cache with everything in it
distclean:
	$(dev) remove-cache

help:
	@echo 'Targets:'
	@sed -n 's/^## /  /p' Makefile
	@echo
	@echo 'FLAVOUR= is cloud (the default), amd64 or debug. The cache is $${ACCEL_CACHE:-~/.cache/accel}.'

.PHONY: run test test-all stress mutants shell vm modules check format docs bench fuzz clean distclean help

endif
