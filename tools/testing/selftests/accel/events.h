/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of events share.
 *
 * A file that asks for the state, and did not before, is told it: so a test
 * makes as many events as it likes, on every kind of device.
 */
#ifndef ACCEL_EVENTS_H
#define ACCEL_EVENTS_H

#include "accel_test.h"

#define STATE (1ULL << ACCEL_EVENT_STATE)
#define LOST (1ULL << ACCEL_EVENT_LOST)
#define CONTEXT_LOST (1ULL << ACCEL_EVENT_CONTEXT_LOST)
#define FAULT (1ULL << ACCEL_EVENT_FAULT)
#define MOST ACCEL_EVENTS_MAX
#define STATE_SIZE sizeof(struct accel_event_state)

union event {
	struct accel_event header;
	struct accel_event_lost lost;
	struct accel_event_state state;
	struct accel_event_context_lost context_lost;
	struct accel_event_fault fault;
	unsigned char bytes[64];
};

static inline short polled(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1 ? p.revents : 0;
}

/* The next event by itself: its size, or a negative errno. */
static inline int next(int fd, union event *event)
{
	unsigned char room[sizeof(*event)];
	int ret;

	memset(event, 0xa5, sizeof(*event));
	/* No more than one fits behind a state, and less behind a fault. */
	ret = accel_read(fd, room, sizeof(struct accel_event_fault));
	if (ret > 0)
		memcpy(event, room, ret);
	return ret;
}

/* One more event to be read: the present state. */
static inline int more(int fd)
{
	int ret = accel_events(fd, LOST, NULL);

	return ret ? ret : accel_events(fd, LOST | STATE, NULL);
}

/* A state event that is what INFO says. */
static inline bool is_present(const union event *event, int fd)
{
	struct accel_info_state state;

	return !accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state)) &&
	       event->header.type == ACCEL_EVENT_STATE &&
	       event->header.size == STATE_SIZE &&
	       event->header.time_ns == state.since_ns &&
	       event->state.state == state.state &&
	       event->state.cause == state.cause &&
	       event->state.resets == state.resets && !event->state.reserved;
}

static inline int open_node(bool control, int flags)
{
	return control ? accel_open_control(O_RDONLY | O_CLOEXEC | flags) :
			 accel_open(O_RDWR | O_CLOEXEC | flags);
}

static inline int block(int fd)
{
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

#endif /* ACCEL_EVENTS_H */
