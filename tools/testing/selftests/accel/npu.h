/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the NPU share: contexts, commands, and the control socket
 * of its model, through which faults are injected.
 *
 * As in accel_test.h nothing asserts: functions answer a negative errno.
 */
#ifndef NPU_H
#define NPU_H

#include "accel_test.h"

#define NPU_RW (ACCEL_NPU_MAP_READ | ACCEL_NPU_MAP_WRITE)
/* Where the lists of a context are, and how many commands fit. */
#define NPU_LIST ACCEL_NPU_ADDRESS_MIN
#define NPU_LIST_COMMANDS 1024
/* Device addresses from here on are the test's own. */
#define NPU_FREE 0x40000000ULL
/* Longest that a job of a test takes, on a slow machine too. */
#define NPU_JOB_MS 30000
#define HUGE_PAGE (2 * MIB)

/* A context: an open file with a timeline, and room for lists of commands. */
struct npu {
	int fd;
	uint32_t timeline;
	struct accel_npu_command *list;
};

int npu_open(struct npu *npu);
int npu_open_node(struct npu *npu, const char *path);
void npu_close(struct npu *npu);

int npu_map(const struct npu *npu, uint32_t buffer, uint32_t flags,
	    uint64_t offset, uint64_t size, uint64_t address);
int npu_map_device(const struct npu *npu, uint32_t flags, uint64_t size,
		   uint64_t address);
int npu_unmap(const struct npu *npu, uint64_t address, uint64_t size);
/*
 * A new buffer, mapped for the program and for the device; both mappings keep
 * it, its handle is gone. NULL with errno.
 */
void *npu_memory(const struct npu *npu, size_t size, uint64_t address,
		 uint32_t flags);

/* Jobs of the timeline; the point is that of the last. */
int npu_submit_jobs(const struct npu *npu, const struct accel_npu_job *jobs,
		    uint32_t count, uint32_t flags, uint32_t deadline_ms,
		    uint64_t *point);
/* One job: commands of the list, from the first on. */
int npu_submit(const struct npu *npu, uint32_t first, uint32_t count,
	       uint64_t *point);
/*
 * Waits for a point of the context's timeline. The answer is the status of the
 * first job up to it that failed, or -ETIME when it is not reached.
 */
int npu_wait(const struct npu *npu, uint64_t point);
/* A new timeline for the context, on which nothing has failed. */
int npu_forget(struct npu *npu);
/* The commands as one job on a timeline of its own; its status. */
int npu_run(const struct npu *npu, const struct accel_npu_command *commands,
	    uint32_t count);
int npu_run_one(const struct npu *npu, struct accel_npu_command command);
int npu_error(const struct npu *npu, struct accel_npu_error *error);
/* Bytes of the device's memory that nobody uses, or a negative errno. */
int64_t npu_memory_free(const struct npu *npu);
/* Likewise, once it is as it was: what ended a moment ago gives back its own. */
bool npu_memory_is_back(const struct npu *npu, int64_t free);

/* Jobs that take the device long, and do nothing. */
int npu_submit_long(int fd, uint32_t timeline, uint32_t count);

/*
 * A product of random matrices, equal to the processor's own. In a context of
 * its own, or in one that there is; 0, or what was wrong.
 */
int npu_healthy(void);
int npu_check(const struct npu *npu);
/* The same, as soon as the device is ready for it: at most that long. */
int npu_recovers(unsigned int ms);
/* What INFO says of the device, or a negative errno. */
int npu_state(void);

uint32_t npu_random(uint64_t *seed);
/* Whether all bytes are that one. */
bool npu_all(const void *bytes, size_t size, uint8_t byte);

/* Operands: dense tensors, the last dimension next to each other. */
struct accel_npu_operand npu_tensor(uint64_t address, uint32_t type,
				    uint32_t d0, uint32_t d1, uint32_t d2,
				    uint32_t d3);
struct accel_npu_operand npu_vector(uint64_t address, uint32_t type,
				    uint32_t count);
size_t npu_type_size(uint32_t type);

struct accel_npu_command npu_nop(void);
/* Bytes. */
struct accel_npu_command npu_copy(uint64_t to, uint64_t from, uint32_t bytes);
struct accel_npu_command npu_fill(uint64_t to, uint32_t bytes, uint8_t value);
/* Numbers of 32 bits. */
struct accel_npu_command npu_fill32(uint64_t to, uint32_t count,
				    uint32_t value);
/* [m, k] times [k, n] of I8, without zero points. */
struct accel_npu_command npu_matmul(uint64_t d, uint64_t a, uint64_t b,
				    uint32_t m, uint32_t k, uint32_t n);
struct accel_npu_command npu_op(uint16_t opcode, struct accel_npu_operand d,
				struct accel_npu_operand a);

/*
 * One line to the model of the first card, and its answer without "ok"; -EPROTO
 * if that is an error, -ETIMEDOUT if there is none.
 */
int npu_control(const char *line, char *answer, size_t size);
int npu_control_card(unsigned int card, const char *line, char *answer,
		     size_t size);
int npu_inject(const char *format, ...);
/* A number of the answer to "stats". */
int64_t npu_stat(const char *name);
/* Waits until what was to hang or to stall does: 0 or a negative errno. */
int npu_await_begun(void);

#endif /* NPU_H */
