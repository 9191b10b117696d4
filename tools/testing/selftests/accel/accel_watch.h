/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One file, watched sixty thousand times: an epoll may watch a file as often as
 * that has descriptors. 0, or a negative errno.
 */
#ifndef ACCEL_WATCH_H
#define ACCEL_WATCH_H

#include "accel_test.h"

#include <sys/epoll.h>
#include <sys/resource.h>

struct accel_watch {
	int copies[1000];
	int epolls[60];
	/* The limit of files, as it was. */
	struct rlimit before;
};

static inline int accel_watch_begin(struct accel_watch *watch, int fd)
{
	const int copies = ARRAY_SIZE(watch->copies);
	struct rlimit many = { 2 * copies, 2 * copies };
	struct epoll_event event = { .events = EPOLLIN };

	if (getrlimit(RLIMIT_NOFILE, &watch->before) ||
	    setrlimit(RLIMIT_NOFILE, &many))
		return -errno;
	for (int i = 0; i < copies; i++) {
		watch->copies[i] = dup(fd);
		if (watch->copies[i] < 0)
			return -errno;
	}
	for (int i = 0; i < ARRAY_SIZE(watch->epolls); i++) {
		watch->epolls[i] = epoll_create1(EPOLL_CLOEXEC);
		if (watch->epolls[i] < 0)
			return -errno;
		for (int j = 0; j < copies; j++)
			if (epoll_ctl(watch->epolls[i], EPOLL_CTL_ADD,
				      watch->copies[j], &event))
				return -errno;
	}
	return 0;
}

static inline int accel_watch_end(struct accel_watch *watch)
{
	for (int i = 0; i < ARRAY_SIZE(watch->epolls); i++)
		close(watch->epolls[i]);
	for (int i = 0; i < ARRAY_SIZE(watch->copies); i++)
		close(watch->copies[i]);
	return setrlimit(RLIMIT_NOFILE, &watch->before) ? -errno : 0;
}

#endif /* ACCEL_WATCH_H */
