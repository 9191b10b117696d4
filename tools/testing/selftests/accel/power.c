// SPDX-License-Identifier: GPL-2.0
/*
 * Sleep of a device that nobody needs. Who looks neither wakes it nor keeps it
 * awake; who needs it waits until it is.
 */

#include "kselftest_harness.h"
#include "asleep.h"

#include <limits.h>

#define CYCLES 10
#define UNBIND_CYCLES 20

FIXTURE(power)
{
	int fd;
	int control;
};

FIXTURE_SETUP(power)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(0, asleep_begin(true, &self->fd, &self->control));
}

FIXTURE_TEARDOWN(power)
{
	EXPECT_EQ(0, asleep_job(self->fd));
	asleep_end(self->fd, self->control);
	EXPECT_EQ(0, asleep_hurry(false));
}

/*
 * Who looks neither keeps it awake nor wakes it; who needs it does. All of it is
 * told.
 */
TEST_F_TIMEOUT(power, idle, ASLEEP_TIMEOUT)
{
	int count = asleep_cycles(CYCLES, 1);
	struct accel_event_state event;

	ASSERT_EQ(0, accel_events(self->control, 1 << ACCEL_EVENT_STATE, NULL));
	ASSERT_EQ(sizeof(event), asleep_event(self->control, &event));
	if (event.state == ACCEL_STATE_SUSPENDED) {
		ASSERT_EQ(0, asleep_job(self->fd));
		ASSERT_EQ(sizeof(event), asleep_event(self->control, &event));
	}
	ASSERT_EQ(ACCEL_STATE_OPERATIONAL, event.state);
	for (int i = 0; i < count; i++) {
		int64_t end = accel_now() + ASLEEP_SOON_MS * NSEC_PER_MSEC;
		struct accel_info_state before, after;
		int64_t slept;
		uint32_t buffer;

		do {
			before = asleep_state(self->control);
			ASSERT_LT(20, asleep_look(self->fd));
		} while (before.state != ACCEL_STATE_SUSPENDED &&
			 accel_now() < end);
		ASSERT_EQ(ACCEL_STATE_SUSPENDED, before.state);
		EXPECT_EQ(ACCEL_CAUSE_IDLE, before.cause);
		ASSERT_EQ(sizeof(event), asleep_event(self->control, &event));
		EXPECT_EQ(ACCEL_STATE_SUSPENDED, event.state);
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.previous);
		EXPECT_EQ(ACCEL_CAUSE_IDLE, event.cause);
		EXPECT_EQ(before.since_ns, event.header.time_ns);
		if (accel_target()->kind != ACCEL_MOCK)
			EXPECT_TRUE(asleep_parent_is("power/runtime_status",
						     "suspended"));
		if (accel_target()->kind == ACCEL_NPU)
			EXPECT_TRUE(asleep_parent_is("power_state", "D3hot"));
		slept = asleep_parent_number("power/runtime_suspended_time");

		EXPECT_LT(20, asleep_look(self->fd));
		EXPECT_EQ(0, accel_buffer_create(self->fd, 4096, &buffer));
		EXPECT_EQ(0, accel_buffer_destroy(self->fd, buffer));
		after = asleep_state(self->control);
		EXPECT_EQ(before.state, after.state);
		EXPECT_EQ(before.since_ns, after.since_ns);
		if (accel_target()->kind == ACCEL_NPU) {
			EXPECT_TRUE(asleep_parent_is("power_state", "D3hot"));
			EXPECT_LE(slept,
				  asleep_parent_number(
					  "power/runtime_suspended_time"));
		}

		ASSERT_EQ(0, asleep_job(self->fd));
		ASSERT_EQ(sizeof(event), asleep_event(self->control, &event));
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.state);
		EXPECT_EQ(ACCEL_STATE_SUSPENDED, event.previous);
		EXPECT_EQ(ACCEL_CAUSE_IDLE, event.cause);
		EXPECT_EQ(before.resets, event.resets);
	}
	asleep_told("power", "idle", count);
}

/* What is written to an attribute of its driver's reaches it awake. */
TEST_F(power, written)
{
	struct accel_event_state event;
	char path[160], value[64];

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(ACCEL_STATE_SUSPENDED,
		  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
	ASSERT_EQ(0, accel_events(self->control, 1 << ACCEL_EVENT_STATE, NULL));
	ASSERT_EQ(sizeof(event), asleep_event(self->control, &event));
	ASSERT_EQ(ACCEL_STATE_SUSPENDED, event.state);
	snprintf(path, sizeof(path),
		 "/sys/class/%s/accel%u/attributes/power_limit_milliwatts",
		 accel_class(), accel_target()->number);
	ASSERT_EQ(0, accel_write_line(path, "12345"));
	ASSERT_EQ(sizeof(event), asleep_event(self->control, &event));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.state);
	EXPECT_EQ(ACCEL_CAUSE_IDLE, event.cause);
	/* It goes to sleep again, and what it says of it was read before. */
	ASSERT_EQ(0, asleep_job(self->fd));
	ASSERT_EQ(0, accel_read_line(path, value, sizeof(value)));
	EXPECT_STREQ("12345", value);
}

/* What is written to one that does not wake reaches it after its reset. */
TEST_F(power, written_to_lost)
{
	int64_t end = accel_now() + ASLEEP_SOON_MS * NSEC_PER_MSEC;
	char path[160], value[64] = "";
	uint64_t count;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	snprintf(path, sizeof(path),
		 "/sys/class/%s/accel%u/attributes/power_limit_milliwatts",
		 accel_class(), accel_target()->number);
	ASSERT_EQ(0, asleep_nap(self->fd, ACCEL_MOCK_SLEEP_FAIL, NULL));
	count = asleep_resets(self->control, ACCEL_CAUSE_RESUME);
	ASSERT_EQ(ACCEL_STATE_SUSPENDED,
		  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
	ASSERT_EQ(0, accel_write_line(path, "23456"));
	while (asleep_resets(self->control, ACCEL_CAUSE_RESUME) == count &&
	       accel_now() < end)
		accel_sleep_ms(1);
	/* Awake from here on. */
	ASSERT_EQ(0, asleep_nap(self->fd, ACCEL_MOCK_SLEEP_REFUSE, NULL));
	do {
		ASSERT_EQ(0, accel_read_line(path, value, sizeof(value)));
	} while (strcmp("23456", value) && accel_now() < end);
	EXPECT_STREQ("23456", value);
	ASSERT_EQ(0, asleep_nap(self->fd, 0, NULL));
}

/* A file that is opened or closed needs the device, too. */
TEST_F(power, files)
{
	for (int i = 0; i < 2; i++) {
		int fd;

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
		fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
			  asleep_state(self->control).state);
		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
		close(fd);
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
			  asleep_state(self->control).state);
	}
}

/* Root keeps it awake, and what root says outlasts a driver. */
TEST_F(power, control)
{
	static const char *const modes[] = { "on", "auto" };

	/* A mock's parent has no power of its own. */
	if (accel_target()->kind == ACCEL_MOCK)
		return;
	ASSERT_EQ(0, asleep_set_parent("power/control", "on"));
	ASSERT_EQ(0, asleep_job(self->fd));
	accel_sleep_ms(1500);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, asleep_state(self->control).state);
	ASSERT_EQ(0, asleep_set_parent("power/control", "auto"));
	EXPECT_EQ(ACCEL_STATE_SUSPENDED,
		  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		ASSERT_EQ(0, asleep_set_parent("power/control", modes[i]));
		asleep_end(self->fd, self->control);
		ASSERT_EQ(0, accel_remove());
		ASSERT_EQ(0, accel_restore());
		EXPECT_TRUE(asleep_parent_is("power/control", modes[i]));
		ASSERT_EQ(0, asleep_begin(true, &self->fd, &self->control));
	}
}

/* Waits until a file says so; whether it does. */
static bool says(const char *path, const char *value)
{
	int64_t end = accel_now() + ASLEEP_SOON_MS * NSEC_PER_MSEC;
	char line[64] = "";

	while (!accel_read_line(path, line, sizeof(line)) &&
	       strcmp(line, value) && accel_now() < end)
		accel_sleep_ms(1);
	return !strcmp(line, value);
}

/* What root has said to keep it awake ends with the binding: it can sleep unbound. */
TEST_F(power, never)
{
	char path[160], folder[PATH_MAX], file[PATH_MAX + 32];

	if (accel_target()->kind == ACCEL_MOCK)
		return;
	asleep_parent_path(path, sizeof(path), "");
	ASSERT_TRUE(realpath(path, folder) != NULL);
	ASSERT_EQ(0, asleep_set_parent("power/autosuspend_delay_ms", "-1"));
	ASSERT_EQ(0, asleep_job(self->fd));
	asleep_end(self->fd, self->control);
	ASSERT_EQ(0, accel_remove());
	snprintf(file, sizeof(file), "%s/power/control", folder);
	EXPECT_EQ(0, accel_write_line(file, "auto"));
	snprintf(file, sizeof(file), "%s/power/runtime_status", folder);
	EXPECT_TRUE(says(file, "suspended"));
	snprintf(file, sizeof(file), "%s/power/control", folder);
	EXPECT_EQ(0, accel_write_line(file, "on"));
	ASSERT_EQ(0, accel_restore());
	ASSERT_EQ(0, asleep_begin(true, &self->fd, &self->control));
	EXPECT_EQ(ACCEL_STATE_SUSPENDED,
		  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
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
	ASSERT_EQ(0, asleep_nap(self->fd, 0, &old));
	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	later.timeline = timeline;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_LATER, &later));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, timeline, later.point,
					 accel_now() +
						 ASLEEP_SOON_MS * NSEC_PER_MSEC,
					 NULL, &status));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, asleep_nap(self->fd, 0, &new));
	EXPECT_EQ(old.slept, new.slept);
	EXPECT_LT(old.asked, new.asked);
}

/* A time that came while it slept, and that a reset woke it after: the next one is kept. */
TEST_F(power, alarm)
{
	struct accel_mock_reset slowly = { .ask = ACCEL_MOCK_ASK_NOTHING,
					   .milliseconds = 500 };
	struct accel_mock_later later = { .milliseconds = 1500 };
	uint32_t timeline;
	int64_t end;
	char path[160];
	int fd;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_RESET, &slowly));
	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	/* A job that goes with its file; what it was to be ended by does not. */
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_timeline_create(fd, &later.timeline));
	ASSERT_EQ(0, accel_ioctl(fd, ACCEL_MOCK_IOCTL_LATER, &later));
	end = accel_now() + later.milliseconds * NSEC_PER_MSEC;
	close(fd);
	ASSERT_EQ(ACCEL_STATE_SUSPENDED,
		  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
	while (accel_now() < end + 100 * NSEC_PER_MSEC)
		accel_sleep_ms(10);
	ASSERT_EQ(ACCEL_STATE_SUSPENDED, asleep_state(self->control).state);

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/reset",
		 accel_class(), accel_target()->number);
	ASSERT_EQ(0, accel_write_line(path, "1"));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  asleep_wait(self->control, ACCEL_STATE_RESETTING));
	/* It waits for the end, and is there before the device sleeps again. */
	later.milliseconds = 1;
	later.timeline = timeline;
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_LATER, &later));
	EXPECT_EQ(0, accel_timeline_wait(self->fd, timeline, later.point,
					 accel_now() + 5 * NSEC_PER_SEC, NULL,
					 NULL));
}

/* What drivers may say of it; the mock says what it is told to. */
TEST_F(power, outcomes)
{
	struct accel_mock_sleep old, new;
	uint64_t count;

	if (accel_target()->kind != ACCEL_MOCK)
		return;
	ASSERT_EQ(0, asleep_nap(self->fd, ACCEL_MOCK_SLEEP_REFUSE, &old));
	accel_sleep_ms(1000);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, asleep_state(self->control).state);
	ASSERT_EQ(0, asleep_nap(self->fd, ACCEL_MOCK_SLEEP_LOSE, &new));
	EXPECT_EQ(old.slept, new.slept);
	EXPECT_LT(old.asked, new.asked);

	ASSERT_EQ(ACCEL_STATE_SUSPENDED,
		  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
	count = asleep_state(self->control).resets;
	EXPECT_EQ(-ESTALE, asleep_nap(self->fd, 0, NULL));
	EXPECT_EQ(count, asleep_state(self->control).resets);
	close(self->fd);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);

	ASSERT_EQ(0, asleep_nap(self->fd, ACCEL_MOCK_SLEEP_FAIL, NULL));
	ASSERT_EQ(ACCEL_STATE_SUSPENDED,
		  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
	count = asleep_resets(self->control, ACCEL_CAUSE_RESUME);
	EXPECT_EQ(0, asleep_nap(self->fd, 0, NULL));
	EXPECT_EQ(count + 1, asleep_resets(self->control, ACCEL_CAUSE_RESUME));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, asleep_state(self->control).state);
}

/* Many wake it at a time. */
static void *caller(void *arg)
{
	int *result = arg;
	int fd = accel_open(O_RDWR | O_CLOEXEC);

	*result = fd < 0 ? fd : asleep_job(fd);
	if (fd >= 0)
		close(fd);
	return NULL;
}

TEST_F_TIMEOUT(power, together, ASLEEP_TIMEOUT)
{
	int count = asleep_cycles(CYCLES, 1);

	for (int i = 0; i < count; i++) {
		pthread_t threads[8];
		int results[8];

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
		for (int t = 0; t < 8; t++)
			ASSERT_EQ(0, pthread_create(&threads[t], NULL, caller,
						    &results[t]));
		for (int t = 0; t < 8; t++) {
			pthread_join(threads[t], NULL);
			EXPECT_EQ(0, results[t]);
		}
	}
	asleep_told("power", "together", count);
}

/* Its function is reset while it sleeps, and while somebody wakes it. */
TEST_F_TIMEOUT(power, reset, ASLEEP_TIMEOUT)
{
	int count = asleep_cycles(CYCLES, 1);
	char path[160];

	asleep_parent_path(path, sizeof(path), "reset");
	if (accel_target()->kind != ACCEL_NPU)
		return;
	for (int i = 0; i < count; i++) {
		uint64_t before;
		pthread_t thread;
		int result = 0;

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
		before = asleep_resets(self->control, ACCEL_CAUSE_BUS);
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
		for (int ms = 0; ms < ASLEEP_SOON_MS; ms++) {
			if (asleep_resets(self->control, ACCEL_CAUSE_BUS) >
				    before &&
			    asleep_state(self->control).state !=
				    ACCEL_STATE_RESETTING)
				break;
			accel_sleep_ms(1);
		}
		EXPECT_EQ(before + 1,
			  asleep_resets(self->control, ACCEL_CAUSE_BUS));
		close(self->fd);
		self->fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, self->fd);
		ASSERT_EQ(0, asleep_job(self->fd));
	}
	asleep_told("power", "reset", count);
}

/* It goes while it sleeps, and while somebody wakes it. */
TEST_F_TIMEOUT(power, unbind, ASLEEP_TIMEOUT)
{
	int count = asleep_cycles(UNBIND_CYCLES, 1);

	for (int i = 0; i < count; i++) {
		pthread_t thread;
		int result = 0;

		ASSERT_EQ(ACCEL_STATE_SUSPENDED,
			  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
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
		EXPECT_EQ(-ENODEV, asleep_job(self->fd));
		asleep_end(self->fd, self->control);
		if (accel_target()->kind != ACCEL_MOCK)
			ASSERT_EQ(0, accel_restore());
		ASSERT_EQ(0, asleep_begin(true, &self->fd, &self->control));
		ASSERT_EQ(0, asleep_job(self->fd));
	}
	asleep_told("power", "unbind", count);
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
			  asleep_wait(self->control, ACCEL_STATE_SUSPENDED));
		*doorbell = 1;
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
			  asleep_state(self->control).state);
	}
	munmap((void *)doorbell, 4096);
}

TEST_HARNESS_MAIN
