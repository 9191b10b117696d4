// SPDX-License-Identifier: GPL-2.0
/*
 * Sleep of the whole system, with devices that are at rest, that work, and that
 * come and go meanwhile. What runs, ends; what is queued, goes on.
 */

#include "asleep.h"
#include "kselftest_harness.h"

#define MEM_SLEEP "/sys/power/mem_sleep"
#define PM_TEST "/sys/power/pm_test"
/* How often the button is pressed: once it is asleep, that wakes it. */
#define PRESS_MS "500"
/* Cycles of the short form. */
#define CYCLES 2
#define UNBIND_CYCLES 5
/* When something happens beside it: each cycle a step later, within a span. */
#define STEP_MS 7
#define SPAN_MS 60

FIXTURE(system_sleep)
{
	int fd;
	int control;
};

FIXTURE_SETUP(system_sleep)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(0, asleep_begin(false, &self->fd, &self->control));
}

FIXTURE_TEARDOWN(system_sleep)
{
	EXPECT_EQ(0, asleep_job(self->fd));
	asleep_end(self->fd, self->control);
	EXPECT_EQ(0, asleep_hurry(false));
}

/* Puts the system to sleep; a negative errno if it does not. */
static int sleep_now(void)
{
	return accel_write_line("/sys/power/state", "mem");
}

/* As far as one of the kernel's own tests of it goes, and back. */
static int sleep_test(const char *level)
{
	int ret;

	/* Seconds that it stays asleep. */
	accel_write_line("/sys/module/suspend/parameters/pm_test_delay", "0");
	ret = accel_write_line(PM_TEST, level);
	if (ret)
		return ret;
	ret = sleep_now();
	accel_write_line(PM_TEST, "none");
	return ret;
}

/* Until the host has pressed the button of the machine. */
static int sleep_until_pressed(const char *ms)
{
	int port, ret;

	port = open("/dev/virtio-ports/accel.host", O_WRONLY | O_CLOEXEC);
	if (port < 0)
		return -errno;
	ret = accel_write_line(MEM_SLEEP, "s2idle");
	if (!ret) {
		dprintf(port, "press %s\n", ms);
		ret = sleep_now();
		dprintf(port, "enough\n");
	}
	/* As it was, where there is another. */
	accel_write_line(MEM_SLEEP, "deep");
	close(port);
	return ret;
}

static bool is_pressable(void)
{
	accel_modprobe("button", NULL);
	return accel_exists("/sys/devices/platform/LNXPWRBN:00/driver");
}

/* The shortest sleep in which devices do; -EOPNOTSUPP if nothing wakes this kernel. */
static int nap(void)
{
	if (accel_exists(PM_TEST))
		return sleep_test("devices");
	return is_pressable() ? sleep_until_pressed(PRESS_MS) : -EOPNOTSUPP;
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
static int survives(int control, int (*sleep)(const char *), const char *how)
{
	uint64_t point = 0, before = asleep_state(control).resets;
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
	else if (sleep(how))
		ret = 4;
	else if (accel_timeline_wait(fd, timeline, point,
				     accel_now() +
					     ASLEEP_SOON_MS * NSEC_PER_MSEC,
				     NULL, &status))
		ret = 5;
	else if (status)
		ret = 6;
	else if (map[17] != 42)
		ret = 7;
	else if (asleep_job(fd))
		ret = 8;
	else if (asleep_state(control).state != ACCEL_STATE_OPERATIONAL)
		ret = 9;
	else if (asleep_state(control).resets != before)
		ret = 10;
	munmap(map, 4096);
	close(fd);
	return ret;
}

/* As far as the kernel's own tests of it go: each level one step further. */
TEST_F_TIMEOUT(system_sleep, levels, ASLEEP_TIMEOUT)
{
	static const char *const levels[] = { "freezer", "devices", "platform",
					      "processors", "core" };
	int count = asleep_cycles(CYCLES, 10);

	if (!accel_exists(PM_TEST))
		SKIP(return, "this kernel has no CONFIG_PM_DEBUG");
	for (int i = 0; i < count; i++) {
		/* In the first round at rest. */
		asleep_end(self->fd, self->control);
		ASSERT_EQ(0, asleep_begin(!i, &self->fd, &self->control));
		for (int level = 0; level < 5; level++) {
			if (i) {
				ASSERT_EQ(0, survives(self->control, sleep_test,
						      levels[level]));
				continue;
			}
			ASSERT_EQ(ACCEL_STATE_SUSPENDED,
				  asleep_wait(self->control,
					      ACCEL_STATE_SUSPENDED));
			EXPECT_EQ(0, sleep_test(levels[level]));
			EXPECT_EQ(0, asleep_job(self->fd));
		}
	}
	asleep_told("system_sleep", "levels", count);
}

/* It sleeps until it is woken, and says so. */
TEST_F_TIMEOUT(system_sleep, system, ASLEEP_TIMEOUT)
{
	static const struct accel_event_state told[] = {
		{ .previous = ACCEL_STATE_OPERATIONAL,
		  .state = ACCEL_STATE_SUSPENDED },
		{ .previous = ACCEL_STATE_SUSPENDED,
		  .state = ACCEL_STATE_OPERATIONAL },
	};
	int count = asleep_cycles(CYCLES, 10);
	struct accel_event_state event;

	if (!is_pressable())
		SKIP(return, "nothing wakes this kernel");
	for (int i = 0; i < count; i++) {
		/*
		 * It is awake, and stays so: one more sleep may have begun
		 * before it was told never to.
		 */
		for (int tries = 0; tries < 2; tries++) {
			ASSERT_EQ(0, asleep_job(self->fd));
			ASSERT_EQ(0, accel_events(self->control, 0, NULL));
			ASSERT_EQ(0,
				  accel_events(self->control,
					       1 << ACCEL_EVENT_STATE, NULL));
			ASSERT_EQ(sizeof(event),
				  asleep_event(self->control, &event));
			if (event.state == ACCEL_STATE_OPERATIONAL)
				break;
		}
		ASSERT_EQ(ACCEL_STATE_OPERATIONAL, event.state);
		ASSERT_EQ(0, survives(self->control, sleep_until_pressed,
				      PRESS_MS));
		for (int e = 0; e < 2; e++) {
			ASSERT_EQ(sizeof(event),
				  asleep_event(self->control, &event));
			EXPECT_EQ(told[e].previous, event.previous);
			EXPECT_EQ(told[e].state, event.state);
			EXPECT_EQ(ACCEL_CAUSE_SYSTEM, event.cause);
		}
		ASSERT_EQ(0, accel_events(self->control, 0, NULL));
	}
	asleep_told("system_sleep", "system", count);
}

/* One that refuses keeps the system awake. */
TEST_F(system_sleep, refused)
{
	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, accel_write_line(MEM_SLEEP, "s2idle"));
	ASSERT_EQ(0, asleep_nap(self->fd, ACCEL_MOCK_SLEEP_REFUSE, NULL));
	EXPECT_EQ(-EBUSY, sleep_now());
	accel_write_line(MEM_SLEEP, "deep");
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, asleep_state(self->control).state);
	EXPECT_EQ(0, asleep_job(self->fd));
	EXPECT_EQ(0, asleep_nap(self->fd, 0, NULL));
}

/* What a sleep takes that waits for nothing. */
#define PROMPT_MS 6000

/* Jobs that nobody has run kept the system awake as long as jobs may take. */
TEST_F_TIMEOUT(system_sleep, deferred_holds_nobody, ASLEEP_TIMEOUT)
{
	struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };
	int64_t before;
	uint64_t point;
	struct npu npu;
	int ret;

	if (accel_target()->kind != ACCEL_NPU)
		return;
	ASSERT_EQ(0, npu_open(&npu));
	npu.list[0] = npu_nop();
	ASSERT_EQ(0, npu_submit_jobs(&npu, &job, 1, ACCEL_NPU_SUBMIT_DEFER,
				     ACCEL_NPU_DEADLINE_MAX, &point));
	before = accel_now();
	ret = nap();
	if (ret == -EOPNOTSUPP)
		SKIP(return, "nothing wakes this kernel");
	EXPECT_EQ(0, ret);
	EXPECT_GT(PROMPT_MS * accel_patience() * NSEC_PER_MSEC,
		  accel_now() - before);
	EXPECT_EQ(-ECANCELED, npu_wait(&npu, point));
	npu_close(&npu);
}

/* A reset that is asked for meanwhile is done, once, when the system is awake. */
TEST_F_TIMEOUT(system_sleep, reset, ASLEEP_TIMEOUT)
{
	int count = asleep_cycles(CYCLES, 10);

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	for (int i = 0; i < count; i++) {
		struct accel_mock_reset arg = {
			.ask = ACCEL_MOCK_ASK_RESET,
			.delay_ms = 1 + i * STEP_MS % SPAN_MS,
		};
		uint64_t before =
			asleep_resets(self->control, ACCEL_CAUSE_DRIVER);
		int64_t limit = accel_now() + ASLEEP_SOON_MS * NSEC_PER_MSEC;
		int ret;

		ASSERT_EQ(0,
			  accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_RESET, &arg));
		ret = nap();
		if (ret == -EOPNOTSUPP)
			SKIP(return, "nothing wakes this kernel");
		/* While it is being reset it does not sleep. */
		if (ret != -EBUSY)
			ASSERT_EQ(0, ret);
		while (asleep_resets(self->control, ACCEL_CAUSE_DRIVER) ==
			       before &&
		       accel_now() < limit)
			accel_sleep_ms(1);
		EXPECT_EQ(0, asleep_job(self->fd));
		EXPECT_EQ(before + 1,
			  asleep_resets(self->control, ACCEL_CAUSE_DRIVER));
	}
	asleep_told("system_sleep", "reset", count);
}

struct comer {
	pthread_t thread;
	unsigned int after_ms;
	int result;
};

/* The device goes and comes back. */
static void *come_back(void *data)
{
	struct comer *comer = data;

	accel_sleep_ms(comer->after_ms);
	comer->result = accel_remove();
	if (!comer->result)
		comer->result = accel_restore();
	return NULL;
}

/* It goes, and comes back, while the system goes to sleep and wakes. */
TEST_F_TIMEOUT(system_sleep, unbind, ASLEEP_TIMEOUT)
{
	int count = asleep_cycles(UNBIND_CYCLES, 10);

	for (int i = 0; i < count; i++) {
		struct comer comer = { .after_ms = i * STEP_MS % SPAN_MS };
		int ret;

		asleep_end(self->fd, self->control);
		ASSERT_EQ(0, pthread_create(&comer.thread, NULL, come_back,
					    &comer));
		ret = nap();
		ASSERT_EQ(0, pthread_join(comer.thread, NULL));
		EXPECT_EQ(0, comer.result);
		ASSERT_EQ(0, asleep_begin(false, &self->fd, &self->control));
		if (ret == -EOPNOTSUPP)
			SKIP(return, "nothing wakes this kernel");
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, asleep_job(self->fd));
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
			  asleep_state(self->control).state);
	}
	asleep_told("system_sleep", "unbind", count);
}

TEST_HARNESS_MAIN
