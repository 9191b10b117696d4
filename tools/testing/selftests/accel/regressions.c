// SPDX-License-Identifier: GPL-2.0
/*
 * Faults that every device had and that were found by looking, not by testing.
 * Each test says which.
 */

#include "accel_watch.h"
#include "kselftest_harness.h"

#include <sys/prctl.h>

#define PAGE 4096
#define REMOVE_MS 5000

FIXTURE(regressions)
{
	int fd;
};

FIXTURE_SETUP(regressions)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(regressions)
{
	close(self->fd);
	EXPECT_EQ(0, accel_restore());
}

/* What a debugger does: how many bytes it has read or written, or the errno. */
static ssize_t debugger(const void *at, void *bytes, size_t size, bool write)
{
	off_t offset = (uintptr_t)at;
	ssize_t n;
	int mem;

	mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (mem < 0)
		return -errno;
	n = write ? pwrite(mem, bytes, size, offset) :
		    pread(mem, bytes, size, offset);
	n = n < 0 ? -errno : n;
	close(mem);
	return n;
}

/* A debugger wrote where the mapping's owner may not, and read likewise. */
TEST_F(regressions, debugger_permissions)
{
	int memfd = memfd_create("accel", MFD_CLOEXEC);
	int reader = accel_open(O_RDONLY | O_CLOEXEC);
	unsigned char *own, *map;
	uint32_t buffer, other;
	char byte = 'x';

	own = accel_buffer_new(self->fd, 2 * PAGE, &buffer);
	ASSERT_TRUE(own != NULL);
	own[5] = 'o';

	/* What shared memory does is what is expected here. */
	ASSERT_EQ(0, ftruncate(memfd, PAGE));
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, memfd, 0);
	ASSERT_TRUE(map != MAP_FAILED);
	EXPECT_EQ(-EIO, debugger(map, &byte, 1, true));
	munmap(map, PAGE);

	map = accel_buffer_map(self->fd, buffer, 2 * PAGE, PROT_READ);
	ASSERT_TRUE(map != NULL);
	EXPECT_EQ(-EIO, debugger(map + 5, &byte, 1, true));
	EXPECT_EQ('o', own[5]);
	EXPECT_EQ(1, debugger(map + 5, &byte, 1, false));
	EXPECT_EQ('o', byte);
	munmap(map, 2 * PAGE);

	map = accel_buffer_map(self->fd, buffer, 2 * PAGE, PROT_NONE);
	ASSERT_TRUE(map != NULL);
	byte = 'x';
	EXPECT_EQ(-EIO, debugger(map + 5, &byte, 1, false));
	EXPECT_EQ('x', byte);
	EXPECT_EQ(-EIO, debugger(map + 5, &byte, 1, true));
	EXPECT_EQ('o', own[5]);
	munmap(map, 2 * PAGE);

	/* Neither does the file that was opened to read give a way to write. */
	ASSERT_LE(0, reader);
	ASSERT_EQ(0, accel_buffer_create(reader, PAGE, &other));
	map = accel_buffer_map(reader, other, PAGE, PROT_READ);
	ASSERT_TRUE(map != NULL);
	EXPECT_EQ(-EIO, debugger(map, &byte, 1, true));
	EXPECT_EQ(0, map[0]);
	munmap(map, PAGE);

	/* A part that is protected, and may be written again. */
	ASSERT_EQ(0, mprotect(own, PAGE, PROT_READ));
	EXPECT_EQ(-EIO, debugger(own + 5, &byte, 1, true));
	EXPECT_EQ('o', own[5]);
	EXPECT_EQ(1, debugger(own + PAGE, &byte, 1, true));
	EXPECT_EQ('x', own[PAGE]);
	ASSERT_EQ(0, mprotect(own, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(1, debugger(own + 5, &byte, 1, true));
	EXPECT_EQ('x', own[5]);
	munmap(own, 2 * PAGE);
	close(reader);
	close(memfd);
}

/* A debugger read and wrote on in the buffer where the mapping ends. */
TEST_F(regressions, debugger_at_the_end)
{
	unsigned char *own, *other, *at;
	uint64_t offset, other_offset;
	uint32_t buffer, other_buffer;
	char bytes[32];

	own = accel_buffer_new(self->fd, 2 * PAGE, &buffer);
	other = accel_buffer_new(self->fd, 2 * PAGE, &other_buffer);
	ASSERT_TRUE(own && other);
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, buffer, &offset, NULL));
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, other_buffer, &other_offset,
				       NULL));
	memset(own, 'o', 2 * PAGE);
	memset(other, 'p', 2 * PAGE);

	/* The buffer's first page, and a hole. */
	at = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0);
	ASSERT_TRUE(at != MAP_FAILED);
	ASSERT_EQ(0, munmap(at, 2 * PAGE));
	ASSERT_TRUE(mmap(at, PAGE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED_NOREPLACE, self->fd,
			 offset) == at);
	memset(bytes, 'x', sizeof(bytes));
	EXPECT_EQ(16, debugger(at + PAGE - 16, bytes, 32, true));
	EXPECT_EQ('o', own[PAGE - 17]);
	EXPECT_EQ('x', own[PAGE - 16]);
	EXPECT_EQ('x', own[PAGE - 1]);
	EXPECT_EQ('o', own[PAGE]);
	EXPECT_EQ('o', own[PAGE + 15]);
	memset(bytes, '-', sizeof(bytes));
	EXPECT_EQ(16, debugger(at + PAGE - 16, bytes, 32, false));
	EXPECT_EQ('x', bytes[15]);
	EXPECT_EQ('-', bytes[16]);

	/* Instead of the hole another buffer: its bytes are its own. */
	ASSERT_TRUE(mmap(at + PAGE, PAGE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED_NOREPLACE, self->fd,
			 other_offset + PAGE) == at + PAGE);
	EXPECT_EQ(32, debugger(at + PAGE - 16, bytes, 32, false));
	EXPECT_EQ('x', bytes[15]);
	EXPECT_EQ('p', bytes[16]);
	memset(bytes, 'y', sizeof(bytes));
	EXPECT_EQ(32, debugger(at + PAGE - 16, bytes, 32, true));
	EXPECT_EQ('y', own[PAGE - 1]);
	EXPECT_EQ('o', own[PAGE]);
	EXPECT_EQ('p', other[PAGE - 1]);
	EXPECT_EQ('y', other[PAGE]);
	EXPECT_EQ('y', other[PAGE + 15]);
	EXPECT_EQ('p', other[PAGE + 16]);
	munmap(at, 2 * PAGE);
	munmap(own, 2 * PAGE);
	munmap(other, 2 * PAGE);
}

struct race {
	int fd;
	/* The handle that was last made. */
	uint32_t latest;
	bool stop;
	unsigned int destroyed;
	int bad;
};

static void *destroyer(void *data)
{
	struct race *race = data;

	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		uint32_t handle;
		int ret;

		/* The one that is being made, if the guess is good. */
		handle = __atomic_load_n(&race->latest, __ATOMIC_RELAXED) + 1;
		ret = accel_buffer_destroy(race->fd, handle);
		if (!ret)
			__atomic_fetch_add(&race->destroyed, 1,
					   __ATOMIC_RELAXED);
		else if (ret != -ENOENT)
			race->bad = ret;
	}
	return NULL;
}

static uint64_t memory_used(int fd)
{
	struct accel_info_memory memory = {};

	if (accel_info(fd, ACCEL_INFO_MEMORY, 0, &memory, sizeof(memory)) ||
	    !(memory.flags & ACCEL_MEMORY_USED))
		return ~0ULL;
	return memory.used;
}

/*
 * A buffer could be found before it was complete: who destroyed it by a guess
 * of its handle left its offset, its memory and its count behind.
 */
TEST_F(regressions, create_destroy_race)
{
	int64_t until = accel_now() + 3 * NSEC_PER_SEC / 2;
	struct race race = { .fd = self->fd };
	uint64_t top = ACCEL_MMAP_BUFFERS;
	uint64_t before, offset;
	pthread_t threads[2];
	unsigned int mapped = 0;
	uint32_t handle;

	before = memory_used(self->fd);
	ASSERT_NE(~0ULL, before);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0,
			  pthread_create(&threads[i], NULL, destroyer, &race));
	for (int i = 0; i < 30000 && accel_now() < until; i++) {
		ASSERT_EQ(0, accel_buffer_create(self->fd, PAGE, &handle));
		__atomic_store_n(&race.latest, handle, __ATOMIC_RELAXED);
		if (!accel_buffer_mmap(self->fd, handle, &offset, NULL) &&
		    offset > top)
			top = offset;
		if (handle > 8)
			accel_buffer_destroy(self->fd, handle - 8);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, race.bad);
	TH_LOG("%u handles, %u of them guessed", race.latest, race.destroyed);
	EXPECT_LT(0, race.destroyed);

	for (uint32_t i = 0; i <= 8 && i < race.latest; i++)
		accel_buffer_destroy(self->fd, race.latest - i);
	EXPECT_EQ(0, accel_fdinfo(self->fd, "accel-buffers"));
	EXPECT_EQ(0, accel_fdinfo(self->fd, "accel-buffer-bytes"));
	EXPECT_EQ(before, memory_used(self->fd));
	for (offset = ACCEL_MMAP_BUFFERS; offset < top + 16 * PAGE;
	     offset += PAGE)
		mapped += accel_mmap_errno(self->fd, PAGE, PROT_READ,
					   MAP_SHARED, offset) != -EINVAL;
	EXPECT_EQ(0, mapped);
}

#define CGROUP "/sys/fs/cgroup/accel_regressions"

/* Creates a large buffer, once it is told to; exits with the errno. */
static void create_throttled(int fd, int go)
{
	uint32_t handle;
	char c;

	if (read(go, &c, 1) != 1)
		_exit(255);
	_exit(-accel_buffer_create(fd, 512 * MIB, &handle));
}

static bool throttled(void)
{
	char line[64];

	return !accel_read_line(CGROUP "/memory.current", line, sizeof(line)) &&
	       strtoull(line, NULL, 10) > 3 * MIB;
}

/*
 * Who is above memory.high is made to sleep, seconds for each block: inside of
 * the gate, where the end of the device waited for it.
 */
TEST_F_TIMEOUT(regressions, create_over_memory_high, 60)
{
	char line[256], pid_text[16];
	int go[2], status = 0;
	int64_t before, until;
	pid_t pid, ended;

	ASSERT_EQ(0, accel_read_line("/sys/fs/cgroup/cgroup.controllers", line,
				     sizeof(line)));
	if (!strstr(line, "memory"))
		SKIP(return, "no memory controller");
	ASSERT_EQ(0, accel_write_line("/sys/fs/cgroup/cgroup.subtree_control",
				      "+memory"));
	ASSERT_TRUE(!mkdir(CGROUP, 0755) || errno == EEXIST);
	ASSERT_EQ(0, accel_write_line(CGROUP "/memory.high", "1M"));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		create_throttled(self->fd, go[0]);
	snprintf(pid_text, sizeof(pid_text), "%d", pid);
	EXPECT_EQ(0, accel_write_line(CGROUP "/cgroup.procs", pid_text));
	EXPECT_EQ(1, write(go[1], "x", 1));
	for (int i = 0; i < 500 && !throttled(); i++)
		accel_sleep_ms(10);
	EXPECT_TRUE(throttled());
	/* Into one of its sleeps. */
	accel_sleep_ms(200);
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));

	before = accel_now();
	EXPECT_EQ(0, accel_remove());
	TH_LOG("removed in %lld ms",
	       (long long)((accel_now() - before) / NSEC_PER_MSEC));
	EXPECT_GT(REMOVE_MS * NSEC_PER_MSEC, accel_now() - before);
	until = accel_now() + 10 * NSEC_PER_SEC;
	while (!(ended = waitpid(pid, &status, WNOHANG)) && accel_now() < until)
		accel_sleep_ms(10);
	EXPECT_EQ(pid, ended);
	if (ended != pid) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_TRUE(WEXITSTATUS(status) == ENODEV ||
		    WEXITSTATUS(status) == ENOMEM ||
		    WEXITSTATUS(status) == EINTR)
	TH_LOG("errno %d", WEXITSTATUS(status));
	close(go[0]);
	close(go[1]);
	for (int i = 0; i < 100 && rmdir(CGROUP); i++)
		accel_sleep_ms(10);
	EXPECT_FALSE(accel_exists(CGROUP));
}

#define TIMELINES (ACCEL_EVENTFDS_MAX + 100)
#define EPOLLS 200

/*
 * As many eventfds as wanted, a limit's worth on each of any number of
 * timelines, were signalled in one go when the device went; and each wakes as
 * many as watch it. That held a CPU for minutes.
 */
TEST_F(regressions, many_watched_eventfds)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epolls[EPOLLS], counter, bound = 0;
	int64_t before;

	counter = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_LE(0, counter);
	for (int i = 0; i < EPOLLS; i++) {
		epolls[i] = epoll_create1(EPOLL_CLOEXEC);
		ASSERT_LE(0, epolls[i]);
		ASSERT_EQ(0,
			  epoll_ctl(epolls[i], EPOLL_CTL_ADD, counter, &event));
	}
	for (int i = 0; i < TIMELINES; i++) {
		uint32_t timeline;
		int ret;

		ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
		ret = accel_timeline_eventfd(self->fd, timeline, 1, counter);
		if (i < ACCEL_EVENTFDS_MAX)
			ASSERT_EQ(0, ret);
		bound += !ret;
	}
	EXPECT_EQ(ACCEL_EVENTFDS_MAX, bound);
	EXPECT_EQ(0, accel_eventfd_count(counter));
	before = accel_now();
	ASSERT_EQ(0, accel_remove());
	TH_LOG("removed in %lld ms",
	       (long long)((accel_now() - before) / NSEC_PER_MSEC));
	EXPECT_GT(REMOVE_MS * NSEC_PER_MSEC, accel_now() - before);
	/* All of them, once. */
	EXPECT_EQ(1, epoll_wait(epolls[0], &event, 1, 5000));
	EXPECT_EQ(1, epoll_wait(epolls[EPOLLS - 1], &event, 1, 5000));
	EXPECT_EQ(bound, accel_eventfd_wait(counter, bound));
	for (int i = 0; i < EPOLLS; i++)
		close(epolls[i]);
	close(counter);
}

#define FILES 8
#define BOUND (ACCEL_EVENTFDS_MAX / 4)

/*
 * An epoll may watch one eventfd as often as that has descriptors: each signal
 * woke them all, with interrupts off, and the end of a device waited for each
 * of as many signals as there were files for.
 */
TEST_F(regressions, watched_eventfds_of_many_files)
{
	struct accel_watch watch;
	struct epoll_event event;
	int files[FILES], counter;
	int64_t start;

	counter = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_LE(0, counter);
	ASSERT_EQ(0, accel_watch_begin(&watch, counter));
	for (int i = 0; i < FILES; i++) {
		uint32_t timeline;

		files[i] = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, files[i]);
		ASSERT_EQ(0, accel_timeline_create(files[i], &timeline));
		for (int j = 0; j < BOUND; j++)
			ASSERT_EQ(0, accel_timeline_eventfd(files[i], timeline,
							    1, counter));
	}
	start = accel_now();
	ASSERT_EQ(0, accel_remove());
	TH_LOG("removed in %lld ms",
	       (long long)((accel_now() - start) / NSEC_PER_MSEC));
	EXPECT_GT(REMOVE_MS * NSEC_PER_MSEC, accel_now() - start);
	EXPECT_EQ(1, epoll_wait(watch.epolls[0], &event, 1, 5000));
	EXPECT_EQ(0, accel_watch_end(&watch));
	/* All of them, once. */
	EXPECT_EQ(FILES * BOUND, accel_eventfd_wait(counter, FILES * BOUND));
	for (int i = 0; i < FILES; i++)
		close(files[i]);
	close(counter);
}

static int polled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 ? p.revents : 0;
}

/* What the device writes meanwhile. */
static unsigned char load(const unsigned char *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/*
 * A timeline whose handle had gone and that a job still held made the file
 * readable, with nothing left to ask.
 */
TEST_F(regressions, poll_of_forgotten)
{
	struct accel_edu_copy copy = { .dst_offset = 4 * PAGE, .size = PAGE };
	struct accel_mock_submit hold = { .flags = ACCEL_MOCK_SUBMIT_HOLD };
	uint32_t timeline, other;
	unsigned char *map;
	uint64_t point;

	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	if (accel_target()->kind == ACCEL_EDU) {
		/* A job that ends then, and one that takes 800 ms more. */
		map = accel_buffer_new(self->fd, 8 * PAGE, &copy.src);
		ASSERT_TRUE(map != NULL);
		map[0] = 'x';
		copy.dst = copy.src;
		copy.timeline = timeline;
		ASSERT_EQ(0,
			  accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &copy));
		copy.size = 4 * PAGE;
		ASSERT_EQ(0,
			  accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &copy));
		ASSERT_EQ(0, accel_timeline_destroy(self->fd, timeline));
		for (int i = 0; i < 500 && load(map + 4 * PAGE) != 'x'; i++)
			accel_sleep_ms(10);
		EXPECT_EQ('x', load(map + 4 * PAGE));
		accel_sleep_ms(50);
	} else {
		/* A job that has ended, and one that ends with the file. */
		ASSERT_EQ(0, accel_submit(self->fd, timeline, &point));
		EXPECT_EQ(POLLIN, polled(self->fd));
		hold.timeline = timeline;
		ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_SUBMIT,
					 &hold));
		ASSERT_EQ(0, accel_timeline_destroy(self->fd, timeline));
	}
	EXPECT_EQ(0, polled(self->fd));
	/* What is not forgotten is still told. */
	ASSERT_EQ(0, accel_timeline_create(self->fd, &other));
	ASSERT_EQ(0, accel_submit(self->fd, other, &point));
	for (int i = 0; i < 500 && !polled(self->fd); i++)
		accel_sleep_ms(10);
	EXPECT_EQ(POLLIN, polled(self->fd));
	ASSERT_EQ(0,
		  accel_timeline_wait(self->fd, other, point, 0, NULL, NULL));
	EXPECT_EQ(0, polled(self->fd));
}

/*
 * A handle that was given back was the next one to be given out: who destroyed
 * twice, or used it a moment too late, had another object.
 */
TEST_F(regressions, handles_are_not_reused)
{
	uint32_t last = 0, handle;

	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(0, accel_timeline_create(self->fd, &handle));
		ASSERT_NE(last, handle);
		ASSERT_EQ(0, accel_timeline_destroy(self->fd, handle));
		ASSERT_EQ(-ENOENT, accel_timeline_destroy(self->fd, handle));
		last = handle;
	}
	last = 0;
	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(0, accel_buffer_create(self->fd, PAGE, &handle));
		ASSERT_NE(last, handle);
		ASSERT_EQ(0, accel_buffer_destroy(self->fd, handle));
		ASSERT_EQ(-ENOENT, accel_buffer_destroy(self->fd, handle));
		last = handle;
	}
}

#define LARGE (2 * MIB)
#define WINDOWS 4

struct faulting {
	unsigned char *map;
	/* Its byte of each window, and whether it begins with the last. */
	size_t byte;
	bool down;
	bool stop;
};

static void *fault_on(void *data)
{
	struct faulting *faulting = data;

	while (!__atomic_load_n(&faulting->stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < WINDOWS; i++) {
			size_t at =
				(faulting->down ? WINDOWS - 1 - i : i) * LARGE;

			__atomic_store_n(faulting->map + at + faulting->byte, 1,
					 __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

static void *toggle(void *data)
{
	struct faulting *faulting = data;

	for (int i = 0; !__atomic_load_n(&faulting->stop, __ATOMIC_RELAXED);
	     i++)
		prctl(PR_SET_THP_DISABLE, i & 1, 0, 0, 0);
	return NULL;
}

/*
 * Two faults on one window, one answered with a large entry and one page by
 * page, as the second asks for when the process has just been denied the
 * former: the kernel warned of an entry that was not what it should be. Whether
 * it does the log says, which fails the run.
 */
TEST_F(regressions, large_or_small)
{
	int64_t until = accel_now() + 3 * NSEC_PER_SEC / 2;
	struct faulting faulting[3] = {};
	unsigned char *reserved, *at;
	pthread_t threads[3];
	uint32_t buffer;
	uint64_t offset;
	int cycles = 0;

	ASSERT_EQ(0, accel_buffer_create(self->fd, WINDOWS * LARGE, &buffer));
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, buffer, &offset, NULL));
	reserved = mmap(NULL, (WINDOWS + 1) * LARGE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(reserved != MAP_FAILED);
	at = (unsigned char *)(((uintptr_t)reserved + LARGE - 1) & -LARGE);
	ASSERT_TRUE(mmap(at, WINDOWS * LARGE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, self->fd, offset) == at);
	for (int i = 0; i < 3; i++) {
		faulting[i].map = at;
		faulting[i].byte = i * PAGE;
		faulting[i].down = i == 1;
		ASSERT_EQ(0, pthread_create(&threads[i], NULL,
					    i < 2 ? fault_on : toggle,
					    &faulting[i]));
	}
	/* In place of itself: nothing is mapped then, and it faults again. */
	for (; accel_now() < until; cycles++) {
		madvise(at, WINDOWS * LARGE, MADV_DONTNEED);
		ASSERT_TRUE(mmap(at, WINDOWS * LARGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED, self->fd,
				 offset) == at);
		usleep(cycles % 8 * 200);
	}
	for (int i = 0; i < 3; i++)
		__atomic_store_n(&faulting[i].stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	TH_LOG("%d cycles", cycles);
	EXPECT_LT(10, cycles);
	EXPECT_EQ(0, prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
	for (size_t i = 0; i < WINDOWS; i++) {
		EXPECT_EQ(1, at[i * LARGE]);
		EXPECT_EQ(1, at[i * LARGE + PAGE]);
		EXPECT_EQ(0, at[i * LARGE + 2 * PAGE]);
	}
	munmap(reserved, (WINDOWS + 1) * LARGE);
}

TEST_HARNESS_MAIN
