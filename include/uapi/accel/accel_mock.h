/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * An accelerator without hardware that uses what the core offers, for tests: it
 * adds, ends jobs at once or later or holds them, is reset when and how it is
 * told to, and sleeps as it is told to.
 */
#ifndef _UAPI_ACCEL_ACCEL_MOCK_H
#define _UAPI_ACCEL_ACCEL_MOCK_H

#include <accel/accel.h>

#define ACCEL_MOCK_NR_ADD 0x40
#define ACCEL_MOCK_NR_SUM 0x41
#define ACCEL_MOCK_NR_SUBMIT 0x42
#define ACCEL_MOCK_NR_STALL 0x43
#define ACCEL_MOCK_NR_LATER 0x44
#define ACCEL_MOCK_NR_RESET 0x45
#define ACCEL_MOCK_NR_FAULT 0x46
#define ACCEL_MOCK_NR_SLEEP 0x47

#define ACCEL_MOCK_SUM_MAX 4096

/**
 * struct accel_mock_add - argument of ACCEL_MOCK_IOCTL_ADD
 * @a: in; out, unchanged
 * @b: in; out, @a + @b modulo 2^64
 */
struct accel_mock_add {
	__u64 a;
	__u64 b;
};

/**
 * struct accel_mock_sum - argument of ACCEL_MOCK_IOCTL_SUM
 * @values: in, pointer to @count __u64
 * @partial: in, pointer to @count __u64 that are written: the sum of the first,
 *	of the first two, and so on, modulo 2^64
 * @count: in, at most ACCEL_MOCK_SUM_MAX
 * @flags: in, 0
 * @sum: out, of all modulo 2^64
 *
 * Errors: EINVAL @count or @flags; ENOMEM. If @partial cannot be written
 * (EFAULT) nothing else has happened.
 */
struct accel_mock_sum {
	__u64 values;
	__u64 partial;
	__u32 count;
	__u32 flags;
	__u64 sum;
};

/* accel_mock_submit.flags */
#define ACCEL_MOCK_SUBMIT_HOLD (1U << 0) /* until the file closes, or a reset */

/**
 * struct accel_mock_submit - argument of ACCEL_MOCK_IOCTL_SUBMIT
 * @timeline: in, handle
 * @flags: in, ACCEL_MOCK_SUBMIT_*
 * @point: out, the job's point on the timeline
 *
 * Submits a job that has ended when the call returns, or that the file holds
 * until it is closed, when it ends as cancelled.
 *
 * Errors: ENOENT no such handle; EINVAL @flags; EAGAIN the file holds a job
 * already; ENOMEM.
 */
struct accel_mock_submit {
	__u32 timeline;
	__u32 flags;
	__u64 point;
};

/* Milliseconds. */
#define ACCEL_MOCK_STALL_MAX 20000

/* accel_mock_stall.flags */
#define ACCEL_MOCK_STALL_POLITE \
	(1U << 0) /* give up when somebody waits for it */

/**
 * struct accel_mock_stall - argument of ACCEL_MOCK_IOCTL_STALL
 * @milliseconds: in, at most ACCEL_MOCK_STALL_MAX
 * @flags: in, ACCEL_MOCK_STALL_*
 *
 * Sleeps inside the driver, as no driver should: what an unregister then does
 * can be seen.
 *
 * Errors: EINVAL @milliseconds or @flags; with ACCEL_MOCK_STALL_POLITE EAGAIN
 * when a reset waits for it, ENODEV when the device is going.
 */
struct accel_mock_stall {
	__u32 milliseconds;
	__u32 flags;
};

/* accel_mock_later.flags */
#define ACCEL_MOCK_LATER_POLL (1U << 0) /* look every millisecond until then */
#define ACCEL_MOCK_LATER_STALL \
	(1U << 1) /* the alarm sleeps before it ends it */
#define ACCEL_MOCK_LATER_FAULT \
	(1U << 2) /* the alarm tells a fault of it, and it ends as EFAULT */

/* The fault of such a job: a write. */
#define ACCEL_MOCK_FAULT_ADDRESS 0x1000
#define ACCEL_MOCK_FAULT_CODE 7

/* Jobs of a file that end later; milliseconds of one; how long an alarm sleeps. */
#define ACCEL_MOCK_LATER_MAX 64
#define ACCEL_MOCK_LATER_MS_MAX 20000
#define ACCEL_MOCK_LATER_STALL_MS 500

/**
 * struct accel_mock_later - argument of ACCEL_MOCK_IOCTL_LATER
 * @timeline: in, handle
 * @milliseconds: in, until the job ends, at most ACCEL_MOCK_LATER_MS_MAX
 * @flags: in, ACCEL_MOCK_LATER_*
 * @reserved: in, 0
 * @point: out, the job's point on the timeline
 *
 * Submits a job that the device's alarm ends, or closing the file, as cancelled.
 * If the answer cannot be written (EFAULT) the job runs all the same.
 *
 * Errors: ENOENT no such handle; EINVAL @milliseconds, @flags or @reserved;
 * EAGAIN the file has ACCEL_MOCK_LATER_MAX of them; ENOMEM.
 */
struct accel_mock_later {
	__u32 timeline;
	__u32 milliseconds;
	__u32 flags;
	__u32 reserved;
	__u64 point;
};

/* What the device asks the core for: accel_mock_reset.ask */
#define ACCEL_MOCK_ASK_NOTHING 0
#define ACCEL_MOCK_ASK_RESET 1 /* ACCEL_CAUSE_DRIVER */
#define ACCEL_MOCK_ASK_DEADLINE 2 /* ACCEL_CAUSE_DEADLINE */
#define ACCEL_MOCK_ASK_CHECK 3 /* it does not pass its next check */
#define ACCEL_MOCK_ASK_FAIL 4 /* ACCEL_STATE_MALFUNCTION */
#define ACCEL_MOCK_ASK_NEEDS_RESET 5 /* ACCEL_STATE_NEEDS_RESET */

/* accel_mock_reset.flags */
#define ACCEL_MOCK_RESET_LOSE (1U << 0) /* contexts are lost in a reset */
#define ACCEL_MOCK_RESET_FAIL (1U << 1) /* resets do not help */

/* Milliseconds. */
#define ACCEL_MOCK_RESET_MS_MAX 20000

/**
 * struct accel_mock_reset - argument of ACCEL_MOCK_IOCTL_RESET
 * @ask: in, ACCEL_MOCK_ASK_*
 * @flags: in, ACCEL_MOCK_RESET_*: how resets go from now on
 * @milliseconds: in, that a reset takes from now on, at most
 *	ACCEL_MOCK_RESET_MS_MAX
 * @delay_ms: in, until the device asks, at most ACCEL_MOCK_RESET_MS_MAX; what it
 *	was to ask before that is forgotten. 0: it asks at once
 *
 * A reset ends the jobs that are held or end later with EIO.
 *
 * Errors: EINVAL @ask, @flags, @milliseconds or @delay_ms.
 */
struct accel_mock_reset {
	__u32 ask;
	__u32 flags;
	__u32 milliseconds;
	__u32 delay_ms;
};

/**
 * struct accel_mock_fault - argument of ACCEL_MOCK_IOCTL_FAULT
 * @address: in
 * @access: in, ACCEL_FAULT_*
 * @code: in
 *
 * Tells the file of a fault that no job is known for.
 *
 * Errors: EINVAL @access.
 */
struct accel_mock_fault {
	__u64 address;
	__u32 access;
	__u32 code;
};

/* accel_mock_sleep.flags */
#define ACCEL_MOCK_SLEEP_REFUSE (1U << 0) /* it does not go to sleep */
#define ACCEL_MOCK_SLEEP_LOSE (1U << 1) /* contexts are lost when it wakes */
#define ACCEL_MOCK_SLEEP_FAIL \
	(1U << 2) /* it does not wake, until it is reset */

/**
 * struct accel_mock_sleep - argument of ACCEL_MOCK_IOCTL_SLEEP
 * @flags: in, ACCEL_MOCK_SLEEP_*: how it sleeps from now on
 * @reserved: in, 0
 * @asked: out, how often it was asked to go to sleep so far
 * @slept: out, how often it did
 * @woken: out, how often it was woken
 *
 * The device is not idle while it has jobs. Jobs that end later do so in time if
 * it is awake then, else when it wakes.
 *
 * Errors: EINVAL @flags or @reserved.
 */
struct accel_mock_sleep {
	__u32 flags;
	__u32 reserved;
	__u64 asked;
	__u64 slept;
	__u64 woken;
};

#define ACCEL_MOCK_IOCTL_ADD \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_MOCK_NR_ADD, struct accel_mock_add)
#define ACCEL_MOCK_IOCTL_SUM \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_MOCK_NR_SUM, struct accel_mock_sum)
#define ACCEL_MOCK_IOCTL_SUBMIT \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_MOCK_NR_SUBMIT, struct accel_mock_submit)

#define ACCEL_MOCK_IOCTL_STALL \
	_IOW(ACCEL_IOCTL_TYPE, ACCEL_MOCK_NR_STALL, struct accel_mock_stall)
#define ACCEL_MOCK_IOCTL_LATER \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_MOCK_NR_LATER, struct accel_mock_later)
#define ACCEL_MOCK_IOCTL_RESET \
	_IOW(ACCEL_IOCTL_TYPE, ACCEL_MOCK_NR_RESET, struct accel_mock_reset)
#define ACCEL_MOCK_IOCTL_FAULT \
	_IOW(ACCEL_IOCTL_TYPE, ACCEL_MOCK_NR_FAULT, struct accel_mock_fault)
#define ACCEL_MOCK_IOCTL_SLEEP \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_MOCK_NR_SLEEP, struct accel_mock_sleep)

/* Bytes of the scratch buffer that each file has at mmap offset 0. */
#define ACCEL_MOCK_SCRATCH_SIZE 4096

#endif /* _UAPI_ACCEL_ACCEL_MOCK_H */
