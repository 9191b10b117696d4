// SPDX-License-Identifier: GPL-2.0
/*
 * Resets, and the states that a device is in: who asks, what users find
 * meanwhile and after it.
 */

#include "reset.h"

/* Resets for one cause so far. */
static struct accel_info_resets resets(int fd, uint32_t cause)
{
	struct accel_info_resets resets = {};

	for (uint32_t i = 0;
	     !accel_info(fd, ACCEL_INFO_RESETS, i, &resets, sizeof(resets));
	     i++)
		if (resets.cause == cause)
			return resets;
	return (struct accel_info_resets){ .count = ~0ULL };
}

/* Ask as root does. */
static int ask_as_user(void)
{
	const struct accel_target *target = accel_target();
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/%s/%s/reset", accel_class(),
		 strrchr(target->compute, '/') + 1);
	return accel_write_line(path, "1");
}

/* Who asks is told; the state and its time belong together. */
TEST_F(reset, triggers)
{
	static const struct {
		uint32_t ask, cause;
	} asks[] = {
		{ ACCEL_MOCK_ASK_RESET, ACCEL_CAUSE_DRIVER },
		{ ACCEL_MOCK_ASK_DEADLINE, ACCEL_CAUSE_DEADLINE },
		{ ACCEL_MOCK_ASK_CHECK, ACCEL_CAUSE_WATCHDOG },
	};
	struct accel_info_resets old, new;
	struct accel_info_state first, now;

	ASSERT_EQ(0, get_state(self->control, &first));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, first.state);
	for (size_t i = 0; i < ARRAY_SIZE(asks); i++) {
		int64_t before = accel_now(), after;

		old = resets(self->control, asks[i].cause);
		ASSERT_EQ(0, ask(self->fd, asks[i].ask, 0, 0));
		ASSERT_EQ(first.resets + i + 1,
			  wait_resets(self->control, first.resets + i + 1));
		after = accel_now();
		ASSERT_EQ(0, get_state(self->control, &now));
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL, now.state);
		EXPECT_EQ(asks[i].cause, now.cause);
		EXPECT_EQ(0, now.flags);
		EXPECT_EQ(0, now.reserved);
		EXPECT_EQ(first.registered_ns, now.registered_ns);
		EXPECT_LE(before, (int64_t)now.since_ns);
		EXPECT_GE(after, (int64_t)now.since_ns);
		new = resets(self->control, asks[i].cause);
		EXPECT_EQ(old.count + 1, new.count);
		EXPECT_EQ(old.failed, new.failed);
		EXPECT_EQ(0, new.flags);
		EXPECT_LE(before, (int64_t)new.last_ns);
		EXPECT_GE(now.since_ns, new.last_ns);
		/* Nothing was lost. */
		EXPECT_EQ(42, add(self->fd));
	}
}

TEST_F(reset, counts_by_cause)
{
	static const uint32_t causes[] = {
		ACCEL_CAUSE_USER,     ACCEL_CAUSE_DRIVER, ACCEL_CAUSE_DEADLINE,
		ACCEL_CAUSE_WATCHDOG, ACCEL_CAUSE_BUS,	  ACCEL_CAUSE_RESUME,
	};
	struct accel_info_resets resets;
	struct accel_info_state state;
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
		ASSERT_EQ(0, accel_info(self->control, ACCEL_INFO_RESETS, i,
					&resets, sizeof(resets)));
		EXPECT_EQ(causes[i], resets.cause);
		EXPECT_EQ(resets.count == 0, resets.last_ns == 0);
		sum += resets.count;
	}
	EXPECT_EQ(-ENODATA,
		  accel_info(self->control, ACCEL_INFO_RESETS,
			     ARRAY_SIZE(causes), &resets, sizeof(resets)));
	EXPECT_EQ(-ENODATA, accel_info(self->fd, ACCEL_INFO_RESETS, ~0U,
				       &resets, sizeof(resets)));
	ASSERT_EQ(0, get_state(self->fd, &state));
	EXPECT_EQ(sum, state.resets);
}

/* While it lasts: what waits, what does not, and who answers. */
TEST_F(reset, meanwhile)
{
	struct accel_mock_add arg = { .a = 1, .b = 2 };
	struct accel_info_identity identity;
	struct accel_info_memory memory;
	struct accel_info_opens opens;
	struct accel_info_state state;
	struct accel_call call;
	uint32_t handle, timeline;
	int64_t before;
	void *map;
	int fd;

	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, LONG_MS));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  wait_state(self->control, ACCEL_STATE_RESETTING));
	before = accel_now();
	EXPECT_EQ(-EAGAIN, accel_open(O_RDWR | O_CLOEXEC));
	fd = accel_open_control(O_RDONLY | O_CLOEXEC);
	EXPECT_LE(0, fd);
	EXPECT_EQ(0, close(fd));
	for (int i = 0; i < 2; i++) {
		int on = i ? self->fd : self->control;

		ASSERT_EQ(0, get_state(on, &state));
		EXPECT_EQ(ACCEL_STATE_RESETTING, state.state);
		EXPECT_EQ(ACCEL_CAUSE_DRIVER, state.cause);
		EXPECT_EQ(0, accel_info(on, ACCEL_INFO_IDENTITY, 0, &identity,
					sizeof(identity)));
		EXPECT_EQ(0, accel_info(on, ACCEL_INFO_MEMORY, 0, &memory,
					sizeof(memory)));
		EXPECT_EQ(0, accel_info(on, ACCEL_INFO_OPENS, 0, &opens,
					sizeof(opens)));
	}
	/* What is the core's works. */
	map = accel_buffer_new(self->fd, 8192, &handle);
	ASSERT_TRUE(map != NULL);
	EXPECT_EQ(0, accel_touch_write(map));
	munmap(map, 8192);
	EXPECT_EQ(0, accel_buffer_destroy(self->fd, handle));
	EXPECT_EQ(0, accel_timeline_create(self->fd, &timeline));
	EXPECT_EQ(-ETIME,
		  accel_timeline_wait(self->fd, timeline, 1, 0, NULL, NULL));
	EXPECT_EQ(0, accel_timeline_destroy(self->fd, timeline));
	EXPECT_EQ(0, accel_fdinfo(self->fd, "accel-buffers"));
	EXPECT_GT(LONG_MS * NSEC_PER_MSEC, accel_now() - before)
	TH_LOG("the reset was over before the test was");
	/* The driver's waits for the end, and succeeds. */
	ASSERT_EQ(0, accel_call_start(&call, self->fd, ACCEL_MOCK_IOCTL_ADD,
				      &arg));
	EXPECT_TRUE(accel_call_wait(&call, LONG_MS + SOON_MS));
	accel_call_join(&call);
	EXPECT_EQ(0, call.result);
	EXPECT_EQ(3, arg.b);
	ASSERT_EQ(0, get_state(self->control, &state));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state.state);
	EXPECT_LE(state.since_ns, call.ended);
	EXPECT_LE(before, (int64_t)state.since_ns);
	fd = accel_open(O_RDWR | O_CLOEXEC);
	EXPECT_LE(0, fd);
	EXPECT_EQ(42, add(fd));
	close(fd);
}

/* mmap of what the driver shows does not wait: others need the memory map. */
TEST_F(reset, mmap_again)
{
	int64_t before;

	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, LONG_MS));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  wait_state(self->control, ACCEL_STATE_RESETTING));
	before = accel_now();
	EXPECT_EQ(-EAGAIN,
		  accel_mmap_errno(self->fd, ACCEL_MOCK_SCRATCH_SIZE,
				   PROT_READ | PROT_WRITE, MAP_SHARED, 0));
	EXPECT_GT(LONG_MS * NSEC_PER_MSEC, accel_now() - before)
	TH_LOG("the reset was over before the test was");
	ASSERT_EQ(ACCEL_STATE_OPERATIONAL,
		  wait_state(self->control, ACCEL_STATE_OPERATIONAL));
	EXPECT_EQ(0, accel_mmap_errno(self->fd, ACCEL_MOCK_SCRATCH_SIZE,
				      PROT_READ | PROT_WRITE, MAP_SHARED, 0));
}

static void on_signal(int signal)
{
	(void)signal;
}

/* Who waits for the end can be interrupted. */
TEST_F(reset, signal)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct accel_mock_add arg = {};
	struct accel_info_state state;
	struct accel_call call;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, LONG_MS));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  wait_state(self->control, ACCEL_STATE_RESETTING));
	ASSERT_EQ(0, accel_call_start(&call, self->fd, ACCEL_MOCK_IOCTL_ADD,
				      &arg));
	while (!accel_call_wait(&call, 10))
		pthread_kill(call.thread, SIGUSR1);
	accel_call_join(&call);
	EXPECT_EQ(-EINTR, call.result);
	ASSERT_EQ(0, get_state(self->control, &state));
	EXPECT_EQ(ACCEL_STATE_RESETTING, state.state);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
		  wait_state(self->control, ACCEL_STATE_OPERATIONAL));
}

/* Jobs end with EIO, and all who wait for them are told. */
TEST_F(reset, jobs_end)
{
	struct accel_timeline_wait wait = {
		.handle = self->timeline,
		.point = 1,
		.deadline_ns = FOREVER,
	};
	struct accel_call call;
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct pollfd p = { .fd = self->fd, .events = POLLIN };

	ASSERT_LE(0, event);
	ASSERT_EQ(0, accel_submit_held(self->fd, self->timeline));
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, event));
	ASSERT_EQ(0, accel_call_start(&call, self->fd,
				      ACCEL_IOCTL_TIMELINE_WAIT, &wait));
	EXPECT_FALSE(accel_call_wait(&call, 20));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, 0));
	EXPECT_TRUE(accel_call_wait(&call, SOON_MS));
	accel_call_join(&call);
	EXPECT_EQ(0, call.result);
	EXPECT_EQ(1, wait.value);
	EXPECT_EQ(-EIO, wait.status);
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	EXPECT_EQ(0, poll(&p, 1, 0));
	/* The file goes on with the next job. */
	ASSERT_EQ(0, accel_submit_held(self->fd, self->timeline));
	close(event);
}

/* A file that is lost says so, keeps what is the core's, and others go on. */
TEST_F(reset, contexts_lost)
{
	struct accel_info_state state;
	uint64_t value;
	int32_t status;
	uint32_t handle, other;
	void *map, *scratch, *again;
	int shared, fd;

	map = accel_buffer_new(self->fd, 8192, &handle);
	ASSERT_TRUE(map != NULL);
	strcpy(map, "kept");
	scratch = mmap(NULL, ACCEL_MOCK_SCRATCH_SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, scratch);
	strcpy(scratch, "kept too");
	shared = dup(self->fd);
	ASSERT_EQ(0, accel_submit_held(self->fd, self->timeline));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, ACCEL_MOCK_RESET_LOSE,
			 0));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 1,
					 accel_now() + 5 * NSEC_PER_SEC, &value,
					 &status));
	EXPECT_EQ(1, value);
	EXPECT_EQ(-EIO, status);
	ASSERT_EQ(ACCEL_STATE_OPERATIONAL,
		  wait_state(self->control, ACCEL_STATE_OPERATIONAL));
	/* For ever. */
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-ESTALE, add(self->fd));
		EXPECT_EQ(-ESTALE, add(shared));
		EXPECT_EQ(-ESTALE, accel_submit_held(self->fd, self->timeline));
		EXPECT_EQ(-ESTALE,
			  accel_mmap_errno(self->fd, ACCEL_MOCK_SCRATCH_SIZE,
					   PROT_READ, MAP_SHARED, 0));
	}
	/* Host memory is no part of it. */
	EXPECT_STREQ("kept", map);
	EXPECT_STREQ("kept too", scratch);
	again = accel_buffer_map(self->fd, handle, 8192, PROT_READ);
	ASSERT_TRUE(again != NULL);
	EXPECT_STREQ("kept", again);
	EXPECT_EQ(0, accel_buffer_create(self->fd, 4096, &other));
	EXPECT_EQ(0, accel_timeline_create(self->fd, &other));
	EXPECT_EQ(2, accel_fdinfo(self->fd, "accel-buffers"));
	/* Who opens anew has a new one, which another reset does not make old. */
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(42, add(fd));
	ASSERT_EQ(0, get_state(self->control, &state));
	ASSERT_EQ(0, ask(fd, ACCEL_MOCK_ASK_RESET, 0, 0));
	EXPECT_EQ(state.resets + 1,
		  wait_resets(self->control, state.resets + 1));
	EXPECT_EQ(42, add(fd));
	EXPECT_EQ(-ESTALE, add(self->fd));
	close(fd);
	close(shared);
	munmap(map, 8192);
	munmap(again, 8192);
	munmap(scratch, ACCEL_MOCK_SCRATCH_SIZE);
}

/* What is waiting for the end when the contexts are lost learns it. */
TEST_F(reset, lost_while_it_waits)
{
	struct accel_mock_add arg = {};
	struct accel_call call;

	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, ACCEL_MOCK_RESET_LOSE,
			 200));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  wait_state(self->control, ACCEL_STATE_RESETTING));
	ASSERT_EQ(0, accel_call_start(&call, self->fd, ACCEL_MOCK_IOCTL_ADD,
				      &arg));
	EXPECT_TRUE(accel_call_wait(&call, SOON_MS));
	accel_call_join(&call);
	EXPECT_EQ(-ESTALE, call.result);
}

/* A reset that does not help ends in malfunction, which is not left by itself. */
TEST_F(reset, fails)
{
	struct accel_mock_add arg = {};
	struct accel_info_resets old, new;
	struct accel_info_state state;
	struct accel_call call;
	uint32_t handle;
	void *map;
	int fd;

	old = resets(self->control, ACCEL_CAUSE_DRIVER);
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, ACCEL_MOCK_RESET_FAIL,
			 200));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  wait_state(self->control, ACCEL_STATE_RESETTING));
	ASSERT_EQ(0, accel_call_start(&call, self->fd, ACCEL_MOCK_IOCTL_ADD,
				      &arg));
	EXPECT_TRUE(accel_call_wait(&call, SOON_MS));
	accel_call_join(&call);
	EXPECT_EQ(-EIO, call.result);
	ASSERT_EQ(0, get_state(self->control, &state));
	EXPECT_EQ(ACCEL_STATE_MALFUNCTION, state.state);
	EXPECT_EQ(ACCEL_CAUSE_DRIVER, state.cause);
	new = resets(self->control, ACCEL_CAUSE_DRIVER);
	EXPECT_EQ(old.count + 1, new.count);
	EXPECT_EQ(old.failed + 1, new.failed);
	EXPECT_EQ(-EIO, add(self->fd));
	EXPECT_EQ(-EIO, accel_open(O_RDWR | O_CLOEXEC));
	EXPECT_EQ(-EIO, accel_mmap_errno(self->fd, ACCEL_MOCK_SCRATCH_SIZE,
					 PROT_READ, MAP_SHARED, 0));
	/* The rest answers. */
	fd = accel_open_control(O_RDONLY | O_CLOEXEC);
	EXPECT_LE(0, fd);
	EXPECT_EQ(0, get_state(fd, &state));
	close(fd);
	EXPECT_EQ(0, get_state(self->fd, &state));
	map = accel_buffer_new(self->fd, 4096, &handle);
	ASSERT_TRUE(map != NULL);
	EXPECT_EQ(0, accel_touch_write(map));
	munmap(map, 4096);
	EXPECT_EQ(-ETIME, accel_timeline_wait(self->fd, self->timeline, 1, 0,
					      NULL, NULL));
}

/* The driver gives it up at once. Nobody but root gets it out of that. */
TEST_F(reset, given_up)
{
	struct accel_info_state state, later;
	struct accel_mock_reset delayed = {
		.ask = ACCEL_MOCK_ASK_RESET,
		.delay_ms = 50,
	};

	ASSERT_EQ(0, accel_submit_held(self->fd, self->timeline));
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_RESET, &delayed));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_FAIL, 0, 0));
	ASSERT_EQ(0, get_state(self->control, &state));
	EXPECT_EQ(ACCEL_STATE_MALFUNCTION, state.state);
	EXPECT_EQ(ACCEL_CAUSE_DRIVER, state.cause);
	EXPECT_EQ(-EIO, add(self->fd));
	EXPECT_EQ(-EIO, accel_open(O_RDWR | O_CLOEXEC));
	accel_sleep_ms(200);
	ASSERT_EQ(0, get_state(self->control, &later));
	EXPECT_EQ(0, memcmp(&state, &later, sizeof(later)));
}

/* Whether the page at @map is mapped until it is not, or for a while. */
static bool stays_mapped(void *map)
{
	int64_t end = accel_now() + SOON_MS * NSEC_PER_MSEC;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry;
	bool present;

	do {
		if (pread(fd, &entry, sizeof(entry),
			  (uintptr_t)map / getpagesize() * sizeof(entry)) !=
		    sizeof(entry))
			entry = 0;
		present = entry >> 63;
		if (present)
			accel_sleep_ms(1);
	} while (present && accel_now() < end);
	close(fd);
	return present;
}

/* What the driver has mapped is not, when it has given the device up. */
TEST_F(reset, given_up_unmaps)
{
	static const uint32_t asks[] = { ACCEL_MOCK_ASK_FAIL,
					 ACCEL_MOCK_ASK_NEEDS_RESET };

	for (size_t i = 0; i < ARRAY_SIZE(asks); i++) {
		void *map = mmap(NULL, ACCEL_MOCK_SCRATCH_SIZE,
				 PROT_READ | PROT_WRITE, MAP_SHARED, self->fd,
				 0);

		ASSERT_NE(MAP_FAILED, map);
		ASSERT_EQ(0, accel_touch_write(map));
		ASSERT_EQ(0, ask(self->fd, asks[i], 0, 0));
		EXPECT_FALSE(stays_mapped(map));
		ASSERT_EQ(0, ask_as_user());
		ASSERT_EQ(ACCEL_STATE_OPERATIONAL,
			  wait_state(self->control, ACCEL_STATE_OPERATIONAL));
		EXPECT_EQ(0, accel_touch_write(map));
		munmap(map, ACCEL_MOCK_SCRATCH_SIZE);
	}
}

/* Root gets it out of a malfunction, by a reset that helps. */
TEST_F(reset, by_root)
{
	struct accel_info_resets old, new;
	struct accel_info_state state;
	uint32_t handle;
	void *map;

	map = accel_buffer_new(self->fd, 4096, &handle);
	ASSERT_TRUE(map != NULL);
	strcpy(map, "kept");
	old = resets(self->control, ACCEL_CAUSE_USER);
	/* Of a device that is well. */
	ASSERT_EQ(0, get_state(self->control, &state));
	ASSERT_EQ(0, ask_as_user());
	ASSERT_EQ(state.resets + 1,
		  wait_resets(self->control, state.resets + 1));
	EXPECT_EQ(42, add(self->fd));
	/* Of one whose reset has failed: not by one that fails too. */
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, ACCEL_MOCK_RESET_FAIL,
			 0));
	ASSERT_EQ(ACCEL_STATE_MALFUNCTION,
		  wait_state(self->control, ACCEL_STATE_MALFUNCTION));
	ASSERT_EQ(0, ask_as_user());
	ASSERT_EQ(state.resets + 3,
		  wait_resets(self->control, state.resets + 3));
	ASSERT_EQ(0, get_state(self->control, &state));
	EXPECT_EQ(ACCEL_STATE_MALFUNCTION, state.state);
	EXPECT_EQ(ACCEL_CAUSE_USER, state.cause);
	EXPECT_EQ(-EIO, add(self->fd));
	new = resets(self->control, ACCEL_CAUSE_USER);
	EXPECT_EQ(old.count + 2, new.count);
	EXPECT_EQ(old.failed + 1, new.failed);
	EXPECT_STREQ("kept", map);
	munmap(map, 4096);
}

/* A device that was given up goes on where it was, after a reset by root. */
TEST_F(reset, given_up_and_back)
{
	struct accel_info_state state;

	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_FAIL, 0, 0));
	EXPECT_EQ(-EIO, add(self->fd));
	ASSERT_EQ(0, ask_as_user());
	ASSERT_EQ(ACCEL_STATE_OPERATIONAL,
		  wait_state(self->control, ACCEL_STATE_OPERATIONAL));
	ASSERT_EQ(0, get_state(self->control, &state));
	EXPECT_EQ(ACCEL_CAUSE_USER, state.cause);
	EXPECT_EQ(42, add(self->fd));
}

/* A device that needs a reset gets it from whoever asks. */
TEST_F(reset, needs_reset)
{
	struct accel_mock_reset delayed = {
		.ask = ACCEL_MOCK_ASK_RESET,
		.delay_ms = 200,
	};
	struct accel_info_state state;

	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_RESET, &delayed));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_NEEDS_RESET, 0, 0));
	ASSERT_EQ(0, get_state(self->control, &state));
	EXPECT_EQ(ACCEL_STATE_NEEDS_RESET, state.state);
	EXPECT_EQ(-EIO, add(self->fd));
	EXPECT_EQ(-EIO, accel_open(O_RDWR | O_CLOEXEC));
	ASSERT_EQ(ACCEL_STATE_OPERATIONAL,
		  wait_state(self->control, ACCEL_STATE_OPERATIONAL));
	EXPECT_EQ(42, add(self->fd));
}

TEST_HARNESS_MAIN
