// SPDX-License-Identifier: GPL-2.0
/*
 * Faults of devices with hardware that were found by looking, not by testing.
 * Each test says which.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <setjmp.h>
#include <sys/resource.h>

#define PAGE 4096

FIXTURE(edu_regressions){};

FIXTURE_SETUP(edu_regressions)
{
	ASSERT_TRUE(accel_target() != NULL);
}

FIXTURE_TEARDOWN(edu_regressions)
{
	EXPECT_EQ(0, accel_restore());
}

/* What the device says of its contexts was not what it held to: it had no limit. */
TEST_F(edu_regressions, max_contexts)
{
	struct rlimit limit = { ACCEL_EDU_CONTEXTS_MAX + 256,
				ACCEL_EDU_CONTEXTS_MAX + 256 };
	static int fds[ACCEL_EDU_CONTEXTS_MAX];
	struct accel_info_identity id;
	struct accel_info_opens opens;
	int controls[64], one_more;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	ASSERT_EQ(0, accel_take_all_contexts(accel_target()->compute));
	for (int i = 0; i < ACCEL_EDU_CONTEXTS_MAX; i++) {
		fds[i] = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fds[i]) TH_LOG("%d: %d", i, fds[i]);
	}
	EXPECT_EQ(0,
		  accel_info(fds[0], ACCEL_INFO_IDENTITY, 0, &id, sizeof(id)));
	EXPECT_EQ(ACCEL_EDU_CONTEXTS_MAX, id.max_contexts);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(-EBUSY, accel_open(O_RDWR | O_CLOEXEC));
	for (int i = 0; i < ARRAY_SIZE(controls); i++) {
		controls[i] = accel_open_control(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, controls[i]);
	}
	/* What was refused does not count. */
	EXPECT_EQ(0, accel_info(controls[0], ACCEL_INFO_OPENS, 0, &opens,
				sizeof(opens)));
	EXPECT_EQ(ACCEL_EDU_CONTEXTS_MAX, opens.compute_now);
	EXPECT_EQ(ARRAY_SIZE(controls), opens.control_now);

	close(fds[500]);
	fds[500] = accel_open(O_RDWR | O_CLOEXEC);
	EXPECT_LE(0, fds[500]);
	one_more = accel_open(O_RDWR | O_CLOEXEC);
	EXPECT_EQ(-EBUSY, one_more);
	for (int i = 0; i < ACCEL_EDU_CONTEXTS_MAX; i++)
		close(fds[i]);
	for (int i = 0; i < ARRAY_SIZE(controls); i++)
		close(controls[i]);
	/* Nor is anything left of them all. */
	one_more = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, one_more);
	EXPECT_EQ(0, accel_info(one_more, ACCEL_INFO_OPENS, 0, &opens,
				sizeof(opens)));
	EXPECT_EQ(1, opens.compute_now);
	EXPECT_EQ(0, opens.control_now);
	close(one_more);
}

/* Starts to copy 8 KiB of `what`; answers the file. */
static int copy_start(char what, uint32_t *timeline, uint64_t *point,
		      unsigned char **dst)
{
	struct accel_edu_copy copy = { .size = 2 * PAGE };
	unsigned char *src;
	int fd, ret;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fd;
	ret = accel_timeline_create(fd, timeline);
	src = accel_buffer_new(fd, 2 * PAGE, &copy.src);
	*dst = accel_buffer_new(fd, 2 * PAGE, &copy.dst);
	if (ret || !src || !*dst) {
		close(fd);
		return ret ? ret : -ENOMEM;
	}
	memset(src, what, 2 * PAGE);
	munmap(src, 2 * PAGE);
	memset(*dst, '-', 2 * PAGE);
	copy.timeline = *timeline;
	ret = accel_ioctl(fd, ACCEL_EDU_IOCTL_COPY, &copy);
	*point = copy.point;
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

/*
 * A device that was bound again still did what it had been told before: the
 * first user's transfer ended in the second user's job, whose memory had the
 * first one's data then.
 */
TEST_F_TIMEOUT(edu_regressions, rebind_during_dma, 60)
{
	/* A transfer takes 100 ms, there and back 200. */
	static const unsigned int after[] = { 10, 50, 110, 150, 190 };

	for (int i = 0; i < ARRAY_SIZE(after); i++) {
		unsigned char *a, *b;
		uint32_t timeline;
		uint64_t point;
		int32_t status;
		int bad = 0;
		int fd;

		fd = copy_start('A', &timeline, &point, &a);
		ASSERT_LE(0, fd);
		accel_sleep_ms(after[i]);
		ASSERT_EQ(0, accel_remove());
		munmap(a, 2 * PAGE);
		close(fd);
		ASSERT_EQ(0, accel_restore());

		fd = copy_start('B', &timeline, &point, &b);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0,
			  accel_timeline_wait(fd, timeline, point,
					      accel_now() + 10 * NSEC_PER_SEC,
					      NULL, &status));
		EXPECT_EQ(0, status);
		for (int j = 0; j < 2 * PAGE; j++)
			bad += b[j] != 'B';
		EXPECT_EQ(0, bad)
		TH_LOG("after %u ms: %d bytes, the first pages have %c %c",
		       after[i], bad, b[0], b[PAGE]);
		munmap(b, 2 * PAGE);
		close(fd);
	}
}

static __thread sigjmp_buf back;

static void on_signal(int sig)
{
	siglongjmp(back, sig);
}

/* The signal that writing a byte raises in this thread, 0 for none. */
static int touched(unsigned char *at)
{
	int sig = sigsetjmp(back, 1);

	if (!sig)
		__atomic_store_n(at, 1, __ATOMIC_RELAXED);
	return sig;
}

#define SIZE (4 * MIB)

struct moving {
	unsigned char *places[2];
	bool stop;
};

/* Touches both places, of which one has the mapping. */
static void *touch_on(void *data)
{
	struct moving *moving = data;

	while (!__atomic_load_n(&moving->stop, __ATOMIC_RELAXED))
		for (size_t at = 0; at < SIZE; at += 64 * KIB)
			for (int i = 0; i < 2; i++)
				touched(moving->places[i] + at);
	return NULL;
}

/* Whether the other end of a pipe is closed, within some time. */
static bool closed_in(int fd, int ms)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, ms) == 1 && (p.revents & POLLHUP);
}

/* How many pages can still be reached. */
static int reached(unsigned char *map)
{
	int count = 0;

	for (size_t at = 0; at < SIZE; at += PAGE)
		count += touched(map + at) != SIGBUS;
	return count;
}

/*
 * The user of a mapping that moves and whose forks have a copy, until the
 * device has gone, which `gone` says by being closed.
 */
static void move_on(unsigned char *map, int ready, int gone)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct moving moving = {};
	unsigned char *reserved;
	pthread_t thread;
	int at = 0;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	reserved = mmap(NULL, 3 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	if (reserved == MAP_FAILED)
		_exit(1);
	/* Large entries fit into one of the places at most. */
	moving.places[0] = reserved;
	moving.places[1] = reserved + SIZE + 16 * KIB;
	if (mremap(map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   moving.places[0]) == MAP_FAILED)
		_exit(2);
	if (pthread_create(&thread, NULL, touch_on, &moving))
		_exit(3);
	if (write(ready, "r", 1) != 1)
		_exit(4);
	while (!closed_in(gone, 0)) {
		unsigned char *from = moving.places[at];
		int status;
		pid_t pid;

		at = !at;
		if (mremap(from, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   moving.places[at]) == MAP_FAILED)
			_exit(5);
		pid = fork();
		if (pid < 0)
			_exit(6);
		if (!pid) {
			touched(moving.places[at]);
			_exit(closed_in(gone, 2) && reached(moving.places[at]));
		}
		if (waitpid(pid, &status, 0) != pid || status)
			_exit(7);
	}
	__atomic_store_n(&moving.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	_exit(reached(moving.places[at]) ? 8 : 0);
}

/*
 * A mapping that is just being moved or copied must not escape the end of the
 * device: whoever reaches it later reaches pages that are no longer his.
 */
TEST_F_TIMEOUT(edu_regressions, moved_while_unbound, 60)
{
	for (int i = 0; i < 20; i++) {
		int ready[2], gone[2], status;
		unsigned char *map;
		uint32_t buffer;
		pid_t pid;
		char c;
		int fd;

		fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		map = accel_buffer_new(fd, SIZE, &buffer);
		ASSERT_TRUE(map != NULL);
		map[0] = 1;
		map[SIZE - 1] = 1;
		ASSERT_EQ(0, pipe(ready));
		ASSERT_EQ(0, pipe(gone));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			close(gone[1]);
			move_on(map, ready[1], gone[0]);
		}
		ASSERT_EQ(1, read(ready[0], &c, 1));
		accel_sleep_ms(5 + 3 * i);
		ASSERT_EQ(0, accel_remove());
		close(gone[1]);
		EXPECT_EQ(SIGBUS, accel_touch_write(map));
		EXPECT_EQ(SIGBUS, accel_touch(map + SIZE - 1));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status) TH_LOG("round %d: %x", i, status);
		munmap(map, SIZE);
		close(fd);
		close(ready[0]);
		close(ready[1]);
		close(gone[0]);
		ASSERT_EQ(0, accel_restore());
	}
}

TEST_HARNESS_MAIN
