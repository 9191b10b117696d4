// SPDX-License-Identifier: GPL-2.0
/* The mock driver's own ioctls and its scratch buffer. */

#include "accel_test.h"
#include "kselftest_harness.h"

FIXTURE(mock_jobs)
{
	int fd;
	uint32_t timeline;
};

FIXTURE_SETUP(mock_jobs)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(ACCEL_MOCK, accel_target()->kind);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &self->timeline));
}

FIXTURE_TEARDOWN(mock_jobs)
{
	close(self->fd);
}

TEST_F(mock_jobs, add)
{
	static const uint64_t values[][3] = {
		{ 0, 0, 0 },
		{ 1, 2, 3 },
		{ ~0ULL, 1, 0 },
		{ ~0ULL, ~0ULL, ~0ULL - 1 },
		{ 1ULL << 63, 1ULL << 63, 0 },
		{ 0xffffffff, 1, 0x100000000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct accel_mock_add add = { values[i][0], values[i][1] };

		ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_ADD, &add));
		EXPECT_EQ(values[i][0], add.a);
		EXPECT_EQ(values[i][2], add.b);
	}
}

static int sum_of(int fd, uint64_t *values, uint64_t *partial, uint32_t count,
		  uint64_t *sum)
{
	struct accel_mock_sum arg = {
		.values = (uintptr_t)values,
		.partial = (uintptr_t)partial,
		.count = count,
		.sum = 0x5a5a5a5a5a5a5a5a,
	};
	int ret;

	ret = accel_ioctl(fd, ACCEL_MOCK_IOCTL_SUM, &arg);
	if (!ret)
		*sum = arg.sum;
	return ret;
}

TEST_F(mock_jobs, sum)
{
	static const uint32_t counts[] = { 0,	1,   2,	   511,
					   512, 513, 4095, ACCEL_MOCK_SUM_MAX };
	static uint64_t values[ACCEL_MOCK_SUM_MAX + 1];
	static uint64_t partial[ACCEL_MOCK_SUM_MAX + 1];
	uint64_t sum, expected, random = 88172645463325252ULL;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		/* xorshift: every bit of the sums is used */
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		values[i] = random;
	}
	for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
		memset(partial, 0xa5, sizeof(partial));
		ASSERT_EQ(0, sum_of(self->fd, values, partial, counts[c], &sum))
		TH_LOG("%u", counts[c]);
		expected = 0;
		for (uint32_t i = 0; i < counts[c]; i++) {
			expected += values[i];
			ASSERT_EQ(expected, partial[i])
			TH_LOG("%u of %u", i, counts[c]);
		}
		EXPECT_EQ(expected, sum);
		EXPECT_EQ(0xa5a5a5a5a5a5a5a5, partial[counts[c]]);
	}
	EXPECT_EQ(-EINVAL, sum_of(self->fd, values, partial,
				  ACCEL_MOCK_SUM_MAX + 1, &sum));
	EXPECT_EQ(-EINVAL, sum_of(self->fd, values, partial, ~0U, &sum));
	/* So many that count times size is small in 32 bits. */
	EXPECT_EQ(-EINVAL, sum_of(self->fd, values, partial, 0x20000001, &sum));
	/* The array may be read and written at one place. */
	memcpy(partial, values, sizeof(partial));
	ASSERT_EQ(0, sum_of(self->fd, partial, partial, 16, &sum));
	EXPECT_EQ(partial[15], sum);
	EXPECT_EQ(values[0] + values[1], partial[1]);
}

static int submit(int fd, uint32_t timeline, uint32_t flags, uint64_t *point)
{
	struct accel_mock_submit arg = { .timeline = timeline, .flags = flags };
	int ret;

	ret = accel_ioctl(fd, ACCEL_MOCK_IOCTL_SUBMIT, &arg);
	if (!ret)
		*point = arg.point;
	return ret;
}

TEST_F(mock_jobs, submit)
{
	uint64_t point, value;
	uint32_t buffer;
	int32_t status;

	for (uint64_t i = 1; i <= 200; i++) {
		ASSERT_EQ(0, submit(self->fd, self->timeline, 0, &point));
		ASSERT_EQ(i, point);
		/* It has ended when the call returns. */
		ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline,
						 point, 0, &value, &status));
		ASSERT_EQ(i, value);
		ASSERT_EQ(0, status);
	}
	EXPECT_EQ(-ENOENT, submit(self->fd, 0, 0, &point));
	EXPECT_EQ(-ENOENT, submit(self->fd, ~0U, 0, &point));
	ASSERT_EQ(0, accel_buffer_create(self->fd, 4096, &buffer));
	EXPECT_EQ(-ENOENT, submit(self->fd, self->timeline + 1, 0, &point));
}

TEST_F(mock_jobs, hold)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	uint64_t point, value;
	uint32_t timeline;
	int other;

	ASSERT_EQ(0, submit(self->fd, self->timeline, 0, &point));
	ASSERT_EQ(0, submit(self->fd, self->timeline, ACCEL_MOCK_SUBMIT_HOLD,
			    &point));
	EXPECT_EQ(2, point);
	/* One a file. */
	EXPECT_EQ(-EAGAIN, submit(self->fd, self->timeline,
				  ACCEL_MOCK_SUBMIT_HOLD, &point));
	other = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, accel_timeline_create(other, &timeline));
	EXPECT_EQ(0, submit(other, timeline, ACCEL_MOCK_SUBMIT_HOLD, &point));
	EXPECT_EQ(1, point);
	close(other);
	/* A later job does not carry the value over the held one. */
	ASSERT_EQ(0, submit(self->fd, self->timeline, 0, &point));
	EXPECT_EQ(3, point);
	EXPECT_EQ(-ETIME, accel_timeline_wait(self->fd, self->timeline, 3,
					      accel_now() + 50 * NSEC_PER_MSEC,
					      NULL, NULL));
	EXPECT_EQ(-ETIME, accel_timeline_wait(self->fd, self->timeline, 2, 0,
					      NULL, NULL));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 1, 0, &value,
					 NULL));
	EXPECT_EQ(1, value);
	/* Closing ends it. */
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 2, event));
	EXPECT_EQ(0, accel_eventfd_count(event));
	close(self->fd);
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	close(event);
}

/* A held job whose submitter is killed goes with it. */
TEST_F(mock_jobs, killed_while_holding)
{
	for (int i = 0; i < 5; i++) {
		int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		struct pollfd p = { .fd = event, .events = POLLIN };
		int ready[2], status;
		pid_t pid;
		char c;

		ASSERT_EQ(0, pipe(ready));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			int fd = accel_open(O_RDWR | O_CLOEXEC);
			uint32_t timeline;
			uint64_t point;

			if (fd < 0 || accel_timeline_create(fd, &timeline) ||
			    submit(fd, timeline, ACCEL_MOCK_SUBMIT_HOLD,
				   &point) ||
			    accel_timeline_eventfd(fd, timeline, point, event))
				_exit(1);
			if (write(ready[1], "x", 1) != 1)
				_exit(2);
			accel_timeline_wait(fd, timeline, point, FOREVER, NULL,
					    NULL);
			_exit(3);
		}
		close(ready[1]);
		EXPECT_EQ(1, read(ready[0], &c, 1));
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(1, poll(&p, 1, 5000));
		close(ready[0]);
		close(event);
	}
}

TEST_F(mock_jobs, scratch)
{
	const int rw = PROT_READ | PROT_WRITE;
	unsigned char *map, *again, *others;
	int other;

	map = mmap(NULL, ACCEL_MOCK_SCRATCH_SIZE, rw, MAP_SHARED, self->fd, 0);
	ASSERT_TRUE(map != MAP_FAILED);
	for (int i = 0; i < ACCEL_MOCK_SCRATCH_SIZE; i++)
		ASSERT_EQ(0, map[i]);
	memset(map, 1, ACCEL_MOCK_SCRATCH_SIZE);
	again = mmap(NULL, ACCEL_MOCK_SCRATCH_SIZE, rw, MAP_SHARED, self->fd,
		     0);
	ASSERT_TRUE(again != MAP_FAILED);
	EXPECT_EQ(0, memcmp(map, again, ACCEL_MOCK_SCRATCH_SIZE));
	again[17] = 2;
	EXPECT_EQ(2, map[17]);

	/* Each file has its own. */
	other = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, other);
	others = mmap(NULL, ACCEL_MOCK_SCRATCH_SIZE, rw, MAP_SHARED, other, 0);
	ASSERT_TRUE(others != MAP_FAILED);
	for (int i = 0; i < ACCEL_MOCK_SCRATCH_SIZE; i++)
		ASSERT_EQ(0, others[i]);

	/* And that is all there is below the buffers. */
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 8192, rw, MAP_SHARED, 0));
	EXPECT_EQ(-EINVAL,
		  accel_mmap_errno(self->fd, 4096, rw, MAP_SHARED, 4096));
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 4096, rw, MAP_SHARED,
					    ACCEL_MMAP_BUFFERS - 4096));
	EXPECT_EQ(-EINVAL,
		  accel_mmap_errno(self->fd, 4096, rw, MAP_PRIVATE, 0));
	EXPECT_EQ(-EACCES,
		  accel_mmap_errno(self->fd, 4096, PROT_READ | PROT_EXEC,
				   MAP_SHARED, 0));
	/* It stays with its mapping. */
	close(other);
	others[0] = 3;
	EXPECT_EQ(3, others[0]);
	EXPECT_EQ(0, others[1]);
	munmap(others, ACCEL_MOCK_SCRATCH_SIZE);
}

TEST_HARNESS_MAIN
