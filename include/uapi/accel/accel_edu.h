/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * QEMU's educational PCI device as an accelerator: it computes factorials and
 * moves bytes through 4 KiB of its own memory.
 *
 * Both ioctls queue a job and return; the job ends when the timeline reaches
 * the point that they give. Jobs of one file run in order, files take turns.
 *
 * A reset of the device ends the job that is running with EIO; those that are
 * queued go on, unless the reset fails, which ends them likewise. Contexts are
 * never lost.
 */
#ifndef _UAPI_ACCEL_ACCEL_EDU_H
#define _UAPI_ACCEL_ACCEL_EDU_H

#include <accel/accel.h>

#define ACCEL_EDU_NR_FACTORIAL 0x40
#define ACCEL_EDU_NR_COPY 0x41

/* Most numbers of one job, and the greatest of them. */
#define ACCEL_EDU_BATCH_MAX 1024
#define ACCEL_EDU_FACTORIAL_MAX 255
/* Compute files that may be open on one device; one more is EBUSY. */
#define ACCEL_EDU_CONTEXTS_MAX 1024
/* Jobs that one file may have queued. */
#define ACCEL_EDU_JOBS_MAX 64

/**
 * struct accel_edu_factorial - argument of ACCEL_EDU_IOCTL_FACTORIAL
 * @numbers: in, pointer to @count __u32, each at most ACCEL_EDU_FACTORIAL_MAX
 * @count: in, 1 to ACCEL_EDU_BATCH_MAX
 * @timeline: in, handle
 * @dst: in, handle of the buffer for the answers
 * @flags: in, 0
 * @dst_offset: in, bytes, a multiple of 4
 * @point: out, the job's point on the timeline
 *
 * Writes @count __u32 at @dst_offset: the factorial of each number modulo
 * 2^32.
 *
 * Errors: ENOENT no such handle; EINVAL @count, a number, @flags or
 * @dst_offset; ERANGE the answers do not fit into the buffer; EAGAIN
 * ACCEL_EDU_JOBS_MAX jobs are queued; ENOMEM. If @point cannot be written
 * (EFAULT) the job runs all the same.
 */
struct accel_edu_factorial {
	__u64 numbers;
	__u32 count;
	__u32 timeline;
	__u32 dst;
	__u32 flags;
	__u64 dst_offset;
	__u64 point;
};

/**
 * struct accel_edu_copy - argument of ACCEL_EDU_IOCTL_COPY
 * @src: in, handle of a buffer
 * @dst: in, handle of a buffer, which may be @src
 * @src_offset: in, bytes
 * @dst_offset: in, bytes
 * @size: in, bytes, at least 1
 * @timeline: in, handle
 * @flags: in, 0
 * @point: out, the job's point on the timeline
 *
 * Reads @size bytes into the device and writes them back, in steps of at most
 * 4 KiB, in ascending order. What overlapping ranges hold afterwards follows
 * from that.
 *
 * Errors: ENOENT no such handle; EINVAL @size 0 or @flags; ERANGE outside of a
 * buffer; EAGAIN ACCEL_EDU_JOBS_MAX jobs are queued; ENOMEM. If @point cannot
 * be written (EFAULT) the job runs all the same.
 */
struct accel_edu_copy {
	__u32 src;
	__u32 dst;
	__u64 src_offset;
	__u64 dst_offset;
	__u64 size;
	__u32 timeline;
	__u32 flags;
	__u64 point;
};

#define ACCEL_EDU_IOCTL_FACTORIAL                       \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_EDU_NR_FACTORIAL, \
	      struct accel_edu_factorial)
#define ACCEL_EDU_IOCTL_COPY \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_EDU_NR_COPY, struct accel_edu_copy)

#endif /* _UAPI_ACCEL_ACCEL_EDU_H */
