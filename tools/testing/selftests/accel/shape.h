/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of a device's end share: cycles that are timed and counted,
 * what they leave behind, and users that keep a device busy.
 *
 * As in accel_test.h nothing asserts.
 */
#ifndef SHAPE_H
#define SHAPE_H

#include "accel_test.h"

/* Seconds that a case of many cycles may take; tests.toml bounds the short form. */
#define SHAPE_TIMEOUT 36000

struct shape_count {
	char name[40];
	long value;
	/* What may be there more than before without being a leak. */
	long slack;
};

/* What there is of everything that a cycle could leave behind. */
struct shape_census {
	unsigned int numbers[64];
	int devices;
	int count;
	struct shape_count counts[512];
};

/* A way for a device to go and to come back, done many times. */
struct shape {
	char name[96];
	int cycles;
	int done;
	/* Longest time that going took; and without what the host took of it. */
	int64_t longest_ns;
	int64_t longest_own_ns;
	int64_t began_ns;
	struct shape_census before;
};

/*
 * Whether the kernel looks for what is lost itself, once all tests have ended.
 * What is free is kept by KASAN then, so that to count objects would tell
 * nothing.
 */
bool shape_kernel_finds_leaks(void);
/* Milliseconds in which a device has to be gone, on this kernel. */
unsigned int shape_limit_ms(void);
/*
 * Begin: ACCEL_CYCLES cycles in the environment, or as many as `cycles`. The
 * case is named after the program and the kind of device.
 */
void shape_begin(struct shape *shape, const char *name, int cycles);
/* What is timed: the device goes between these two. */
void shape_going(struct shape *shape);
void shape_gone(struct shape *shape);
/* accel_remove(), timed. */
int shape_remove(struct shape *shape);
/*
 * Prints the shape's line, for whoever collects them:
 *	# stress: shape=<name> cycles=<n> longest_unbind_ms=<x> leaks=<n>
 * and answers how many things are more than before, naming them.
 */
int shape_end(struct shape *shape);
/* Prints the line of a shape that is a case of its own and takes no count. */
void shape_print(struct shape *shape, const char *name);
/*
 * Whether it was always gone in time. A guest's clock goes on while its host
 * does something else: what a thread of the highest priority was late by, on
 * the CPU where it was most so, does not count, up to four times the limit.
 */
bool shape_in_time(const struct shape *shape);

/* That the device at a node computes: a job, and memory that is empty. */
int shape_healthy(const char *node);
/* Take a PCI device off its bus; look for those that there are. */
int shape_unplug(const char *address);
int shape_rescan(void);
/* The PCI address of the device under test; NULL for one that has none. */
const char *shape_address(void);

#define LOAD_THREADS 8

struct loader {
	pthread_t thread;
	struct load *load;
	unsigned int number;
	/* Calls that it has made, and an errno that none should give. */
	unsigned long calls;
	int bad;
};

/* Threads that do to an open file what can be done, until the device is gone. */
struct load {
	int fd;
	char node[64];
	unsigned int threads;
	bool stop;
	struct loader loaders[LOAD_THREADS];
};

/* `threads` of them, on a file of their own; the last ones only with all 8. */
int load_start(struct load *load, const char *node, unsigned int threads);
/* Until each has done something. */
bool load_is_on(const struct load *load);
/* Waits until all have ended, by themselves if the device is gone: the file
 * stays open. Answers an errno that came and should not have, or 0.
 */
int load_join(struct load *load);
int load_end(struct load *load);

#endif /* SHAPE_H */
