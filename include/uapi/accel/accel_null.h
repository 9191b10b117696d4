/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The smallest accelerator: no hardware. It adds, and ends jobs at once.
 */
#ifndef _UAPI_ACCEL_ACCEL_NULL_H
#define _UAPI_ACCEL_ACCEL_NULL_H

#include <accel/accel.h>

#define ACCEL_NULL_NR_ADD 0x40
#define ACCEL_NULL_NR_SUM 0x41
#define ACCEL_NULL_NR_SUBMIT 0x42

#define ACCEL_NULL_SUM_MAX 4096

/**
 * struct accel_null_add - argument of ACCEL_NULL_IOCTL_ADD
 * @a: in; out, unchanged
 * @b: in; out, @a + @b modulo 2^64
 */
struct accel_null_add {
	__u64 a;
	__u64 b;
};

/**
 * struct accel_null_sum - argument of ACCEL_NULL_IOCTL_SUM
 * @values: in, pointer to @count __u64
 * @partial: in, pointer to @count __u64 that are written: the sum of the first,
 *	of the first two, and so on, modulo 2^64
 * @count: in, at most ACCEL_NULL_SUM_MAX
 * @flags: in, 0
 * @sum: out, of all modulo 2^64
 *
 * Errors: EINVAL @count or @flags; ENOMEM. If @partial cannot be written
 * (EFAULT) nothing else has happened.
 */
struct accel_null_sum {
	__u64 values;
	__u64 partial;
	__u32 count;
	__u32 flags;
	__u64 sum;
};

/* accel_null_submit.flags */
#define ACCEL_NULL_SUBMIT_HOLD (1U << 0) /* until the file closes */

/**
 * struct accel_null_submit - argument of ACCEL_NULL_IOCTL_SUBMIT
 * @timeline: in, handle
 * @flags: in, ACCEL_NULL_SUBMIT_*
 * @point: out, the job's point on the timeline
 *
 * Submits a job that has ended when the call returns, or that the file holds
 * until it is closed, when it ends as cancelled.
 *
 * Errors: ENOENT no such handle; EINVAL @flags; EAGAIN the file holds a job
 * already; ENOMEM.
 */
struct accel_null_submit {
	__u32 timeline;
	__u32 flags;
	__u64 point;
};

#define ACCEL_NULL_IOCTL_ADD \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NULL_NR_ADD, struct accel_null_add)
#define ACCEL_NULL_IOCTL_SUM \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NULL_NR_SUM, struct accel_null_sum)
#define ACCEL_NULL_IOCTL_SUBMIT \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NULL_NR_SUBMIT, struct accel_null_submit)

/* Bytes of the scratch buffer that each file has at mmap offset 0. */
#define ACCEL_NULL_SCRATCH_SIZE 4096

#endif /* _UAPI_ACCEL_ACCEL_NULL_H */
