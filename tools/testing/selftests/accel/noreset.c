// SPDX-License-Identifier: GPL-2.0
/*
 * A device whose driver has no reset: when it needs one its state says so, for
 * ever. What is the core's goes on; the driver has to be bound anew.
 */

#include "events.h"
#include "kselftest_harness.h"

#include <glob.h>

#define NORESET_DRIVER "accel_noreset"
#define SOON_MS 5000

FIXTURE(noreset)
{
	int fd;
	int control;
	char name[32];
	char compute[64];
};

FIXTURE_VARIANT(noreset)
{
	/* What the driver is asked for, and what it is told to be for. */
	uint64_t ask;
	uint32_t cause;
};

FIXTURE_VARIANT_ADD(noreset, driver){
	.ask = 0,
	.cause = ACCEL_CAUSE_DRIVER,
};

FIXTURE_VARIANT_ADD(noreset, watchdog){
	.ask = 1,
	.cause = ACCEL_CAUSE_WATCHDOG,
};

static int load(FIXTURE_DATA(noreset) * self)
{
	char path[64];
	glob_t found;
	int ret = accel_modprobe(NORESET_DRIVER, NULL);

	if (ret)
		return ret;
	if (glob("/sys/bus/faux/devices/" NORESET_DRIVER "/accel*/accel[0-9]*",
		 0, NULL, &found))
		return -ENOENT;
	snprintf(self->name, sizeof(self->name), "%s",
		 strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	snprintf(self->compute, sizeof(self->compute), "/dev/accel/%s",
		 self->name);
	snprintf(path, sizeof(path), "/dev/accel/accel_control%s",
		 self->name + strlen("accel"));
	self->fd = open(self->compute, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	self->control = open(path, O_RDONLY | O_CLOEXEC);
	return self->fd < 0 || self->control < 0 ? -errno : 0;
}

static int unload(FIXTURE_DATA(noreset) * self)
{
	close(self->fd);
	close(self->control);
	return accel_rmmod(NORESET_DRIVER);
}

FIXTURE_SETUP(noreset)
{
	ASSERT_EQ(0, load(self));
}

FIXTURE_TEARDOWN(noreset)
{
	EXPECT_EQ(0, unload(self));
}

/* The sum with 40, which is 42 if nothing else is asked for than that. */
static int add(int fd, uint64_t a)
{
	struct accel_null_add arg = { .a = a, .b = 40 };
	int ret = accel_ioctl(fd, ACCEL_NULL_IOCTL_ADD, &arg);

	return ret ? ret : (int)arg.b;
}

static struct accel_info_state state_of(int fd)
{
	struct accel_info_state state = { .state = ~0U };

	accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state));
	return state;
}

TEST_F(noreset, needs_reset)
{
	int64_t until = accel_now() + SOON_MS * NSEC_PER_MSEC;
	uint32_t buffer, timeline;
	union event event;
	char path[96];
	void *map;

	ASSERT_EQ(0, accel_events(self->fd, STATE, NULL));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	map = accel_buffer_new(self->fd, 4096, &buffer);
	ASSERT_TRUE(map != NULL);
	EXPECT_EQ(42, add(self->fd, 2));
	EXPECT_EQ(40 + variant->ask, add(self->fd, variant->ask));
	while (state_of(self->control).state == ACCEL_STATE_OPERATIONAL &&
	       accel_now() < until)
		accel_sleep_ms(1);

	/* For ever: neither time nor root nor another who asks helps. */
	snprintf(path, sizeof(path), "/sys/class/%s/%s/reset", accel_class(),
		 self->name);
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(ACCEL_STATE_NEEDS_RESET,
			  state_of(self->control).state);
		EXPECT_EQ(variant->cause, state_of(self->fd).cause);
		EXPECT_EQ(0, state_of(self->fd).resets);
		EXPECT_EQ(-EIO, add(self->fd, 2));
		EXPECT_EQ(-EIO, open(self->compute, O_RDWR | O_CLOEXEC) < 0 ?
					-errno :
					0);
		EXPECT_EQ(-EOPNOTSUPP, accel_write_line(path, "1"));
		accel_sleep_ms(20);
	}
	/* It is told of, once. */
	EXPECT_EQ(POLLIN, polled(self->fd, SOON_MS));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(ACCEL_STATE_NEEDS_RESET, event.state.state);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.state.previous);
	EXPECT_EQ(variant->cause, event.state.cause);
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
	/* What is the core's works. */
	EXPECT_EQ(0, accel_touch_write(map));
	munmap(map, 4096);
	EXPECT_EQ(0, accel_buffer_destroy(self->fd, buffer));
	EXPECT_EQ(0, accel_timeline_create(self->fd, &timeline));

	/* Bound anew it is another device. */
	ASSERT_EQ(0, accel_rmmod(NORESET_DRIVER));
	EXPECT_EQ(-ENODEV, add(self->fd, 2));
	close(self->fd);
	close(self->control);
	ASSERT_EQ(0, load(self));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state_of(self->control).state);
	EXPECT_EQ(42, add(self->fd, 2));
}

TEST_HARNESS_MAIN
