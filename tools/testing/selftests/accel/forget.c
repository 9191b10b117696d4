// SPDX-License-Identifier: GPL-2.0
/*
 * A driver's module that goes and forgets what it has registered. The device
 * keeps its number and its parent stays on its bus for ever, so this runs when
 * nobody counts devices any more.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <limits.h>

#define FORGET_DRIVER "accel_forget"

/* Number of the accelerator whose parent has this name. */
static int number_on(const char *parent)
{
	unsigned int numbers[64];
	int count;

	count = accel_numbers(numbers, ARRAY_SIZE(numbers));
	for (int i = 0; i < count && i < (int)ARRAY_SIZE(numbers); i++) {
		char path[64], target[PATH_MAX];
		const char *name;
		ssize_t n;

		snprintf(path, sizeof(path), "/sys/class/%s/accel%u/device",
			 accel_class(), numbers[i]);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		name = strrchr(target, '/');
		if (!strcmp(name ? name + 1 : target, parent))
			return numbers[i];
	}
	return -ENODEV;
}

/*
 * The core called into the text of a module that was gone: a registration that
 * is forgotten was ended by nobody.
 */
TEST(module_goes)
{
	/* A parent that was left behind keeps its name. */
	for (int round = 0; round < 2; round++) {
		int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		unsigned int id = 2 * getpid() + round;
		struct accel_info_identity identity;
		char parameter[32], parent[32], path[64], control[64];
		uint32_t buffer, timeline;
		int number, fd, monitor;
		unsigned char *map;
		int64_t before;

		snprintf(parameter, sizeof(parameter), "id=%u", id);
		snprintf(parent, sizeof(parent), FORGET_DRIVER ".%u", id);
		ASSERT_EQ(0, accel_modprobe(FORGET_DRIVER, parameter));
		number = number_on(parent);
		ASSERT_LE(0, number) TH_LOG("%s", parent);
		snprintf(path, sizeof(path), "/dev/accel/accel%d", number);
		snprintf(control, sizeof(control), "/dev/accel/accel_control%d",
			 number);
		fd = open(path, O_RDWR | O_CLOEXEC);
		monitor = open(control, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_LE(0, monitor);
		EXPECT_EQ(0, accel_info(fd, ACCEL_INFO_IDENTITY, 0, &identity,
					sizeof(identity)));
		EXPECT_STREQ("accel_forget", identity.uapi_name);
		map = accel_buffer_new(fd, 4096, &buffer);
		ASSERT_TRUE(map != NULL);
		map[0] = 1;
		ASSERT_EQ(0, accel_timeline_create(fd, &timeline));
		ASSERT_EQ(0, accel_timeline_eventfd(fd, timeline, 1, event));

		before = accel_now();
		ASSERT_EQ(0, accel_rmmod(FORGET_DRIVER));
		EXPECT_GT(5 * NSEC_PER_SEC, accel_now() - before);
		EXPECT_FALSE(accel_loaded(FORGET_DRIVER));

		EXPECT_EQ(-1, open(path, O_RDWR | O_CLOEXEC));
		EXPECT_EQ(ENOENT, errno);
		EXPECT_EQ(-1, open(control, O_RDWR | O_CLOEXEC));
		EXPECT_EQ(ENOENT, errno);
		EXPECT_EQ(-ENODEV, accel_info(fd, ACCEL_INFO_IDENTITY, 0,
					      &identity, sizeof(identity)));
		EXPECT_EQ(-ENODEV, accel_info(monitor, ACCEL_INFO_IDENTITY, 0,
					      &identity, sizeof(identity)));
		EXPECT_EQ(-ENODEV, accel_timeline_create(fd, &timeline));
		EXPECT_EQ(1, accel_eventfd_wait(event, 1));
		EXPECT_EQ(SIGBUS, accel_touch(map));
		munmap(map, 4096);
		close(fd);
		close(monitor);
		close(event);
	}
}

TEST_HARNESS_MAIN
