// SPDX-License-Identifier: GPL-2.0
/*
 * What the core offers drivers and needs no hardware to be seen: the alarm.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

/* The machine may be slow: how late an alarm may be before it is a failure. */
#define LATE (2 * NSEC_PER_SEC)

FIXTURE(mock_alarm)
{
	int fd;
	uint32_t timeline;
};

FIXTURE_SETUP(mock_alarm)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(ACCEL_MOCK, accel_target()->kind);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &self->timeline));
}

FIXTURE_TEARDOWN(mock_alarm)
{
	close(self->fd);
}

static int later(int fd, uint32_t timeline, uint32_t milliseconds,
		 uint32_t flags, uint64_t *point)
{
	struct accel_mock_later arg = {
		.timeline = timeline,
		.milliseconds = milliseconds,
		.flags = flags,
	};
	int ret = accel_ioctl(fd, ACCEL_MOCK_IOCTL_LATER, &arg);

	if (!ret)
		*point = arg.point;
	return ret;
}

TEST_F(mock_alarm, not_early_not_late)
{
	static const uint32_t ms[] = { 0, 1, 2, 3, 5, 10, 50, 200 };
	uint64_t point, value;
	int32_t status;

	for (size_t i = 0; i < ARRAY_SIZE(ms); i++) {
		int64_t before = accel_now(), after;

		ASSERT_EQ(0, later(self->fd, self->timeline, ms[i], 0, &point));
		ASSERT_EQ(i + 1, point);
		ASSERT_EQ(0,
			  accel_timeline_wait(self->fd, self->timeline, point,
					      before + 10 * NSEC_PER_SEC,
					      &value, &status));
		after = accel_now();
		EXPECT_EQ(point, value);
		EXPECT_EQ(0, status);
		EXPECT_LE(ms[i] * NSEC_PER_MSEC, after - before)
		TH_LOG("%u ms", ms[i]);
		EXPECT_GT(ms[i] * NSEC_PER_MSEC + LATE, after - before)
		TH_LOG("%u ms", ms[i]);
	}
}

/* Nor early by a part of a tick, wherever in one it was set. */
TEST_F(mock_alarm, not_early)
{
	uint64_t point;

	for (int i = 0; i < 32; i++) {
		struct timespec part = { .tv_nsec = i * 300000 };
		int64_t before;

		nanosleep(&part, NULL);
		before = accel_now();
		ASSERT_EQ(0, later(self->fd, self->timeline, 7, 0, &point));
		ASSERT_EQ(0, accel_timeline_wait(
				     self->fd, self->timeline, point,
				     before + 10 * NSEC_PER_SEC, NULL, NULL));
		EXPECT_LE(7 * NSEC_PER_MSEC, accel_now() - before);
	}
}

/* The earliest counts, in whatever order they come; none is forgotten. */
TEST_F(mock_alarm, many)
{
	static const uint32_t ms[] = { 400, 100, 300, 0, 200, 500, 50, 250 };
	uint32_t timelines[ARRAY_SIZE(ms)];
	int64_t before[ARRAY_SIZE(ms)];
	int64_t after;
	uint64_t point;

	/* One that is set for much later, to begin with. */
	ASSERT_EQ(0, later(self->fd, self->timeline, ACCEL_MOCK_LATER_MS_MAX, 0,
			   &point));
	for (size_t i = 0; i < ARRAY_SIZE(ms); i++) {
		ASSERT_EQ(0, accel_timeline_create(self->fd, &timelines[i]));
		before[i] = accel_now();
		ASSERT_EQ(0, later(self->fd, timelines[i], ms[i], 0, &point));
		ASSERT_EQ(1, point);
	}
	for (uint32_t t = 0; t <= 500; t += 50) {
		for (size_t i = 0; i < ARRAY_SIZE(ms); i++) {
			if (ms[i] != t)
				continue;
			ASSERT_EQ(0, accel_timeline_wait(
					     self->fd, timelines[i], 1,
					     before[i] + 10 * NSEC_PER_SEC,
					     NULL, NULL));
			after = accel_now();
			EXPECT_LE(t * NSEC_PER_MSEC, after - before[i])
			TH_LOG("%u ms", t);
			EXPECT_GT(t * NSEC_PER_MSEC + LATE, after - before[i])
			TH_LOG("%u ms", t);
		}
	}
}

/* An alarm that sets itself again does not keep others from being set. */
TEST_F(mock_alarm, again_and_again)
{
	int64_t before = accel_now();
	uint64_t first, second, value;

	ASSERT_EQ(0, later(self->fd, self->timeline, 300, ACCEL_MOCK_LATER_POLL,
			   &first));
	ASSERT_EQ(0, later(self->fd, self->timeline, 100, 0, &second));
	/* The second ends before, and does not carry the value. */
	EXPECT_EQ(-ETIME, accel_timeline_wait(self->fd, self->timeline, first,
					      before + 200 * NSEC_PER_MSEC,
					      &value, NULL));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, first,
					 before + 10 * NSEC_PER_SEC, &value,
					 NULL));
	EXPECT_LE(300 * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_EQ(second, value);
}

struct setter {
	pthread_t thread;
	int fd;
	uint32_t timeline;
	int failed;
};

static void *setter_thread(void *arg)
{
	struct setter *setter = arg;
	uint64_t point;

	for (int i = 0; i < 300 && !setter->failed; i++) {
		setter->failed =
			later(setter->fd, setter->timeline, i % 3, 0, &point);
		if (!setter->failed)
			setter->failed = accel_timeline_wait(
				setter->fd, setter->timeline, point,
				accel_now() + 5 * NSEC_PER_SEC, NULL, NULL);
	}
	return NULL;
}

/* Set and taken at the same time from several sides, no alarm is lost. */
TEST_F(mock_alarm, none_lost)
{
	struct setter setters[4] = {};

	for (size_t i = 0; i < ARRAY_SIZE(setters); i++) {
		setters[i].fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, setters[i].fd);
		ASSERT_EQ(0, accel_timeline_create(setters[i].fd,
						   &setters[i].timeline));
		ASSERT_EQ(0, pthread_create(&setters[i].thread, NULL,
					    setter_thread, &setters[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(setters); i++) {
		pthread_join(setters[i].thread, NULL);
		EXPECT_EQ(0, setters[i].failed);
		close(setters[i].fd);
	}
}

/* One that is set for a file that is closed finds nothing. */
TEST_F(mock_alarm, closed)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int other = accel_open(O_RDWR | O_CLOEXEC);
	uint64_t mine, point;
	uint32_t timeline;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, accel_timeline_create(other, &timeline));
	ASSERT_EQ(0, later(other, timeline, 50, 0, &point));
	ASSERT_EQ(0, accel_timeline_eventfd(other, timeline, point, event));
	ASSERT_EQ(0, later(self->fd, self->timeline, 100, 0, &mine));
	close(other);
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, mine,
					 accel_now() + 10 * NSEC_PER_SEC, NULL,
					 NULL));
	close(event);
}

TEST_F(mock_alarm, errors)
{
	uint64_t point;

	EXPECT_EQ(-ENOENT, later(self->fd, 0, 1, 0, &point));
	EXPECT_EQ(-EINVAL, later(self->fd, self->timeline,
				 ACCEL_MOCK_LATER_MS_MAX + 1, 0, &point));
	EXPECT_EQ(-EINVAL, later(self->fd, self->timeline, ~0U, 0, &point));
	for (int i = 0; i < ACCEL_MOCK_LATER_MAX; i++)
		ASSERT_EQ(0, later(self->fd, self->timeline,
				   ACCEL_MOCK_LATER_MS_MAX, 0, &point));
	EXPECT_EQ(-EAGAIN, later(self->fd, self->timeline, 0, 0, &point));
}

/* A device that goes takes its alarm with it, one that is set or that comes. */
TEST_F(mock_alarm, device_goes)
{
	static const uint32_t flags[] = { 0, ACCEL_MOCK_LATER_POLL };
	struct accel_timeline_wait wait = { .point = 1,
					    .deadline_ns = FOREVER };
	struct accel_call call;
	uint64_t point;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		wait.handle = self->timeline;
		ASSERT_EQ(0, later(self->fd, self->timeline, 200, flags[i],
				   &point));
		ASSERT_EQ(0,
			  accel_call_start(&call, self->fd,
					   ACCEL_IOCTL_TIMELINE_WAIT, &wait));
		accel_sleep_ms(20);
		ASSERT_EQ(0, accel_remove());
		ASSERT_TRUE(accel_call_wait(&call, 5000));
		accel_call_join(&call);
		EXPECT_EQ(-ENODEV, call.result);
		EXPECT_EQ(-ENODEV,
			  later(self->fd, self->timeline, 0, 0, &point));
		/* There is nobody to be called any more. */
		accel_sleep_ms(300);
		close(self->fd);
		ASSERT_EQ(0, accel_restore());
		self->fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, self->fd);
		ASSERT_EQ(0, accel_timeline_create(self->fd, &self->timeline));
	}
}

/* One that has come is waited for: nobody takes the driver from under it. */
TEST_F(mock_alarm, device_goes_meanwhile)
{
	int64_t before = accel_now();
	uint64_t point;

	ASSERT_EQ(0, later(self->fd, self->timeline, 0, ACCEL_MOCK_LATER_STALL,
			   &point));
	accel_sleep_ms(100);
	ASSERT_EQ(0, accel_remove());
	EXPECT_LE(ACCEL_MOCK_LATER_STALL_MS * NSEC_PER_MSEC,
		  accel_now() - before);
	close(self->fd);
	accel_sleep_ms(ACCEL_MOCK_LATER_STALL_MS);
	ASSERT_EQ(0, accel_restore());
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

TEST_HARNESS_MAIN
