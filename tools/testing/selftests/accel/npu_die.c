// SPDX-License-Identifier: GPL-2.0
/*
 * A card that is gone from one moment to the next, with jobs on it: reads are
 * all-ones from then on. In a guest of its own, since it does not come back.
 */

#include "kselftest_harness.h"
#include "npu.h"

/* Longest that anything may take to find out, on a slow machine too. */
#define NOTICE_MS 10000

TEST(sudden_death)
{
	struct accel_npu_error error;
	struct npu npu, idle;
	int64_t before;
	uint64_t point;
	int ret;

	ASSERT_EQ(0, npu_open(&npu));
	ASSERT_EQ(0, npu_open(&idle));
	ASSERT_EQ(0, npu_check(&npu));
	npu.list[0] = npu_nop();
	ASSERT_EQ(0, npu_inject("stall 60000"));
	for (int i = 0; i < 8; i++) {
		struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };

		ASSERT_EQ(0, npu_submit_jobs(&npu, &job, 1, 0, 1000, &point));
	}
	ASSERT_EQ(0, npu_await_begun());
	/* There is nobody left to answer. */
	EXPECT_GT(0, npu_inject("die"));
	before = accel_now();
	EXPECT_GT(0, npu_wait(&npu, point));
	EXPECT_GT(NOTICE_MS * NSEC_PER_MSEC, accel_now() - before);

	/* The state says so, and calls that need the card do. */
	for (int i = 0; i < 200 && npu_state() != ACCEL_STATE_MALFUNCTION; i++)
		accel_sleep_ms(50);
	EXPECT_EQ(ACCEL_STATE_MALFUNCTION, npu_state());
	before = accel_now();
	EXPECT_EQ(-EIO, npu_run_one(&idle, npu_nop()));
	EXPECT_EQ(-EIO, npu_map_device(&idle, NPU_RW, 4096, NPU_FREE));
	ret = npu_error(&npu, &error);
	EXPECT_TRUE(ret == 0 || ret == -EIO);
	/* Opening may work or not; it says so at once. */
	ret = npu_healthy();
	EXPECT_TRUE(ret == -EIO || ret == -ENODEV) TH_LOG("%d", ret);
	npu_close(&idle);
	EXPECT_GT(NOTICE_MS * NSEC_PER_MSEC, accel_now() - before);

	/* The driver lets go of it, and does not take it again. */
	before = accel_now();
	EXPECT_EQ(0, accel_remove());
	EXPECT_GT(NOTICE_MS * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_EQ(-ENODEV, npu_submit(&npu, 0, 1, &point));
	npu_close(&npu);
	EXPECT_NE(0, accel_restore());
	EXPECT_EQ(0, accel_rmmod(NPU_DRIVER));
}

TEST_HARNESS_MAIN
