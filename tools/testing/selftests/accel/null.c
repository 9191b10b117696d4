// SPDX-License-Identifier: GPL-2.0
/* The smallest driver: it adds, and has nothing else. */

#include "accel_test.h"
#include "kselftest_harness.h"

FIXTURE(null)
{
	int fd;
};

FIXTURE_SETUP(null)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(null)
{
	close(self->fd);
}

TEST_F(null, adds)
{
	struct accel_null_add add = { .a = ~0ULL, .b = 3 };

	EXPECT_EQ(0, accel_ioctl(self->fd, ACCEL_NULL_IOCTL_ADD, &add));
	EXPECT_EQ(~0ULL, add.a);
	EXPECT_EQ(2, add.b);
}

/* Who has no way to reset its devices says so. */
TEST_F(null, reset)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/reset",
		 accel_class(), accel_target()->number);
	EXPECT_EQ(-EOPNOTSUPP, accel_write_line(path, "1"));
	EXPECT_EQ(-EINVAL, accel_write_line(path, "0"));
}

TEST_F(null, sizes)
{
	struct {
		struct accel_null_add add;
		uint64_t more;
	} arg = { .add = { .a = 1, .b = 2 } };
	unsigned int nr = ACCEL_NULL_NR_ADD;

	/* Without b, which is 0 then, and is not written. */
	EXPECT_EQ(0, accel_ioctl(self->fd, _IOWR(ACCEL_IOCTL_TYPE, nr, __u64),
				 &arg));
	EXPECT_EQ(2, arg.add.b);
	EXPECT_EQ(0, accel_ioctl(self->fd,
				 _IOC(_IOC_READ | _IOC_WRITE, ACCEL_IOCTL_TYPE,
				      nr, sizeof(arg)),
				 &arg));
	EXPECT_EQ(3, arg.add.b);
	arg.more = 1;
	EXPECT_EQ(-E2BIG, accel_ioctl(self->fd,
				      _IOC(_IOC_READ | _IOC_WRITE,
					   ACCEL_IOCTL_TYPE, nr, sizeof(arg)),
				      &arg));
	EXPECT_EQ(-EFAULT, accel_ioctl(self->fd, ACCEL_NULL_IOCTL_ADD, NULL));
}

TEST_F(null, nothing_else)
{
	struct accel_null_add add = {};
	unsigned int nr = ACCEL_NULL_NR_ADD;

	EXPECT_EQ(-ENOTTY, accel_ioctl(self->fd,
				       _IOWR(ACCEL_IOCTL_TYPE, nr + 1,
					     struct accel_null_add),
				       &add));
	EXPECT_EQ(-ENOTTY,
		  accel_ioctl(self->fd,
			      _IOW(ACCEL_IOCTL_TYPE, nr, struct accel_null_add),
			      &add));
	/* It has no mmap of its own. */
	EXPECT_EQ(MAP_FAILED,
		  mmap(NULL, 4096, PROT_READ, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EINVAL, errno);
}

TEST_HARNESS_MAIN
