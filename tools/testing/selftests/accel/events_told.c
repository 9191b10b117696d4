// SPDX-License-Identifier: GPL-2.0
/*
 * Events as a device tells them: to several readers, its end, each change of
 * its state, and faults, which are nobody's but the one's whose they are.
 */

#include "events.h"
#include "kselftest_harness.h"

/* Longest that taking the device away may take. */
#define REMOVE_MS 2000

static int ask(int fd, uint32_t what, uint32_t flags)
{
	struct accel_mock_reset arg = { .ask = what, .flags = flags };

	return accel_ioctl(fd, ACCEL_MOCK_IOCTL_RESET, &arg);
}

/* The next event once there is one, or after a while. */
static int await(int fd, union event *event)
{
	polled(fd, 5000);
	return next(fd, event);
}

static int tell_fault(int fd, uint64_t address, uint32_t access, uint32_t code)
{
	struct accel_mock_fault arg = {
		.address = address,
		.access = access,
		.code = code,
	};

	return accel_ioctl(fd, ACCEL_MOCK_IOCTL_FAULT, &arg);
}

FIXTURE(events_end)
{
	/* Does not block, on the node that the variant names. */
	int fd;
};

FIXTURE_VARIANT(events_end)
{
	bool control;
};

FIXTURE_VARIANT_ADD(events_end, compute){
	.control = false,
};

FIXTURE_VARIANT_ADD(events_end, control){
	.control = true,
};

FIXTURE_SETUP(events_end)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->fd = open_node(variant->control, O_NONBLOCK);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(events_end)
{
	close(self->fd);
	EXPECT_EQ(0, accel_restore());
}

#define TOLD 4000

/* How often each event was read. */
static unsigned char seen[TOLD + 2];

struct reader {
	pthread_t thread;
	int fd;
	bool faulty;
	uint64_t last;
	uint64_t read;
	uint64_t lost;
	int result;
};

static void *reader_thread(void *data)
{
	struct reader *reader = data;
	union event event;
	uint64_t turn = 0;

	for (;;) {
		/* Every now and then one that takes an event and cannot. */
		if (reader->faulty && turn++ % 4 == 3) {
			reader->result = accel_read(reader->fd, (void *)8, 64);
			if (reader->result == -EFAULT)
				continue;
		} else {
			reader->result = next(reader->fd, &event);
		}
		if (reader->result < 0)
			return NULL;
		if (event.header.type == ACCEL_EVENT_LOST) {
			reader->lost += event.lost.count;
		} else {
			reader->read++;
			__atomic_fetch_add(&seen[event.header.sequence], 1,
					   __ATOMIC_RELAXED);
		}
		/* What was given back may come late. */
		if (event.header.sequence <= reader->last && !reader->faulty) {
			reader->result = 1;
			return NULL;
		}
		reader->last = event.header.sequence;
	}
}

static bool any_twice(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++)
		if (seen[i] > 1)
			return true;
	return false;
}

/* However many read, each event is read by one of them, or counted as lost. */
TEST_F_TIMEOUT(events_end, many_readers, 60)
{
	struct reader readers[4] = {};
	uint64_t read = 0, lost = 0;

	ASSERT_EQ(0, block(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i].fd = self->fd;
		ASSERT_EQ(0, pthread_create(&readers[i].thread, NULL,
					    reader_thread, &readers[i]));
	}
	for (int i = 0; i < TOLD; i++)
		ASSERT_EQ(0, more(self->fd));
	for (int i = 0; i < 5000 && polled(self->fd, 0); i++)
		accel_sleep_ms(1);
	EXPECT_EQ(0, polled(self->fd, 0));
	/* One may still hold the last of them: the end of the device is told. */
	ASSERT_EQ(0, accel_remove());
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		EXPECT_EQ(-ENODEV, readers[i].result);
		read += readers[i].read;
		lost += readers[i].lost;
	}
	/* The end is told to who asks for the state, as all did. */
	EXPECT_EQ(TOLD + 1, read + lost);
	EXPECT_FALSE(any_twice());
}

/* With some that give back what they took, none gets lost or read twice. */
TEST_F_TIMEOUT(events_end, given_back, 60)
{
	struct reader readers[3] = {};
	uint64_t read = 0, lost = 0;

	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	ASSERT_EQ(0, block(self->fd));
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i].fd = self->fd;
		readers[i].faulty = true;
		ASSERT_EQ(0, pthread_create(&readers[i].thread, NULL,
					    reader_thread, &readers[i]));
	}
	for (int i = 0; i < TOLD; i++)
		ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(0, accel_remove());
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		EXPECT_EQ(-ENODEV, readers[i].result);
		read += readers[i].read;
		lost += readers[i].lost;
	}
	EXPECT_EQ(TOLD + 1, read + lost);
	EXPECT_FALSE(any_twice());
}

/* The end is the last event; after it there is nothing but ENODEV. */
TEST_F(events_end, gone)
{
	int idle = open_node(variant->control, O_NONBLOCK);
	int plain = open_node(variant->control, O_NONBLOCK);
	union event event;

	ASSERT_LE(0, idle);
	ASSERT_LE(0, plain);
	ASSERT_EQ(0, accel_events(idle, LOST, NULL));
	ASSERT_EQ(0, accel_events(self->fd, STATE, NULL));
	ASSERT_EQ(0, accel_remove());

	EXPECT_EQ(POLLIN | POLLHUP | POLLERR, polled(self->fd, 0));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(1, event.header.sequence);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.state.state);
	EXPECT_EQ(POLLIN | POLLHUP | POLLERR, polled(self->fd, 0));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(ACCEL_EVENT_STATE, event.header.type);
	EXPECT_EQ(2, event.header.sequence);
	EXPECT_EQ(ACCEL_STATE_UNPLUGGED, event.state.state);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.state.previous);
	EXPECT_EQ(ACCEL_CAUSE_UNPLUG, event.state.cause);
	EXPECT_EQ(POLLHUP | POLLERR, polled(self->fd, 0));
	EXPECT_EQ(-ENODEV, next(self->fd, &event));
	EXPECT_EQ(-ENODEV, accel_read(self->fd, &event, 0));
	EXPECT_EQ(-ENODEV, accel_events(self->fd, STATE, NULL));
	EXPECT_EQ(-ENODEV, accel_events(self->fd, 0, NULL));

	EXPECT_EQ(POLLHUP | POLLERR, polled(idle, 0));
	EXPECT_EQ(-ENODEV, next(idle, &event));
	EXPECT_EQ(POLLHUP | POLLERR, polled(plain, 0));
	EXPECT_EQ(-ENODEV, next(plain, &event));
	EXPECT_EQ(-ENODEV, accel_events(plain, STATE, NULL));
	EXPECT_EQ(-ENODEV, next(plain, &event));
	close(idle);
	close(plain);
}

/* Also of a ring that is full the last event is the end. */
TEST_F(events_end, gone_full)
{
	union event event;

	for (int i = 0; i < MOST; i++)
		ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(0, accel_remove());
	ASSERT_EQ(sizeof(event.lost), next(self->fd, &event));
	EXPECT_EQ(1, event.lost.count);
	for (int i = 2; i <= MOST + 1; i++)
		ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(MOST + 1, event.header.sequence);
	EXPECT_EQ(ACCEL_STATE_UNPLUGGED, event.state.state);
	EXPECT_EQ(-ENODEV, next(self->fd, &event));
}

TEST_F(events_end, gone_while_reading)
{
	static const uint64_t types[] = { LOST, STATE };
	struct accel_call call[ARRAY_SIZE(types)];
	union event event[ARRAY_SIZE(types)];
	int fd[ARRAY_SIZE(types)];

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		fd[i] = open_node(variant->control, 0);
		ASSERT_LE(0, fd[i]);
		ASSERT_EQ(0, accel_events(fd[i], types[i], NULL));
		if (types[i] == STATE)
			ASSERT_EQ(STATE_SIZE, next(fd[i], &event[i]));
		ASSERT_EQ(0, accel_call_read(&call[i], fd[i], &event[i],
					     sizeof(event[i])));
		EXPECT_FALSE(accel_call_wait(&call[i], 20));
	}
	ASSERT_EQ(0, accel_remove());
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		EXPECT_TRUE(accel_call_wait(&call[i], 5000));
		accel_call_join(&call[i]);
	}
	EXPECT_EQ(-ENODEV, call[0].result);
	EXPECT_EQ(STATE_SIZE, call[1].result);
	EXPECT_EQ(ACCEL_STATE_UNPLUGGED, event[1].state.state);
	EXPECT_EQ(-ENODEV, next(fd[1], &event[1]));
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		close(fd[i]);
}

/* A reader that is stopped is no reason to wait for it. */
TEST_F(events_end, gone_while_stopped)
{
	union event event;
	int64_t before;
	int status;
	pid_t pid;

	ASSERT_EQ(0, block(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(next(self->fd, &event) == -ENODEV ? 0 : 1);
	accel_sleep_ms(50);
	kill(pid, SIGSTOP);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	before = accel_now();
	EXPECT_EQ(0, accel_remove());
	EXPECT_GT(REMOVE_MS * accel_patience() * NSEC_PER_MSEC,
		  accel_now() - before);
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* Threads that ask for events while the device goes: no end is missed. */
static void *asking_thread(void *data)
{
	intptr_t fd = (intptr_t)data;
	int ret;

	do {
		ret = more(fd);
	} while (!ret);
	return (void *)(intptr_t)ret;
}

TEST_F(events_end, gone_while_asking)
{
	pthread_t threads[2];
	uint64_t last = 0;
	union event event;
	void *result;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, asking_thread,
					    (void *)(intptr_t)self->fd));
	accel_sleep_ms(30);
	ASSERT_EQ(0, accel_remove());
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &result);
		EXPECT_EQ(-ENODEV, (intptr_t)result);
	}
	while (next(self->fd, &event) > 0) {
		EXPECT_LT(last, event.header.sequence);
		last = event.header.sequence;
		/* Nothing comes behind the end. */
		EXPECT_TRUE(event.header.type == ACCEL_EVENT_LOST ||
			    event.state.state != ACCEL_STATE_UNPLUGGED ||
			    next(self->fd, &event) == -ENODEV);
	}
	EXPECT_EQ(-ENODEV, next(self->fd, &event));
}

/* What a device does by itself: the mock device does it when it is told to. */
FIXTURE(told)
{
	int fd;
	int other;
	int control;
};

FIXTURE_SETUP(told)
{
	ASSERT_TRUE(accel_target() != NULL);
	if (accel_target()->kind != ACCEL_MOCK)
		return;
	self->fd = accel_open(O_RDWR | O_CLOEXEC | O_NONBLOCK);
	self->other = accel_open(O_RDWR | O_CLOEXEC | O_NONBLOCK);
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->other);
	ASSERT_LE(0, self->control);
}

FIXTURE_TEARDOWN(told)
{
	int fd;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	close(self->fd);
	close(self->other);
	close(self->control);
	/* A reset may be in progress. */
	for (int i = 0; i < 500; i++) {
		fd = accel_open(O_RDWR | O_CLOEXEC);
		if (fd != -EAGAIN)
			break;
		accel_sleep_ms(10);
	}
	if (fd == -EIO) {
		EXPECT_EQ(0, accel_remove());
	} else {
		EXPECT_LE(0, fd);
		EXPECT_EQ(0, ask(fd, ACCEL_MOCK_ASK_NOTHING, 0));
		close(fd);
	}
	EXPECT_EQ(0, accel_restore());
}

/* Every change, once, to all who want it. */
TEST_F(told, states)
{
	static const struct {
		uint32_t ask, cause, last;
	} asks[] = {
		{ ACCEL_MOCK_ASK_RESET, ACCEL_CAUSE_DRIVER,
		  ACCEL_STATE_OPERATIONAL },
		{ ACCEL_MOCK_ASK_DEADLINE, ACCEL_CAUSE_DEADLINE,
		  ACCEL_STATE_OPERATIONAL },
		{ ACCEL_MOCK_ASK_FAIL, ACCEL_CAUSE_DRIVER,
		  ACCEL_STATE_MALFUNCTION },
	};
	int fds[] = { self->fd, self->control };
	uint64_t resets = 0, sequence = 1;
	union event event;
	int64_t before;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, accel_events(self->fd, STATE | FAULT, NULL));
	ASSERT_EQ(0, accel_events(self->control, STATE, NULL));
	ASSERT_EQ(0, accel_events(self->other, FAULT, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		ASSERT_EQ(STATE_SIZE, next(fds[i], &event));
		ASSERT_EQ(ACCEL_STATE_OPERATIONAL, event.state.state);
		resets = event.state.resets;
	}
	for (size_t a = 0; a < ARRAY_SIZE(asks); a++) {
		uint32_t previous = ACCEL_STATE_OPERATIONAL;

		before = accel_now();
		ASSERT_EQ(0, ask(self->fd, asks[a].ask, 0));
		if (asks[a].last == ACCEL_STATE_OPERATIONAL) {
			previous = ACCEL_STATE_RESETTING;
			sequence++;
			resets++;
		}
		sequence++;
		for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
			if (asks[a].last == ACCEL_STATE_OPERATIONAL) {
				ASSERT_EQ(STATE_SIZE, await(fds[i], &event));
				EXPECT_EQ(sequence - 1, event.header.sequence);
				EXPECT_EQ(ACCEL_STATE_RESETTING,
					  event.state.state);
				EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
					  event.state.previous);
				EXPECT_EQ(asks[a].cause, event.state.cause);
				EXPECT_EQ(resets, event.state.resets);
				EXPECT_LE(before, event.header.time_ns);
			}
			ASSERT_EQ(STATE_SIZE, await(fds[i], &event));
			EXPECT_EQ(sequence, event.header.sequence);
			EXPECT_EQ(asks[a].last, event.state.state);
			EXPECT_EQ(previous, event.state.previous);
			EXPECT_EQ(asks[a].cause, event.state.cause);
			EXPECT_EQ(resets, event.state.resets);
			EXPECT_LE(before, event.header.time_ns);
			EXPECT_GE(accel_now(), event.header.time_ns);
			EXPECT_TRUE(is_present(&event, fds[i]));
			EXPECT_EQ(-EAGAIN, next(fds[i], &event));
		}
	}
	EXPECT_EQ(-EAGAIN, next(self->other, &event));
	/* Monitors subscribe in whatever state it is. */
	ASSERT_EQ(0, accel_events(self->other, STATE, NULL));
	ASSERT_EQ(STATE_SIZE, next(self->other, &event));
	EXPECT_EQ(ACCEL_STATE_MALFUNCTION, event.state.state);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.state.previous);
}

/* Between the two states of the reset, each file is told what it lost. */
TEST_F(told, context_lost)
{
	int64_t before = accel_now();
	union event event;
	int late, fresh;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	late = accel_open(O_RDWR | O_CLOEXEC | O_NONBLOCK);
	ASSERT_LE(0, late);
	ASSERT_EQ(0, accel_events(self->fd, STATE | CONTEXT_LOST, NULL));
	ASSERT_EQ(0, accel_events(self->other, CONTEXT_LOST, NULL));
	ASSERT_EQ(0, accel_events(self->control, STATE, NULL));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_DEADLINE,
			 ACCEL_MOCK_RESET_LOSE));
	ASSERT_EQ(STATE_SIZE, await(self->fd, &event));
	ASSERT_EQ(STATE_SIZE, await(self->fd, &event));
	EXPECT_EQ(ACCEL_STATE_RESETTING, event.state.state);
	ASSERT_EQ(sizeof(event.context_lost), await(self->fd, &event));
	EXPECT_EQ(ACCEL_EVENT_CONTEXT_LOST, event.header.type);
	EXPECT_EQ(sizeof(event.context_lost), event.header.size);
	EXPECT_EQ(3, event.header.sequence);
	EXPECT_EQ(ACCEL_CAUSE_DEADLINE, event.context_lost.cause);
	EXPECT_EQ(0, event.context_lost.reserved);
	EXPECT_LE(before, event.header.time_ns);
	EXPECT_GE(accel_now(), event.header.time_ns);
	ASSERT_EQ(STATE_SIZE, await(self->fd, &event));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.state.state);
	ASSERT_EQ(sizeof(event.context_lost), next(self->other, &event));
	EXPECT_EQ(-EAGAIN, next(self->other, &event));
	/* A monitor is told of the reset, and not of who lost what. */
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(STATE_SIZE, await(self->control, &event));
	EXPECT_EQ(-EAGAIN, next(self->control, &event));
	/* Who did not ask before is told when it does, each time anew. */
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, accel_events(late, CONTEXT_LOST | STATE, NULL));
		ASSERT_EQ(STATE_SIZE, next(late, &event));
		ASSERT_EQ(sizeof(event.context_lost), next(late, &event));
		EXPECT_EQ(ACCEL_CAUSE_DEADLINE, event.context_lost.cause);
		EXPECT_LE(before, event.header.time_ns);
		EXPECT_EQ(-EAGAIN, next(late, &event));
		ASSERT_EQ(0, accel_events(late, FAULT, NULL));
	}
	/* One that is opened after it has lost nothing. */
	fresh = accel_open(O_RDWR | O_CLOEXEC | O_NONBLOCK);
	ASSERT_LE(0, fresh);
	ASSERT_EQ(0, accel_events(fresh, CONTEXT_LOST, NULL));
	EXPECT_EQ(-EAGAIN, next(fresh, &event));
	close(fresh);
	close(late);
}

struct changer {
	pthread_t thread;
	int fd;
	bool stop;
	uint64_t asked;
};

static void *changer_thread(void *data)
{
	struct changer *changer = data;

	while (!__atomic_load_n(&changer->stop, __ATOMIC_RELAXED)) {
		changer->asked += !ask(changer->fd, ACCEL_MOCK_ASK_RESET, 0);
		sched_yield();
	}
	return NULL;
}

/* Whenever it asks, a file is told where the device is and each step from it. */
TEST_F(told, subscribed_meanwhile)
{
	struct changer changer = { .fd = self->other };
	int64_t until = accel_now() + 3 * NSEC_PER_SEC;
	union event event, last;
	int steps = 0;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, pthread_create(&changer.thread, NULL, changer_thread,
				    &changer));
	while (accel_now() < until) {
		ASSERT_EQ(0, accel_events(self->control, STATE, NULL));
		/* There may be too many before this comes to read. */
		if (next(self->control, &last) != STATE_SIZE) {
			ASSERT_EQ(ACCEL_EVENT_LOST, last.header.type);
			ASSERT_EQ(STATE_SIZE, next(self->control, &last));
		}
		for (int n = 0; n < 3; n++) {
			int ret = await(self->control, &event);

			if (ret == sizeof(event.lost))
				break;
			ASSERT_EQ(STATE_SIZE, ret);
			ASSERT_EQ(last.state.state, event.state.previous);
			ASSERT_NE(last.state.state, event.state.state);
			ASSERT_EQ(last.header.sequence + 1,
				  event.header.sequence);
			ASSERT_LE(last.header.time_ns, event.header.time_ns);
			last = event;
			steps++;
		}
		ASSERT_EQ(0, accel_events(self->control, 0, NULL));
	}
	__atomic_store_n(&changer.stop, true, __ATOMIC_RELAXED);
	pthread_join(changer.thread, NULL);
	EXPECT_LT(20, changer.asked);
	EXPECT_LT(20, steps);
}

/* A fault is told to the file that it is of, and to nobody else. */
TEST_F(told, fault)
{
	union event event;
	int64_t before;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, accel_events(self->fd, FAULT | CONTEXT_LOST, NULL));
	ASSERT_EQ(0, accel_events(self->other, FAULT | CONTEXT_LOST, NULL));
	ASSERT_EQ(0, accel_events(self->control, LOST, NULL));
	before = accel_now();
	ASSERT_EQ(0, tell_fault(self->fd, ~0ULL, ACCEL_FAULT_WRITE, 99));
	EXPECT_EQ(POLLIN, polled(self->fd, 0));
	ASSERT_EQ(sizeof(event.fault), next(self->fd, &event));
	EXPECT_EQ(ACCEL_EVENT_FAULT, event.header.type);
	EXPECT_EQ(sizeof(event.fault), event.header.size);
	EXPECT_EQ(1, event.header.sequence);
	EXPECT_LE(before, event.header.time_ns);
	EXPECT_GE(accel_now(), event.header.time_ns);
	EXPECT_EQ(~0ULL, event.fault.address);
	EXPECT_EQ(ACCEL_FAULT_WRITE, event.fault.access);
	EXPECT_EQ(99, event.fault.code);
	EXPECT_EQ(0, event.fault.point);
	EXPECT_EQ(0, event.fault.timeline);
	EXPECT_EQ(0, event.fault.reserved);
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
	EXPECT_EQ(-EAGAIN, next(self->other, &event));
	EXPECT_EQ(-EAGAIN, next(self->control, &event));
	EXPECT_EQ(0, polled(self->other, 0));
	EXPECT_EQ(0, polled(self->control, 0));
	/* Who does not want to hear of faults does not. */
	ASSERT_EQ(0, accel_events(self->fd, CONTEXT_LOST, NULL));
	ASSERT_EQ(0, tell_fault(self->fd, 1, ACCEL_FAULT_READ, 0));
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
	/* It is not counted either. */
	ASSERT_EQ(0, accel_events(self->fd, FAULT, NULL));
	ASSERT_EQ(0, tell_fault(self->fd, 2, ACCEL_FAULT_READ, 0));
	ASSERT_EQ(sizeof(event.fault), next(self->fd, &event));
	EXPECT_EQ(2, event.header.sequence);
	EXPECT_EQ(ACCEL_FAULT_READ, event.fault.access);
}

/* The fault of a job names it, for as long as there is a name. */
TEST_F(told, fault_of_job)
{
	struct accel_mock_later later = {
		.milliseconds = 30,
		.flags = ACCEL_MOCK_LATER_FAULT,
	};
	union event event;
	int32_t status;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, accel_events(self->fd, FAULT, NULL));
	ASSERT_EQ(0, accel_events(self->other, FAULT, NULL));
	for (uint64_t point = 1; point <= 2; point++) {
		if (point == 1)
			ASSERT_EQ(0, accel_timeline_create(self->fd,
							   &later.timeline));
		ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_LATER,
					 &later));
		ASSERT_EQ(point, later.point);
		ASSERT_EQ(0,
			  accel_timeline_wait(self->fd, later.timeline, point,
					      accel_now() + 5 * NSEC_PER_SEC,
					      NULL, &status));
		EXPECT_EQ(-EFAULT, status);
		/* It was told before the job ended. */
		ASSERT_EQ(sizeof(event.fault), next(self->fd, &event));
		EXPECT_EQ(ACCEL_MOCK_FAULT_ADDRESS, event.fault.address);
		EXPECT_EQ(ACCEL_FAULT_WRITE, event.fault.access);
		EXPECT_EQ(ACCEL_MOCK_FAULT_CODE, event.fault.code);
		EXPECT_EQ(point, event.fault.point);
		EXPECT_EQ(later.timeline, event.fault.timeline);
	}
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_LATER, &later));
	ASSERT_EQ(0, accel_timeline_destroy(self->fd, later.timeline));
	EXPECT_EQ(POLLIN, polled(self->fd, 5000));
	ASSERT_EQ(sizeof(event.fault), next(self->fd, &event));
	EXPECT_EQ(3, event.fault.point);
	EXPECT_EQ(0, event.fault.timeline);
	EXPECT_EQ(-EAGAIN, next(self->other, &event));
}

/* A job that outlives the interest in it, or its file, tells nobody. */
TEST_F(told, fault_too_late)
{
	struct accel_mock_later later = {
		.milliseconds = 20,
		.flags = ACCEL_MOCK_LATER_FAULT,
	};
	union event event;
	uint32_t timeline;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, accel_events(self->fd, FAULT, NULL));
	ASSERT_EQ(0, accel_events(self->other, FAULT, NULL));
	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	ASSERT_EQ(0, accel_timeline_create(self->other, &later.timeline));
	ASSERT_EQ(0, accel_ioctl(self->other, ACCEL_MOCK_IOCTL_LATER, &later));
	close(self->other);
	later.timeline = timeline;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_LATER, &later));
	ASSERT_EQ(0, accel_events(self->fd, 0, NULL));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, timeline, 1,
					 accel_now() + 5 * NSEC_PER_SEC, NULL,
					 NULL));
	EXPECT_EQ(-EINVAL, next(self->fd, &event));
	ASSERT_EQ(0, accel_events(self->fd, FAULT, NULL));
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
	self->other = accel_open(O_RDWR | O_CLOEXEC | O_NONBLOCK);
	ASSERT_LE(0, self->other);
}

TEST_HARNESS_MAIN
