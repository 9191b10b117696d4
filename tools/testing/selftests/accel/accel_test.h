/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the accelerator subsystem share: finding the device under
 * test, calling it, and taking it away.
 *
 * Nothing here asserts: functions answer a negative errno (or a value from 0),
 * so that a test names what it expects. ACCEL_DEVICE names the compute node and
 * ACCEL_KIND the driver ("edu", "mock" or "npu"); without them the first device
 * found is used.
 */
#ifndef ACCEL_TEST_H
#define ACCEL_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <accel/accel.h>
#include <accel/accel_edu.h>
#include <accel/accel_mock.h>
#include <accel/accel_npu.h>
#include <accel/accel_null.h>

#define NSEC_PER_MSEC 1000000LL
#define NSEC_PER_SEC 1000000000LL
#define KIB (1024UL)
#define MIB (1024UL * 1024UL)
#define FOREVER INT64_MAX
#define EDU_DRIVER "accel_edu"
#define MOCK_DRIVER "accel_mock"
#define NPU_DRIVER "accel_pcie_npu"
#define NULL_DRIVER "accel_null"
/* Major and class of DRM's accelerators, on kernels that have them. */
#define DRM_ACCEL_MAJOR 261
/* With DRM's accelerators in the kernel our numbers start behind theirs. */
#define DRM_ACCEL_MINORS 256

enum accel_kind { ACCEL_MOCK, ACCEL_EDU, ACCEL_NPU };

struct accel_target {
	char compute[64];
	char control[64];
	unsigned int number;
	enum accel_kind kind;
	/* The module of its driver, which is also the driver's name. */
	const char *driver;
};

/* The device under test, or NULL when there is none. */
const struct accel_target *accel_target(void);
/* Open its nodes. */
int accel_open(int flags);
int accel_open_control(int flags);

/* ioctl(), but the errno is the answer. */
int accel_ioctl(int fd, unsigned long cmd, const void *arg);

int accel_info(int fd, uint32_t query, uint32_t index, void *answer,
	       uint32_t size);
int accel_buffer_create(int fd, uint64_t size, uint32_t *handle);
int accel_buffer_mmap(int fd, uint32_t handle, uint64_t *offset,
		      uint64_t *size);
int accel_buffer_destroy(int fd, uint32_t handle);
/* A new mapping of the whole buffer, or NULL with errno. */
void *accel_buffer_map(int fd, uint32_t handle, size_t size, int prot);
/* Create and map. */
void *accel_buffer_new(int fd, size_t size, uint32_t *handle);
int accel_timeline_create(int fd, uint32_t *handle);
int accel_timeline_destroy(int fd, uint32_t handle);
int accel_timeline_wait(int fd, uint32_t handle, uint64_t point,
			int64_t deadline, uint64_t *value, int32_t *status);
int accel_timeline_eventfd(int fd, uint32_t handle, uint64_t point,
			   int eventfd);
/* Submit the shortest job that the device has; it succeeds. */
int accel_submit(int fd, uint32_t timeline, uint64_t *point);
/* Submit a job that ends with its file only, to a mock device or an NPU. */
int accel_submit_held(int fd, uint32_t timeline);
/* Ask for events, and read them: bytes, or a negative errno. */
int accel_events(int fd, uint64_t types, uint64_t *before);
int accel_read(int fd, void *events, size_t size);
/* The count of an eventfd that does not block, 0 when it was not signalled. */
uint64_t accel_eventfd_count(int eventfd);
uint64_t accel_eventfd_wait(int eventfd, uint64_t count);

/* A number from a line "name:<tab>number" of the file's fdinfo. */
int64_t accel_fdinfo(int fd, const char *name);
/* CLOCK_MONOTONIC in nanoseconds. */
int64_t accel_now(void);
void accel_sleep_ms(unsigned int ms);

/* Signal that touching one byte raises, 0 for none. */
int accel_touch(const void *p);
int accel_touch_write(void *p);
/* mmap() whose errno is the answer; unmaps again what succeeds. */
int accel_mmap_errno(int fd, size_t size, int prot, int flags, uint64_t offset);

/* Files: one line, without its newline. */
int accel_read_line(const char *path, char *line, size_t size);
int accel_write_line(const char *path, const char *line);
bool accel_exists(const char *path);

/* Class of the subsystem on this kernel. */
const char *accel_class(void);
/* What is in the class now: the numbers of compute nodes, ascending. */
int accel_numbers(unsigned int *numbers, int most);

/* Lets a user have all contexts of the device of a node, until it goes. */
static inline int accel_take_all_contexts(const char *node)
{
	unsigned int number;
	char path[96];

	if (sscanf(node, "/dev/accel/accel%u", &number) != 1)
		return -EINVAL;
	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/limits/%s",
		 accel_class(), number, "user_contexts");
	return accel_write_line(path, "max");
}

/* PCI addresses of the devices of a kind, in order of the bus. */
struct accel_pci {
	char address[4][32];
	int count;
};

int accel_pci_find(struct accel_pci *pci);
int accel_pci_find_id(struct accel_pci *pci, unsigned int vendor,
		      unsigned int device);
/* Of edu devices. */
int accel_pci_bind(const char *address);
int accel_pci_unbind(const char *address);
bool accel_pci_bound(const char *address);
/* Number of the accelerator of a PCI device. */
int accel_pci_number(const char *address);

/* Load a module with its dependencies, and parameters, of which there may be none. */
int accel_modprobe(const char *module, const char *parameters);
int accel_rmmod(const char *module);
bool accel_loaded(const char *module);

/*
 * Take the device under test from its driver, or the driver from the kernel,
 * and bring it back under the number that it had. All files on it must be
 * closed for the latter.
 */
int accel_remove(void);
int accel_restore(void);
/* Bind the driver of a device on PCI that was removed: one attempt. */
int accel_bind(void);
/* Bring it back under whatever number it gets: the answer. */
int accel_restore_anywhere(void);
/* It is under this number now. */
void accel_follow(unsigned int number);

/* A thread that makes one call, for tests of what happens meanwhile. */
struct accel_call {
	pthread_t thread;
	int fd;
	unsigned long cmd;
	void *arg;
	/* Bytes at arg, if it is a read(). */
	size_t size;
	int result;
	int64_t ended;
	bool done;
};

int accel_call_start(struct accel_call *call, int fd, unsigned long cmd,
		     void *arg);
int accel_call_read(struct accel_call *call, int fd, void *events, size_t size);
/* Wait for its end at most that long. */
bool accel_call_wait(struct accel_call *call, unsigned int ms);
void accel_call_join(struct accel_call *call);

/*
 * By how much limits of time are longer here: kernels that check everything are
 * slow, and accel-dev says how slow.
 */
static inline int accel_patience(void)
{
	const char *patience = getenv("ACCEL_PATIENCE");

	return patience && atoi(patience) > 0 ? atoi(patience) : 1;
}

/* How often something is done again and again: in its short form, or as asked. */
static inline int accel_cycles(int few)
{
	const char *asked = getenv("ACCEL_CYCLES");

	return asked ? atoi(asked) : few;
}

/* The harness can be in one file of a program only: others say that they are parts. */
#ifndef ACCEL_TEST_PART
#include "kselftest_harness.h"

/*
 * The limits of the single tests are the harness's, and those of one cycle. It
 * counts milliseconds.
 */
static inline void accel_be_patient(void)
{
	long long times = (long long)accel_patience() * accel_cycles(1);
	struct __fixture_metadata *f;
	struct __test_metadata *t;

	for (f = __fixture_list; f; f = f->next)
		for (t = f->tests; t; t = t->next)
			t->timeout = t->timeout * times < INT_MAX / 1000 ?
					     t->timeout * times :
					     INT_MAX / 1000;
}

#undef TEST_HARNESS_MAIN
#define TEST_HARNESS_MAIN                            \
	int main(int argc, char **argv)              \
	{                                            \
		accel_be_patient();                  \
		return test_harness_run(argc, argv); \
	}
#endif

#endif /* ACCEL_TEST_H */
