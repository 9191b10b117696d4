// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that go while something else happens to them, or to their neighbour:
 * while they are being bound, while somebody opens them, while another works.
 */

#include "kselftest_harness.h"
#include "shape.h"

#define CYCLES 20
#define OPENERS 3

FIXTURE(races)
{
	struct shape shape;
	bool stop;
	int bad;
	unsigned int done;
};

FIXTURE_SETUP(races)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_TRUE(shape_address() != NULL);
}

FIXTURE_TEARDOWN(races)
{
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_healthy(accel_target()->compute));
}

static int tell(const char *what)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s",
		 accel_target()->driver, what);
	return accel_write_line(path, shape_address());
}

/* Opens both nodes as often as it can, and asks them. */
static void *open_all_the_time(void *data)
{
	FIXTURE_DATA(races) *self = data;

	while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
		struct accel_info_state state;
		int fds[2] = { accel_open(O_RDWR | O_CLOEXEC),
			       accel_open_control(O_RDONLY | O_CLOEXEC) };

		for (int i = 0; i < 2; i++) {
			int ret;

			if (fds[i] == -ENOENT || fds[i] == -ENXIO ||
			    fds[i] == -ENODEV) {
				/* Who makes it anew has to get by. */
				accel_sleep_ms(1);
				continue;
			}
			if (fds[i] < 0) {
				self->bad = fds[i];
				continue;
			}
			ret = accel_info(fds[i], ACCEL_INFO_STATE, 0, &state,
					 sizeof(state));
			close(fds[i]);
			if (ret && ret != -ENODEV)
				self->bad = ret;
			__atomic_add_fetch(&self->done, 1, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

static void *bind_all_the_time(void *data)
{
	FIXTURE_DATA(races) *self = data;

	while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
		int ret = tell("bind");

		/* EBUSY: it is bound. */
		if (ret && ret != -EBUSY && ret != -ENODEV)
			self->bad = ret;
	}
	return NULL;
}

/* Unbinding waits for a probe to end, or finds nothing to unbind. */
TEST_F_TIMEOUT(races, unbind_during_probe, SHAPE_TIMEOUT)
{
	pthread_t threads[2];
	int unbound = 0;

	shape_begin(&self->shape, _metadata->name, CYCLES);
	ASSERT_EQ(0,
		  pthread_create(&threads[0], NULL, bind_all_the_time, self));
	ASSERT_EQ(0,
		  pthread_create(&threads[1], NULL, open_all_the_time, self));
	while (unbound < self->shape.cycles) {
		int ret;

		/* With what is left of a probe, if there is one. */
		shape_going(&self->shape);
		ret = tell("unbind");
		EXPECT_TRUE(ret == 0 || ret == -ENODEV) TH_LOG("%d", ret);
		if (ret)
			continue;
		shape_gone(&self->shape);
		unbound++;
	}
	self->stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, self->bad);
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_end(&self->shape));
}

/* Neither do files keep the driver's module, nor those that are being opened. */
TEST_F_TIMEOUT(races, unload_races_open, SHAPE_TIMEOUT)
{
	const char *module = accel_target()->driver;
	pthread_t threads[OPENERS];

	/* Each module is gone eight seconds later there. */
	if (shape_kernel_finds_leaks())
		SKIP(return, "the kernel keeps kobjects that are released");
	shape_begin(&self->shape, _metadata->name, CYCLES);
	for (int i = 0; i < OPENERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL,
					    open_all_the_time, self));
	for (int i = 0; i < self->shape.cycles; i++) {
		accel_sleep_ms(i % 4);
		shape_going(&self->shape);
		ASSERT_EQ(0, accel_rmmod(module)) TH_LOG("cycle %d", i);
		shape_gone(&self->shape);
		EXPECT_FALSE(accel_loaded(module));
		ASSERT_EQ(0, accel_modprobe(module, NULL));
	}
	self->stop = true;
	for (int i = 0; i < OPENERS; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, self->bad);
	EXPECT_LT(0, self->done);
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_end(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
}

/* A device beside this one, whatever drives it. */
static int neighbour(char *node, size_t size)
{
	unsigned int numbers[16];
	int count = accel_numbers(numbers, ARRAY_SIZE(numbers));

	for (int i = 0; i < count; i++) {
		if (numbers[i] != accel_target()->number) {
			snprintf(node, size, "/dev/accel/accel%u", numbers[i]);
			return 0;
		}
	}
	return -ENODEV;
}

struct beside {
	FIXTURE_DATA(races) * races;
	char node[64];
};

/* What any device can do, and what must not fail here. */
static void *use_the_other(void *data)
{
	struct beside *beside = data;
	FIXTURE_DATA(races) *self = beside->races;
	int fd = open(beside->node, O_RDWR | O_CLOEXEC), ret = 0;

	if (fd < 0)
		ret = -errno;
	while (!ret && !__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
		struct accel_info_state state;
		uint32_t buffer, timeline;
		char *map;

		ret = accel_info(fd, ACCEL_INFO_STATE, 0, &state,
				 sizeof(state));
		if (!ret)
			ret = accel_timeline_create(fd, &timeline);
		if (!ret)
			ret = accel_timeline_destroy(fd, timeline);
		map = ret ? NULL : accel_buffer_new(fd, 64 * KIB, &buffer);
		if (!ret && (!map || accel_touch_write(map + 4096)))
			ret = -EFAULT;
		if (map)
			munmap(map, 64 * KIB);
		if (!ret)
			ret = accel_buffer_destroy(fd, buffer);
		__atomic_add_fetch(&self->done, 1, __ATOMIC_RELAXED);
	}
	if (ret)
		self->bad = ret;
	close(fd);
	return NULL;
}

TEST_F_TIMEOUT(races, one_of_two_goes, SHAPE_TIMEOUT)
{
	struct beside beside = { .races = self };
	pthread_t thread;

	ASSERT_EQ(0, neighbour(beside.node, sizeof(beside.node)));
	shape_begin(&self->shape, _metadata->name, CYCLES);
	ASSERT_EQ(0, pthread_create(&thread, NULL, use_the_other, &beside));
	for (int i = 0; i < self->shape.cycles; i++) {
		unsigned int before = self->done;

		ASSERT_EQ(0, shape_remove(&self->shape));
		/* It goes on meanwhile. */
		for (int n = 0; n < 1000 && self->done == before; n++)
			accel_sleep_ms(1);
		EXPECT_NE(before, self->done);
		ASSERT_EQ(0, accel_restore());
	}
	self->stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, self->bad);
	EXPECT_EQ(0, shape_end(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
}

TEST_HARNESS_MAIN
