/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A device without hardware that is asked for resets: what the programs about
 * them have in common.
 */
#ifndef ACCEL_SELFTEST_RESET_H
#define ACCEL_SELFTEST_RESET_H

#include "accel_test.h"
#include "kselftest_harness.h"

/* Longest that anything takes that is not to wait, on a slow machine too. */
#define SOON_MS 5000
/* A reset that is not over before the test has looked. */
#define LONG_MS 1000

FIXTURE(reset)
{
	int fd;
	int control;
	uint32_t timeline;
};

FIXTURE_SETUP(reset)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(ACCEL_MOCK, accel_target()->kind);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->control);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &self->timeline));
}

static inline int ask(int fd, uint32_t what, uint32_t flags, uint32_t ms)
{
	struct accel_mock_reset arg = {
		.ask = what,
		.flags = flags,
		.milliseconds = ms,
	};

	return accel_ioctl(fd, ACCEL_MOCK_IOCTL_RESET, &arg);
}

static inline int add(int fd)
{
	struct accel_mock_add arg = { .a = 20, .b = 22 };
	int ret = accel_ioctl(fd, ACCEL_MOCK_IOCTL_ADD, &arg);

	return ret ? ret : (int)arg.b;
}

static inline int get_state(int fd, struct accel_info_state *state)
{
	return accel_info(fd, ACCEL_INFO_STATE, 0, state, sizeof(*state));
}

/* What the state is once it is @state, or after a while. */
static inline uint32_t wait_state(int fd, uint32_t state)
{
	int64_t end = accel_now() + SOON_MS * NSEC_PER_MSEC;
	struct accel_info_state now = {};

	do {
		if (get_state(fd, &now))
			return ~0U;
		if (now.state == state)
			break;
		accel_sleep_ms(1);
	} while (accel_now() < end);
	return now.state;
}

/* How many resets there were is @count once it is, or after a while. */
static inline uint64_t wait_resets(int fd, uint64_t count)
{
	int64_t end = accel_now() + SOON_MS * NSEC_PER_MSEC;
	struct accel_info_state now = {};

	do {
		if (get_state(fd, &now))
			return ~0ULL;
		if (now.resets >= count && now.state != ACCEL_STATE_RESETTING)
			break;
		accel_sleep_ms(1);
	} while (accel_now() < end);
	return now.resets;
}

/* A device that works as after it was made. */
static inline int restored(void)
{
	int ret = accel_remove();

	return ret ? ret : accel_restore();
}

/* Bring back a device that the test has taken away. */
#define reopen(self)                                                        \
	do {                                                                \
		close((self)->fd);                                          \
		close((self)->control);                                     \
		ASSERT_EQ(0, accel_restore());                              \
		(self)->fd = accel_open(O_RDWR | O_CLOEXEC);                \
		(self)->control = accel_open_control(O_RDONLY | O_CLOEXEC); \
		EXPECT_EQ(42, add((self)->fd));                             \
	} while (0)

FIXTURE_TEARDOWN(reset)
{
	struct accel_info_state state;
	bool broken = get_state(self->control, &state) ||
		      state.state != ACCEL_STATE_OPERATIONAL;

	if (!broken) {
		/* As it was: resets that take no time and lose nothing. */
		int fd = accel_open(O_RDWR | O_CLOEXEC);

		EXPECT_LE(0, fd);
		EXPECT_EQ(0, ask(fd, ACCEL_MOCK_ASK_NOTHING, 0, 0));
		close(fd);
	}
	close(self->fd);
	close(self->control);
	if (broken)
		EXPECT_EQ(0, restored());
}

#endif
