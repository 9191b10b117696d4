/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of limits share: two users, and what a file is told of limits.
 */
#ifndef ACCEL_USERS_H
#define ACCEL_USERS_H

#include "accel_test.h"

#define LIMITS (ACCEL_LIMIT_EVENTS + 1)
#define PAGE 4096
/* Users that have nothing else on the device. */
#define ALICE 4001
#define BOB 4002

/* Gives the nodes to everybody, or their modes back. */
static inline void allow(const struct stat *nodes)
{
	const struct accel_target *target = accel_target();

	chmod(target->compute, nodes ? nodes[0].st_mode & 07777 : 0666);
	chmod(target->control, nodes ? nodes[1].st_mode & 07777 : 0666);
}

static inline struct accel_info_limit limit_of(int fd, uint32_t limit)
{
	struct accel_info_limit answer = { .limit = ~0U };

	accel_info(fd, ACCEL_INFO_LIMITS, limit, &answer, sizeof(answer));
	return answer;
}

static inline int open_as(uid_t user, bool control)
{
	int fd;

	if (seteuid(user))
		return -errno;
	fd = control ? accel_open_control(O_RDWR | O_CLOEXEC) :
		       accel_open(O_RDWR | O_CLOEXEC);
	if (seteuid(0))
		return -errno;
	return fd;
}

#endif /* ACCEL_USERS_H */
