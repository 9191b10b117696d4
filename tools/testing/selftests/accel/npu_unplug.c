// SPDX-License-Identifier: GPL-2.0
/* A card that goes at the moments that are worst for its driver. */

#include "kselftest_harness.h"
#include "npu.h"
#include "shape.h"

#define ROUNDS 3
#define CYCLES 20

FIXTURE(npu_unplug)
{
	struct shape shape;
};

FIXTURE_SETUP(npu_unplug)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(0, npu_inject("clear"));
}

FIXTURE_TEARDOWN(npu_unplug)
{
	EXPECT_EQ(0, npu_inject("clear"));
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, npu_recovers(NPU_JOB_MS));
	shape_print(&self->shape, _metadata->name);
	EXPECT_TRUE(shape_in_time(&self->shape));
}

/* All its contexts have jobs, and no invalidation of its TLB ever ends. */
TEST_F_TIMEOUT(npu_unplug, tlb_stuck, 120)
{
	static struct npu npus[ACCEL_NPU_CONTEXTS_MAX];

	for (int round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, accel_take_all_contexts(accel_target()->compute));
		for (int i = 0; i < ACCEL_NPU_CONTEXTS_MAX; i++) {
			uint64_t point;

			ASSERT_EQ(0, npu_open(&npus[i]));
			npus[i].list[0] = npu_nop();
			ASSERT_EQ(0, npu_submit(&npus[i], 0, 1, &point));
		}
		ASSERT_EQ(0, npu_inject("tlb-stuck 1000000"));
		ASSERT_EQ(0, shape_remove(&self->shape));
		ASSERT_EQ(0, npu_inject("clear"));
		for (int i = 0; i < ACCEL_NPU_CONTEXTS_MAX; i++)
			npu_close(&npus[i]);
		ASSERT_EQ(0, accel_restore());
	}
}

#define BUSY 32

/* A queue that is busy takes a while to stop; all of them are, at once. */
TEST_F_TIMEOUT(npu_unplug, all_queues_busy, 120)
{
	static int fds[BUSY];

	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < BUSY; i++) {
			uint32_t timeline;

			fds[i] = accel_open(O_RDWR | O_CLOEXEC);
			ASSERT_LE(0, fds[i]);
			ASSERT_EQ(0, accel_timeline_create(fds[i], &timeline));
			ASSERT_EQ(0, npu_submit_long(fds[i], timeline, 4));
		}
		ASSERT_EQ(0, shape_remove(&self->shape));
		for (int i = 0; i < BUSY; i++)
			close(fds[i]);
		ASSERT_EQ(0, accel_restore());
	}
}

struct mapper {
	struct npu npu;
	unsigned long done;
	int result;
};

#define PIECE (64 * KIB)
#define PIECES 1024
#define LARGE (8 * MIB)
#define HOLES (1ULL << 41)
#define WHOLE (1ULL << 42)

/* As much as half the pieces, in the holes that they have left. */
static void *map_holes(void *data)
{
	struct mapper *mapper = data;

	do {
		mapper->result = npu_map_device(&mapper->npu, NPU_RW,
						PIECES / 2 * PIECE, WHOLE);
		if (!mapper->result)
			mapper->result = npu_unmap(&mapper->npu, WHOLE,
						   PIECES / 2 * PIECE);
		__atomic_add_fetch(&mapper->done, 1, __ATOMIC_RELAXED);
	} while (!mapper->result);
	return NULL;
}

/* While memory of the device is mapped, of which there are pieces only. */
TEST_F_TIMEOUT(npu_unplug, map_of_fragments, 120)
{
	for (int round = 0; round < ROUNDS; round++) {
		struct mapper mapper = {};
		pthread_t thread;

		ASSERT_EQ(0, npu_open(&mapper.npu));
		/* All that is left when the pieces are there. */
		for (uint64_t at = WHOLE + (1ULL << 40);
		     npu_memory_free(&mapper.npu) >
		     (int64_t)(PIECES * PIECE + 2 * LARGE);
		     at += LARGE)
			ASSERT_EQ(0, npu_map_device(&mapper.npu, NPU_RW, LARGE,
						    at));
		for (uint64_t i = 0; i < PIECES; i++)
			ASSERT_EQ(0, npu_map_device(&mapper.npu, NPU_RW, PIECE,
						    HOLES + i * PIECE));
		for (uint64_t i = 0; i < PIECES; i += 2)
			ASSERT_EQ(0, npu_unmap(&mapper.npu, HOLES + i * PIECE,
					       PIECE));
		ASSERT_EQ(0, pthread_create(&thread, NULL, map_holes, &mapper));
		while (!__atomic_load_n(&mapper.done, __ATOMIC_RELAXED))
			accel_sleep_ms(1);
		accel_sleep_ms(3 * round);
		ASSERT_EQ(0, shape_remove(&self->shape));
		pthread_join(thread, NULL);
		EXPECT_EQ(-ENODEV, mapper.result);
		npu_close(&mapper.npu);
		ASSERT_EQ(0, accel_restore());
	}
}

/* While the core has the driver reset it. */
TEST_F_TIMEOUT(npu_unplug, during_reset, SHAPE_TIMEOUT)
{
	for (int round = 0; round < CYCLES; round++) {
		struct npu npu;
		uint64_t point;

		ASSERT_EQ(0, npu_open(&npu));
		npu.list[0] = npu_nop();
		ASSERT_EQ(0, npu_inject("stall 20000"));
		ASSERT_EQ(0, npu_submit(&npu, 0, 1, &point));
		ASSERT_EQ(0, npu_inject("fatal engine"));
		accel_sleep_ms(round);
		ASSERT_EQ(0, shape_remove(&self->shape));
		EXPECT_EQ(-ENODEV, npu_wait(&npu, point));
		npu_close(&npu);
		ASSERT_EQ(0, npu_inject("clear"));
		ASSERT_EQ(0, accel_restore());
	}
}

/* Somebody resets the function behind its driver's back, with jobs on it. */
TEST_F_TIMEOUT(npu_unplug, function_reset, 120)
{
	char path[128];

	for (int round = 0; round < ROUNDS; round++) {
		int64_t before;
		struct npu npu;
		uint64_t point;

		ASSERT_EQ(0, npu_open(&npu));
		npu.list[0] = npu_nop();
		ASSERT_EQ(0, npu_inject("stall 20000"));
		ASSERT_EQ(0, npu_submit(&npu, 0, 1, &point));
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset",
			 shape_address());
		before = accel_now();
		ASSERT_EQ(0, accel_write_line(path, "1"));
		TH_LOG("reset in %lld ms",
		       (long long)((accel_now() - before) / NSEC_PER_MSEC));
		ASSERT_EQ(0, npu_inject("clear"));
		ASSERT_EQ(0, shape_remove(&self->shape));
		EXPECT_EQ(-ENODEV, npu_wait(&npu, point));
		npu_close(&npu);
		ASSERT_EQ(0, accel_restore());
		EXPECT_EQ(0, npu_recovers(NPU_JOB_MS));
	}
}

TEST_HARNESS_MAIN
