// SPDX-License-Identifier: GPL-2.0
/*
 * The layout of the interface, as numbers that were written down once: built
 * for 32 and for 64 bits it must come out the same, and may only ever grow at
 * the end of a structure.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

struct field {
	const char *name;
	size_t offset;
	size_t size;
	size_t expected_offset;
	size_t expected_size;
};

#define F(type, field, at, bytes)                         \
	{ #type "." #field, offsetof(struct type, field), \
	  sizeof(((struct type *)0)->field), at, bytes }
#define END(type, bytes) { #type " (size)", sizeof(struct type), 0, bytes, 0 }

static const struct field fields[] = {
	F(accel_info, query, 0, 4),
	F(accel_info, index, 4, 4),
	F(accel_info, size, 8, 4),
	F(accel_info, flags, 12, 4),
	F(accel_info, ptr, 16, 8),
	END(accel_info, 24),

	F(accel_info_queries, query, 0, 4),
	F(accel_info_queries, size, 4, 4),
	F(accel_info_queries, count, 8, 4),
	F(accel_info_queries, flags, 12, 4),
	F(accel_info_queries, name, 16, 32),
	END(accel_info_queries, 48),

	F(accel_info_identity, number, 0, 4),
	F(accel_info_identity, function_index, 4, 4),
	F(accel_info_identity, function, 8, 4),
	F(accel_info_identity, device_class, 12, 4),
	F(accel_info_identity, flags, 16, 4),
	F(accel_info_identity, numa_node, 20, 4),
	F(accel_info_identity, uapi_major, 24, 4),
	F(accel_info_identity, uapi_minor, 28, 4),
	F(accel_info_identity, max_contexts, 32, 4),
	F(accel_info_identity, max_address_spaces, 36, 4),
	F(accel_info_identity, pci_vendor, 40, 2),
	F(accel_info_identity, pci_device, 42, 2),
	F(accel_info_identity, pci_subvendor, 44, 2),
	F(accel_info_identity, pci_subdevice, 46, 2),
	F(accel_info_identity, uapi_name, 48, 32),
	F(accel_info_identity, driver, 80, 32),
	F(accel_info_identity, bus, 112, 16),
	F(accel_info_identity, parent, 128, 64),
	END(accel_info_identity, 192),

	F(accel_info_state, state, 0, 4),
	F(accel_info_state, flags, 4, 4),
	F(accel_info_state, since_ns, 8, 8),
	F(accel_info_state, registered_ns, 16, 8),
	F(accel_info_state, cause, 24, 4),
	F(accel_info_state, reserved, 28, 4),
	F(accel_info_state, resets, 32, 8),
	END(accel_info_state, 40),

	F(accel_info_memory, kind, 0, 4),
	F(accel_info_memory, flags, 4, 4),
	F(accel_info_memory, total, 8, 8),
	F(accel_info_memory, used, 16, 8),
	END(accel_info_memory, 24),

	F(accel_info_opens, compute_total, 0, 8),
	F(accel_info_opens, compute_now, 8, 4),
	F(accel_info_opens, control_now, 12, 4),
	F(accel_info_opens, control_total, 16, 8),
	END(accel_info_opens, 24),

	F(accel_buffer_create, size, 0, 8),
	F(accel_buffer_create, flags, 8, 4),
	F(accel_buffer_create, handle, 12, 4),
	END(accel_buffer_create, 16),

	F(accel_buffer_mmap, handle, 0, 4),
	F(accel_buffer_mmap, flags, 4, 4),
	F(accel_buffer_mmap, offset, 8, 8),
	F(accel_buffer_mmap, size, 16, 8),
	END(accel_buffer_mmap, 24),

	F(accel_handle, handle, 0, 4),
	F(accel_handle, flags, 4, 4),
	END(accel_handle, 8),

	F(accel_timeline_create, flags, 0, 4),
	F(accel_timeline_create, handle, 4, 4),
	END(accel_timeline_create, 8),

	F(accel_timeline_wait, handle, 0, 4),
	F(accel_timeline_wait, flags, 4, 4),
	F(accel_timeline_wait, point, 8, 8),
	F(accel_timeline_wait, deadline_ns, 16, 8),
	F(accel_timeline_wait, value, 24, 8),
	F(accel_timeline_wait, status, 32, 4),
	F(accel_timeline_wait, reserved, 36, 4),
	END(accel_timeline_wait, 40),

	F(accel_timeline_eventfd, handle, 0, 4),
	F(accel_timeline_eventfd, flags, 4, 4),
	F(accel_timeline_eventfd, point, 8, 8),
	F(accel_timeline_eventfd, eventfd, 16, 4),
	F(accel_timeline_eventfd, reserved, 20, 4),
	END(accel_timeline_eventfd, 24),

	F(accel_info_resets, cause, 0, 4),
	F(accel_info_resets, flags, 4, 4),
	F(accel_info_resets, count, 8, 8),
	F(accel_info_resets, failed, 16, 8),
	F(accel_info_resets, last_ns, 24, 8),
	END(accel_info_resets, 32),

	F(accel_info_client, flags, 0, 4),
	F(accel_info_client, pid, 4, 4),
	F(accel_info_client, uid, 8, 4),
	F(accel_info_client, lost, 12, 4),
	F(accel_info_client, opened_ns, 16, 8),
	F(accel_info_client, buffers, 24, 8),
	F(accel_info_client, buffer_bytes, 32, 8),
	F(accel_info_client, name, 40, 16),
	END(accel_info_client, 56),

	F(accel_info_limit, limit, 0, 4),
	F(accel_info_limit, flags, 4, 4),
	F(accel_info_limit, file_max, 8, 4),
	F(accel_info_limit, user_max, 12, 4),
	F(accel_info_limit, device_max, 16, 4),
	F(accel_info_limit, file_used, 20, 4),
	F(accel_info_limit, user_used, 24, 4),
	F(accel_info_limit, device_used, 28, 4),
	END(accel_info_limit, 32),

	F(accel_events, types, 0, 8),
	F(accel_events, flags, 8, 4),
	F(accel_events, reserved, 12, 4),
	END(accel_events, 16),

	F(accel_event, type, 0, 4),
	F(accel_event, size, 4, 4),
	F(accel_event, sequence, 8, 8),
	F(accel_event, time_ns, 16, 8),
	END(accel_event, 24),

	F(accel_event_lost, header, 0, 24),
	F(accel_event_lost, count, 24, 8),
	END(accel_event_lost, 32),

	F(accel_event_state, header, 0, 24),
	F(accel_event_state, state, 24, 4),
	F(accel_event_state, previous, 28, 4),
	F(accel_event_state, cause, 32, 4),
	F(accel_event_state, reserved, 36, 4),
	F(accel_event_state, resets, 40, 8),
	END(accel_event_state, 48),

	F(accel_event_context_lost, header, 0, 24),
	F(accel_event_context_lost, cause, 24, 4),
	F(accel_event_context_lost, reserved, 28, 4),
	END(accel_event_context_lost, 32),

	F(accel_event_fault, header, 0, 24),
	F(accel_event_fault, address, 24, 8),
	F(accel_event_fault, access, 32, 4),
	F(accel_event_fault, code, 36, 4),
	F(accel_event_fault, point, 40, 8),
	F(accel_event_fault, timeline, 48, 4),
	F(accel_event_fault, reserved, 52, 4),
	END(accel_event_fault, 56),

	F(accel_edu_factorial, numbers, 0, 8),
	F(accel_edu_factorial, count, 8, 4),
	F(accel_edu_factorial, timeline, 12, 4),
	F(accel_edu_factorial, dst, 16, 4),
	F(accel_edu_factorial, flags, 20, 4),
	F(accel_edu_factorial, dst_offset, 24, 8),
	F(accel_edu_factorial, point, 32, 8),
	END(accel_edu_factorial, 40),

	F(accel_edu_copy, src, 0, 4),
	F(accel_edu_copy, dst, 4, 4),
	F(accel_edu_copy, src_offset, 8, 8),
	F(accel_edu_copy, dst_offset, 16, 8),
	F(accel_edu_copy, size, 24, 8),
	F(accel_edu_copy, timeline, 32, 4),
	F(accel_edu_copy, flags, 36, 4),
	F(accel_edu_copy, point, 40, 8),
	END(accel_edu_copy, 48),

	F(accel_mock_add, a, 0, 8),
	F(accel_mock_add, b, 8, 8),
	END(accel_mock_add, 16),

	F(accel_mock_sum, values, 0, 8),
	F(accel_mock_sum, partial, 8, 8),
	F(accel_mock_sum, count, 16, 4),
	F(accel_mock_sum, flags, 20, 4),
	F(accel_mock_sum, sum, 24, 8),
	END(accel_mock_sum, 32),

	F(accel_mock_submit, timeline, 0, 4),
	F(accel_mock_submit, flags, 4, 4),
	F(accel_mock_submit, point, 8, 8),
	END(accel_mock_submit, 16),

	F(accel_mock_stall, milliseconds, 0, 4),
	F(accel_mock_stall, flags, 4, 4),
	END(accel_mock_stall, 8),

	F(accel_mock_later, timeline, 0, 4),
	F(accel_mock_later, milliseconds, 4, 4),
	F(accel_mock_later, flags, 8, 4),
	F(accel_mock_later, reserved, 12, 4),
	F(accel_mock_later, point, 16, 8),
	END(accel_mock_later, 24),

	F(accel_mock_reset, ask, 0, 4),
	F(accel_mock_reset, flags, 4, 4),
	F(accel_mock_reset, milliseconds, 8, 4),
	F(accel_mock_reset, delay_ms, 12, 4),
	END(accel_mock_reset, 16),

	F(accel_mock_fault, address, 0, 8),
	F(accel_mock_fault, access, 8, 4),
	F(accel_mock_fault, code, 12, 4),
	END(accel_mock_fault, 16),

	F(accel_mock_sleep, flags, 0, 4),
	F(accel_mock_sleep, reserved, 4, 4),
	F(accel_mock_sleep, asked, 8, 8),
	F(accel_mock_sleep, slept, 16, 8),
	F(accel_mock_sleep, woken, 24, 8),
	END(accel_mock_sleep, 32),

	F(accel_npu_map, buffer, 0, 4),
	F(accel_npu_map, flags, 4, 4),
	F(accel_npu_map, offset, 8, 8),
	F(accel_npu_map, size, 16, 8),
	F(accel_npu_map, address, 24, 8),
	END(accel_npu_map, 32),

	F(accel_npu_unmap, address, 0, 8),
	F(accel_npu_unmap, size, 8, 8),
	END(accel_npu_unmap, 16),

	F(accel_npu_job, address, 0, 8),
	F(accel_npu_job, count, 8, 4),
	F(accel_npu_job, reserved, 12, 4),
	END(accel_npu_job, 16),

	F(accel_npu_submit, jobs, 0, 8),
	F(accel_npu_submit, count, 8, 4),
	F(accel_npu_submit, timeline, 12, 4),
	F(accel_npu_submit, flags, 16, 4),
	F(accel_npu_submit, deadline_ms, 20, 4),
	F(accel_npu_submit, point, 24, 8),
	END(accel_npu_submit, 32),

	F(accel_npu_error, kind, 0, 4),
	F(accel_npu_error, flags, 4, 4),
	F(accel_npu_error, timeline, 8, 4),
	F(accel_npu_error, command, 12, 4),
	F(accel_npu_error, point, 16, 8),
	F(accel_npu_error, address, 24, 8),
	F(accel_npu_error, access, 32, 4),
	F(accel_npu_error, count, 36, 4),
	END(accel_npu_error, 40),

	F(accel_npu_device, memory_total, 0, 8),
	F(accel_npu_device, memory_free, 8, 8),
	F(accel_npu_device, serial, 16, 8),
	F(accel_npu_device, revision, 24, 4),
	F(accel_npu_device, compute_engines, 28, 4),
	F(accel_npu_device, copy_engines, 32, 4),
	F(accel_npu_device, flags, 36, 4),
	END(accel_npu_device, 40),

	/* As the hardware manual has them. */
	F(accel_npu_operand, address, 0, 8),
	F(accel_npu_operand, type, 8, 4),
	F(accel_npu_operand, reserved, 12, 4),
	F(accel_npu_operand, dims, 16, 16),
	F(accel_npu_operand, strides, 32, 16),
	END(accel_npu_operand, 48),

	F(accel_npu_command, opcode, 0, 2),
	F(accel_npu_command, flags, 2, 2),
	F(accel_npu_command, reserved, 4, 4),
	F(accel_npu_command, parameters, 8, 56),
	F(accel_npu_command, operands, 64, 192),
	END(accel_npu_command, 256),

	F(accel_null_add, a, 0, 8),
	F(accel_null_add, b, 8, 8),
	END(accel_null_add, 16),
};

struct number {
	const char *name;
	unsigned long long value;
	unsigned long long expected;
};

#define N(name, value) { #name, name, value }

/* Direction, size, type and number, as the asm-generic encoding has them. */
static const struct number numbers[] = {
	N(ACCEL_IOCTL_INFO, 0xc018c100),
	N(ACCEL_IOCTL_BUFFER_CREATE, 0xc010c101),
	N(ACCEL_IOCTL_BUFFER_MMAP, 0xc018c102),
	N(ACCEL_IOCTL_BUFFER_DESTROY, 0x4008c103),
	N(ACCEL_IOCTL_TIMELINE_CREATE, 0xc008c104),
	N(ACCEL_IOCTL_TIMELINE_DESTROY, 0x4008c105),
	N(ACCEL_IOCTL_TIMELINE_WAIT, 0xc028c106),
	N(ACCEL_IOCTL_TIMELINE_EVENTFD, 0x4018c107),
	N(ACCEL_IOCTL_EVENTS, 0xc010c108),
	N(ACCEL_EDU_IOCTL_FACTORIAL, 0xc028c140),
	N(ACCEL_EDU_IOCTL_COPY, 0xc030c141),
	N(ACCEL_MOCK_IOCTL_ADD, 0xc010c140),
	N(ACCEL_MOCK_IOCTL_SUM, 0xc020c141),
	N(ACCEL_MOCK_IOCTL_SUBMIT, 0xc010c142),
	N(ACCEL_MOCK_IOCTL_STALL, 0x4008c143),
	N(ACCEL_MOCK_IOCTL_LATER, 0xc018c144),
	N(ACCEL_MOCK_IOCTL_RESET, 0x4010c145),
	N(ACCEL_MOCK_IOCTL_FAULT, 0x4010c146),
	N(ACCEL_MOCK_IOCTL_SLEEP, 0xc020c147),
	N(ACCEL_NPU_IOCTL_MAP, 0x4020c140),
	N(ACCEL_NPU_IOCTL_UNMAP, 0x4010c141),
	N(ACCEL_NPU_IOCTL_SUBMIT, 0xc020c142),
	N(ACCEL_NPU_IOCTL_ERROR, 0xc028c143),
	N(ACCEL_NPU_IOCTL_DEVICE, 0xc028c144),
	N(ACCEL_NR_DRIVER, 0x40),
	N(ACCEL_NR_END, 0xa0),
	N(ACCEL_INFO_QUERIES, 0),
	N(ACCEL_INFO_IDENTITY, 1),
	N(ACCEL_INFO_STATE, 2),
	N(ACCEL_INFO_MEMORY, 3),
	N(ACCEL_INFO_OPENS, 4),
	N(ACCEL_INFO_RESETS, 5),
	N(ACCEL_INFO_CLIENTS, 6),
	N(ACCEL_INFO_LIMITS, 7),
	N(ACCEL_STATE_OPERATIONAL, 0),
	N(ACCEL_STATE_RESETTING, 1),
	N(ACCEL_STATE_NEEDS_RESET, 2),
	N(ACCEL_STATE_MALFUNCTION, 3),
	N(ACCEL_STATE_SUSPENDED, 4),
	N(ACCEL_STATE_UNPLUGGED, 5),
	N(ACCEL_CAUSE_NONE, 0),
	N(ACCEL_CAUSE_USER, 1),
	N(ACCEL_CAUSE_DRIVER, 2),
	N(ACCEL_CAUSE_DEADLINE, 3),
	N(ACCEL_CAUSE_WATCHDOG, 4),
	N(ACCEL_CAUSE_BUS, 5),
	N(ACCEL_CAUSE_RESUME, 6),
	N(ACCEL_CAUSE_SYSTEM, 7),
	N(ACCEL_CAUSE_IDLE, 8),
	N(ACCEL_CAUSE_UNPLUG, 9),
	N(ACCEL_CLIENT_VISIBLE, 1),
	N(ACCEL_LIMIT_FILES, 0),
	N(ACCEL_LIMIT_CONTEXTS, 1),
	N(ACCEL_LIMIT_BUFFERS, 2),
	N(ACCEL_LIMIT_MAPPINGS, 3),
	N(ACCEL_LIMIT_TIMELINES, 4),
	N(ACCEL_LIMIT_JOBS, 5),
	N(ACCEL_LIMIT_EVENTS, 6),
	N(ACCEL_EVENT_LOST, 0),
	N(ACCEL_EVENT_STATE, 1),
	N(ACCEL_EVENT_CONTEXT_LOST, 2),
	N(ACCEL_EVENT_FAULT, 3),
	N(ACCEL_EVENTS_MAX, 256),
	N(ACCEL_FAULT_READ, 0),
	N(ACCEL_FAULT_WRITE, 1),
	N(ACCEL_BUFFER_SIZE_MAX, 4294967296),
	N(ACCEL_HANDLES_MAX, 65536),
	N(ACCEL_EVENTFDS_MAX, 1024),
	N(ACCEL_MMAP_BUFFERS, 1099511627776),
	N(ACCEL_EDU_BATCH_MAX, 1024),
	N(ACCEL_EDU_FACTORIAL_MAX, 255),
	N(ACCEL_EDU_JOBS_MAX, 64),
	N(ACCEL_MOCK_SUM_MAX, 4096),
	N(ACCEL_MOCK_SUBMIT_HOLD, 1),
	N(ACCEL_MOCK_STALL_POLITE, 1),
	N(ACCEL_MOCK_ASK_NOTHING, 0),
	N(ACCEL_MOCK_ASK_RESET, 1),
	N(ACCEL_MOCK_ASK_DEADLINE, 2),
	N(ACCEL_MOCK_ASK_CHECK, 3),
	N(ACCEL_MOCK_ASK_FAIL, 4),
	N(ACCEL_MOCK_ASK_NEEDS_RESET, 5),
	N(ACCEL_MOCK_RESET_LOSE, 1),
	N(ACCEL_MOCK_RESET_FAIL, 2),
	N(ACCEL_MOCK_RESET_MS_MAX, 20000),
	N(ACCEL_MOCK_LATER_POLL, 1),
	N(ACCEL_MOCK_LATER_STALL, 2),
	N(ACCEL_MOCK_LATER_FAULT, 4),
	N(ACCEL_MOCK_FAULT_ADDRESS, 4096),
	N(ACCEL_MOCK_FAULT_CODE, 7),
	N(ACCEL_MOCK_LATER_MAX, 64),
	N(ACCEL_MOCK_LATER_MS_MAX, 20000),
	N(ACCEL_MOCK_LATER_STALL_MS, 500),
	N(ACCEL_MOCK_SCRATCH_SIZE, 4096),
	N(ACCEL_NPU_CONTEXTS_MAX, 64),
	N(ACCEL_NPU_JOBS_MAX, 256),
	N(ACCEL_NPU_BATCH_MAX, 64),
	N(ACCEL_NPU_COMMANDS_MAX, 4096),
	N(ACCEL_NPU_ADDRESS_MIN, 2097152),
	N(ACCEL_NPU_ADDRESS_END, 281474976710656),
	N(ACCEL_NPU_MAPPED_MAX, 17179869184),
	N(ACCEL_NPU_MAPPINGS_MAX, 65536),
	N(ACCEL_NPU_MMAP_DOORBELL, 0),
	N(ACCEL_NPU_DOORBELL_SIZE, 4096),
	N(ACCEL_NPU_MAP_READ, 1),
	N(ACCEL_NPU_MAP_WRITE, 2),
	N(ACCEL_NPU_MAP_DEVICE, 4),
	N(ACCEL_NPU_SUBMIT_DEFER, 1),
	N(ACCEL_NPU_DEADLINE_DEFAULT, 10000),
	N(ACCEL_NPU_DEADLINE_MAX, 600000),
	N(ACCEL_NPU_ERROR_ENTRY, 1),
	N(ACCEL_NPU_ERROR_OPCODE, 2),
	N(ACCEL_NPU_ERROR_OPERAND, 3),
	N(ACCEL_NPU_ERROR_PARAMETER, 4),
	N(ACCEL_NPU_ERROR_SIZE, 5),
	N(ACCEL_NPU_ERROR_FAULT, 6),
	N(ACCEL_NPU_ERROR_BUS, 7),
	N(ACCEL_NPU_ERROR_DEADLINE, 8),
	N(ACCEL_NPU_ERROR_RESET, 9),
	N(ACCEL_NPU_FAULT_UNMAPPED, 1),
	N(ACCEL_NPU_FAULT_DENIED, 2),
	N(ACCEL_NPU_FAULT_TABLE, 3),
	N(ACCEL_NPU_FAULT_RANGE, 4),
	N(ACCEL_NPU_FAULT_ROOT, 5),
	N(ACCEL_NPU_OP_NOP, 0),
	N(ACCEL_NPU_OP_COPY, 1),
	N(ACCEL_NPU_OP_FILL, 2),
	N(ACCEL_NPU_OP_MATMUL, 0x10),
	N(ACCEL_NPU_OP_CONV2D, 0x11),
	N(ACCEL_NPU_OP_REQUANTIZE, 0x12),
	N(ACCEL_NPU_OP_ACTIVATE, 0x13),
	N(ACCEL_NPU_OP_ADD, 0x14),
	N(ACCEL_NPU_OP_POOL, 0x20),
	N(ACCEL_NPU_OP_SOFTMAX, 0x21),
	N(ACCEL_NPU_OP_ARGMAX, 0x22),
	N(ACCEL_NPU_TYPE_I8, 1),
	N(ACCEL_NPU_TYPE_U8, 2),
	N(ACCEL_NPU_TYPE_I32, 3),
	N(ACCEL_NPU_TYPE_BF16, 4),
	N(ACCEL_NPU_TYPE_F32, 5),
};

/* What has 8 bytes lies at a multiple of 8 even where u64 aligns to 4. */
#define SAME_EVERYWHERE(type, bytes)                                       \
	_Static_assert(sizeof(struct type) == (bytes) && (bytes) % 8 == 0, \
		       #type " has tail padding on some ABI")

SAME_EVERYWHERE(accel_info, 24);
SAME_EVERYWHERE(accel_info_queries, 48);
SAME_EVERYWHERE(accel_info_identity, 192);
SAME_EVERYWHERE(accel_info_state, 40);
SAME_EVERYWHERE(accel_info_memory, 24);
SAME_EVERYWHERE(accel_info_opens, 24);
SAME_EVERYWHERE(accel_buffer_create, 16);
SAME_EVERYWHERE(accel_buffer_mmap, 24);
SAME_EVERYWHERE(accel_handle, 8);
SAME_EVERYWHERE(accel_timeline_create, 8);
SAME_EVERYWHERE(accel_timeline_wait, 40);
SAME_EVERYWHERE(accel_timeline_eventfd, 24);
SAME_EVERYWHERE(accel_info_resets, 32);
SAME_EVERYWHERE(accel_info_client, 56);
SAME_EVERYWHERE(accel_info_limit, 32);
SAME_EVERYWHERE(accel_events, 16);
SAME_EVERYWHERE(accel_event, 24);
SAME_EVERYWHERE(accel_event_lost, 32);
SAME_EVERYWHERE(accel_event_state, 48);
SAME_EVERYWHERE(accel_event_context_lost, 32);
SAME_EVERYWHERE(accel_event_fault, 56);
SAME_EVERYWHERE(accel_edu_factorial, 40);
SAME_EVERYWHERE(accel_edu_copy, 48);
SAME_EVERYWHERE(accel_mock_add, 16);
SAME_EVERYWHERE(accel_mock_sum, 32);
SAME_EVERYWHERE(accel_mock_submit, 16);
SAME_EVERYWHERE(accel_mock_stall, 8);
SAME_EVERYWHERE(accel_mock_later, 24);
SAME_EVERYWHERE(accel_mock_reset, 16);
SAME_EVERYWHERE(accel_mock_fault, 16);
SAME_EVERYWHERE(accel_mock_sleep, 32);
SAME_EVERYWHERE(accel_npu_map, 32);
SAME_EVERYWHERE(accel_npu_unmap, 16);
SAME_EVERYWHERE(accel_npu_job, 16);
SAME_EVERYWHERE(accel_npu_submit, 32);
SAME_EVERYWHERE(accel_npu_error, 40);
SAME_EVERYWHERE(accel_npu_device, 40);
SAME_EVERYWHERE(accel_npu_operand, 48);
SAME_EVERYWHERE(accel_npu_command, 256);
SAME_EVERYWHERE(accel_null_add, 16);

/* pahole.sh looks at these: a type that nothing uses has no debug information. */
#define KEEP(type) struct type abi_##type

KEEP(accel_info);
KEEP(accel_info_queries);
KEEP(accel_info_identity);
KEEP(accel_info_state);
KEEP(accel_info_memory);
KEEP(accel_info_opens);
KEEP(accel_buffer_create);
KEEP(accel_buffer_mmap);
KEEP(accel_handle);
KEEP(accel_timeline_create);
KEEP(accel_timeline_wait);
KEEP(accel_timeline_eventfd);
KEEP(accel_info_resets);
KEEP(accel_info_client);
KEEP(accel_info_limit);
KEEP(accel_events);
KEEP(accel_event);
KEEP(accel_event_lost);
KEEP(accel_event_state);
KEEP(accel_event_context_lost);
KEEP(accel_event_fault);
KEEP(accel_edu_factorial);
KEEP(accel_edu_copy);
KEEP(accel_mock_add);
KEEP(accel_mock_sum);
KEEP(accel_mock_submit);
KEEP(accel_mock_stall);
KEEP(accel_mock_later);
KEEP(accel_mock_reset);
KEEP(accel_mock_fault);
KEEP(accel_mock_sleep);
KEEP(accel_npu_map);
KEEP(accel_npu_unmap);
KEEP(accel_npu_job);
KEEP(accel_npu_submit);
KEEP(accel_npu_error);
KEEP(accel_npu_device);
KEEP(accel_npu_operand);
KEEP(accel_npu_command);
KEEP(accel_null_add);

TEST(layout)
{
	size_t end = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *f = &fields[i];

		EXPECT_EQ(f->expected_offset, f->offset) TH_LOG("%s", f->name);
		EXPECT_EQ(f->expected_size, f->size) TH_LOG("%s", f->name);
		/* No hole: each field begins where the one before it ends. */
		EXPECT_EQ(end, f->offset) TH_LOG("hole at %s", f->name);
		if (f->size)
			EXPECT_EQ(0, f->offset % (f->size > 8 ? 8 : f->size));
		end = f->size ? f->offset + f->size : 0;
	}
}

TEST(values)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		EXPECT_EQ(numbers[i].expected, numbers[i].value)
		TH_LOG("%s", numbers[i].name);
	}
}

/* A driver's ioctls are in the driver's range, and no number is there twice. */
TEST(ranges)
{
	static const unsigned long edu[] = { ACCEL_EDU_IOCTL_FACTORIAL,
					     ACCEL_EDU_IOCTL_COPY };
	static const unsigned long mock[] = { ACCEL_MOCK_IOCTL_ADD,
					      ACCEL_MOCK_IOCTL_SUM,
					      ACCEL_MOCK_IOCTL_SUBMIT };

	for (size_t i = 0; i < ARRAY_SIZE(edu); i++) {
		EXPECT_EQ(ACCEL_NR_DRIVER + i, _IOC_NR(edu[i]));
		EXPECT_EQ(ACCEL_IOCTL_TYPE, _IOC_TYPE(edu[i]));
		EXPECT_GT(ACCEL_NR_END, _IOC_NR(edu[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(mock); i++) {
		EXPECT_EQ(ACCEL_NR_DRIVER + i, _IOC_NR(mock[i]));
		EXPECT_EQ(ACCEL_IOCTL_TYPE, _IOC_TYPE(mock[i]));
		EXPECT_GT(ACCEL_NR_END, _IOC_NR(mock[i]));
	}
}

TEST_HARNESS_MAIN
