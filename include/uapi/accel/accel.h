/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Compute accelerators: the interface that every device of the subsystem has.
 *
 * Two character devices a device: accel/accelN computes, accel/accel_controlN
 * is monitored. Everything here works on the compute node; the control node
 * takes ACCEL_IOCTL_INFO, ACCEL_IOCTL_EVENTS, read and poll, and nothing else.
 *
 * Rules for every structure:
 *  - it may grow at its end. The size in the ioctl number is its version: a
 *    shorter one is read as if followed by zeroes, a longer one is taken when
 *    what the kernel does not know is zero (else E2BIG);
 *  - "reserved" must be zero and "flags" must hold known bits, else EINVAL;
 *  - pointers travel as __u64, 32-bit and 64-bit programs share one layout;
 *  - handles belong to the open file that made them, 0 is never a handle.
 *
 * Errors that every call may give: ENODEV the device is gone (for ever: close
 * the file), EFAULT a pointer cannot be read or written, ENOTTY the ioctl does
 * not exist here. Others are listed with each call.
 *
 * Errors of the calls that need the hardware, which are the driver's ioctls,
 * mmap of the driver's offsets, and open of the compute node: EIO the device
 * needs a reset or is broken (enum accel_state), ESTALE the file's context has
 * lost what it had on the device (close the file and open it again). While the
 * device is being reset open and mmap are EAGAIN, the ioctls wait for the end of
 * it (EINTR, or restarted, by a signal). A device that is asleep is woken.
 *
 * Errors of the calls that make something: ENOSPC the limit of the file or the
 * device, EDQUOT that of the user (enum accel_limit).
 */
#ifndef _UAPI_ACCEL_ACCEL_H
#define _UAPI_ACCEL_ACCEL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define ACCEL_IOCTL_TYPE 0xc1
/* Numbers below ACCEL_NR_DRIVER are common, up to ACCEL_NR_END the driver's. */
#define ACCEL_NR_DRIVER 0x40
#define ACCEL_NR_END 0xa0

#define ACCEL_NR_INFO 0x00
#define ACCEL_NR_BUFFER_CREATE 0x01
#define ACCEL_NR_BUFFER_MMAP 0x02
#define ACCEL_NR_BUFFER_DESTROY 0x03
#define ACCEL_NR_TIMELINE_CREATE 0x04
#define ACCEL_NR_TIMELINE_DESTROY 0x05
#define ACCEL_NR_TIMELINE_WAIT 0x06
#define ACCEL_NR_TIMELINE_EVENTFD 0x07
#define ACCEL_NR_EVENTS 0x08

/**
 * enum accel_info_query - what ACCEL_IOCTL_INFO can be asked
 * @ACCEL_INFO_QUERIES: struct accel_info_queries; @index counts the queries
 *	that this device answers, from 0, in ascending order of query
 * @ACCEL_INFO_IDENTITY: struct accel_info_identity
 * @ACCEL_INFO_STATE: struct accel_info_state
 * @ACCEL_INFO_MEMORY: struct accel_info_memory; @index counts the memories,
 *	0 is the host memory of buffers, the rest the device's own
 * @ACCEL_INFO_OPENS: struct accel_info_opens
 * @ACCEL_INFO_RESETS: struct accel_info_resets; @index counts the causes for
 *	which there may be a reset, from 0
 * @ACCEL_INFO_CLIENTS: struct accel_info_client; @index counts the compute
 *	files that are open, in no particular order, from 0
 * @ACCEL_INFO_LIMITS: struct accel_info_limit; @index is enum accel_limit
 */
enum accel_info_query {
	ACCEL_INFO_QUERIES = 0,
	ACCEL_INFO_IDENTITY = 1,
	ACCEL_INFO_STATE = 2,
	ACCEL_INFO_MEMORY = 3,
	ACCEL_INFO_OPENS = 4,
	ACCEL_INFO_RESETS = 5,
	ACCEL_INFO_CLIENTS = 6,
	ACCEL_INFO_LIMITS = 7,
};

/**
 * struct accel_info - argument of ACCEL_IOCTL_INFO
 * @query: in, enum accel_info_query
 * @index: in, which one of several; 0 where the query has only one
 * @size: in, bytes at @ptr; out, bytes of the answer that this kernel knows.
 *	The lesser of the two is written, the rest up to @size in is zeroed
 * @flags: in, 0
 * @ptr: in, where the answer goes
 *
 * Errors: EOPNOTSUPP unknown @query; ENODATA this device has no such thing, or
 * not that many (@index); EINVAL @flags, @index where there is but one, or
 * @size 0 or above 64 KiB.
 */
struct accel_info {
	__u32 query;
	__u32 index;
	__u32 size;
	__u32 flags;
	__u64 ptr;
};

/**
 * struct accel_info_queries - one query that the device answers
 * @query: enum accel_info_query
 * @size: bytes of its answer
 * @count: valid indices: 0 to @count - 1
 * @flags: 0
 * @name: its name, lower case, ends with NUL
 */
struct accel_info_queries {
	__u32 query;
	__u32 size;
	__u32 count;
	__u32 flags;
	char name[32];
};

/**
 * enum accel_function - what kind of function of its parent the device is
 * @ACCEL_FUNCTION_PF: a physical function, or the whole of a device
 * @ACCEL_FUNCTION_VF: a virtual function (SR-IOV)
 * @ACCEL_FUNCTION_PARTITION: one of several that share a function
 */
enum accel_function {
	ACCEL_FUNCTION_PF = 0,
	ACCEL_FUNCTION_VF = 1,
	ACCEL_FUNCTION_PARTITION = 2,
};

/**
 * enum accel_class - what the device is for
 * @ACCEL_CLASS_OTHER: none of the others
 * @ACCEL_CLASS_NPU: neural networks
 * @ACCEL_CLASS_DSP: signal processing
 * @ACCEL_CLASS_FPGA: programmable logic
 * @ACCEL_CLASS_CRYPTO: ciphers, hashes, compression
 * @ACCEL_CLASS_VIRTUAL: no hardware
 */
enum accel_class {
	ACCEL_CLASS_OTHER = 0,
	ACCEL_CLASS_NPU = 1,
	ACCEL_CLASS_DSP = 2,
	ACCEL_CLASS_FPGA = 3,
	ACCEL_CLASS_CRYPTO = 4,
	ACCEL_CLASS_VIRTUAL = 5,
};

/* accel_info_identity.flags */
#define ACCEL_IDENTITY_PCI (1U << 0) /* @pci_* are valid */
#define ACCEL_IDENTITY_NUMA (1U << 1) /* @numa_node is valid */

/**
 * struct accel_info_identity - who this is; constant as long as it exists
 * @number: N of accelN and accel_controlN. Not stable across boots: @parent is
 * @function_index: which of its parent's accelerators, from 0
 * @function: enum accel_function
 * @device_class: enum accel_class
 * @flags: ACCEL_IDENTITY_*
 * @numa_node: node the device is near to
 * @uapi_major: incompatible changes of the driver's own ioctls
 * @uapi_minor: compatible additions
 * @max_contexts: most open compute files, 0 for no limit of the device's
 * @max_address_spaces: address spaces of the device's, 0 when it has none
 * @pci_vendor: PCI vendor id
 * @pci_device: PCI device id
 * @pci_subvendor: PCI subsystem vendor id
 * @pci_subdevice: PCI subsystem id
 * @uapi_name: the driver's ioctls are those of include/uapi/accel/@uapi_name.h
 * @driver: name of the kernel driver that the parent is bound to
 * @bus: bus of the parent ("pci", "platform", "faux" ...)
 * @parent: name of the parent on its bus ("0000:00:03.0"); its place in sysfs
 *	is /sys/bus/@bus/devices/@parent
 */
struct accel_info_identity {
	__u32 number;
	__u32 function_index;
	__u32 function;
	__u32 device_class;
	__u32 flags;
	__s32 numa_node;
	__u32 uapi_major;
	__u32 uapi_minor;
	__u32 max_contexts;
	__u32 max_address_spaces;
	__u16 pci_vendor;
	__u16 pci_device;
	__u16 pci_subvendor;
	__u16 pci_subdevice;
	char uapi_name[32];
	char driver[32];
	char bus[16];
	char parent[64];
};

/**
 * enum accel_state - what the device can do now
 * @ACCEL_STATE_OPERATIONAL: compute
 * @ACCEL_STATE_RESETTING: nothing, for a moment
 * @ACCEL_STATE_NEEDS_RESET: nothing until root resets it
 * @ACCEL_STATE_MALFUNCTION: nothing, a reset did not help
 * @ACCEL_STATE_SUSPENDED: asleep; woken by the first call that needs it, or with
 *	the system
 * @ACCEL_STATE_UNPLUGGED: gone; only events say so, every call is ENODEV
 */
enum accel_state {
	ACCEL_STATE_OPERATIONAL = 0,
	ACCEL_STATE_RESETTING = 1,
	ACCEL_STATE_NEEDS_RESET = 2,
	ACCEL_STATE_MALFUNCTION = 3,
	ACCEL_STATE_SUSPENDED = 4,
	ACCEL_STATE_UNPLUGGED = 5,
};

/**
 * enum accel_cause - why the state changed, or why the device was reset
 * @ACCEL_CAUSE_NONE: it has been so since registration
 * @ACCEL_CAUSE_USER: root asked for it, through the attribute reset
 * @ACCEL_CAUSE_DRIVER: the driver found an error, or its end
 * @ACCEL_CAUSE_DEADLINE: a job lost its deadline and could not be stopped
 * @ACCEL_CAUSE_WATCHDOG: the device did not pass the driver's regular check
 * @ACCEL_CAUSE_BUS: the bus reported an error (PCI: AER, DPC)
 * @ACCEL_CAUSE_RESUME: it lost its state while it was asleep
 * @ACCEL_CAUSE_SYSTEM: the system slept, woke or went down
 * @ACCEL_CAUSE_IDLE: nobody needed it, or somebody does again
 * @ACCEL_CAUSE_UNPLUG: its driver was unbound, or the device was taken away
 */
enum accel_cause {
	ACCEL_CAUSE_NONE = 0,
	ACCEL_CAUSE_USER = 1,
	ACCEL_CAUSE_DRIVER = 2,
	ACCEL_CAUSE_DEADLINE = 3,
	ACCEL_CAUSE_WATCHDOG = 4,
	ACCEL_CAUSE_BUS = 5,
	ACCEL_CAUSE_RESUME = 6,
	ACCEL_CAUSE_SYSTEM = 7,
	ACCEL_CAUSE_IDLE = 8,
	ACCEL_CAUSE_UNPLUG = 9,
};

/**
 * struct accel_info_state - how the device is
 * @state: enum accel_state
 * @flags: 0
 * @since_ns: CLOCK_MONOTONIC when it came into @state
 * @registered_ns: CLOCK_MONOTONIC when the driver registered it
 * @cause: enum accel_cause, why it came into @state
 * @reserved: 0
 * @resets: resets since registration, whether or not they helped
 */
struct accel_info_state {
	__u32 state;
	__u32 flags;
	__u64 since_ns;
	__u64 registered_ns;
	__u32 cause;
	__u32 reserved;
	__u64 resets;
};

/**
 * struct accel_info_resets - resets for one cause, since registration
 * @cause: enum accel_cause
 * @flags: 0
 * @count: resets, whether or not they helped
 * @failed: those that did not help
 * @last_ns: CLOCK_MONOTONIC when the last one began; 0 when @count is
 */
struct accel_info_resets {
	__u32 cause;
	__u32 flags;
	__u64 count;
	__u64 failed;
	__u64 last_ns;
};

/* accel_info_client.flags */
#define ACCEL_CLIENT_VISIBLE (1U << 0) /* all below is valid */

/**
 * struct accel_info_client - who has a compute file open
 * @flags: ACCEL_CLIENT_*
 * @pid: process that opened it, in the PID namespace of the caller; 0 when that
 *	does not see the process. The file may have been passed on since
 * @uid: effective user id of the one who opened it, in the user namespace of
 *	the caller
 * @lost: 1 when the context was lost in a reset (ESTALE)
 * @opened_ns: CLOCK_MONOTONIC when it was opened
 * @buffers: buffers that it has
 * @buffer_bytes: bytes of them
 * @name: of the process when it opened the file (comm), ends with NUL
 *
 * Told to who has CAP_SYS_ADMIN and to who has the same effective user id; to
 * others all is 0.
 */
struct accel_info_client {
	__u32 flags;
	__u32 pid;
	__u32 uid;
	__u32 lost;
	__u64 opened_ns;
	__u64 buffers;
	__u64 buffer_bytes;
	char name[16];
};

/**
 * enum accel_limit - what there are limits on
 * @ACCEL_LIMIT_FILES: open files of both nodes
 * @ACCEL_LIMIT_CONTEXTS: open compute files. Over the limit of the device open
 *	is EBUSY
 * @ACCEL_LIMIT_BUFFERS: buffers that have a handle
 * @ACCEL_LIMIT_MAPPINGS: areas of memory that a file is mapped to
 * @ACCEL_LIMIT_TIMELINES: timelines that have a handle
 * @ACCEL_LIMIT_JOBS: jobs that have not ended. Over a limit a submission is
 *	EAGAIN
 * @ACCEL_LIMIT_EVENTS: events that were not read. Over the limit of the file
 *	the oldest are lost, which ACCEL_EVENT_LOST tells
 */
enum accel_limit {
	ACCEL_LIMIT_FILES = 0,
	ACCEL_LIMIT_CONTEXTS = 1,
	ACCEL_LIMIT_BUFFERS = 2,
	ACCEL_LIMIT_MAPPINGS = 3,
	ACCEL_LIMIT_TIMELINES = 4,
	ACCEL_LIMIT_JOBS = 5,
	ACCEL_LIMIT_EVENTS = 6,
};

/**
 * struct accel_info_limit - limits on one thing, and how far they are used
 * @limit: enum accel_limit
 * @flags: 0
 * @file_max: most in one file
 * @user_max: most of one user (the effective user id of who opened the file) on
 *	this device; root sets it in the attribute limits/...
 * @device_max: most on this device
 * @file_used: in this file
 * @user_used: of the user who opened this file
 * @device_used: on this device
 *
 * ~0 is no limit.
 */
struct accel_info_limit {
	__u32 limit;
	__u32 flags;
	__u32 file_max;
	__u32 user_max;
	__u32 device_max;
	__u32 file_used;
	__u32 user_used;
	__u32 device_used;
};

/**
 * enum accel_memory_kind - where a memory is
 * @ACCEL_MEMORY_HOST: the host's pages, taken as needed; it has no size of its own
 * @ACCEL_MEMORY_DEVICE: on the device
 */
enum accel_memory_kind {
	ACCEL_MEMORY_HOST = 0,
	ACCEL_MEMORY_DEVICE = 1,
};

/* accel_info_memory.flags */
#define ACCEL_MEMORY_TOTAL (1U << 0) /* @total is valid */
#define ACCEL_MEMORY_USED (1U << 1) /* @used is valid */

/**
 * struct accel_info_memory - one memory that the device works on
 * @kind: enum accel_memory_kind
 * @flags: ACCEL_MEMORY_*
 * @total: bytes that there are
 * @used: bytes in use now, by all users
 */
struct accel_info_memory {
	__u32 kind;
	__u32 flags;
	__u64 total;
	__u64 used;
};

/**
 * struct accel_info_opens - how the nodes are used
 * @compute_total: opens of the compute node that succeeded since registration
 * @compute_now: compute files that are open
 * @control_now: control files that are open
 * @control_total: opens of the control node that succeeded since registration
 */
struct accel_info_opens {
	__u64 compute_total;
	__u32 compute_now;
	__u32 control_now;
	__u64 control_total;
};

/**
 * struct accel_buffer_create - argument of ACCEL_IOCTL_BUFFER_CREATE
 * @size: in, bytes, 1 to ACCEL_BUFFER_SIZE_MAX; out, rounded up to whole pages
 * @flags: in, 0
 * @handle: out, of this file
 *
 * Makes a buffer of zeroed host pages, charged to the caller's memory cgroup.
 * If the answer cannot be written (EFAULT) the buffer is destroyed again.
 *
 * Errors: EINVAL @size or @flags; ENOMEM no memory, or the cgroup's limit; EINTR
 * the caller is being killed;
 * ENOSPC ACCEL_HANDLES_MAX objects exist, or no mmap offset is left.
 */
struct accel_buffer_create {
	__u64 size;
	__u32 flags;
	__u32 handle;
};

#define ACCEL_BUFFER_SIZE_MAX (1ULL << 32)
/* Buffers of one file, and likewise its timelines. */
#define ACCEL_HANDLES_MAX 65536

/**
 * struct accel_buffer_mmap - argument of ACCEL_IOCTL_BUFFER_MMAP
 * @handle: in
 * @flags: in, 0
 * @offset: out, what mmap() takes as its offset on this file; below 2^44, so
 *	that 32-bit programs reach it (with _FILE_OFFSET_BITS 64). Parts may be
 *	mapped: @offset + part
 * @size: out, bytes of the buffer
 *
 * Mappings are shared (MAP_PRIVATE: EINVAL) and never executable (EACCES). One
 * keeps the buffer alive when the handle is destroyed; when the device goes,
 * touching it is SIGBUS. The pages cannot be pinned: direct I/O from or to
 * them is EFAULT.
 *
 * Errors: ENOENT no such @handle; EINVAL @flags.
 */
struct accel_buffer_mmap {
	__u32 handle;
	__u32 flags;
	__u64 offset;
	__u64 size;
};

/**
 * struct accel_handle - argument of the ioctls that destroy
 * @handle: in
 * @flags: in, 0
 *
 * The handle goes at once, what it named when nothing uses it any more: jobs
 * and mappings keep theirs.
 *
 * Errors: ENOENT no such @handle of that kind; EINVAL @flags.
 */
struct accel_handle {
	__u32 handle;
	__u32 flags;
};

/**
 * struct accel_timeline_create - argument of ACCEL_IOCTL_TIMELINE_CREATE
 * @flags: in, 0
 * @handle: out, of this file
 *
 * A timeline is a 64-bit count of jobs, at first 0. Each job that is submitted
 * to it is given the next point; its value is the greatest point up to which
 * every job has ended.
 *
 * Errors: EINVAL @flags; ENOMEM; ENOSPC ACCEL_HANDLES_MAX timelines exist.
 */
struct accel_timeline_create {
	__u32 flags;
	__u32 handle;
};

/**
 * struct accel_timeline_wait - argument of ACCEL_IOCTL_TIMELINE_WAIT
 * @handle: in
 * @flags: in, 0
 * @point: in, wait until the value is at least this
 * @deadline_ns: in, CLOCK_MONOTONIC in nanoseconds; in the past (0): do not
 *	sleep; the greatest __s64: wait without limit
 * @value: out, the timeline's value
 * @status: out, 0, or the negative errno of the first job at or before @point
 *	that failed: ECANCELED it was dropped, EIO the device failed; or what the
 *	driver documents
 * @reserved: 0
 *
 * Points that no job has been given yet may be waited for. A file polls as
 * readable when a timeline of its has a value that no TIMELINE_WAIT has
 * returned yet.
 *
 * Errors: ENOENT no such @handle; EINVAL @flags, @reserved or @deadline_ns
 * below 0; ETIME the deadline passed; EINTR, or restarted, by a signal (the
 * deadline does not move). ENODEV wakes every waiter.
 */
struct accel_timeline_wait {
	__u32 handle;
	__u32 flags;
	__u64 point;
	__s64 deadline_ns;
	__u64 value;
	__s32 status;
	__u32 reserved;
};

/**
 * struct accel_timeline_eventfd - argument of ACCEL_IOCTL_TIMELINE_EVENTFD
 * @handle: in
 * @flags: in, 0
 * @point: in
 * @eventfd: in, a file descriptor of eventfd(2)
 * @reserved: 0
 *
 * Adds 1 to the eventfd once, and forgets it: when the value reaches @point (at
 * once when it has), or when it never will, because the device or the file goes,
 * or the timeline, of which there is neither a handle nor a job any more.
 *
 * Errors: ENOENT no such @handle; EBADF no such file, EINVAL @eventfd is no
 * eventfd, @flags or @reserved; ENOSPC ACCEL_EVENTFDS_MAX of the file wait
 * already; ENOMEM.
 */
struct accel_timeline_eventfd {
	__u32 handle;
	__u32 flags;
	__u64 point;
	__s32 eventfd;
	__u32 reserved;
};

/* Eventfds that wait on the timelines of one file. */
#define ACCEL_EVENTFDS_MAX 1024

/**
 * enum accel_event_type - what can be told
 * @ACCEL_EVENT_LOST: struct accel_event_lost; always told
 * @ACCEL_EVENT_STATE: struct accel_event_state
 * @ACCEL_EVENT_CONTEXT_LOST: struct accel_event_context_lost; compute files only
 * @ACCEL_EVENT_FAULT: struct accel_event_fault; compute files only
 */
enum accel_event_type {
	ACCEL_EVENT_LOST = 0,
	ACCEL_EVENT_STATE = 1,
	ACCEL_EVENT_CONTEXT_LOST = 2,
	ACCEL_EVENT_FAULT = 3,
};

/**
 * struct accel_events - argument of ACCEL_IOCTL_EVENTS
 * @types: in, events that the file wants from now on: bit 1 << enum
 *	accel_event_type; out, those that it wanted before
 * @flags: in, 0
 * @reserved: 0
 *
 * A file gets no events before this call. One that asks for
 * ACCEL_EVENT_STATE and did not before is told the present state as its first
 * event, and one that asks for ACCEL_EVENT_CONTEXT_LOST and has lost its
 * context already is told that. With @types 0 what was not read is forgotten.
 * If the answer cannot be written (EFAULT) the file wants @types all the same.
 *
 * read() gives whole events, as many as there is room for, and waits for one
 * when there is none. Errors of read(): EINVAL the file wants no events, or
 * there is no room for the next one; EAGAIN there is none and the file is
 * O_NONBLOCK; EINTR, or restarted, by a signal; ENODEV the device is gone and
 * all was read. poll() says POLLIN while there are events. Whoever shares the
 * file shares its events: each is read once.
 *
 * Errors: EINVAL @flags, @reserved, types that do not exist or that this node
 * does not have; ENOMEM.
 */
struct accel_events {
	__u64 types;
	__u32 flags;
	__u32 reserved;
};

/* Events of one file that were not read. */
#define ACCEL_EVENTS_MAX 256

/**
 * struct accel_event - how every event begins
 * @type: enum accel_event_type
 * @size: bytes of the event, this included; a multiple of 8. Events may grow at
 *	their end: who reads goes on @size bytes later
 * @sequence: counts the events of this file, from 1; those that were lost are
 *	counted too
 * @time_ns: CLOCK_MONOTONIC when it happened
 */
struct accel_event {
	__u32 type;
	__u32 size;
	__u64 sequence;
	__u64 time_ns;
};

/**
 * struct accel_event_lost - events before this one were lost
 * @header: @sequence is that of the last one that was lost, @time_ns its time
 * @count: how many
 */
struct accel_event_lost {
	struct accel_event header;
	__u64 count;
};

/**
 * struct accel_event_state - the state changed
 * @header: how every event begins
 * @state: enum accel_state, the new one
 * @previous: enum accel_state
 * @cause: enum accel_cause
 * @reserved: 0
 * @resets: resets since registration
 */
struct accel_event_state {
	struct accel_event header;
	__u32 state;
	__u32 previous;
	__u32 cause;
	__u32 reserved;
	__u64 resets;
};

/**
 * struct accel_event_context_lost - what this file had on the device is lost
 * @header: how every event begins
 * @cause: enum accel_cause of the reset
 * @reserved: 0
 */
struct accel_event_context_lost {
	struct accel_event header;
	__u32 cause;
	__u32 reserved;
};

/* accel_event_fault.access */
#define ACCEL_FAULT_READ 0
#define ACCEL_FAULT_WRITE 1

/**
 * struct accel_event_fault - the device accessed what it may not, for this file
 * @header: how every event begins
 * @address: in the context's address space
 * @access: ACCEL_FAULT_*
 * @code: the driver's number of what was wrong
 * @point: of the job on its timeline; 0 if it is not known which job it was
 * @timeline: handle of that; 0 if that is not known, or it was destroyed
 * @reserved: 0
 */
struct accel_event_fault {
	struct accel_event header;
	__u64 address;
	__u32 access;
	__u32 code;
	__u64 point;
	__u32 timeline;
	__u32 reserved;
};

/*
 * mmap offsets from 0 to below ACCEL_MMAP_BUFFERS are the driver's, from there
 * to 2^44 those of buffers.
 */
#define ACCEL_MMAP_BUFFERS (1ULL << 40)

#define ACCEL_IOCTL_INFO \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NR_INFO, struct accel_info)
#define ACCEL_IOCTL_BUFFER_CREATE                       \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NR_BUFFER_CREATE, \
	      struct accel_buffer_create)
#define ACCEL_IOCTL_BUFFER_MMAP \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NR_BUFFER_MMAP, struct accel_buffer_mmap)
#define ACCEL_IOCTL_BUFFER_DESTROY \
	_IOW(ACCEL_IOCTL_TYPE, ACCEL_NR_BUFFER_DESTROY, struct accel_handle)
#define ACCEL_IOCTL_TIMELINE_CREATE                       \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NR_TIMELINE_CREATE, \
	      struct accel_timeline_create)
#define ACCEL_IOCTL_TIMELINE_DESTROY \
	_IOW(ACCEL_IOCTL_TYPE, ACCEL_NR_TIMELINE_DESTROY, struct accel_handle)
#define ACCEL_IOCTL_TIMELINE_WAIT                       \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NR_TIMELINE_WAIT, \
	      struct accel_timeline_wait)
#define ACCEL_IOCTL_TIMELINE_EVENTFD                      \
	_IOW(ACCEL_IOCTL_TYPE, ACCEL_NR_TIMELINE_EVENTFD, \
	     struct accel_timeline_eventfd)
#define ACCEL_IOCTL_EVENTS \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NR_EVENTS, struct accel_events)

#endif /* _UAPI_ACCEL_ACCEL_H */
