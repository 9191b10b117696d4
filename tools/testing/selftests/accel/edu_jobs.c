// SPDX-License-Identifier: GPL-2.0
/*
 * Work on QEMU's educational device: results against the processor's own, the
 * limits, and how files share the device. A copy of one step takes the device
 * 200 ms, so there are few of them.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

FIXTURE(edu_jobs)
{
	int fd;
	uint32_t timeline;
	uint32_t buffer;
	unsigned char *map;
};

#define BUFFER_SIZE (16 * KIB)

FIXTURE_SETUP(edu_jobs)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(ACCEL_EDU, accel_target()->kind);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &self->timeline));
	self->map = accel_buffer_new(self->fd, BUFFER_SIZE, &self->buffer);
	ASSERT_TRUE(self->map != NULL);
}

FIXTURE_TEARDOWN(edu_jobs)
{
	close(self->fd);
}

static int64_t in_ms(unsigned int ms)
{
	return accel_now() + ms * NSEC_PER_MSEC;
}

static uint32_t factorial(uint32_t n)
{
	uint32_t product = 1;

	while (n > 1)
		product *= n--;
	return product;
}

static int wait_for(int fd, uint32_t timeline, uint64_t point, int32_t *status)
{
	return accel_timeline_wait(fd, timeline, point, in_ms(15000), NULL,
				   status);
}

TEST_F(edu_jobs, factorial)
{
	uint32_t numbers[ACCEL_EDU_FACTORIAL_MAX + 1];
	struct accel_edu_factorial job = {
		.numbers = (uintptr_t)numbers,
		.count = ARRAY_SIZE(numbers),
		.timeline = self->timeline,
		.dst = self->buffer,
		.dst_offset = 64,
	};
	const uint32_t *answer = (void *)(self->map + 64);
	int32_t status = 1;

	memset(self->map, 0xa5, BUFFER_SIZE);
	for (uint32_t i = 0; i < ARRAY_SIZE(numbers); i++)
		numbers[i] = ACCEL_EDU_FACTORIAL_MAX - i;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_FACTORIAL, &job));
	EXPECT_EQ(1, job.point);
	/* The numbers were read when the call returned. */
	memset(numbers, 0, sizeof(numbers));
	ASSERT_EQ(0, wait_for(self->fd, self->timeline, job.point, &status));
	EXPECT_EQ(0, status);
	for (uint32_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		ASSERT_EQ(factorial(ACCEL_EDU_FACTORIAL_MAX - i), answer[i])
		TH_LOG("%u!", ACCEL_EDU_FACTORIAL_MAX - i);
	}
	EXPECT_EQ(0xa5, self->map[63]);
	EXPECT_EQ(0xa5, self->map[64 + sizeof(numbers)]);
}

TEST_F(edu_jobs, factorial_errors)
{
	static uint32_t numbers[ACCEL_EDU_BATCH_MAX + 1];
	const struct accel_edu_factorial good = {
		.numbers = (uintptr_t)numbers,
		.count = 4,
		.timeline = self->timeline,
		.dst = self->buffer,
	};
	struct accel_edu_factorial job;
	int32_t status = 1;

#define TRY(result, field, value)                                          \
	do {                                                               \
		job = good;                                                \
		job.field = (value);                                       \
		EXPECT_EQ(result,                                          \
			  accel_ioctl(self->fd, ACCEL_EDU_IOCTL_FACTORIAL, \
				      &job));                              \
	} while (0)
	TRY(-EINVAL, count, 0);
	TRY(-EINVAL, count, ACCEL_EDU_BATCH_MAX + 1);
	TRY(-EINVAL, count, ~0U);
	TRY(-EINVAL, count, 0x40000001);
	TRY(-ENOENT, timeline, 0);
	TRY(-ENOENT, timeline, ~0U);
	TRY(-ENOENT, dst, 0);
	TRY(-ENOENT, dst, ~0U);
	TRY(-EINVAL, dst_offset, 1);
	TRY(-EINVAL, dst_offset, 2);
	TRY(-EINVAL, flags, 1);
	TRY(-ERANGE, dst_offset, BUFFER_SIZE);
	TRY(-ERANGE, dst_offset, BUFFER_SIZE - 12);
	TRY(-ERANGE, dst_offset, ~0ULL - 3);
	TRY(-ERANGE, dst_offset, ~0ULL - 15);
	TRY(-ERANGE, dst_offset, 1ULL << 63);
	TRY(-EFAULT, numbers, 0);
	for (int i = 0; i < 4; i++) {
		numbers[i] = ACCEL_EDU_FACTORIAL_MAX + 1;
		TRY(-EINVAL, flags, 0);
		numbers[i] = ~0U;
		TRY(-EINVAL, flags, 0);
		numbers[i] = ACCEL_EDU_FACTORIAL_MAX;
	}
#undef TRY
	/* Nothing of that was a job: the first point is still to be given. */
	job = good;
	job.dst_offset = BUFFER_SIZE - 16;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_FACTORIAL, &job));
	EXPECT_EQ(1, job.point);
	/* The most that one job takes. */
	memset(numbers, 0, sizeof(numbers));
	job = good;
	job.count = ACCEL_EDU_BATCH_MAX;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_FACTORIAL, &job));
	EXPECT_EQ(2, job.point);
	ASSERT_EQ(0, wait_for(self->fd, self->timeline, 2, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, ((uint32_t *)self->map)[ACCEL_EDU_BATCH_MAX - 1]);
}

static struct accel_edu_copy copy_of(uint32_t buffer, uint64_t from,
				     uint64_t to, uint64_t size,
				     uint32_t timeline)
{
	return (struct accel_edu_copy){
		.src = buffer,
		.dst = buffer,
		.src_offset = from,
		.dst_offset = to,
		.size = size,
		.timeline = timeline,
	};
}

/* One factorial, of a number that must stay where it is during the call. */
static struct accel_edu_factorial factorial_of(const uint32_t *number,
					       uint32_t buffer, uint64_t to,
					       uint32_t timeline)
{
	return (struct accel_edu_factorial){
		.numbers = (uintptr_t)number,
		.count = 1,
		.timeline = timeline,
		.dst = buffer,
		.dst_offset = to,
	};
}

TEST_F(edu_jobs, copy)
{
	struct accel_edu_copy job =
		copy_of(self->buffer, 3, 8195, 4097, self->timeline);
	unsigned char expected[BUFFER_SIZE];
	int32_t status = 1;

	for (size_t i = 0; i < BUFFER_SIZE; i++)
		self->map[i] = i * 7 + i / 256;
	memcpy(expected, self->map, BUFFER_SIZE);
	memcpy(expected + 8195, expected + 3, 4097);
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &job));
	EXPECT_EQ(1, job.point);
	ASSERT_EQ(0, wait_for(self->fd, self->timeline, job.point, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, memcmp(expected, self->map, BUFFER_SIZE));
}

/* From one buffer to another, whose handles go while it runs. */
TEST_F(edu_jobs, copy_between)
{
	struct accel_edu_copy job =
		copy_of(self->buffer, 0, 0, 4096, self->timeline);
	unsigned char *other;
	int32_t status = 1;

	other = accel_buffer_new(self->fd, 4096, &job.dst);
	ASSERT_TRUE(other != NULL);
	memset(self->map, 0x3c, 4096);
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &job));
	ASSERT_EQ(0, accel_buffer_destroy(self->fd, self->buffer));
	ASSERT_EQ(0, accel_buffer_destroy(self->fd, job.dst));
	ASSERT_EQ(0, munmap(self->map, BUFFER_SIZE));
	ASSERT_EQ(0, wait_for(self->fd, self->timeline, job.point, &status));
	EXPECT_EQ(0, status);
	for (int i = 0; i < 4096; i++)
		ASSERT_EQ(0x3c, other[i]);
}

/* The steps are in ascending order: the second reads what the first wrote. */
TEST_F(edu_jobs, copy_overlapping)
{
	struct accel_edu_copy job =
		copy_of(self->buffer, 0, 4096, 8192, self->timeline);
	int32_t status = 1;

	memset(self->map, 1, 4096);
	memset(self->map + 4096, 2, 4096);
	memset(self->map + 8192, 3, 4096);
	memset(self->map + 12288, 4, 4096);
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &job));
	ASSERT_EQ(0, wait_for(self->fd, self->timeline, job.point, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, self->map[4096]);
	EXPECT_EQ(1, self->map[8192]);
	EXPECT_EQ(1, self->map[12287]);
	EXPECT_EQ(4, self->map[12288]);
}

TEST_F(edu_jobs, copy_errors)
{
	const struct accel_edu_copy good =
		copy_of(self->buffer, 0, 8192, 1, self->timeline);
	struct accel_edu_copy job;

#define TRY(result, field, value)                                             \
	do {                                                                  \
		job = good;                                                   \
		job.field = (value);                                          \
		EXPECT_EQ(result,                                             \
			  accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &job)); \
	} while (0)
	TRY(-EINVAL, size, 0);
	TRY(-EINVAL, flags, 1);
	TRY(-ENOENT, src, 0);
	TRY(-ENOENT, src, ~0U);
	TRY(-ENOENT, dst, 0);
	TRY(-ENOENT, dst, ~0U);
	TRY(-ENOENT, timeline, 0);
	TRY(-ENOENT, timeline, ~0U);
	TRY(-ERANGE, src_offset, BUFFER_SIZE);
	TRY(-ERANGE, dst_offset, BUFFER_SIZE);
	TRY(-ERANGE, src_offset, ~0ULL);
	TRY(-ERANGE, dst_offset, ~0ULL);
	TRY(-ERANGE, size, BUFFER_SIZE - 8192 + 1);
	TRY(-ERANGE, size, ~0ULL);
	TRY(-ERANGE, size, 1ULL << 63);
#undef TRY
	/* Offset and size that only together are too much, beyond 64 bits. */
	job = good;
	job.src_offset = 4096;
	job.size = ~0ULL - 4095;
	EXPECT_EQ(-ERANGE, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &job));
	/* The last byte is a byte; it is the first job. */
	job = good;
	job.src_offset = BUFFER_SIZE - 1;
	self->map[BUFFER_SIZE - 1] = 0x77;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &job));
	EXPECT_EQ(1, job.point);
	ASSERT_EQ(0, wait_for(self->fd, self->timeline, 1, NULL));
	EXPECT_EQ(0x77, self->map[8192]);
	EXPECT_EQ(0, self->map[8193]);
}

/*
 * Queue limit: a long copy goes first, so that nothing ends meanwhile. Whether
 * the job that runs counts is the driver's to say: one more at the most.
 */
TEST_F(edu_jobs, queue_limit)
{
	struct accel_edu_copy slow =
		copy_of(self->buffer, 0, 8192, 8192, self->timeline);
	uint32_t number = 5;
	struct accel_edu_factorial job =
		factorial_of(&number, self->buffer, 0, self->timeline);
	uint64_t value = 0;
	int taken = 0, ret;

	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &slow));
	for (;;) {
		ret = accel_ioctl(self->fd, ACCEL_EDU_IOCTL_FACTORIAL, &job);
		if (ret || taken > 2 * ACCEL_EDU_JOBS_MAX)
			break;
		taken++;
		EXPECT_EQ(1 + taken, job.point);
	}
	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_LE(ACCEL_EDU_JOBS_MAX - 1, taken);
	EXPECT_GE(ACCEL_EDU_JOBS_MAX, taken);
	/* A refused job took no point: there is room when one has ended. */
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, taken + 1,
					 in_ms(15000), &value, NULL));
	EXPECT_EQ(taken + 1, value);
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_FACTORIAL, &job));
	EXPECT_EQ(taken + 2, job.point);
	EXPECT_EQ(0, wait_for(self->fd, self->timeline, taken + 2, NULL));
}

/* A reset ends the job that is running, and nothing else. */
TEST_F(edu_jobs, reset)
{
	struct accel_edu_copy jobs[3];
	uint32_t timelines[3];
	int32_t status;
	char path[96];

	memset(self->map, 0x5a, 4096);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, accel_timeline_create(self->fd, &timelines[i]));
		/* The first is of 3 steps, of 200 ms each. */
		jobs[i] = copy_of(self->buffer, 0, 4096, i ? 64 : 3 * 4096,
				  timelines[i]);
		ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY,
					 &jobs[i]));
	}
	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/reset",
		 accel_class(), accel_target()->number);
	ASSERT_EQ(0, accel_write_line(path, "1"));
	ASSERT_EQ(0, wait_for(self->fd, timelines[0], jobs[0].point, &status));
	EXPECT_EQ(-EIO, status);
	for (int i = 1; i < 3; i++) {
		ASSERT_EQ(0, wait_for(self->fd, timelines[i], jobs[i].point,
				      &status));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(0, memcmp(self->map, self->map + 4096, 64));
}

/* Jobs of one file end in the order in which they came. */
TEST_F(edu_jobs, order)
{
	struct accel_edu_copy slow =
		copy_of(self->buffer, 0, 8192, 4096, self->timeline);
	uint32_t number = 5;
	struct accel_edu_factorial job =
		factorial_of(&number, self->buffer, 8192, self->timeline);

	memset(self->map, 0x11, 4096);
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &slow));
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_EDU_IOCTL_FACTORIAL, &job));
	ASSERT_EQ(0, wait_for(self->fd, self->timeline, 2, NULL));
	EXPECT_EQ(120, *(uint32_t *)(self->map + 8192));
	EXPECT_EQ(0x11, self->map[8196]);
}

struct worker {
	int64_t ended[3];
	int result;
};

/* A process of its own: three copies, and when each had ended. */
static int work(struct worker *worker, int go)
{
	uint32_t timeline, buffer;
	uint64_t points[3];
	char c;
	int fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	if (fd < 0 || accel_timeline_create(fd, &timeline) ||
	    accel_buffer_create(fd, 8192, &buffer))
		return 1;
	if (read(go, &c, 1) != 1)
		return 2;
	for (int i = 0; i < 3; i++) {
		struct accel_edu_copy job =
			copy_of(buffer, 0, 4096, 4096, timeline);

		if (accel_ioctl(fd, ACCEL_EDU_IOCTL_COPY, &job))
			return 3;
		points[i] = job.point;
	}
	for (int i = 0; i < 3; i++) {
		if (wait_for(fd, timeline, points[i], NULL))
			return 4;
		worker->ended[i] = accel_now();
	}
	close(fd);
	return 0;
}

/* Files take turns: nobody is through before all have had a third. */
TEST_F(edu_jobs, fair)
{
	struct worker *workers;
	pid_t pids[2];
	int go[2], status;

	workers = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(workers != MAP_FAILED);
	ASSERT_EQ(0, pipe(go));
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i])
			_exit(work(&workers[i], go[0]));
	}
	accel_sleep_ms(50);
	ASSERT_EQ(2, write(go[1], "xx", 2));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	EXPECT_LT(workers[1].ended[0], workers[0].ended[2]);
	EXPECT_LT(workers[0].ended[0], workers[1].ended[2]);
}

/* Killed in the midst of a copy: the next user has the device. */
TEST_F(edu_jobs, killed)
{
	uint64_t point;
	int32_t status = 1;

	for (int i = 0; i < 3; i++) {
		int ready[2], state;
		pid_t pid;
		char c;

		ASSERT_EQ(0, pipe(ready));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			int fd = accel_open(O_RDWR | O_CLOEXEC);
			struct accel_edu_copy job;
			uint32_t timeline, buffer;

			if (fd < 0 || accel_timeline_create(fd, &timeline) ||
			    accel_buffer_create(fd, 8192, &buffer))
				_exit(1);
			job = copy_of(buffer, 0, 0, 8192, timeline);
			for (int n = 0; n < 8; n++)
				if (accel_ioctl(fd, ACCEL_EDU_IOCTL_COPY, &job))
					_exit(2);
			if (write(ready[1], "x", 1) != 1)
				_exit(3);
			wait_for(fd, timeline, job.point, NULL);
			_exit(4);
		}
		close(ready[1]);
		EXPECT_EQ(1, read(ready[0], &c, 1));
		accel_sleep_ms(i * 60);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &state, 0));
		EXPECT_TRUE(WIFSIGNALED(state));
		close(ready[0]);
		/* Its queue of 3.2 s is dropped, not worked off. */
		ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
		ASSERT_EQ(0,
			  accel_timeline_wait(self->fd, self->timeline, point,
					      in_ms(2500), NULL, &status));
		EXPECT_EQ(0, status);
	}
}

TEST_HARNESS_MAIN
