// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: how many fit into the ring and go around it, in which order they run
 * and end, and who is told when.
 */

#include "kselftest_harness.h"
#include "npu.h"

#define DATA NPU_FREE
#define DATA_SIZE (256 * KIB)

FIXTURE(npu_jobs)
{
	struct npu npu;
	unsigned char *data;
};

FIXTURE_SETUP(npu_jobs)
{
	ASSERT_EQ(0, npu_open(&self->npu));
	self->data = npu_memory(&self->npu, DATA_SIZE, DATA, NPU_RW);
	ASSERT_TRUE(self->data != NULL);
}

FIXTURE_TEARDOWN(npu_jobs)
{
	munmap(self->data, DATA_SIZE);
	npu_close(&self->npu);
}

/* A command sees what the one before it wrote, a job the job before it. */
TEST_F(npu_jobs, order)
{
	struct accel_npu_command *list = self->npu.list;
	uint64_t point;

	self->data[0] = 1;
	/* Each doubles what there is: 1, 2, 4 ... 128 KiB. */
	for (int i = 0; i < 17; i++)
		list[i] = npu_copy(DATA + (1 << i), DATA, 1 << i);
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 17, &point));
	ASSERT_EQ(0, npu_wait(&self->npu, point));
	EXPECT_TRUE(npu_all(self->data, 1 << 17, 1));
	memset(self->data + 1, 0, DATA_SIZE - 1);
	self->data[0] = 2;
	for (int i = 0; i < 17; i++)
		ASSERT_EQ(0, npu_submit(&self->npu, i, 1, &point));
	ASSERT_EQ(0, npu_wait(&self->npu, point));
	EXPECT_TRUE(npu_all(self->data, 1 << 17, 2));
}

/*
 * When a job is said to have ended, all that it wrote is there: the last byte
 * of many is looked at without any delay.
 */
TEST_F(npu_jobs, data_before_completion)
{
	enum { SIZE = 8 * MIB, ROUNDS = 20 };
	unsigned char *map;

	map = npu_memory(&self->npu, SIZE, 2 * DATA, NPU_RW);
	ASSERT_TRUE(map != NULL);
	for (int i = 1; i <= ROUNDS; i++) {
		ASSERT_EQ(0,
			  npu_run_one(&self->npu, npu_fill(2 * DATA, SIZE, i)));
		ASSERT_EQ(i, __atomic_load_n(map + SIZE - 1, __ATOMIC_RELAXED));
		ASSERT_EQ(i, map[0]);
		ASSERT_EQ(i, map[SIZE / 2]);
	}
	munmap(map, SIZE);
}

/* Job i writes i at i. */
static void number_jobs(FIXTURE_DATA(npu_jobs) * self,
			struct accel_npu_job *jobs, uint32_t first,
			uint32_t count, uint32_t slot)
{
	for (uint32_t i = 0; i < count; i++) {
		self->npu.list[slot + i] =
			npu_fill32(DATA + 4 * (first + i), 1, ~(first + i));
		jobs[i].address =
			NPU_LIST + (slot + i) * sizeof(self->npu.list[0]);
		jobs[i].count = 1;
		jobs[i].reserved = 0;
	}
}

TEST_F(npu_jobs, batches)
{
	struct accel_npu_job jobs[ACCEL_NPU_BATCH_MAX + 1] = {};
	uint64_t point, expected = 0;
	uint32_t first = 0;

	for (uint32_t n = 1; n <= ACCEL_NPU_BATCH_MAX; n++) {
		number_jobs(self, jobs, first, n, 0);
		ASSERT_EQ(0,
			  npu_submit_jobs(&self->npu, jobs, n, 0, 0, &point));
		/* Points follow each other: the answer is the last. */
		expected += n;
		ASSERT_EQ(expected, point);
		ASSERT_EQ(0, npu_wait(&self->npu, point));
		for (uint32_t i = 0; i < n; i++) {
			ASSERT_EQ(~(first + i),
				  ((uint32_t *)self->data)[first + i])
			TH_LOG("job %u of %u", i, n);
		}
		ASSERT_EQ(0, ((uint32_t *)self->data)[first + n]);
		first += n;
	}
}

/*
 * Many times around the ring, in batches of 7 and of 1 to 64, of which some
 * lie across its end; each job's result is there, none ran twice.
 */
TEST_F_TIMEOUT(npu_jobs, ring_wraps, 60)
{
	enum { JOBS = 6 * ACCEL_NPU_JOBS_MAX + 100, FLIGHT = 192 };
	struct accel_npu_job jobs[ACCEL_NPU_BATCH_MAX];
	uint32_t *count = (void *)self->data;
	/* Each adds one to its own number, which is at first 0. */
	const uint64_t one = DATA + DATA_SIZE - 64;
	uint32_t submitted = 0, n = 1;
	uint64_t point = 0;

	memset(self->data, 0, DATA_SIZE);
	memset(self->data + DATA_SIZE - 64, 1, 2);
	while (submitted < JOBS) {
		uint32_t batch = submitted % 2 ? 7 : n++ % 64 + 1;
		int ret;

		if (batch > JOBS - submitted)
			batch = JOBS - submitted;
		for (uint32_t i = 0; i < batch; i++) {
			uint32_t slot = (submitted + i) % NPU_LIST_COMMANDS;

			/* 1 x 1, and added to what is there. */
			self->npu.list[slot] =
				npu_matmul(DATA + 4 * (submitted + i), one,
					   one + 1, 1, 1, 1);
			self->npu.list[slot].flags = ACCEL_NPU_ACCUMULATE;
			jobs[i] = (struct accel_npu_job){
				.address = NPU_LIST +
					   slot * sizeof(self->npu.list[0]),
				.count = 1,
			};
		}
		if (submitted + batch > FLIGHT)
			ASSERT_EQ(0, npu_wait(&self->npu,
					      submitted + batch - FLIGHT));
		ret = npu_submit_jobs(&self->npu, jobs, batch, 0, 0, &point);
		ASSERT_EQ(0, ret);
		submitted += batch;
		ASSERT_EQ(submitted, point);
	}
	ASSERT_EQ(0, npu_wait(&self->npu, point));
	for (uint32_t i = 0; i < JOBS; i++) {
		ASSERT_EQ(1, count[i])
		TH_LOG("job %u", i);
	}
	ASSERT_EQ(0, count[JOBS]);
}

static uint32_t *doorbell(FIXTURE_DATA(npu_jobs) * self)
{
	void *map = mmap(NULL, ACCEL_NPU_DOORBELL_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED, self->npu.fd, ACCEL_NPU_MMAP_DOORBELL);

	return map == MAP_FAILED ? NULL : map;
}

/* n jobs, and not one more; a batch that does not fit is not half taken. */
TEST_F(npu_jobs, ring_full)
{
	struct accel_npu_job jobs[ACCEL_NPU_BATCH_MAX];
	uint32_t *bell = doorbell(self);
	uint64_t point = 0, value;

	ASSERT_TRUE(bell != NULL);
	for (int round = 0; round < 3; round++) {
		uint32_t base = round * ACCEL_NPU_JOBS_MAX;
		uint32_t n = 0, left = ACCEL_NPU_JOBS_MAX;

		number_jobs(self, jobs, base, ACCEL_NPU_BATCH_MAX, 0);
		while (left > 3) {
			uint32_t batch = left - 3 < 60 ? left - 3 : 60;

			number_jobs(self, jobs, base + n, batch, n);
			ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs, batch,
						     ACCEL_NPU_SUBMIT_DEFER, 0,
						     &point));
			n += batch;
			left -= batch;
			ASSERT_EQ(base + n, point);
		}
		/* Three are left: four are too many, three are not. */
		number_jobs(self, jobs, base + n, 4, n);
		EXPECT_EQ(-EAGAIN,
			  npu_submit_jobs(&self->npu, jobs, 4,
					  ACCEL_NPU_SUBMIT_DEFER, 0, NULL));
		EXPECT_EQ(-EAGAIN,
			  npu_submit_jobs(&self->npu, jobs, 64, 0, 0, NULL));
		for (int i = 0; i < 3; i++) {
			ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs + i, 1,
						     ACCEL_NPU_SUBMIT_DEFER, 0,
						     &point));
		}
		EXPECT_EQ(-EAGAIN,
			  npu_submit_jobs(&self->npu, jobs + 3, 1,
					  ACCEL_NPU_SUBMIT_DEFER, 0, NULL));
		EXPECT_EQ(-EAGAIN,
			  npu_submit_jobs(&self->npu, jobs + 3, 1, 0, 0, NULL));
		EXPECT_EQ(base + ACCEL_NPU_JOBS_MAX, point);
		/* They wait for the doorbell: none has run. */
		accel_sleep_ms(30);
		ASSERT_EQ(0,
			  accel_timeline_wait(self->npu.fd, self->npu.timeline,
					      0, 0, &value, NULL));
		EXPECT_EQ(base, value);
		EXPECT_EQ(0, ((uint32_t *)self->data)[base]);
		__atomic_store_n(bell, 1, __ATOMIC_RELEASE);
		ASSERT_EQ(0, npu_wait(&self->npu, point));
		for (uint32_t i = base; i < point; i++)
			ASSERT_EQ(~i, ((uint32_t *)self->data)[i]);
		ASSERT_EQ(0, ((uint32_t *)self->data)[point]);
	}
	munmap(bell, ACCEL_NPU_DOORBELL_SIZE);
}

/* Deferred jobs wait; a SUBMIT without DEFER rings for them as well. */
TEST_F(npu_jobs, defer)
{
	struct accel_npu_job jobs[3];
	uint32_t *bell = doorbell(self);
	uint64_t point;

	ASSERT_TRUE(bell != NULL);
	number_jobs(self, jobs, 0, 3, 0);
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs, 2,
				     ACCEL_NPU_SUBMIT_DEFER, 0, &point));
	EXPECT_EQ(2, point);
	EXPECT_EQ(-ETIME,
		  accel_timeline_wait(self->npu.fd, self->npu.timeline, 1,
				      accel_now() + 50000000, NULL, NULL));
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs + 2, 1, 0, 0, &point));
	ASSERT_EQ(0, npu_wait(&self->npu, 3));
	/* Ringing for nothing does no harm, whatever is written. */
	for (int i = 0; i < 100; i++)
		__atomic_store_n(bell, i * 0x01010101, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < 3; i++)
		EXPECT_EQ(~i, ((uint32_t *)self->data)[i]);
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs, 1,
				     ACCEL_NPU_SUBMIT_DEFER, 0, &point));
	__atomic_store_n(bell, 1, __ATOMIC_RELEASE);
	EXPECT_EQ(0, npu_wait(&self->npu, 4));
	munmap(bell, ACCEL_NPU_DOORBELL_SIZE);
}

TEST_F(npu_jobs, doorbell_errors)
{
	const int rw = PROT_READ | PROT_WRITE;
	uint32_t *bell = doorbell(self);
	uint64_t point;

	ASSERT_TRUE(bell != NULL);
	/* A page of its own: the registers around it are not there. */
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->npu.fd, 8192, rw, MAP_SHARED,
					    ACCEL_NPU_MMAP_DOORBELL));
	EXPECT_EQ(-EINVAL,
		  accel_mmap_errno(self->npu.fd, 4096, rw, MAP_SHARED, 4096));
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->npu.fd, 4096, rw, MAP_SHARED,
					    0x80000));
	EXPECT_EQ(-EINVAL,
		  accel_mmap_errno(self->npu.fd, 4096, rw, MAP_PRIVATE, 0));
	EXPECT_EQ(-EACCES,
		  accel_mmap_errno(self->npu.fd, 4096, PROT_READ | PROT_EXEC,
				   MAP_SHARED, 0));
	/* It reads as nothing, and other words of it do nothing. */
	EXPECT_EQ(0, __atomic_load_n(bell, __ATOMIC_RELAXED));
	EXPECT_EQ(0, __atomic_load_n(bell + 1023, __ATOMIC_RELAXED));
	for (int i = 1; i < 1024; i += 93)
		__atomic_store_n(bell + i, ~0U, __ATOMIC_RELAXED);
	self->npu.list[0] = npu_nop();
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
	EXPECT_EQ(0, npu_wait(&self->npu, point));
	munmap(bell, ACCEL_NPU_DOORBELL_SIZE);
}

/* The mapping outlives the file's number: it is still this context's. */
TEST_F(npu_jobs, doorbell_outlives_fd)
{
	struct npu other;
	uint32_t *bell;
	uint64_t point;

	ASSERT_EQ(0, npu_open(&other));
	bell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, other.fd,
		    0);
	ASSERT_TRUE(bell != MAP_FAILED);
	npu_close(&other);
	ASSERT_EQ(0, npu_open(&other));
	other.list[0] = npu_nop();
	for (int i = 0; i < 50; i++) {
		__atomic_store_n(bell, 1, __ATOMIC_RELEASE);
		ASSERT_EQ(0, npu_submit(&other, 0, 1, &point));
		ASSERT_EQ(0, npu_wait(&other, point));
	}
	munmap(bell, 4096);
	npu_close(&other);
}

TEST_F(npu_jobs, submit_errors)
{
	struct accel_npu_job jobs[ACCEL_NPU_BATCH_MAX + 1];
	struct accel_npu_submit submit;
	const struct accel_npu_submit good = {
		.jobs = (uintptr_t)jobs,
		.count = 2,
		.timeline = self->npu.timeline,
	};
	uint64_t point;

#define TRY(result, field, value)                                           \
	do {                                                                \
		submit = good;                                              \
		submit.field = (value);                                     \
		EXPECT_EQ(result,                                           \
			  accel_ioctl(self->npu.fd, ACCEL_NPU_IOCTL_SUBMIT, \
				      &submit))                             \
		TH_LOG(#field " %#llx", (unsigned long long)(value));       \
	} while (0)
#define TRY_JOB(result, field, value)                                         \
	do {                                                                  \
		for (int bad = 0; bad < 2; bad++) {                           \
			number_jobs(self, jobs, 0, 2, 0);                     \
			jobs[bad].field = (value);                            \
			submit = good;                                        \
			EXPECT_EQ(result, accel_ioctl(self->npu.fd,           \
						      ACCEL_NPU_IOCTL_SUBMIT, \
						      &submit))               \
			TH_LOG(#field " %#llx", (unsigned long long)(value)); \
		}                                                             \
	} while (0)
	number_jobs(self, jobs, 0, 65, 0);
	TRY(-EINVAL, count, 0);
	TRY(-EINVAL, count, ACCEL_NPU_BATCH_MAX + 1);
	TRY(-EINVAL, count, ~0U);
	TRY(-EINVAL, count, 0x10000001);
	TRY(-ENOENT, timeline, 0);
	TRY(-ENOENT, timeline, ~0U);
	TRY(-EINVAL, flags, 2);
	TRY(-EINVAL, flags, ~0U);
	TRY(-EINVAL, deadline_ms, ACCEL_NPU_DEADLINE_MAX + 1);
	TRY(-EINVAL, deadline_ms, ~0U);
	TRY(-EFAULT, jobs, 0);
	TRY(-EFAULT, jobs, 1ULL << 63);
	TRY_JOB(-EINVAL, count, 0);
	TRY_JOB(-EINVAL, count, ACCEL_NPU_COMMANDS_MAX + 1);
	TRY_JOB(-EINVAL, count, ~0U);
	TRY_JOB(-EINVAL, reserved, 1);
	TRY_JOB(-EINVAL, reserved, 1U << 31);
	TRY_JOB(-EINVAL, address, NPU_LIST + 1);
	TRY_JOB(-EINVAL, address, NPU_LIST + 32);
#undef TRY
#undef TRY_JOB
	/* Nothing ran, no point was given. */
	EXPECT_EQ(0, *(uint32_t *)self->data);
	number_jobs(self, jobs, 0, 2, 0);
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs, 2, 0,
				     ACCEL_NPU_DEADLINE_MAX, &point));
	EXPECT_EQ(2, point);
	EXPECT_EQ(0, npu_wait(&self->npu, 2));
}

/* As many commands as a job may have, at addresses of 64 bytes. */
TEST_F(npu_jobs, longest)
{
	const size_t size =
		ACCEL_NPU_COMMANDS_MAX * sizeof(struct accel_npu_command);
	struct accel_npu_job job = { .address = 4 * DATA + 64,
				     .count = ACCEL_NPU_COMMANDS_MAX };
	struct accel_npu_command *list;
	unsigned char *map;
	uint64_t point;

	map = npu_memory(&self->npu, size + 4096, 4 * DATA, ACCEL_NPU_MAP_READ);
	ASSERT_TRUE(map != NULL);
	list = (void *)(map + 64);
	for (uint32_t i = 0; i < ACCEL_NPU_COMMANDS_MAX; i++)
		list[i] = npu_fill32(DATA + 4 * i, 1, i ^ 0x5555);
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, &job, 1, 0, 0, &point));
	ASSERT_EQ(0, npu_wait(&self->npu, point));
	for (uint32_t i = 0; i < ACCEL_NPU_COMMANDS_MAX; i++)
		ASSERT_EQ(i ^ 0x5555, ((uint32_t *)self->data)[i]);
	munmap(map, size + 4096);
}

/* Timelines count for themselves, and share the queue. */
TEST_F(npu_jobs, two_timelines)
{
	struct npu second = self->npu;
	struct accel_npu_command bad = { .opcode = 0x99 };
	uint64_t point;

	ASSERT_EQ(0, accel_timeline_create(self->npu.fd, &second.timeline));
	self->npu.list[0] = npu_nop();
	self->npu.list[1] = bad;
	for (uint64_t i = 1; i <= 20; i++) {
		ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
		EXPECT_EQ(i, point);
		ASSERT_EQ(0, npu_submit(&second, i == 10, 1, &point));
		EXPECT_EQ(i, point);
	}
	EXPECT_EQ(0, npu_wait(&self->npu, 20));
	EXPECT_EQ(0, npu_wait(&second, 9));
	EXPECT_EQ(-EINVAL, npu_wait(&second, 20));
	/* Without its handle a timeline's jobs end all the same. */
	ASSERT_EQ(0, npu_submit(&second, 0, 1, &point));
	ASSERT_EQ(0, accel_timeline_destroy(self->npu.fd, second.timeline));
	EXPECT_EQ(-ENOENT, npu_submit(&second, 0, 1, NULL));
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
	EXPECT_EQ(0, npu_wait(&self->npu, point));
}

TEST_F(npu_jobs, poll_and_eventfd)
{
	struct pollfd p = { .fd = self->npu.fd, .events = POLLIN };
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct accel_npu_job jobs[8];
	uint64_t point;

	number_jobs(self, jobs, 0, 8, 0);
	EXPECT_EQ(0, poll(&p, 1, 0));
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs, 8,
				     ACCEL_NPU_SUBMIT_DEFER, 0, &point));
	ASSERT_EQ(0, accel_timeline_eventfd(self->npu.fd, self->npu.timeline,
					    point, event));
	EXPECT_EQ(0, poll(&p, 1, 20));
	EXPECT_EQ(0, accel_eventfd_count(event));
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs, 1, 0, 0, NULL));
	p.fd = event;
	EXPECT_EQ(1, poll(&p, 1, 5000));
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	for (uint32_t i = 0; i < 8; i++)
		EXPECT_EQ(~i, ((uint32_t *)self->data)[i]);
	p.fd = self->npu.fd;
	EXPECT_EQ(1, poll(&p, 1, 5000));
	EXPECT_EQ(0, npu_wait(&self->npu, 9));
	EXPECT_EQ(0, poll(&p, 1, 0));
	close(event);
}

/* Copies and computing, in contexts of their own, all at the same time. */
TEST_F(npu_jobs, many_contexts)
{
	enum { CONTEXTS = 16, ROUNDS = 20 };
	struct npu npus[CONTEXTS];
	uint32_t *maps[CONTEXTS];
	uint64_t point;

	for (uint32_t i = 0; i < CONTEXTS; i++) {
		ASSERT_EQ(0, npu_open(&npus[i]));
		maps[i] = npu_memory(&npus[i], 64 * KIB, DATA, NPU_RW);
		ASSERT_TRUE(maps[i] != NULL);
		for (uint32_t n = 0; n < ROUNDS; n++)
			npus[i].list[n] =
				npu_fill32(DATA + 64 * n, 16, i << 16 | n);
	}
	for (uint32_t n = 0; n < ROUNDS; n++)
		for (uint32_t i = 0; i < CONTEXTS; i++)
			ASSERT_EQ(0, npu_submit(&npus[i], n, 1, &point));
	for (uint32_t i = 0; i < CONTEXTS; i++) {
		ASSERT_EQ(0, npu_wait(&npus[i], ROUNDS));
		for (uint32_t n = 0; n < ROUNDS * 16; n++)
			ASSERT_EQ(i << 16 | n / 16, maps[i][n]);
		munmap(maps[i], 64 * KIB);
		npu_close(&npus[i]);
	}
}

TEST_HARNESS_MAIN
