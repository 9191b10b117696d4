// SPDX-License-Identifier: GPL-2.0
/*
 * Resets of a device that is busy: what is waited for, what gives up, and that
 * nothing is held up.
 */

#include "reset.h"

/* What add() answers once it is @answer, or after a while. */
static int wait_add(int fd, int answer)
{
	int64_t end = accel_now() + SOON_MS * NSEC_PER_MSEC;
	int ret;

	do
		ret = add(fd);
	while (ret != answer && accel_now() < end);
	return ret;
}

/* What is in the driver is waited for, and gets what it came for. */
TEST_F(reset, waits_for_calls)
{
	struct accel_mock_stall stall = { .milliseconds = 300 };
	struct accel_mock_add arg = {};
	struct accel_call stalled, waiting;
	struct accel_info_state before, after;

	ASSERT_EQ(0, get_state(self->control, &before));
	ASSERT_EQ(0, accel_call_start(&stalled, self->fd,
				      ACCEL_MOCK_IOCTL_STALL, &stall));
	accel_sleep_ms(50);
	/* All that ask before it begins get the same. */
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, 0));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  wait_state(self->control, ACCEL_STATE_RESETTING));
	ASSERT_EQ(0, accel_call_start(&waiting, self->fd, ACCEL_MOCK_IOCTL_ADD,
				      &arg));
	EXPECT_FALSE(accel_call_wait(&waiting, 20));
	EXPECT_TRUE(accel_call_wait(&stalled, SOON_MS));
	EXPECT_TRUE(accel_call_wait(&waiting, SOON_MS));
	accel_call_join(&stalled);
	accel_call_join(&waiting);
	EXPECT_EQ(0, stalled.result);
	EXPECT_EQ(0, waiting.result);
	ASSERT_EQ(0, get_state(self->control, &after));
	EXPECT_EQ(before.resets + 1, after.resets);
	EXPECT_LE(stalled.ended - NSEC_PER_SEC / 10, (int64_t)after.since_ns);
	EXPECT_LE((int64_t)after.since_ns, waiting.ended);
}

/* A call that takes long gives up when a reset, or the end, waits for it. */
TEST_F(reset, long_calls_give_up)
{
	struct accel_mock_stall stall = {
		.milliseconds = ACCEL_MOCK_STALL_MAX,
		.flags = ACCEL_MOCK_STALL_POLITE,
	};
	struct accel_info_state before;
	struct accel_call call;

	ASSERT_EQ(0, get_state(self->control, &before));
	ASSERT_EQ(0, accel_call_start(&call, self->fd, ACCEL_MOCK_IOCTL_STALL,
				      &stall));
	EXPECT_FALSE(accel_call_wait(&call, 50));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, 0));
	EXPECT_TRUE(accel_call_wait(&call, SOON_MS));
	accel_call_join(&call);
	EXPECT_EQ(-EAGAIN, call.result);
	EXPECT_EQ(before.resets + 1,
		  wait_resets(self->control, before.resets + 1));
	ASSERT_EQ(0, accel_call_start(&call, self->fd, ACCEL_MOCK_IOCTL_STALL,
				      &stall));
	EXPECT_FALSE(accel_call_wait(&call, 50));
	ASSERT_EQ(0, accel_remove());
	EXPECT_TRUE(accel_call_wait(&call, SOON_MS));
	accel_call_join(&call);
	EXPECT_EQ(-ENODEV, call.result);
	reopen(self);
}

/* Each user loses what is its own, in whatever process. */
TEST_F(reset, two_users)
{
	int ready[2], go[2], status;
	char byte = 0;
	pid_t child;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		int fd = accel_open(O_RDWR | O_CLOEXEC);
		int found = fd < 0 ? 1 : 0;

		if (setuid(65534) || add(fd) != 42)
			found = 2;
		if (write(ready[1], &byte, 1) != 1 ||
		    read(go[0], &byte, 1) != 1)
			found = 3;
		if (!found && add(fd) != -ESTALE)
			found = 4;
		_exit(found);
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_EQ(42, add(self->fd));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, ACCEL_MOCK_RESET_LOSE,
			 0));
	EXPECT_EQ(-ESTALE, wait_add(self->fd, -ESTALE));
	ASSERT_EQ(1, write(go[1], &byte, 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* Resets that follow each other at once, and files that come and go. */
TEST_F(reset, closed_by_signal)
{
	int go[2];
	char byte;
	pid_t child;

	for (int i = 0; i < 20; i++) {
		uint32_t timeline;

		ASSERT_EQ(0, pipe(go));
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			struct accel_mock_add arg = {};
			int fd;

			do
				fd = accel_open(O_RDWR | O_CLOEXEC);
			while (fd == -EAGAIN);
			if (fd < 0 || accel_timeline_create(fd, &timeline))
				_exit(1);
			accel_submit_held(fd, timeline);
			if (write(go[1], "", 1) != 1)
				_exit(2);
			for (;;)
				accel_ioctl(fd, ACCEL_MOCK_IOCTL_ADD, &arg);
		}
		ASSERT_EQ(1, read(go[0], &byte, 1));
		ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, i));
		ASSERT_EQ(0, kill(child, SIGKILL));
		ASSERT_EQ(child, waitpid(child, NULL, 0));
		close(go[0]);
		close(go[1]);
	}
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL,
		  wait_state(self->control, ACCEL_STATE_OPERATIONAL));
}

/* To close a file waits for the reset, and not for more. */
TEST_F(reset, close_waits)
{
	struct accel_info_state state;
	int fd = accel_open(O_RDWR | O_CLOEXEC);
	uint32_t timeline;
	int64_t after;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_timeline_create(fd, &timeline));
	ASSERT_EQ(0, accel_submit_held(fd, timeline));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, ACCEL_MOCK_RESET_LOSE,
			 300));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  wait_state(self->control, ACCEL_STATE_RESETTING));
	close(fd);
	after = accel_now();
	ASSERT_EQ(0, get_state(self->control, &state));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state.state);
	EXPECT_LE((int64_t)state.since_ns, after);
	EXPECT_GT((int64_t)state.since_ns + SOON_MS * NSEC_PER_MSEC, after);
}

/* The end of the device does not wait for a reset, nor does who waits for it. */
TEST_F(reset, unplugged)
{
	struct accel_mock_add arg = {};
	struct accel_info_state state;
	struct accel_call call;
	int64_t before;

	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0,
			 ACCEL_MOCK_RESET_MS_MAX));
	ASSERT_EQ(ACCEL_STATE_RESETTING,
		  wait_state(self->control, ACCEL_STATE_RESETTING));
	ASSERT_EQ(0, accel_call_start(&call, self->fd, ACCEL_MOCK_IOCTL_ADD,
				      &arg));
	EXPECT_FALSE(accel_call_wait(&call, 20));
	before = accel_now();
	ASSERT_EQ(0, accel_remove());
	EXPECT_GT(SOON_MS * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_TRUE(accel_call_wait(&call, SOON_MS));
	accel_call_join(&call);
	EXPECT_EQ(-ENODEV, call.result);
	EXPECT_EQ(-ENODEV, get_state(self->control, &state));
	reopen(self);
}

/* What users do at the same time; each has an answer that is documented. */
struct storm {
	pthread_t thread;
	bool *stop;
	int what;
	unsigned int rounds;
	int wrong;
	bool done;
};

static bool one_of(int result, int a, int b, int c)
{
	return result == a || result == b || result == c;
}

static void storm_round(struct storm *storm, int fd)
{
	uint32_t timeline, handle;
	uint64_t value;
	void *map;
	int ret;

	switch (storm->what) {
	case 0:
		ret = add(fd);
		if (!one_of(ret, 42, -ESTALE, -ESTALE))
			storm->wrong = ret;
		break;
	case 1:
		map = mmap(NULL, ACCEL_MOCK_SCRATCH_SIZE, PROT_WRITE,
			   MAP_SHARED, fd, 0);
		if (map == MAP_FAILED) {
			if (errno != ESTALE && errno != EAGAIN)
				storm->wrong = -errno;
			break;
		}
		if (accel_touch_write(map))
			storm->wrong = -EFAULT;
		munmap(map, ACCEL_MOCK_SCRATCH_SIZE);
		break;
	case 2:
		map = accel_buffer_new(fd, 4096, &handle);
		if (!map || accel_touch_write(map) ||
		    accel_buffer_destroy(fd, handle))
			storm->wrong = -EFAULT;
		if (map)
			munmap(map, 4096);
		break;
	default:
		if (accel_timeline_create(fd, &timeline)) {
			storm->wrong = -ENOMEM;
			break;
		}
		ret = accel_submit_held(fd, timeline);
		if (!one_of(ret, 0, -ESTALE, -EAGAIN))
			storm->wrong = ret;
		if (!ret && accel_timeline_wait(fd, timeline, 1,
						accel_now() + 20 * NSEC_PER_SEC,
						&value, NULL))
			storm->wrong = -ETIME;
		accel_timeline_destroy(fd, timeline);
		break;
	}
}

static void *storm_thread(void *arg)
{
	struct storm *storm = arg;

	while (!__atomic_load_n(storm->stop, __ATOMIC_RELAXED) &&
	       !storm->wrong) {
		int fd = accel_open(O_RDWR | O_CLOEXEC);

		if (fd < 0) {
			if (fd != -EAGAIN)
				storm->wrong = fd;
			continue;
		}
		for (int i = 0; i < 3 && !storm->wrong; i++)
			storm_round(storm, fd);
		close(fd);
		storm->rounds++;
	}
	__atomic_store_n(&storm->done, true, __ATOMIC_RELEASE);
	return NULL;
}

TEST_F(reset, storm)
{
	struct storm storms[8] = {};
	struct accel_info_state state;
	bool stop = false;

	for (size_t i = 0; i < ARRAY_SIZE(storms); i++) {
		storms[i].stop = &stop;
		storms[i].what = i % 4;
		ASSERT_EQ(0, pthread_create(&storms[i].thread, NULL,
					    storm_thread, &storms[i]));
	}
	for (int i = 0; i < 60; i++) {
		int fd;

		ASSERT_EQ(0, get_state(self->control, &state));
		do
			fd = accel_open(O_RDWR | O_CLOEXEC);
		while (fd == -EAGAIN);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ask(fd, ACCEL_MOCK_ASK_RESET,
				 i % 2 ? ACCEL_MOCK_RESET_LOSE : 0, i % 8));
		ASSERT_LE(state.resets + 1,
			  wait_resets(self->control, state.resets + 1));
		close(fd);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < ARRAY_SIZE(storms); i++) {
		/* What it holds a reset ends. */
		while (!__atomic_load_n(&storms[i].done, __ATOMIC_ACQUIRE)) {
			int fd = accel_open(O_RDWR | O_CLOEXEC);

			if (fd >= 0)
				ask(fd, ACCEL_MOCK_ASK_RESET, 0, 0);
			close(fd);
			accel_sleep_ms(5);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(storms); i++) {
		pthread_join(storms[i].thread, NULL);
		EXPECT_EQ(0, storms[i].wrong)
		TH_LOG("storm %d", storms[i].what);
		EXPECT_LT(0, storms[i].rounds);
	}
}

TEST_HARNESS_MAIN
