// SPDX-License-Identifier: GPL-2.0
/*
 * Sleep of a device that nobody needs, and of the whole system; errors that the
 * bus reports. What runs, ends; what is queued, goes on; who looks, wakes nobody.
 */

#include "kselftest_harness.h"
#include "npu.h"

/* Longest that anything here takes, on a slow machine too. */
#define SOON_MS 20000
/* After how long without a call a device is idle, in these tests. */
#define DELAY "100"
#define CYCLES 20
#define CASE_TIMEOUT 36000

static int cycles(int most)
{
	const char *asked = getenv("ACCEL_CYCLES");

	return asked ? atoi(asked) : most;
}

static void told(const char *shape, int count)
{
	const char *kind = getenv("ACCEL_KIND");

	fprintf(stderr, "# stress: shape=power%s%s/%s cycles=%d leaks=0\n",
		kind ? "." : "", kind ? kind : "", shape, count);
}

/* A file in the folder of the parent. */
static void parent_path(char *path, size_t size, const char *file)
{
	snprintf(path, size, "/sys/class/%s/accel%u/device/%s", accel_class(),
		 accel_target()->number, file);
}

static int set_parent(const char *file, const char *value)
{
	char path[160];

	parent_path(path, sizeof(path), file);
	return accel_write_line(path, value);
}

static int64_t parent_number(const char *file)
{
	char path[160], line[64];

	parent_path(path, sizeof(path), file);
	if (accel_read_line(path, line, sizeof(line)))
		return -1;
	return strtoll(line, NULL, 10);
}

static bool parent_is(const char *file, const char *value)
{
	int64_t end = accel_now() + SOON_MS * NSEC_PER_MSEC;
	char path[160], line[64];

	parent_path(path, sizeof(path), file);
	do {
		if (accel_read_line(path, line, sizeof(line)))
			return false;
		if (!strcmp(line, value))
			return true;
		accel_sleep_ms(1);
	} while (accel_now() < end);
	return false;
}

static struct accel_info_state state_of(int fd)
{
	struct accel_info_state state = { .state = ~0U };

	accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state));
	return state;
}

/* Waits for a state; the one that it is in after all. */
static uint32_t wait_state(int fd, uint32_t wanted)
{
	int64_t end = accel_now() + SOON_MS * NSEC_PER_MSEC;
	uint32_t state;

	do {
		state = state_of(fd).state;
		if (state == wanted)
			break;
		accel_sleep_ms(1);
	} while (accel_now() < end);
	return state;
}

static uint64_t resets(int fd, uint32_t cause)
{
	struct accel_info_resets resets = {};

	for (uint32_t i = 0;
	     !accel_info(fd, ACCEL_INFO_RESETS, i, &resets, sizeof(resets));
	     i++)
		if (resets.cause == cause)
			return resets.count;
	return ~0ULL;
}

/* A job on a timeline of its own; its status. */
static int job(int fd)
{
	uint32_t timeline;
	int32_t status = 1;
	uint64_t point;
	int ret;

	ret = accel_timeline_create(fd, &timeline);
	if (!ret)
		ret = accel_submit(fd, timeline, &point);
	if (!ret)
		ret = accel_timeline_wait(fd, timeline, point,
					  accel_now() + SOON_MS * NSEC_PER_MSEC,
					  NULL, &status);
	if (!ret)
		accel_timeline_destroy(fd, timeline);
	return ret ? ret : status;
}

/* How the mock sleeps; how it has. */
static int nap(int fd, uint32_t flags, struct accel_mock_sleep *told)
{
	struct accel_mock_sleep arg = { .flags = flags };
	int ret = accel_ioctl(fd, ACCEL_MOCK_IOCTL_SLEEP, &arg);

	if (told)
		*told = arg;
	return ret;
}

FIXTURE(power)
{
	int fd;
	int control;
};

/* Has it sleep soon, or as ever. A mock is made anew for that. */
static int hurry(bool soon)
{
	static char ever[32];
	char path[160];
	int ret;

	if (accel_target()->kind == ACCEL_MOCK) {
		ret = accel_loaded(MOCK_DRIVER) ? accel_rmmod(MOCK_DRIVER) : 0;
		return ret ? ret :
			     accel_modprobe(MOCK_DRIVER,
					    soon ? "autosuspend_ms=" DELAY :
						   NULL);
	}
	if (!ever[0]) {
		parent_path(path, sizeof(path), "power/autosuspend_delay_ms");
		ret = accel_read_line(path, ever, sizeof(ever));
		if (ret)
			return ret;
	}
	return set_parent("power/autosuspend_delay_ms", soon ? DELAY : ever);
}

/* The same with its files, which are closed, or -1. */
static int begin(FIXTURE_DATA(power) * self, bool soon)
{
	int ret = hurry(soon);

	if (ret)
		return ret;
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	self->control = accel_open_control(O_RDWR | O_CLOEXEC);
	return self->fd < 0 ? self->fd : self->control < 0 ? self->control : 0;
}

static void end(FIXTURE_DATA(power) * self)
{
	close(self->fd);
	close(self->control);
}

FIXTURE_SETUP(power)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(0, begin(self, true));
}

FIXTURE_TEARDOWN(power)
{
	EXPECT_EQ(0, job(self->fd));
	end(self);
	EXPECT_EQ(0, hurry(false));
}

/* It sleeps, whoever looks does not wake it, who needs it does. */
TEST_F_TIMEOUT(power, idle, CASE_TIMEOUT)
{
	int count = cycles(CYCLES);

	for (int i = 0; i < count; i++) {
		struct accel_info_identity id;
		struct accel_info_state before, after;
		int64_t slept;
		uint32_t buffer;
		int fd;

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  wait_state(self->control, ACCEL_STATE_SUSPENDED));
		before = state_of(self->control);
		EXPECT_EQ(ACCEL_CAUSE_IDLE, before.cause);
		if (accel_target()->kind != ACCEL_MOCK)
			EXPECT_TRUE(
				parent_is("power/runtime_status", "suspended"));
		if (accel_target()->kind == ACCEL_NPU)
			EXPECT_TRUE(parent_is("power_state", "D3hot"));
		slept = parent_number("power/runtime_suspended_time");

		/* Nobody of these needs it. */
		EXPECT_EQ(0, accel_info(self->fd, ACCEL_INFO_IDENTITY, 0, &id,
					sizeof(id)));
		fd = accel_open_control(O_RDWR | O_CLOEXEC);
		EXPECT_LE(0, fd);
		close(fd);
		EXPECT_EQ(0, accel_buffer_create(self->fd, 4096, &buffer));
		EXPECT_EQ(0, accel_buffer_destroy(self->fd, buffer));
		EXPECT_LE(0, accel_fdinfo(self->fd, "pos"));
		after = state_of(self->control);
		EXPECT_EQ(before.state, after.state);
		EXPECT_EQ(before.since_ns, after.since_ns);
		if (accel_target()->kind == ACCEL_NPU) {
			EXPECT_TRUE(parent_is("power_state", "D3hot"));
			EXPECT_LE(
				slept,
				parent_number("power/runtime_suspended_time"));
		}

		ASSERT_EQ(0, job(self->fd));
		EXPECT_EQ(before.resets, state_of(self->control).resets);
	}
	told("idle", count);
}

/* A file that is opened or closed needs the device, too. */
TEST_F(power, files)
{
	for (int i = 0; i < 2; i++) {
		int fd;

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  wait_state(self->control, ACCEL_STATE_SUSPENDED));
		fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
			  state_of(self->control).state);
		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  wait_state(self->control, ACCEL_STATE_SUSPENDED));
		close(fd);
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
			  state_of(self->control).state);
	}
}

/* Root keeps it awake. */
TEST_F(power, control)
{
	/* A mock's parent has no power of its own. */
	if (accel_target()->kind == ACCEL_MOCK)
		return;
	ASSERT_EQ(0, set_parent("power/control", "on"));
	ASSERT_EQ(0, job(self->fd));
	accel_sleep_ms(1500);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state_of(self->control).state);
	ASSERT_EQ(0, set_parent("power/control", "auto"));
	EXPECT_EQ(ACCEL_STATE_SUSPENDED,
		  wait_state(self->control, ACCEL_STATE_SUSPENDED));
}

/* It does not sleep while it has jobs, and they end in time. The mock knows when. */
TEST_F(power, busy)
{
	struct accel_mock_later later = { .milliseconds = 1000 };
	struct accel_mock_sleep old, new;
	uint32_t timeline;
	int32_t status;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, nap(self->fd, 0, &old));
	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	later.timeline = timeline;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_LATER, &later));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, timeline, later.point,
					 accel_now() + SOON_MS * NSEC_PER_MSEC,
					 NULL, &status));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, nap(self->fd, 0, &new));
	EXPECT_EQ(old.slept, new.slept);
	EXPECT_LT(old.asked, new.asked);
}

/* What drivers may say of it; the mock says what it is told to. */
TEST_F(power, outcomes)
{
	struct accel_mock_sleep old, new;
	uint64_t count;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, nap(self->fd, ACCEL_MOCK_SLEEP_REFUSE, &old));
	accel_sleep_ms(1000);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state_of(self->control).state);
	ASSERT_EQ(0, nap(self->fd, ACCEL_MOCK_SLEEP_LOSE, &new));
	EXPECT_EQ(old.slept, new.slept);
	EXPECT_LT(old.asked, new.asked);

	ASSERT_EQ(ACCEL_STATE_SUSPENDED,
		  wait_state(self->control, ACCEL_STATE_SUSPENDED));
	count = state_of(self->control).resets;
	EXPECT_EQ(-ESTALE, nap(self->fd, 0, NULL));
	EXPECT_EQ(count, state_of(self->control).resets);
	close(self->fd);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);

	ASSERT_EQ(0, nap(self->fd, ACCEL_MOCK_SLEEP_FAIL, NULL));
	ASSERT_EQ(ACCEL_STATE_SUSPENDED,
		  wait_state(self->control, ACCEL_STATE_SUSPENDED));
	count = resets(self->control, ACCEL_CAUSE_RESUME);
	EXPECT_EQ(0, nap(self->fd, 0, NULL));
	EXPECT_EQ(count + 1, resets(self->control, ACCEL_CAUSE_RESUME));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state_of(self->control).state);
}

/* Many wake it at a time. */
static void *caller(void *arg)
{
	int *result = arg;
	int fd = accel_open(O_RDWR | O_CLOEXEC);

	*result = fd < 0 ? fd : job(fd);
	if (fd >= 0)
		close(fd);
	return NULL;
}

TEST_F_TIMEOUT(power, together, CASE_TIMEOUT)
{
	int count = cycles(CYCLES);

	for (int i = 0; i < count; i++) {
		pthread_t threads[8];
		int results[8];

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  wait_state(self->control, ACCEL_STATE_SUSPENDED));
		for (int t = 0; t < 8; t++)
			ASSERT_EQ(0, pthread_create(&threads[t], NULL, caller,
						    &results[t]));
		for (int t = 0; t < 8; t++) {
			pthread_join(threads[t], NULL);
			EXPECT_EQ(0, results[t]);
		}
	}
	told("together", count);
}

/* Its function is reset while it sleeps, and while somebody wakes it. */
TEST_F_TIMEOUT(power, reset, CASE_TIMEOUT)
{
	int count = cycles(CYCLES);
	char path[160];

	parent_path(path, sizeof(path), "reset");
	if (accel_target()->kind != ACCEL_NPU)
		return;
	for (int i = 0; i < count; i++) {
		uint64_t before;
		pthread_t thread;
		int result = 0;

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  wait_state(self->control, ACCEL_STATE_SUSPENDED));
		before = resets(self->control, ACCEL_CAUSE_BUS);
		if (i % 2)
			ASSERT_EQ(0, pthread_create(&thread, NULL, caller,
						    &result));
		ASSERT_EQ(0, accel_write_line(path, "1"));
		if (i % 2) {
			pthread_join(thread, NULL);
			/* Its job, or its open, may have met the reset. */
			if (result != -EIO && result != -EAGAIN)
				EXPECT_EQ(0, result);
		}
		for (int ms = 0; ms < SOON_MS; ms++) {
			if (resets(self->control, ACCEL_CAUSE_BUS) > before &&
			    state_of(self->control).state !=
				    ACCEL_STATE_RESETTING)
				break;
			accel_sleep_ms(1);
		}
		EXPECT_EQ(before + 1, resets(self->control, ACCEL_CAUSE_BUS));
		close(self->fd);
		self->fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, self->fd);
		ASSERT_EQ(0, job(self->fd));
	}
	told("reset", count);
}

/* It goes while it sleeps, and while somebody wakes it. */
TEST_F_TIMEOUT(power, unbind, CASE_TIMEOUT)
{
	int count = cycles(CYCLES);

	for (int i = 0; i < count; i++) {
		pthread_t thread;
		int result = 0;

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  wait_state(self->control, ACCEL_STATE_SUSPENDED));
		if (i % 2)
			ASSERT_EQ(0, pthread_create(&thread, NULL, caller,
						    &result));
		ASSERT_EQ(0, accel_remove());
		if (i % 2) {
			pthread_join(thread, NULL);
			if (result != -ENODEV && result != -ENOENT &&
			    result != -ENXIO && result != -ECANCELED)
				EXPECT_EQ(0, result);
		}
		EXPECT_EQ(-ENODEV, job(self->fd));
		end(self);
		if (accel_target()->kind != ACCEL_MOCK)
			ASSERT_EQ(0, accel_restore());
		ASSERT_EQ(0, begin(self, true));
		ASSERT_EQ(0, job(self->fd));
	}
	told("unbind", count);
}

/* Registers that are mapped wake it when they are touched: an NPU's doorbell. */
TEST_F(power, registers)
{
	volatile uint32_t *doorbell;

	if (accel_target()->kind != ACCEL_NPU)
		return;
	doorbell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			self->fd, ACCEL_NPU_MMAP_DOORBELL);
	ASSERT_NE(MAP_FAILED, (void *)doorbell);
	for (int i = 0; i < 3; i++) {
		*doorbell = 1;
		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  wait_state(self->control, ACCEL_STATE_SUSPENDED));
		*doorbell = 1;
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
			  state_of(self->control).state);
	}
	munmap((void *)doorbell, 4096);
}

/* The whole system */

#define MEM_SLEEP "/sys/power/mem_sleep"
#define PM_TEST "/sys/power/pm_test"

/* Puts the system to sleep; a negative errno if it does not. */
static int sleep_now(void)
{
	return accel_write_line("/sys/power/state", "mem");
}

/* Until the host has pressed the button of the machine. */
static int sleep_until_pressed(unsigned int ms)
{
	int port, ret;

	port = open("/dev/virtio-ports/accel.host", O_WRONLY | O_CLOEXEC);
	if (port < 0)
		return -errno;
	dprintf(port, "press %u\n", ms);
	ret = sleep_now();
	dprintf(port, "enough\n");
	close(port);
	return ret;
}

/* Jobs that are there when the system goes to sleep: some of a while. */
static int submit_some(int fd, uint32_t timeline, uint64_t *point)
{
	int ret = 0;

	if (accel_target()->kind == ACCEL_NPU)
		ret = npu_submit_long(fd, timeline, 2);
	for (int i = 0; i < 4 && !ret; i++)
		ret = accel_submit(fd, timeline, point);
	return ret;
}

/* What a sleep must not change. The number of what is not as it should be. */
static int survives(int control, int (*sleep)(unsigned int), unsigned int arg)
{
	uint64_t point = 0, before = state_of(control).resets;
	int fd = accel_open(O_RDWR | O_CLOEXEC);
	uint32_t timeline, buffer;
	unsigned char *map;
	int32_t status = 1;
	int ret = 0;

	if (fd < 0 || accel_timeline_create(fd, &timeline))
		return 1;
	map = accel_buffer_new(fd, 4096, &buffer);
	if (!map)
		return 2;
	map[17] = 42;
	if (submit_some(fd, timeline, &point))
		ret = 3;
	else if (sleep(arg))
		ret = 4;
	else if (accel_timeline_wait(fd, timeline, point,
				     accel_now() + SOON_MS * NSEC_PER_MSEC,
				     NULL, &status))
		ret = 5;
	else if (status)
		ret = 6;
	else if (map[17] != 42)
		ret = 7;
	else if (job(fd))
		ret = 8;
	else if (state_of(control).state != ACCEL_STATE_OPERATIONAL)
		ret = 9;
	else if (state_of(control).resets != before)
		ret = 10;
	munmap(map, 4096);
	close(fd);
	return ret;
}

static int sleep_test(unsigned int ms)
{
	(void)ms;
	return sleep_now();
}

/* As far as the kernel's own tests of it go: each level one step further. */
TEST_F_TIMEOUT(power, levels, CASE_TIMEOUT)
{
	static const char *const levels[] = { "freezer", "devices", "platform",
					      "processors", "core" };
	int count = cycles(CYCLES) / 5;

	if (!accel_exists(PM_TEST))
		SKIP(return, "this kernel has no CONFIG_PM_DEBUG");
	/* Seconds that it stays asleep. */
	accel_write_line("/sys/module/suspend/parameters/pm_test_delay", "0");
	for (int i = 0; i < count; i++) {
		/* In the first round at rest. */
		end(self);
		ASSERT_EQ(0, begin(self, !i));
		for (int level = 0; level < 5; level++) {
			if (!i) {
				ASSERT_EQ(ACCEL_STATE_SUSPENDED,
					  wait_state(self->control,
						     ACCEL_STATE_SUSPENDED));
			}
			ASSERT_EQ(0, accel_write_line(PM_TEST, levels[level]));
			if (!i) {
				EXPECT_EQ(0, sleep_now());
				EXPECT_EQ(0, job(self->fd));
			} else {
				EXPECT_EQ(0, survives(self->control, sleep_test,
						      0));
			}
			ASSERT_EQ(0, accel_write_line(PM_TEST, "none"));
		}
	}
	told("levels", count);
}

/* It sleeps until it is woken. */
TEST_F_TIMEOUT(power, system, CASE_TIMEOUT)
{
	int count = cycles(CYCLES) / 5;

	accel_modprobe("button", NULL);
	if (!accel_exists("/sys/devices/platform/LNXPWRBN:00/driver"))
		SKIP(return, "nothing wakes this kernel");
	end(self);
	ASSERT_EQ(0, begin(self, false));
	ASSERT_EQ(0, accel_write_line(MEM_SLEEP, "s2idle"));
	for (int i = 0; i < count; i++)
		ASSERT_EQ(0,
			  survives(self->control, sleep_until_pressed, 2000));
	/* As it would be with others. */
	accel_write_line(MEM_SLEEP, "deep");
	told("system", count);
}

/* One that refuses keeps the system awake. */
TEST_F(power, refused)
{
	if (accel_target()->kind != ACCEL_MOCK)
		return;
	end(self);
	ASSERT_EQ(0, begin(self, false));
	ASSERT_EQ(0, accel_write_line(MEM_SLEEP, "s2idle"));
	ASSERT_EQ(0, nap(self->fd, ACCEL_MOCK_SLEEP_REFUSE, NULL));
	EXPECT_EQ(-EBUSY, sleep_now());
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state_of(self->control).state);
	EXPECT_EQ(0, job(self->fd));
	EXPECT_EQ(0, nap(self->fd, 0, NULL));
	accel_write_line(MEM_SLEEP, "deep");
}

TEST_HARNESS_MAIN
