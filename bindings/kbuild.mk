# SPDX-License-Identifier: GPL-2.0
#
# What the kbuild files of the core and of its drivers share. A driver's says:
#
#   accel-dir := where the subsystem's source is
#   include $(accel-dir)/bindings/kbuild.mk
#   obj-m += my_driver.o
#   $(call accel-driver,my_driver,HEADER)
#
# HEADER is the driver's uAPI header in accel-uapi-dir. Its Rust types are generated
# to my_driver_uapi.rs in the folder that env!("ACCEL_DRIVER_OBJ") names.

# On a kernel that can tell which code was run, fuzzing asks that of ours.
KCOV_INSTRUMENT := y

accel-uapi-dir ?= $(accel-dir)/include/uapi/accel
# Where the core was built: beside the driver, or in the tree that M= of it was.
accel-obj ?= $(ACCEL_OBJ)

# A uAPI header is read as a user program reads it.
quiet_cmd_accel_uapi = BINDGEN $@
      cmd_accel_uapi = mkdir -p $(dir $@); $(BINDGEN) $< --rust-target 1.85 --use-core \
	--ctypes-prefix ::kernel::ffi --no-layout-tests --no-debug '.*' \
	--no-doc-comments --no-prepend-enum-name --no-recursive-allowlist \
	--clang-macro-fallback --clang-macro-fallback-build-dir $(dir $@) \
	--with-derive-custom-struct '.*=::zerocopy_derive::FromBytes,::zerocopy_derive::IntoBytes,::zerocopy_derive::Immutable' \
	--raw-line 'use ::kernel::uapi::{__s16, __s32, __s64, __u16, __u32, __u64, __u8};' \
	--allowlist-file '(.*/)?$(notdir $<)' -o $@ -- -w \
	-I$(accel-dir)/include/uapi -I$(dir $(accel-uapi-dir)) \
	-I$(srctree)/arch/$(SRCARCH)/include/uapi \
	-I$(objtree)/arch/$(SRCARCH)/include/generated/uapi \
	-I$(srctree)/include/uapi -I$(objtree)/include/generated/uapi \
	-I$(srctree)/include

# $(1) module, $(2) uAPI header
define accel-driver-rules
RUSTFLAGS_$(1).o := --extern accel=$(accel-obj)/libaccel.rmeta \
	--env-set ACCEL_DRIVER_OBJ=$(abspath $(obj))
$(obj)/$(1).o: $(obj)/$(1)_uapi.rs
$(obj)/$(1)_uapi.rs: $(accel-uapi-dir)/$(2) FORCE
	$$(call if_changed,accel_uapi)
targets += $(1)_uapi.rs
endef
accel-driver = $(eval $(call accel-driver-rules,$(1),$(2)))
