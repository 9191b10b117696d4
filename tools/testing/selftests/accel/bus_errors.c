// SPDX-License-Identifier: GPL-2.0
/*
 * Errors that PCI Express reports, injected at the port above an NPU: the
 * device is reset, its files are told, and goes on. A reset of the function by
 * root is the same to it.
 */

#include "kselftest_harness.h"
#include "npu.h"

#include <limits.h>

#define SOON_MS 20000
#define CYCLES 20
/* Bits of the registers: a receiver's error, a malformed packet, and a
 * completion that did not come.
 */
#define CORRECTABLE 0x00000001
#define FATAL 0x00040000
#define NONFATAL 0x00004000

/* What /dev/aer_inject takes. */
struct injection {
	uint8_t bus;
	uint8_t dev;
	uint8_t fn;
	uint32_t uncorrectable;
	uint32_t correctable;
	uint32_t header[4];
	uint32_t domain;
};

/* At the root port of the device under test. */
static int inject(uint32_t uncorrectable, uint32_t correctable)
{
	struct injection injection = {
		.uncorrectable = uncorrectable,
		.correctable = correctable,
	};
	char path[160], port[512], *name;
	unsigned int domain, bus, dev, fn;
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/device/..",
		 accel_class(), accel_target()->number);
	if (!realpath(path, port))
		return -errno;
	name = strrchr(port, '/') + 1;
	if (sscanf(name, "%x:%x:%x.%x", &domain, &bus, &dev, &fn) != 4)
		return -EPROTO;
	injection.domain = domain;
	injection.bus = bus;
	injection.dev = dev;
	injection.fn = fn;
	fd = open("/dev/aer_inject", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, &injection, sizeof(injection)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static struct accel_info_state state_of(int fd)
{
	struct accel_info_state state = { .state = ~0U };

	accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state));
	return state;
}

static uint64_t bus_resets(int fd)
{
	struct accel_info_resets resets = {};

	for (uint32_t i = 0;
	     !accel_info(fd, ACCEL_INFO_RESETS, i, &resets, sizeof(resets));
	     i++)
		if (resets.cause == ACCEL_CAUSE_BUS)
			return resets.count;
	return ~0ULL;
}

/* Waits until it has been reset so often, and computes. */
static uint64_t wait_resets(int fd, uint64_t count)
{
	int64_t end = accel_now() + SOON_MS * NSEC_PER_MSEC;

	while (accel_now() < end &&
	       (bus_resets(fd) < count ||
		state_of(fd).state == ACCEL_STATE_RESETTING))
		accel_sleep_ms(1);
	return bus_resets(fd);
}

FIXTURE(bus_errors)
{
	int control;
	struct npu npu;
};

FIXTURE_SETUP(bus_errors)
{
	ASSERT_TRUE(accel_target() != NULL);
	accel_modprobe("aer_inject", "aer_mask_override=1");
	ASSERT_TRUE(accel_exists("/dev/aer_inject"));
	self->control = accel_open_control(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->control);
	ASSERT_EQ(0, npu_open(&self->npu));
}

FIXTURE_TEARDOWN(bus_errors)
{
	npu_close(&self->npu);
	close(self->control);
	EXPECT_EQ(0, npu_recovers(SOON_MS));
}

/* Jobs that take a while, an error, and how they end: a negative errno, or 0. */
static int meets(int fd, uint32_t uncorrectable)
{
	uint32_t timeline;
	int32_t status;
	uint64_t value;
	int ret;

	ret = accel_timeline_create(fd, &timeline);
	if (!ret)
		ret = npu_submit_long(fd, timeline, 2);
	if (!ret)
		ret = inject(uncorrectable, 0);
	if (!ret)
		ret = accel_timeline_wait(fd, timeline, 2,
					  accel_now() + SOON_MS * NSEC_PER_MSEC,
					  &value, &status);
	if (ret)
		return ret;
	return value == 2 ? status : -EPROTO;
}

/* Whoever waits for a job learns that it failed, and goes on after it. */
TEST_F_TIMEOUT(bus_errors, nonfatal, 36000)
{
	const char *asked = getenv("ACCEL_CYCLES");
	int count = asked ? atoi(asked) : CYCLES;

	for (int i = 0; i < count; i++) {
		uint64_t before = bus_resets(self->control);
		int fd = accel_open(O_RDWR | O_CLOEXEC);
		int ret;

		ASSERT_LE(0, fd);
		ret = meets(fd, NONFATAL);
		/* They may have ended before. */
		if (ret)
			EXPECT_EQ(-EIO, ret);
		ASSERT_EQ(before + 1, wait_resets(self->control, before + 1));
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
			  state_of(self->control).state);
		EXPECT_EQ(ACCEL_CAUSE_BUS, state_of(self->control).cause);
		close(fd);
		EXPECT_EQ(0, npu_healthy());
	}
	fprintf(stderr, "# stress: shape=bus_errors.npu/nonfatal cycles=%d\n",
		count);
}

/* What was put right needs nobody. */
TEST_F(bus_errors, correctable)
{
	struct accel_info_state before = state_of(self->control);

	ASSERT_EQ(0, npu_check(&self->npu));
	ASSERT_EQ(0, inject(0, CORRECTABLE));
	ASSERT_EQ(0, npu_check(&self->npu));
	EXPECT_EQ(before.resets, state_of(self->control).resets);
}

/* Root resets the function. */
TEST_F(bus_errors, function)
{
	uint64_t before = bus_resets(self->control);
	char path[160];

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/device/reset",
		 accel_class(), accel_target()->number);
	ASSERT_EQ(0, npu_check(&self->npu));
	ASSERT_EQ(0, accel_write_line(path, "1"));
	EXPECT_EQ(before + 1, wait_resets(self->control, before + 1));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state_of(self->control).state);
	EXPECT_EQ(0, npu_healthy());
}

static void *reset_function(void *path)
{
	return (void *)(intptr_t)accel_write_line(path, "1");
}

/* Nobody has to do with it meanwhile, whoever closes it neither. */
TEST_F(bus_errors, close_waits)
{
	int64_t end = accel_now() + SOON_MS * NSEC_PER_MSEC;
	uint64_t before = bus_resets(self->control);
	struct accel_info_state state;
	pthread_t thread;
	char path[160];
	void *result;
	int fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/device/reset",
		 accel_class(), accel_target()->number);
	ASSERT_EQ(0, pthread_create(&thread, NULL, reset_function, path));
	do {
		state = state_of(self->control);
	} while (state.state != ACCEL_STATE_RESETTING && accel_now() < end);
	EXPECT_EQ(ACCEL_STATE_RESETTING, state.state);
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state_of(self->control).state);
	pthread_join(thread, &result);
	EXPECT_EQ(NULL, result);
	EXPECT_EQ(before + 1, wait_resets(self->control, before + 1));
}

/*
 * The link is down after it, and this machine's does not come up again: nobody
 * waits for the device in vain, and it works when it was found anew.
 */
TEST_F(bus_errors, fatal)
{
	char path[160], gone[PATH_MAX];
	int ret, fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ret = meets(fd, FATAL);
	if (ret)
		EXPECT_EQ(-EIO, ret);
	wait_resets(self->control, bus_resets(self->control));
	EXPECT_EQ(ACCEL_STATE_MALFUNCTION, state_of(self->control).state);
	EXPECT_EQ(-EIO, accel_open(O_RDWR | O_CLOEXEC));
	close(fd);
	npu_close(&self->npu);
	close(self->control);

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/device/remove",
		 accel_class(), accel_target()->number);
	ASSERT_TRUE(realpath(path, gone) != NULL);
	ASSERT_EQ(0, accel_write_line(gone, "1"));
	EXPECT_FALSE(accel_exists(gone));
	ASSERT_EQ(0, accel_write_line("/sys/bus/pci/rescan", "1"));
	EXPECT_TRUE(accel_exists(gone));
	self->control = accel_open_control(O_RDWR | O_CLOEXEC);
	EXPECT_EQ(0, npu_open(&self->npu));
}

TEST_HARNESS_MAIN
