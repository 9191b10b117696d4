// SPDX-License-Identifier: GPL-2.0
/*
 * A card that is unplugged and plugged again, through QEMU's monitor, idle or
 * with jobs on it.
 */

#include "kselftest_harness.h"
#include "npu.h"
#include "shape.h"

#define MONITOR "/dev/virtio-ports/accel.monitor"
#define CYCLES 20
#define PLUG_MS 30000

FIXTURE(replug)
{
	struct shape shape;
	int monitor;
};

/* Says something to QEMU, if it is to be said, and waits for a word of it. */
static int qmp(int monitor, const char *say, const char *word)
{
	int64_t until = accel_now() + PLUG_MS * NSEC_PER_MSEC;
	char said[65536];
	size_t length = 0;

	if (say && write(monitor, say, strlen(say)) != (ssize_t)strlen(say))
		return -EIO;
	while (accel_now() < until && length < sizeof(said) - 1) {
		struct pollfd p = { .fd = monitor, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, 100) != 1)
			continue;
		n = read(monitor, said + length, sizeof(said) - 1 - length);
		if (n <= 0)
			continue;
		length += n;
		said[length] = '\0';
		if (strstr(said, "\"error\"")) {
			fprintf(stderr, "# %s", said);
			return -EPROTO;
		}
		if (strstr(said, word))
			return 0;
	}
	return -ETIMEDOUT;
}

static bool until_exists(const char *path, bool exists)
{
	int64_t until = accel_now() + PLUG_MS * NSEC_PER_MSEC;

	while (accel_exists(path) != exists) {
		if (accel_now() > until)
			return false;
		accel_sleep_ms(1);
	}
	return true;
}

static int unplug(int monitor)
{
	return qmp(monitor,
		   "{\"execute\": \"device_del\","
		   " \"arguments\": {\"id\": \"npu0\"}}\n",
		   "\"DEVICE_DELETED\"");
}

static int plug(int monitor)
{
	return qmp(monitor,
		   "{\"execute\": \"device_add\", \"arguments\": {"
		   "\"driver\": \"vfio-user-pci\", \"id\": \"npu0\","
		   " \"bus\": \"npu0-port\", \"x-msg-timeout\": 15000,"
		   " \"socket\": {\"type\": \"unix\","
		   " \"path\": \"npu0.socket\"}}}\n",
		   "\"return\"");
}

FIXTURE_SETUP(replug)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->monitor = open(MONITOR, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	ASSERT_LE(0, self->monitor);
	/* The first who opens it has to say so; QEMU minds the second time. */
	qmp(self->monitor, "{\"execute\": \"qmp_capabilities\"}\n",
	    "\"return\"");
	ASSERT_EQ(0, npu_inject("clear"));
}

FIXTURE_TEARDOWN(replug)
{
	EXPECT_EQ(0, npu_recovers(NPU_JOB_MS));
	close(self->monitor);
}

/* One cycle: 0, or the number of the step that went wrong. */
static int cycle(FIXTURE_DATA(replug) * self, bool busy)
{
	const char *node = accel_target()->compute;
	struct npu npu;
	uint64_t point;

	if (npu_open(&npu))
		return 1;
	npu.list[0] = npu_nop();
	if (busy) {
		if (npu_inject("stall 60000"))
			return 2;
		for (int i = 0; i < 4; i++)
			if (npu_submit(&npu, 0, 1, &point))
				return 3;
	}
	shape_going(&self->shape);
	if (unplug(self->monitor))
		return 4;
	if (!until_exists(node, false))
		return 5;
	shape_gone(&self->shape);
	if (busy && npu_wait(&npu, point) != -ENODEV)
		return 6;
	npu_close(&npu);
	if (npu_inject("clear"))
		return 7;
	if (plug(self->monitor))
		return 8;
	if (!until_exists(node, true))
		return 9;
	return npu_healthy() ? 10 : 0;
}

static void run(struct __test_metadata *_metadata, FIXTURE_DATA(replug) * self,
		bool busy)
{
	ASSERT_EQ(0, cycle(self, busy));
	shape_begin(&self->shape, _metadata->name, CYCLES);
	for (int i = 0; i < self->shape.cycles; i++) {
		ASSERT_EQ(0, cycle(self, busy)) TH_LOG("cycle %d", i);
	}
	EXPECT_EQ(0, shape_end(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
}

TEST_F_TIMEOUT(replug, idle, SHAPE_TIMEOUT)
{
	run(_metadata, self, false);
}

TEST_F_TIMEOUT(replug, busy, SHAPE_TIMEOUT)
{
	run(_metadata, self, true);
}

TEST_HARNESS_MAIN
