// SPDX-License-Identifier: GPL-2.0
/*
 * A driver that does what none should: it sleeps in a call for longer than the
 * core waits without a word. The unregister waits for it, and the log says what
 * for.
 */

#include <sys/klog.h>

#include "accel_test.h"
#include "kselftest_harness.h"

#define STALL_MS 6500

static bool log_says(const char *what)
{
	static char log[1 << 20];
	int len = klogctl(3, log, sizeof(log) - 1);

	if (len < 0)
		return false;
	log[len] = 0;
	return strstr(log, what) != NULL;
}

TEST(drain)
{
	struct accel_mock_stall stall = { .milliseconds = STALL_MS };
	struct accel_null_add add = {};
	struct accel_call call;
	int64_t before;
	int fd;

	ASSERT_TRUE(accel_target() != NULL);
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0,
		  accel_call_start(&call, fd, ACCEL_MOCK_IOCTL_STALL, &stall));
	/* Others are not held up meanwhile. */
	EXPECT_FALSE(accel_call_wait(&call, 100));
	EXPECT_EQ(0, accel_ioctl(fd, ACCEL_MOCK_IOCTL_ADD, &add));
	EXPECT_FALSE(log_says("'stall'"));

	before = accel_now();
	EXPECT_EQ(0, accel_remove());
	EXPECT_LT((STALL_MS - 1500) * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_GT((STALL_MS + 3000) * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_TRUE(log_says("unregister waits for 1 in 'stall'"));
	/* It was let to its end: nothing was taken from under it. */
	EXPECT_TRUE(accel_call_wait(&call, 1000));
	accel_call_join(&call);
	EXPECT_EQ(0, call.result);
	EXPECT_EQ(-ENODEV, accel_ioctl(fd, ACCEL_MOCK_IOCTL_ADD, &add));
	close(fd);
	EXPECT_EQ(0, accel_restore());
}

TEST_HARNESS_MAIN
