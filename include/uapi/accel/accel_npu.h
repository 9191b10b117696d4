/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ioctls of NPU1 cards (accel_pcie_npu): a PCI Express accelerator with
 * memory of its own and an MMU.
 *
 * An open compute file is a context: one address space of the device and one
 * queue of jobs. A program maps buffers, and memory of the device, at device
 * addresses, writes lists of commands there, and submits them as jobs.
 *
 * Registers, command formats and what each command computes:
 * Documentation/npu-hardware.rst. The rules of accel.h apply.
 */
#ifndef _UAPI_ACCEL_ACCEL_NPU_H
#define _UAPI_ACCEL_ACCEL_NPU_H

#include <accel/accel.h>

#define ACCEL_NPU_NR_MAP 0x40
#define ACCEL_NPU_NR_UNMAP 0x41
#define ACCEL_NPU_NR_SUBMIT 0x42
#define ACCEL_NPU_NR_ERROR 0x43
#define ACCEL_NPU_NR_DEVICE 0x44

/* Contexts of one device; one more is EBUSY. */
#define ACCEL_NPU_CONTEXTS_MAX 64
/* Jobs of one context that have not ended. */
#define ACCEL_NPU_JOBS_MAX 256
/* Jobs of one SUBMIT. */
#define ACCEL_NPU_BATCH_MAX 64
/* Commands of one job. */
#define ACCEL_NPU_COMMANDS_MAX 4096
/* Lowest device address that can be mapped, and the first that cannot. */
#define ACCEL_NPU_ADDRESS_MIN (1ULL << 21)
#define ACCEL_NPU_ADDRESS_END (1ULL << 48)
/* Bytes that one context may have mapped, and pieces that they may be in. */
#define ACCEL_NPU_MAPPED_MAX (1ULL << 34)
#define ACCEL_NPU_MAPPINGS_MAX 65536

/* mmap offset and size of the context's doorbell. */
#define ACCEL_NPU_MMAP_DOORBELL 0
#define ACCEL_NPU_DOORBELL_SIZE 4096

/* accel_npu_map.flags */
#define ACCEL_NPU_MAP_READ (1U << 0) /* the device may read */
#define ACCEL_NPU_MAP_WRITE (1U << 1) /* the device may write */
#define ACCEL_NPU_MAP_DEVICE (1U << 2) /* new device memory, no buffer */

/**
 * struct accel_npu_map - argument of ACCEL_NPU_IOCTL_MAP
 * @buffer: in, handle; 0 with ACCEL_NPU_MAP_DEVICE
 * @flags: in, ACCEL_NPU_MAP_*, at least one of READ and WRITE
 * @offset: in, bytes in the buffer, a multiple of 4096; 0 with
 *	ACCEL_NPU_MAP_DEVICE
 * @size: in, bytes, a multiple of 4096
 * @address: in, device address, a multiple of 4096
 *
 * Maps part of a buffer, or zeroed memory of the device, at @address. The
 * mapping keeps the buffer alive. Memory of the device lives as long as it is
 * mapped. Where buffer or memory and @address allow, pages of 2 MiB are used.
 *
 * Errors: ENOENT no such @buffer; EINVAL @flags, a misaligned or zero @size, a
 * misaligned @offset or @address, or a @buffer or @offset with DEVICE; ERANGE
 * outside of the buffer, or of ACCEL_NPU_ADDRESS_MIN to ACCEL_NPU_ADDRESS_END;
 * EEXIST something is mapped there already; ENOSPC no memory on the device for
 * it or for page tables, or more than ACCEL_NPU_MAPPED_MAX or
 * ACCEL_NPU_MAPPINGS_MAX (memory of the device may come in many pieces, and
 * what UNMAP leaves of a mapping on both sides are two); ENOMEM; EIO the device
 * has failed. Nothing is mapped after an error.
 */
struct accel_npu_map {
	__u32 buffer;
	__u32 flags;
	__u64 offset;
	__u64 size;
	__u64 address;
};

/**
 * struct accel_npu_unmap - argument of ACCEL_NPU_IOCTL_UNMAP
 * @address: in, device address, a multiple of 4096
 * @size: in, bytes, a multiple of 4096
 *
 * Unmaps all that is mapped in the range, whole mappings and parts of them.
 * When it returns the device cannot reach what was mapped there. A job that
 * uses it faults.
 *
 * Errors: EINVAL misaligned, or @size 0; ERANGE as in MAP; ENOENT nothing is
 * mapped there; ENOSPC a page of 2 MiB must be split and there is no memory
 * for it, or a mapping would become two and there are ACCEL_NPU_MAPPINGS_MAX:
 * nothing is unmapped; ENOMEM likewise; EIO the device has failed.
 */
struct accel_npu_unmap {
	__u64 address;
	__u64 size;
};

/**
 * struct accel_npu_job - one job of a SUBMIT
 * @address: device address of its commands, a multiple of 64
 * @count: how many, 1 to ACCEL_NPU_COMMANDS_MAX
 * @reserved: 0
 *
 * The device checks the commands when it executes them. How a job ended is the
 * status of its point: EINVAL a command or its operands were wrong; E2BIG a
 * command was too large; EFAULT an access to what is not mapped, or not so;
 * ETIMEDOUT the deadline passed; ECANCELED the context was stopped by another
 * job of its, or closed; EIO the device failed or was reset.
 */
struct accel_npu_job {
	__u64 address;
	__u32 count;
	__u32 reserved;
};

/* accel_npu_submit.flags */
#define ACCEL_NPU_SUBMIT_DEFER (1U << 0) /* do not ring the doorbell */

/* Milliseconds: what a deadline of 0 means, and the longest. */
#define ACCEL_NPU_DEADLINE_DEFAULT 10000
#define ACCEL_NPU_DEADLINE_MAX 600000

/**
 * struct accel_npu_submit - argument of ACCEL_NPU_IOCTL_SUBMIT
 * @jobs: in, pointer to @count struct accel_npu_job
 * @count: in, 1 to ACCEL_NPU_BATCH_MAX
 * @timeline: in, handle
 * @flags: in, ACCEL_NPU_SUBMIT_*
 * @deadline_ms: in, time from now in which the jobs have to end; 0 for
 *	ACCEL_NPU_DEADLINE_DEFAULT, at most ACCEL_NPU_DEADLINE_MAX
 * @point: out, of the last job; the others have those before it
 *
 * Queues jobs, all or none. Jobs of a context run in the order in which they
 * are submitted, and end in that order.
 *
 * With DEFER they wait until the doorbell is rung: by a SUBMIT without it, or
 * through the context's doorbell page, which can be mapped: a write of 32 bits
 * at its beginning.
 *
 * A job that accesses what it may not, loses its deadline, or is running when
 * the device fails stops its context: all its jobs end, and SUBMIT is EIO until
 * ACCEL_NPU_IOCTL_ERROR has told why. Other contexts go on.
 *
 * Errors: EINVAL @count, @flags, @deadline_ms or a job; ENOENT no such
 * @timeline; EAGAIN less than @count of ACCEL_NPU_JOBS_MAX are left; EIO the
 * context is stopped, or the device has failed; ENOMEM. An error may use up
 * points of the timeline, which are then those of jobs that failed. If @point
 * cannot be written (EFAULT) the jobs run all the same.
 */
struct accel_npu_submit {
	__u64 jobs;
	__u32 count;
	__u32 timeline;
	__u32 flags;
	__u32 deadline_ms;
	__u64 point;
};

/**
 * enum accel_npu_error_kind - what went wrong
 * @ACCEL_NPU_ERROR_ENTRY: the device refused the job
 * @ACCEL_NPU_ERROR_OPCODE: unknown command or flags
 * @ACCEL_NPU_ERROR_OPERAND: type, shape or alignment of an operand
 * @ACCEL_NPU_ERROR_PARAMETER: a parameter of a command
 * @ACCEL_NPU_ERROR_SIZE: a command that is too large
 * @ACCEL_NPU_ERROR_FAULT: an access to what is not mapped, or not so; stopped
 * @ACCEL_NPU_ERROR_BUS: host memory did not answer; stopped
 * @ACCEL_NPU_ERROR_DEADLINE: a job lost its deadline; stopped
 * @ACCEL_NPU_ERROR_RESET: the device failed and was reset; stopped
 */
enum accel_npu_error_kind {
	ACCEL_NPU_ERROR_ENTRY = 1,
	ACCEL_NPU_ERROR_OPCODE = 2,
	ACCEL_NPU_ERROR_OPERAND = 3,
	ACCEL_NPU_ERROR_PARAMETER = 4,
	ACCEL_NPU_ERROR_SIZE = 5,
	ACCEL_NPU_ERROR_FAULT = 6,
	ACCEL_NPU_ERROR_BUS = 7,
	ACCEL_NPU_ERROR_DEADLINE = 8,
	ACCEL_NPU_ERROR_RESET = 9,
};

/**
 * enum accel_npu_fault - why an access was refused: accel_event_fault.code
 * @ACCEL_NPU_FAULT_UNMAPPED: nothing is mapped there
 * @ACCEL_NPU_FAULT_DENIED: it is not mapped for this
 * @ACCEL_NPU_FAULT_TABLE: the driver's page tables are wrong
 * @ACCEL_NPU_FAULT_RANGE: an address of more than 48 bits, or a list or tensor
 *	that wraps round
 * @ACCEL_NPU_FAULT_ROOT: the context has no page tables
 */
enum accel_npu_fault {
	ACCEL_NPU_FAULT_UNMAPPED = 1,
	ACCEL_NPU_FAULT_DENIED = 2,
	ACCEL_NPU_FAULT_TABLE = 3,
	ACCEL_NPU_FAULT_RANGE = 4,
	ACCEL_NPU_FAULT_ROOT = 5,
};

#define ACCEL_NPU_ACCESS_READ 1
#define ACCEL_NPU_ACCESS_WRITE 2

/**
 * struct accel_npu_error - argument of ACCEL_NPU_IOCTL_ERROR
 * @kind: out, enum accel_npu_error_kind
 * @flags: in, 0
 * @timeline: out, handle that the job was submitted to
 * @command: out, index of the command in the job's list
 * @point: out, of the job
 * @address: out, device address of a FAULT, else 0
 * @access: out, ACCEL_NPU_ACCESS_* of a FAULT, else 0
 * @count: out, errors of this context since the last call, at least 1
 *
 * Tells the error that stopped the context, or else the first since the last
 * call, and forgets all of them. A stopped context takes jobs again after it.
 *
 * Errors: EINVAL @flags; ENODATA no error; EIO the device has failed for good. If
 * the answer cannot be written (EFAULT) it is lost.
 */
struct accel_npu_error {
	__u32 kind;
	__u32 flags;
	__u32 timeline;
	__u32 command;
	__u64 point;
	__u64 address;
	__u32 access;
	__u32 count;
};

/**
 * struct accel_npu_device - argument of ACCEL_NPU_IOCTL_DEVICE
 * @memory_total: out, bytes of memory on the device
 * @memory_free: out, bytes that nobody uses now
 * @serial: out, serial number
 * @revision: out, hardware interface, major << 16 | minor
 * @compute_engines: out
 * @copy_engines: out
 * @flags: in, 0
 *
 * Errors: EINVAL @flags.
 */
struct accel_npu_device {
	__u64 memory_total;
	__u64 memory_free;
	__u64 serial;
	__u32 revision;
	__u32 compute_engines;
	__u32 copy_engines;
	__u32 flags;
};

#define ACCEL_NPU_IOCTL_MAP \
	_IOW(ACCEL_IOCTL_TYPE, ACCEL_NPU_NR_MAP, struct accel_npu_map)
#define ACCEL_NPU_IOCTL_UNMAP \
	_IOW(ACCEL_IOCTL_TYPE, ACCEL_NPU_NR_UNMAP, struct accel_npu_unmap)
#define ACCEL_NPU_IOCTL_SUBMIT \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NPU_NR_SUBMIT, struct accel_npu_submit)
#define ACCEL_NPU_IOCTL_ERROR \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NPU_NR_ERROR, struct accel_npu_error)
#define ACCEL_NPU_IOCTL_DEVICE \
	_IOWR(ACCEL_IOCTL_TYPE, ACCEL_NPU_NR_DEVICE, struct accel_npu_device)

/*
 * Commands, as the device reads them (Documentation/npu-hardware.rst).
 */

#define ACCEL_NPU_OP_NOP 0x00
#define ACCEL_NPU_OP_COPY 0x01
#define ACCEL_NPU_OP_FILL 0x02
#define ACCEL_NPU_OP_MATMUL 0x10
#define ACCEL_NPU_OP_CONV2D 0x11
#define ACCEL_NPU_OP_REQUANTIZE 0x12
#define ACCEL_NPU_OP_ACTIVATE 0x13
#define ACCEL_NPU_OP_ADD 0x14
#define ACCEL_NPU_OP_POOL 0x20
#define ACCEL_NPU_OP_SOFTMAX 0x21
#define ACCEL_NPU_OP_ARGMAX 0x22

/* accel_npu_command.flags of MATMUL and CONV2D */
#define ACCEL_NPU_ACCUMULATE (1U << 0)

#define ACCEL_NPU_TYPE_NONE 0
#define ACCEL_NPU_TYPE_I8 1
#define ACCEL_NPU_TYPE_U8 2
#define ACCEL_NPU_TYPE_I32 3
#define ACCEL_NPU_TYPE_BF16 4
#define ACCEL_NPU_TYPE_F32 5

/**
 * struct accel_npu_operand - a strided tensor of four dimensions
 * @address: device address of the first element
 * @type: ACCEL_NPU_TYPE_*
 * @reserved: 0
 * @dims: elements in each dimension
 * @strides: bytes from one element to the next in each dimension
 */
struct accel_npu_operand {
	__u64 address;
	__u32 type;
	__u32 reserved;
	__u32 dims[4];
	__u32 strides[4];
};

/**
 * struct accel_npu_command - one command
 * @opcode: ACCEL_NPU_OP_*
 * @flags: ACCEL_NPU_ACCUMULATE
 * @reserved: 0
 * @parameters: p0 to p13
 * @operands: D, A, B, C
 */
struct accel_npu_command {
	__u16 opcode;
	__u16 flags;
	__u32 reserved;
	__u32 parameters[14];
	struct accel_npu_operand operands[4];
};

#endif /* _UAPI_ACCEL_ACCEL_NPU_H */
