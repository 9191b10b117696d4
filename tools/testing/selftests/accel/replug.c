// SPDX-License-Identifier: GPL-2.0
/*
 * A card that is unplugged and plugged again, through QEMU's monitor: told
 * before, or gone of a sudden, when reads are all-ones from one moment to the
 * next.
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

/*
 * What happens before it is unplugged. DIES: its process ends, and whoever runs
 * the guest starts another.
 */
enum how { TOLD, BUSY, VANISHES, DIES };

/* When a card that vanished is taken from its driver. */
enum when { BY_HAND, WHEN_NOTICED, BY_THE_SLOT, WHENS };

static bool until_noticed(void)
{
	int64_t until = accel_now() + PLUG_MS * NSEC_PER_MSEC;

	while (npu_state() != ACCEL_STATE_MALFUNCTION) {
		if (accel_now() > until)
			return false;
		accel_sleep_ms(1);
	}
	return true;
}

/* One cycle: 0, or the number of the step that went wrong. */
static int cycle(FIXTURE_DATA(replug) * self, enum how how, enum when when)
{
	const char *node = accel_target()->compute;
	int64_t until = accel_now() + PLUG_MS * NSEC_PER_MSEC;
	struct npu npu;
	uint64_t point;

	if (npu_open(&npu))
		return 1;
	npu.list[0] = npu_nop();
	if (how != TOLD) {
		if (npu_inject("stall 60000"))
			return 2;
		for (int i = 0; i < 4; i++)
			if (npu_submit(&npu, 0, 1, &point))
				return 3;
	}
	if (how == VANISHES && npu_inject("vanish"))
		return 4;
	/* Nobody answers that. */
	if (how == DIES && !npu_inject("die"))
		return 5;
	if (how >= VANISHES) {
		if (when == WHEN_NOTICED &&
		    (!until_noticed() || npu_wait(&npu, point) != -EIO))
			return 6;
		if (when == BY_HAND && shape_remove(&self->shape))
			return 7;
	}
	if (how == TOLD || (how >= VANISHES && when == BY_HAND)) {
		if (unplug(self->monitor) || !until_exists(node, false))
			return 8;
		if (how == TOLD)
			self->shape.done++;
	} else {
		shape_going(&self->shape);
		if (unplug(self->monitor) || !until_exists(node, false))
			return 9;
		shape_gone(&self->shape);
	}
	if (how != TOLD && npu_wait(&npu, point) != -ENODEV)
		return 10;
	npu_close(&npu);
	/* A model that is new is there some time after the old one. */
	while (npu_inject("clear")) {
		if (accel_now() > until)
			return 11;
		accel_sleep_ms(10);
	}
	if (plug(self->monitor))
		return 12;
	/*
	 * A kernel that tests drivers takes it from its driver once more; who looks
	 * for cards waits until it is there for good.
	 */
	if (!until_exists(node, true) || shape_rescan() ||
	    !until_exists(node, true))
		return 13;
	return npu_healthy() ? 14 : 0;
}

static void run(struct __test_metadata *_metadata, FIXTURE_DATA(replug) * self,
		enum how how)
{
	for (enum when when = 0; when < WHENS; when++)
		ASSERT_EQ(0, cycle(self, how, when));
	shape_begin(&self->shape, _metadata->name, CYCLES);
	for (int i = 0; i < self->shape.cycles; i++) {
		ASSERT_EQ(0, cycle(self, how, i % WHENS)) TH_LOG("cycle %d", i);
	}
	EXPECT_EQ(0, shape_end(&self->shape));
	EXPECT_TRUE(shape_in_time(&self->shape));
}

TEST_F_TIMEOUT(replug, idle, SHAPE_TIMEOUT)
{
	run(_metadata, self, TOLD);
}

TEST_F_TIMEOUT(replug, busy, SHAPE_TIMEOUT)
{
	run(_metadata, self, BUSY);
}

TEST_F_TIMEOUT(replug, surprise_removal, SHAPE_TIMEOUT)
{
	run(_metadata, self, VANISHES);
}

/* Not often: QEMU does not live through many ends of its connection. */
TEST_F_TIMEOUT(replug, model_dies, 120)
{
	ASSERT_EQ(0, cycle(self, DIES, BY_HAND));
}

TEST_HARNESS_MAIN
