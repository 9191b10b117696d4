// SPDX-License-Identifier: GPL-2.0
/*
 * The shapes of IGT's core_hotunplug: a device goes, by unbind or off its bus,
 * idle or busy, with its files closed before, between or after it has come
 * back; and computes as before. Each many times, with nothing left behind.
 *
 * hotunbind	unbind with a file open, close it, bind
 * hotunplug	off the bus with a file open, close it, rescan
 * hotrebind	unbind and bind with a file open
 * hotreplug	off the bus and back with a file open
 * ... lateclose	and the file is closed when the new device has computed
 *
 * The device without hardware has no bus to be taken off: its driver's module
 * goes and comes.
 */

#include "kselftest_harness.h"
#include "shape.h"

#define CYCLES 20
/* Threads that make it busy; the limit of time is tested with more. */
#define BUSY 3
/*
 * Files that are open beside it, with an object of each kind: so many that what
 * one of them leaves behind is seen after few cycles; or few, where the kernel
 * sees it.
 */
#define FILES 32
#define FEW_FILES 4

struct how {
	const char *name;
	/* Off its bus, instead of from its driver. */
	bool unplug;
	/* A file is open while it goes; while it comes; until it has computed. */
	bool hot;
	bool across;
	bool late;
	bool busy;
};

static int go(struct shape *shape, const struct how *how)
{
	int ret;

	if (!how->unplug)
		return shape_remove(shape);
	shape_going(shape);
	ret = shape_unplug(shape_address());
	shape_gone(shape);
	return ret;
}

/* It is back: the answer is its number. */
static int come(const struct how *how)
{
	int ret;

	if (!how->unplug)
		return accel_restore_anywhere();
	ret = shape_rescan();
	return ret ? ret : accel_pci_number(shape_address());
}

/* What a file of a device that is gone answers, for ever. */
static bool is_dead(int fd)
{
	struct accel_info_state state;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint32_t handle;

	return accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state)) ==
		       -ENODEV &&
	       accel_buffer_create(fd, 4096, &handle) == -ENODEV &&
	       poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

static int files(void)
{
	return shape_kernel_finds_leaks() ? FEW_FILES : FILES;
}

static int open_files(int *fds, int count)
{
	for (int i = 0; i < count; i++) {
		uint32_t handle;

		fds[i] = accel_open(O_RDWR | O_CLOEXEC);
		if (fds[i] < 0 || accel_timeline_create(fds[i], &handle) ||
		    accel_buffer_create(fds[i], 4096, &handle))
			return -EIO;
	}
	return 0;
}

static void close_files(const int *fds, int count)
{
	for (int i = 0; i < count; i++)
		close(fds[i]);
}

/* One cycle: 0, or the number of the step that went wrong. */
static int cycle(struct shape *shape, const struct how *how)
{
	const struct accel_target *target = accel_target();
	unsigned int threads = how->busy ? BUSY : 0;
	const int count = files();
	struct load load;
	int fds[FILES];
	int number;

	if (how->hot) {
		if (open_files(fds, count))
			return 14;
		if (load_start(&load, target->compute, threads))
			return 1;
		if (!load_is_on(&load))
			return 2;
	}
	if (go(shape, how))
		return 3;
	if (accel_exists(target->compute) || accel_exists(target->control))
		return 4;
	if (how->hot && load_join(&load))
		return 5;
	if (how->hot && !is_dead(load.fd))
		return 6;
	if (how->hot && !how->across) {
		close(load.fd);
		close_files(fds, count);
	}
	if (!how->across) {
		/* What was closed just now may still hold the number. */
		if (how->unplug && shape_rescan())
			return 7;
		if (accel_restore())
			return 8;
		return shape_healthy(target->compute) ? 9 : 0;
	}
	number = come(how);
	if (number < 0 || number == (int)target->number)
		return 10;
	accel_follow(number);
	if (!how->late) {
		close(load.fd);
		close_files(fds, count);
	}
	if (shape_healthy(target->compute))
		return 11;
	if (how->late) {
		if (!is_dead(load.fd))
			return 12;
		close(load.fd);
		close_files(fds, count);
		if (shape_healthy(target->compute))
			return 13;
	}
	return 0;
}

static void run(struct __test_metadata *_metadata, const struct how *how,
		int cycles)
{
	unsigned int number = accel_target()->number;
	static struct shape shape;

	/* Once before it counts: what is made once is not a leak. */
	ASSERT_EQ(0, cycle(&shape, how));
	accel_follow(number);
	ASSERT_EQ(0, accel_restore());
	shape_begin(&shape, how->name, cycles);
	/* The plain one is asked for more often. */
	if (!how->hot && !how->unplug && shape.cycles > cycles)
		shape.cycles *= 10;
	for (int i = 0; i < shape.cycles; i++) {
		ASSERT_EQ(0, cycle(&shape, how)) TH_LOG("cycle %d", i);
	}
	/* Whatever number it came back under. */
	accel_follow(number);
	ASSERT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_end(&shape));
	EXPECT_TRUE(shape_in_time(&shape));
}

FIXTURE(unbind){};

FIXTURE_SETUP(unbind)
{
	ASSERT_TRUE(accel_target() != NULL);
}

FIXTURE_TEARDOWN(unbind)
{
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_healthy(accel_target()->compute));
}

FIXTURE(unplug){};

FIXTURE_SETUP(unplug)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_TRUE(shape_address() != NULL);
}

FIXTURE_TEARDOWN(unplug)
{
	shape_rescan();
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_healthy(accel_target()->compute));
}

#define SHAPE(fixture, test, ...)                                             \
	TEST_F_TIMEOUT(fixture, test, SHAPE_TIMEOUT)                          \
	{                                                                     \
		static const struct how how = { .name = #test, __VA_ARGS__ }; \
		run(_metadata, &how, CYCLES);                                 \
	}

SHAPE(unbind, unbind_rebind, .hot = false)
SHAPE(unbind, hotunbind_rebind, .hot = true)
SHAPE(unbind, hotunbind_rebind_busy, .hot = true, .busy = true)
SHAPE(unbind, hotrebind, .hot = true, .across = true)
SHAPE(unbind, hotrebind_busy, .hot = true, .across = true, .busy = true)
SHAPE(unbind, hotrebind_lateclose, .hot = true, .across = true, .late = true)
SHAPE(unbind, hotrebind_lateclose_busy, .hot = true, .across = true,
      .late = true, .busy = true)

SHAPE(unplug, unplug_rescan, .unplug = true)
SHAPE(unplug, hotunplug_rescan, .unplug = true, .hot = true)
SHAPE(unplug, hotunplug_rescan_busy, .unplug = true, .hot = true, .busy = true)
SHAPE(unplug, hotreplug, .unplug = true, .hot = true, .across = true)
SHAPE(unplug, hotreplug_busy, .unplug = true, .hot = true, .across = true,
      .busy = true)
SHAPE(unplug, hotreplug_lateclose, .unplug = true, .hot = true, .across = true,
      .late = true)
SHAPE(unplug, hotreplug_lateclose_busy, .unplug = true, .hot = true,
      .across = true, .late = true, .busy = true)

TEST_HARNESS_MAIN
