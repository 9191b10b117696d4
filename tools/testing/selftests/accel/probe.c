// SPDX-License-Identifier: GPL-2.0
/*
 * The beginning of devices that does not come to its end: it fails at a step of
 * the driver's, or is undone while it is not over; a reset that is not; and
 * several accelerators on one parent. With the devices that need no hardware; loads their module itself.
 */

#include "kselftest_harness.h"
#include "shape.h"

#define CYCLES 20
#define DEVICES 3
#define REGISTRATIONS 8
#define OPENERS 3

FIXTURE(probe)
{
	struct shape shape;
	unsigned int numbers[64];
	int others;
};

FIXTURE_SETUP(probe)
{
	ASSERT_TRUE(accel_target() != NULL);
	if (accel_loaded(MOCK_DRIVER))
		ASSERT_EQ(0, accel_rmmod(MOCK_DRIVER));
	self->others = accel_numbers(self->numbers, 64);
	ASSERT_LT(0, self->others);
}

FIXTURE_TEARDOWN(probe)
{
	if (accel_loaded(MOCK_DRIVER))
		EXPECT_EQ(0, accel_rmmod(MOCK_DRIVER));
	EXPECT_EQ(self->others, accel_numbers(self->numbers, 64));
	EXPECT_EQ(0, accel_modprobe(MOCK_DRIVER, NULL));
}

static int load_with(const char *what, int value)
{
	char parameters[64];

	snprintf(parameters, sizeof(parameters), "devices=%d %s=%d", DEVICES,
		 what, value);
	return accel_modprobe(MOCK_DRIVER, parameters);
}

/* What is there now and was not before: how many, and their numbers. */
static int find_new(const FIXTURE_DATA(probe) * self, unsigned int *found)
{
	unsigned int now[64];
	int count = accel_numbers(now, 64), n = 0;

	for (int i = 0; i < count; i++) {
		bool was = false;

		for (int j = 0; j < self->others; j++)
			was |= self->numbers[j] == now[i];
		if (!was)
			found[n++] = now[i];
	}
	return n;
}

static void node_of(unsigned int number, char *node, size_t size)
{
	snprintf(node, size, "/dev/accel/accel%u", number);
}

static int remove_all(struct shape *shape)
{
	int ret;

	shape_going(shape);
	ret = accel_rmmod(MOCK_DRIVER);
	shape_gone(shape);
	return ret;
}

/* A device that is whole: to be asked, and to be given memory of. */
static int answers(unsigned int number)
{
	struct accel_info_identity id;
	uint32_t buffer;
	char node[64];
	int fd, ret;

	node_of(number, node, sizeof(node));
	fd = open(node, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = accel_info(fd, ACCEL_INFO_IDENTITY, 0, &id, sizeof(id));
	if (!ret && id.number != number)
		ret = -EBADMSG;
	if (!ret)
		ret = accel_buffer_create(fd, 4096, &buffer);
	close(fd);
	return ret;
}

/* Nothing is left of what failed, and the next one works. */
static int fails_at(const FIXTURE_DATA(probe) * self, int step)
{
	unsigned int found[64];

	if (!load_with("fail", step))
		return 1;
	if (accel_loaded(MOCK_DRIVER))
		return 2;
	return find_new(self, found) ? 3 : 0;
}

static void repeat(struct __test_metadata *_metadata,
		   FIXTURE_DATA(probe) * self, int step)
{
	unsigned int found[64];

	ASSERT_EQ(0, fails_at(self, step));
	shape_begin(&self->shape, _metadata->name, CYCLES);
	for (int i = 0; i < self->shape.cycles; i++) {
		ASSERT_EQ(0, fails_at(self, step)) TH_LOG("cycle %d", i);
		self->shape.done++;
	}
	EXPECT_EQ(0, shape_end(&self->shape));
	ASSERT_EQ(0, load_with("fail", 0));
	ASSERT_EQ(DEVICES, find_new(self, found));
	for (int i = 0; i < DEVICES; i++)
		EXPECT_EQ(0, answers(found[i]));
}

TEST_F_TIMEOUT(probe, fails_in_quiesce, SHAPE_TIMEOUT)
{
	repeat(_metadata, self, 1);
}

TEST_F_TIMEOUT(probe, fails_in_new, SHAPE_TIMEOUT)
{
	repeat(_metadata, self, 2);
}

TEST_F_TIMEOUT(probe, fails_half_way, SHAPE_TIMEOUT)
{
	repeat(_metadata, self, 3);
}

/*
 * All are registered, and the driver fails after that: CVE-2026-23096, where
 * what a failed registration had given back was given back again.
 */
TEST_F_TIMEOUT(probe, cve_2026_23096, SHAPE_TIMEOUT)
{
	repeat(_metadata, self, 4);
}

/* Opens whatever comes, and holds it until it is gone. */
struct opener {
	pthread_t thread;
	const FIXTURE_DATA(probe) * probe;
	bool stop;
	unsigned int opened;
	int bad;
};

static void open_one(struct opener *opener, unsigned int number)
{
	struct accel_info_state state;
	char node[64];
	int fd, ret;

	node_of(number, node, sizeof(node));
	fd = open(node, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		if (errno != ENOENT && errno != ENXIO && errno != ENODEV)
			opener->bad = -errno;
		/* Who makes it has to get by. */
		accel_sleep_ms(accel_patience() * accel_patience());
		return;
	}
	opener->opened++;
	ret = accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state));
	if (ret && ret != -ENODEV)
		opener->bad = ret;
	close(fd);
}

static void *opener_thread(void *data)
{
	struct opener *opener = data;
	const unsigned int *taken = opener->probe->numbers;

	while (!__atomic_load_n(&opener->stop, __ATOMIC_RELAXED)) {
		unsigned int number = taken[0];

		/* They get the lowest numbers that are free. */
		for (int i = 0, j = 0; i < DEVICES; number++) {
			if (j < opener->probe->others && taken[j] == number) {
				j++;
				continue;
			}
			open_one(opener, number);
			i++;
		}
	}
	return NULL;
}

static int start_openers(struct opener *openers,
			 const FIXTURE_DATA(probe) * probe)
{
	for (int i = 0; i < OPENERS; i++) {
		int ret;

		memset(&openers[i], 0, sizeof(openers[i]));
		openers[i].probe = probe;
		ret = pthread_create(&openers[i].thread, NULL, opener_thread,
				     &openers[i]);
		if (ret)
			return -ret;
	}
	return 0;
}

static int stop_openers(struct opener *openers)
{
	int bad = 0;

	for (int i = 0; i < OPENERS; i++) {
		__atomic_store_n(&openers[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(openers[i].thread, NULL);
		if (openers[i].bad)
			bad = openers[i].bad;
	}
	return bad;
}

/* The module's end races with those who open; and with its own failure. */
static void unload_races(struct __test_metadata *_metadata,
			 FIXTURE_DATA(probe) * self, int step)
{
	static struct opener openers[OPENERS];

	shape_begin(&self->shape, _metadata->name, CYCLES);
	ASSERT_EQ(0, start_openers(openers, self));
	for (int i = 0; i < self->shape.cycles; i++) {
		if (step) {
			EXPECT_NE(0, load_with("fail", step));
			self->shape.done++;
		} else {
			ASSERT_EQ(0, load_with("fail", 0));
			accel_sleep_ms(i % 8);
			/* Files do not hold the module. */
			ASSERT_EQ(0, remove_all(&self->shape))
			TH_LOG("cycle %d", i);
		}
		EXPECT_FALSE(accel_loaded(MOCK_DRIVER));
	}
	EXPECT_EQ(0, stop_openers(openers));
	EXPECT_LT(0, openers[0].opened);
	EXPECT_EQ(0, shape_end(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
}

TEST_F_TIMEOUT(probe, unload_races_open, SHAPE_TIMEOUT)
{
	unload_races(_metadata, self, 0);
}

TEST_F_TIMEOUT(probe, failure_races_open, SHAPE_TIMEOUT)
{
	unload_races(_metadata, self, 4);
}

/* Taken away while they are being made: not yet, or as soon as they are. */
TEST_F_TIMEOUT(probe, unload_during_probe, SHAPE_TIMEOUT)
{
	int early = 0;

	shape_begin(&self->shape, _metadata->name, CYCLES);
	for (int i = 0; i < self->shape.cycles; i++) {
		int64_t until =
			accel_now() + 10 * NSEC_PER_SEC * accel_patience();
		int status, ret;
		pid_t pid;

		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(load_with("slow_ms", 5) ? 1 : 0);
		do {
			shape_going(&self->shape);
			ret = accel_rmmod(MOCK_DRIVER);
			if (ret == -EBUSY)
				early++;
		} while (ret && accel_now() < until);
		shape_gone(&self->shape);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
	}
	EXPECT_LT(0, early);
	EXPECT_EQ(0, shape_end(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
}

/* It goes while it is being reset, which takes longer than going may. */
TEST_F_TIMEOUT(probe, goes_during_reset, SHAPE_TIMEOUT)
{
	shape_begin(&self->shape, _metadata->name, CYCLES);
	for (int i = 0; i < self->shape.cycles; i++) {
		struct accel_mock_reset reset = { .ask = ACCEL_MOCK_ASK_RESET,
						  .milliseconds = 2000 };
		struct accel_info_state state;
		unsigned int found[64];
		char node[64];
		int fd;

		ASSERT_EQ(0, accel_modprobe(MOCK_DRIVER, NULL));
		ASSERT_EQ(1, find_new(self, found));
		node_of(found[0], node, sizeof(node));
		fd = open(node, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, accel_ioctl(fd, ACCEL_MOCK_IOCTL_RESET, &reset));
		accel_sleep_ms(i % 8);
		ASSERT_EQ(0, remove_all(&self->shape));
		EXPECT_EQ(-ENODEV, accel_info(fd, ACCEL_INFO_STATE, 0, &state,
					      sizeof(state)));
		close(fd);
	}
	EXPECT_EQ(0, shape_end(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
}

/* Several on one parent: they go together, each with a busy file. */
TEST_F_TIMEOUT(probe, several_on_one_parent, SHAPE_TIMEOUT)
{
	static struct load loads[REGISTRATIONS];

	shape_begin(&self->shape, _metadata->name, CYCLES);
	for (int i = 0; i < self->shape.cycles; i++) {
		unsigned int found[64], indices = 0;

		ASSERT_EQ(0, accel_modprobe(MOCK_DRIVER, "registrations=8"));
		ASSERT_EQ(REGISTRATIONS, find_new(self, found));
		for (int n = 0; n < REGISTRATIONS; n++) {
			struct accel_info_identity id;
			char node[64];

			node_of(found[n], node, sizeof(node));
			ASSERT_EQ(0, load_start(&loads[n], node, 0));
			ASSERT_EQ(0,
				  accel_info(loads[n].fd, ACCEL_INFO_IDENTITY,
					     0, &id, sizeof(id)));
			indices |= 1U << id.function_index;
		}
		EXPECT_EQ((1U << REGISTRATIONS) - 1, indices);
		ASSERT_EQ(0, remove_all(&self->shape));
		for (int n = 0; n < REGISTRATIONS; n++) {
			struct accel_info_state state;

			EXPECT_EQ(-ENODEV,
				  accel_info(loads[n].fd, ACCEL_INFO_STATE, 0,
					     &state, sizeof(state)));
			close(loads[n].fd);
		}
	}
	EXPECT_EQ(0, shape_end(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
}

TEST_HARNESS_MAIN
