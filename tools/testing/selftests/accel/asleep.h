/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of sleep share: when the device under test sleeps, how it is
 * looked at without being woken, and work for it.
 *
 * As in accel_test.h nothing asserts.
 */
#ifndef ASLEEP_H
#define ASLEEP_H

#include "npu.h"

/* Longest that anything there takes, on a slow machine too. */
#define ASLEEP_SOON_MS 20000
/* Seconds that a case of many cycles may take; tests.toml bounds the short form. */
#define ASLEEP_TIMEOUT 36000

/* `most`; in the long form one of `share` of the cycles that were asked for. */
int asleep_cycles(int most, int share);
/* Prints the line of a shape, for whoever collects them. */
void asleep_told(const char *program, const char *shape, int count);

/*
 * Has the device sleep after 100 ms without a call, or when it ever did, which
 * for a mock is never. A mock may be made anew for that: no file of it may be
 * open.
 */
int asleep_hurry(bool soon);
/*
 * The same, and then opens both nodes; 0, or a negative errno. What was open
 * there before is to be closed, as asleep_end() does.
 */
int asleep_begin(bool soon, int *fd, int *control);
void asleep_end(int fd, int control);

/* Files in the folder of the parent; a number is -1 when there is none. */
void asleep_parent_path(char *path, size_t size, const char *file);
int asleep_set_parent(const char *file, const char *value);
int64_t asleep_parent_number(const char *file);
/* Waits until it is so; whether it is. */
bool asleep_parent_is(const char *file, const char *value);

struct accel_info_state asleep_state(int fd);
/* Waits for a state; the one that it is in after all. */
uint32_t asleep_wait(int fd, uint32_t wanted);
/* The next change that a file is told of, which asked for them. */
int asleep_event(int fd, struct accel_event_state *event);
/* Resets for a cause so far. */
uint64_t asleep_resets(int fd, uint32_t cause);
/*
 * Does all that monitoring does: INFO, polls and fdinfo of an open compute file,
 * the control node, and each attribute that can be read. How many were, or a
 * negative errno.
 */
int asleep_look(int fd);

/* A job on a timeline of its own; its status. */
int asleep_job(int fd);
/* How the mock sleeps from now on; how it has so far, unless NULL. */
int asleep_nap(int fd, uint32_t flags, struct accel_mock_sleep *told);

#endif /* ASLEEP_H */
