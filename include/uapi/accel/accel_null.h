/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The smallest accelerator: no hardware. It adds.
 */
#ifndef _UAPI_ACCEL_ACCEL_NULL_H
#define _UAPI_ACCEL_ACCEL_NULL_H

#include <accel/accel.h>

#define ACCEL_NULL_NR_ADD 0x40

/**
 * struct accel_null_add - argument of ACCEL_NULL_IOCTL_ADD
 * @a: in; out, unchanged
 * @b: in; out, @a + @b modulo 2^64
 */
struct accel_null_add {
	__u64 a;
	__u64 b;
};

#define ACCEL_NULL_IOCTL_ADD \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NULL_NR_ADD, struct accel_null_add)

#endif /* _UAPI_ACCEL_ACCEL_NULL_H */
