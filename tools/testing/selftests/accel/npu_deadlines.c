// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs that take longer than they may: because they are long, because the
 * device is slow, because it hangs.
 */

#include "kselftest_harness.h"
#include "npu.h"

#define DATA NPU_FREE

FIXTURE(npu_deadlines)
{
	struct npu npu;
	unsigned char *data;
};

FIXTURE_SETUP(npu_deadlines)
{
	ASSERT_EQ(0, npu_inject("clear"));
	ASSERT_EQ(0, npu_open(&self->npu));
	self->data = npu_memory(&self->npu, 4096, DATA, NPU_RW);
	ASSERT_TRUE(self->data != NULL);
}

FIXTURE_TEARDOWN(npu_deadlines)
{
	munmap(self->data, 4096);
	npu_close(&self->npu);
	EXPECT_EQ(0, npu_inject("clear"));
	EXPECT_EQ(0, npu_recovers(10000));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, npu_state());
}

static int submit(struct npu *npu, uint32_t slot, uint32_t count,
		  uint32_t deadline_ms, uint64_t *point)
{
	struct accel_npu_job jobs[8];

	for (uint32_t i = 0; i < count; i++)
		jobs[i] = (struct accel_npu_job){
			.address = NPU_LIST + (slot + i) * 256,
			.count = 1,
		};
	return npu_submit_jobs(npu, jobs, count, 0, deadline_ms, point);
}

/* Slow is not late: the deadline says what is. */
TEST_F(npu_deadlines, kept)
{
	int64_t before = accel_now();
	uint64_t point;

	self->npu.list[0] = npu_fill(DATA, 4, 1);
	ASSERT_EQ(0, npu_inject("stall 600"));
	ASSERT_EQ(0, submit(&self->npu, 0, 1, 20000, &point));
	EXPECT_EQ(0, npu_wait(&self->npu, point));
	EXPECT_EQ(1, self->data[0]);
	EXPECT_LE(600 * NSEC_PER_MSEC, accel_now() - before);
	/* Each of the next is a little slow. */
	ASSERT_EQ(0, npu_inject("stall 20 8"));
	for (int i = 0; i < 8; i++)
		self->npu.list[i] = npu_fill(DATA + i, 1, 2);
	before = accel_now();
	ASSERT_EQ(0, submit(&self->npu, 0, 8, 20000, &point));
	EXPECT_EQ(0, npu_wait(&self->npu, point));
	EXPECT_LE(160 * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_TRUE(npu_all(self->data, 8, 2));
}

/* The job that is late says so, those behind it are dropped. */
TEST_F(npu_deadlines, lost)
{
	struct accel_npu_error error;
	struct npu later = self->npu;
	int64_t before, took;
	uint64_t point;

	ASSERT_EQ(0, accel_timeline_create(later.fd, &later.timeline));
	for (int i = 0; i < 8; i++)
		self->npu.list[i] = npu_fill(DATA + i, 1, 1);
	ASSERT_EQ(0, npu_inject("stall 60000"));
	before = accel_now();
	ASSERT_EQ(0, submit(&self->npu, 0, 1, 300, &point));
	ASSERT_EQ(0, submit(&later, 1, 7, 20000, &point));
	EXPECT_EQ(-ETIMEDOUT, npu_wait(&self->npu, 1));
	took = accel_now() - before;
	EXPECT_LE(300 * NSEC_PER_MSEC, took);
	EXPECT_GT(3000 * NSEC_PER_MSEC, took);
	EXPECT_EQ(-ECANCELED, npu_wait(&later, 7));
	EXPECT_TRUE(npu_all(self->data, 8, 0));
	EXPECT_EQ(-EIO, submit(&self->npu, 0, 1, 0, NULL));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(ACCEL_NPU_ERROR_DEADLINE, error.kind);
	EXPECT_EQ(1, error.point);
	EXPECT_EQ(self->npu.timeline, error.timeline);
	EXPECT_EQ(0, error.address);
	EXPECT_EQ(0, error.access);
	/* It is usable at once, and what was dropped did not run later. */
	ASSERT_EQ(0, npu_forget(&self->npu));
	ASSERT_EQ(0, submit(&self->npu, 0, 1, 0, &point));
	EXPECT_EQ(0, npu_wait(&self->npu, point));
	EXPECT_EQ(1, self->data[0]);
	EXPECT_TRUE(npu_all(self->data + 1, 7, 0));
	EXPECT_EQ(0, npu_check(&self->npu));
}

/* Of jobs whose deadlines differ, the earliest counts, whoever is first. */
TEST_F(npu_deadlines, of_one_behind)
{
	struct accel_npu_error error;
	struct npu later = self->npu;
	int64_t before = accel_now();
	uint64_t point;

	ASSERT_EQ(0, accel_timeline_create(later.fd, &later.timeline));
	for (int i = 0; i < 2; i++)
		self->npu.list[i] = npu_fill(DATA + i, 1, 1);
	ASSERT_EQ(0, npu_inject("stall 8000"));
	ASSERT_EQ(0, submit(&self->npu, 0, 1, 30000, &point));
	ASSERT_EQ(0, submit(&later, 1, 1, 200, &point));
	/* It had to end by then and did not: the context is stopped. */
	EXPECT_EQ(-ETIMEDOUT, npu_wait(&later, 1));
	EXPECT_GT(5000 * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_EQ(-ECANCELED, npu_wait(&self->npu, 1));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(ACCEL_NPU_ERROR_DEADLINE, error.kind);
	EXPECT_EQ(later.timeline, error.timeline);
}

/* A deferred job that nobody rings for is late as well. */
TEST_F(npu_deadlines, deferred)
{
	struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };
	struct accel_npu_error error;
	uint64_t point;

	self->npu.list[0] = npu_fill(DATA, 1, 1);
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, &job, 1,
				     ACCEL_NPU_SUBMIT_DEFER, 200, &point));
	EXPECT_EQ(-ETIMEDOUT, npu_wait(&self->npu, point));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(ACCEL_NPU_ERROR_DEADLINE, error.kind);
	/* The doorbell that comes too late has it not run. */
	ASSERT_EQ(0, npu_forget(&self->npu));
	ASSERT_EQ(0, npu_run_one(&self->npu, npu_fill(DATA + 1, 1, 1)));
	EXPECT_EQ(0, self->data[0]);
	EXPECT_EQ(1, self->data[1]);
}

/* A job that is long by itself is given up within moments. */
TEST_F(npu_deadlines, long_job)
{
	struct npu npu = { .fd = -1 };
	struct accel_npu_error error;
	int64_t before;
	struct accel_npu_command big =
		npu_matmul(DATA + 32 * MIB, DATA + 16 * MIB, DATA + 16 * MIB,
			   2048, 1024, 2048);
	uint64_t point;

	ASSERT_EQ(0, npu_open(&npu));
	ASSERT_EQ(0, npu_map_device(&npu, ACCEL_NPU_MAP_READ, 4 * MIB,
				    DATA + 16 * MIB));
	ASSERT_EQ(0, npu_map_device(&npu, NPU_RW, 16 * MIB, DATA + 32 * MIB));
	for (int i = 0; i < 64; i++)
		npu.list[i] = big;
	before = accel_now();
	{
		struct accel_npu_job job = { .address = NPU_LIST, .count = 64 };

		ASSERT_EQ(0, npu_submit_jobs(&npu, &job, 1, 0, 100, &point));
	}
	EXPECT_EQ(-ETIMEDOUT, npu_wait(&npu, point));
	EXPECT_GT(3000 * NSEC_PER_MSEC, accel_now() - before);
	ASSERT_EQ(0, npu_error(&npu, &error));
	EXPECT_EQ(ACCEL_NPU_ERROR_DEADLINE, error.kind);
	ASSERT_EQ(0, npu_forget(&npu));
	EXPECT_EQ(0, npu_check(&npu));
	npu_close(&npu);
}

/* While one context's command stalls, the others' jobs run and end. */
TEST_F(npu_deadlines, others_during_stall)
{
	struct accel_npu_error error;
	struct npu other;
	uint64_t point;

	ASSERT_EQ(0, npu_open(&other));
	self->npu.list[0] = npu_fill(DATA, 1, 1);
	ASSERT_EQ(0, npu_inject("stall 60000"));
	ASSERT_EQ(0, submit(&self->npu, 0, 1, 1500, &point));
	/* Once the stalled one is on its engine; computing has engines of its own. */
	ASSERT_EQ(0, npu_await_begun());
	for (int i = 0; i < 50; i++)
		ASSERT_EQ(0, npu_check(&other));
	EXPECT_EQ(-ETIMEDOUT, npu_wait(&self->npu, 1));
	for (int i = 0; i < 20; i++)
		ASSERT_EQ(0, npu_check(&other));
	EXPECT_EQ(-ENODATA, npu_error(&other, &error));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(ACCEL_NPU_ERROR_DEADLINE, error.kind);
	EXPECT_EQ(0, npu_check(&self->npu));
	npu_close(&other);
}

/*
 * An engine that does not let go: the device is reset. The job that hung lost
 * its deadline, other jobs that were running failed with the device; the device
 * is usable, and what was in its memory of a context is still there.
 */
static int recovers_from(FIXTURE_DATA(npu_deadlines) * self, const char *engine,
			 struct accel_npu_command command)
{
	struct accel_npu_error error;
	int64_t resets = npu_stat("resets");
	struct npu other;
	uint64_t point;
	int ret;

	if (npu_open(&other) ||
	    npu_map_device(&other, NPU_RW, 64 * KIB, DATA) ||
	    npu_run_one(&other, npu_fill(DATA, 64 * KIB, 0x3c)))
		return 1;
	self->npu.list[0] = command;
	if (npu_inject("hang %s", engine) ||
	    submit(&self->npu, 0, 1, 300, &point))
		return 2;
	ret = npu_wait(&self->npu, point);
	if (ret != -ETIMEDOUT)
		return ret < 0 ? ret : 3;
	if (submit(&self->npu, 0, 1, 0, NULL) != -EIO)
		return 4;
	if (npu_error(&self->npu, &error) ||
	    error.kind != ACCEL_NPU_ERROR_DEADLINE)
		return 5;
	if (npu_recovers(10000))
		return 6;
	if (npu_stat("resets") <= resets)
		return 7;
	/* It had nothing on the device: it may go on as if nothing were. */
	npu_error(&other, &error);
	if (npu_check(&other))
		return 8;
	{
		unsigned char *map =
			npu_memory(&other, 64 * KIB, 2 * DATA, NPU_RW);

		if (!map ||
		    npu_run_one(&other, npu_copy(2 * DATA, DATA, 64 * KIB)))
			return 9;
		if (!npu_all(map, 64 * KIB, 0x3c))
			return 10;
		munmap(map, 64 * KIB);
	}
	npu_close(&other);
	if (npu_forget(&self->npu) || npu_check(&self->npu))
		return 11;
	return npu_state() == ACCEL_STATE_OPERATIONAL ? 0 : 12;
}

TEST_F(npu_deadlines, hang_compute)
{
	EXPECT_EQ(0, recovers_from(self, "compute",
				   npu_matmul(DATA + 64, DATA, DATA, 1, 1, 1)));
}

TEST_F(npu_deadlines, hang_copy)
{
	EXPECT_EQ(0, recovers_from(self, "copy", npu_fill(DATA, 1, 1)));
}

/* All compute engines hang, one after the other, and nobody else is served. */
TEST_F(npu_deadlines, hang_all)
{
	struct npu second;
	uint64_t point;

	ASSERT_EQ(0, npu_open(&second));
	self->npu.list[0] = npu_matmul(DATA + 64, DATA, DATA, 1, 1, 1);
	second.list[0] = npu_nop();
	ASSERT_EQ(0, npu_inject("hang compute"));
	ASSERT_EQ(0, submit(&self->npu, 0, 1, 500, &point));
	ASSERT_EQ(0, npu_await_begun());
	ASSERT_EQ(0, npu_inject("hang compute"));
	ASSERT_EQ(0, submit(&second, 0, 1, 400, &point));
	EXPECT_NE(0, npu_wait(&self->npu, 1));
	EXPECT_NE(0, npu_wait(&second, 1));
	npu_close(&second);
}

/* Closing a context whose job hangs does not hang. */
TEST_F(npu_deadlines, close_during_hang)
{
	int64_t before;
	struct npu npu;
	uint64_t point;

	for (int hangs = 0; hangs < 2; hangs++) {
		ASSERT_EQ(0, npu_open(&npu));
		npu.list[0] = npu_fill(DATA, 1, 1);
		ASSERT_EQ(0, hangs ? npu_inject("hang copy") :
				     npu_inject("stall 60000"));
		ASSERT_EQ(0, submit(&npu, 0, 1, 60000, &point));
		ASSERT_EQ(0, npu_await_begun());
		before = accel_now();
		npu_close(&npu);
		EXPECT_GT(5000 * NSEC_PER_MSEC, accel_now() - before);
		EXPECT_EQ(0, npu_recovers(10000));
	}
}

TEST_HARNESS_MAIN
