// SPDX-License-Identifier: GPL-2.0
/*
 * However long a user would like to hold on to a device: it is gone within a
 * second on the small kernel, and the time is printed. Who passes arguments
 * on pages that never answer is in hostile_pages.c.
 */

#include "accel_pass.h"
#include "kselftest_harness.h"
#include "npu.h"
#include "shape.h"

#include <dirent.h>
#include <linux/io_uring.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* Of each case; the shapes in hotplug.c are done more often. */
#define ROUNDS 3

FIXTURE(unplug)
{
	struct shape shape;
};

FIXTURE_SETUP(unplug)
{
	ASSERT_TRUE(accel_target() != NULL);
}

FIXTURE_TEARDOWN(unplug)
{
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_healthy(accel_target()->compute));
	shape_print(&self->shape, _metadata->name);
	EXPECT_TRUE(shape_in_time(&self->shape));
}

#define UNPLUG(test) TEST_F_TIMEOUT(unplug, test, 120)

/* Whatever can be done, by all at once. */
UNPLUG(eight_threads)
{
	for (int i = 0; i < ROUNDS; i++) {
		struct load load;

		ASSERT_EQ(0, load_start(&load, accel_target()->compute,
					LOAD_THREADS));
		ASSERT_TRUE(load_is_on(&load));
		accel_sleep_ms(10 * i);
		ASSERT_EQ(0, shape_remove(&self->shape));
		EXPECT_EQ(0, load_end(&load));
		ASSERT_EQ(0, accel_restore());
	}
}

#define WAITERS 64

/* None of them is forgotten, and none is woken twice to make up for it. */
UNPLUG(infinite_waits)
{
	static struct accel_timeline_wait waits[WAITERS];
	static struct accel_call calls[WAITERS];
	int fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	for (int i = 0; i < WAITERS; i++) {
		/* Half of them on one timeline. */
		if (i % 2)
			waits[i].handle = waits[0].handle;
		else
			ASSERT_EQ(0,
				  accel_timeline_create(fd, &waits[i].handle));
		waits[i].point = 1 + i;
		waits[i].deadline_ns = FOREVER;
		ASSERT_EQ(0, accel_call_start(&calls[i], fd,
					      ACCEL_IOCTL_TIMELINE_WAIT,
					      &waits[i]));
	}
	EXPECT_FALSE(accel_call_wait(&calls[WAITERS - 1], 50));
	ASSERT_EQ(0, shape_remove(&self->shape));
	for (int i = 0; i < WAITERS; i++) {
		ASSERT_TRUE(accel_call_wait(&calls[i], 5000 * accel_patience()))
		TH_LOG("waiter %d", i);
		accel_call_join(&calls[i]);
		EXPECT_EQ(-ENODEV, calls[i].result);
	}
	close(fd);
}

#define MAPPINGS 1000

/* A thousand of them, each with a page that somebody has touched. */
UNPLUG(mappings)
{
	static unsigned char *maps[MAPPINGS];
	uint32_t buffer;
	int fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_buffer_create(fd, 64 * KIB, &buffer));
	for (int i = 0; i < MAPPINGS; i++) {
		maps[i] = accel_buffer_map(fd, buffer, 64 * KIB,
					   PROT_READ | PROT_WRITE);
		ASSERT_TRUE(maps[i] != NULL);
		ASSERT_EQ(0, accel_touch_write(maps[i] + i % 16 * 4096));
	}
	ASSERT_EQ(0, shape_remove(&self->shape));
	for (int i = 0; i < MAPPINGS; i++) {
		EXPECT_EQ(SIGBUS, accel_touch(maps[i] + i % 16 * 4096));
		munmap(maps[i], 64 * KIB);
	}
	close(fd);
}

/*
 * Files in sockets that nobody reads: also in one whose own file is in it, which
 * only the kernel's collector can find.
 */
UNPLUG(files_in_flight)
{
	enum { FILES = 16 };
	int own[2], sockets[2], fd;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, own));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	for (int i = 0; i < FILES; i++) {
		fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, accel_send_fd(sockets[0], fd));
		ASSERT_EQ(0, accel_send_fd(own[0], fd));
		close(fd);
	}
	ASSERT_EQ(0, accel_send_fd(own[0], own[0]));
	ASSERT_EQ(0, accel_send_fd(own[0], own[1]));
	close(own[0]);
	close(own[1]);
	ASSERT_EQ(0, shape_remove(&self->shape));
	for (int i = 0; i < FILES; i++) {
		struct accel_info_state state;

		fd = accel_receive_fd(sockets[1]);
		ASSERT_LE(0, fd);
		EXPECT_EQ(-ENODEV, accel_info(fd, ACCEL_INFO_STATE, 0, &state,
					      sizeof(state)));
		close(fd);
	}
	close(sockets[0]);
	close(sockets[1]);
	/* Has the collector look for the others, which hold the number. */
	close(socket(AF_UNIX, SOCK_STREAM, 0));
}

/* A process that does all kinds of things until it is stopped in some of them. */
static pid_t start_busy(int ready)
{
	pid_t pid = fork();

	if (!pid) {
		struct load load;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (load_start(&load, accel_target()->compute, LOAD_THREADS) ||
		    !load_is_on(&load) || write(ready, "x", 1) != 1)
			_exit(1);
		_exit(load_end(&load) ? 2 : 0);
	}
	return pid;
}

UNPLUG(stopped_process)
{
	for (int i = 0; i < ROUNDS; i++) {
		int ready[2], status;
		pid_t pid;
		char c;

		ASSERT_EQ(0, pipe(ready));
		pid = start_busy(ready[1]);
		ASSERT_LE(0, pid);
		ASSERT_EQ(1, read(ready[0], &c, 1));
		kill(pid, SIGSTOP);
		ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
		ASSERT_TRUE(WIFSTOPPED(status));
		ASSERT_EQ(0, shape_remove(&self->shape));
		kill(pid, SIGCONT);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status) TH_LOG("%#x", status);
		close(ready[0]);
		close(ready[1]);
		ASSERT_EQ(0, accel_restore());
	}
}

/* As a debugger does: at the entry of the call, and at its end. */
UNPLUG(traced_process)
{
	for (int stops = 1; stops <= 2; stops++) {
		int status;
		pid_t pid;

		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			uint32_t handle;
			int fd = accel_open(O_RDWR | O_CLOEXEC);

			ptrace(PTRACE_TRACEME, 0, 0, 0);
			raise(SIGSTOP);
			accel_buffer_create(fd, 4096, &handle);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSTOPPED(status)) TH_LOG("%#x", status);
		for (int i = 0; i < stops; i++) {
			ASSERT_EQ(0, ptrace(PTRACE_SYSCALL, pid, 0, 0));
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			ASSERT_TRUE(WIFSTOPPED(status));
		}
		ASSERT_EQ(0, shape_remove(&self->shape));
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, accel_restore());
	}
}

#define CORE_PATTERN "/proc/sys/kernel/core_pattern"
/* A program that does not read what it is given. */
#define DEAF "|/bin/sleep 30"

/* How many of the processes whose parent is the kernel are this one. */
static pid_t find_process(const char *name)
{
	struct dirent *entry;
	char path[320], comm[32];
	pid_t found = 0;
	DIR *dir;

	dir = opendir("/proc");
	while (dir && !found && (entry = readdir(dir))) {
		pid_t pid = atoi(entry->d_name);

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (pid > 0 && !accel_read_line(path, comm, sizeof(comm)) &&
		    !strcmp(comm, name))
			found = pid;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* It ends in the midst of writing its memory to somebody who does not read. */
UNPLUG(core_dump)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	char pattern[128];
	int ready[2], status;
	pid_t pid, deaf = 0;
	char c;

	ASSERT_EQ(0, accel_read_line(CORE_PATTERN, pattern, sizeof(pattern)));
	ASSERT_EQ(0, find_process("sleep"));
	ASSERT_EQ(0, accel_write_line(CORE_PATTERN, DEAF));
	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct load load;
		uint32_t buffer;
		char *memory, *map;

		memory = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memset(memory, 1, 8 * MIB);
		if (setrlimit(RLIMIT_CORE, &all) ||
		    load_start(&load, accel_target()->compute, LOAD_THREADS) ||
		    !load_is_on(&load))
			_exit(1);
		map = accel_buffer_new(load.fd, MIB, &buffer);
		if (!map || write(ready[1], "x", 1) != 1)
			_exit(2);
		memset(map, 1, MIB);
		abort();
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	for (int i = 0; i < 500 && !deaf; i++) {
		accel_sleep_ms(10);
		deaf = find_process("sleep");
	}
	EXPECT_LT(0, deaf);
	/* The pipe is full: it is in the midst of it. */
	accel_sleep_ms(100);
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));
	EXPECT_EQ(0, shape_remove(&self->shape));
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));
	if (deaf)
		kill(deaf, SIGKILL);
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status)) TH_LOG("%#x", status);
	EXPECT_EQ(0, accel_write_line(CORE_PATTERN, pattern));
	close(ready[0]);
	close(ready[1]);
}

/* The least of io_uring: one page of each ring. */
struct uring {
	int fd;
	unsigned char *rings;
	struct io_uring_sqe *sqes;
	struct io_uring_params params;
};

#define ENTRIES 16
#define RINGS (16 * KIB)

static int uring_open(struct uring *ring, uint32_t flags)
{
	memset(ring, 0, sizeof(*ring));
	ring->params.flags = flags;
	ring->fd = syscall(SYS_io_uring_setup, ENTRIES, &ring->params);
	if (ring->fd < 0)
		return -errno;
	ring->rings = mmap(NULL, RINGS, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_POPULATE, ring->fd,
			   IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, ENTRIES * sizeof(*ring->sqes),
			  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			  ring->fd, IORING_OFF_SQES);
	if (ring->rings == MAP_FAILED || ring->sqes == MAP_FAILED)
		return -errno;
	return 0;
}

static uint32_t *sq(struct uring *ring, uint32_t offset)
{
	return (uint32_t *)(ring->rings + offset);
}

static int uring_submit(struct uring *ring, struct io_uring_sqe sqe)
{
	uint32_t *tail = sq(ring, ring->params.sq_off.tail);
	uint32_t mask = *sq(ring, ring->params.sq_off.ring_mask);
	uint32_t at = *tail & mask;

	ring->sqes[at] = sqe;
	sq(ring, ring->params.sq_off.array)[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	/* Its own thread does that, which may be asleep. */
	return syscall(SYS_io_uring_enter, ring->fd, 1, 0,
		       IORING_ENTER_SQ_WAKEUP, NULL, 0) == 1 ?
		       0 :
		       -errno;
}

/* The result of the next that has ended, of those that end within a time. */
static bool uring_next(struct uring *ring, uint64_t *data, int *result)
{
	uint32_t *head = sq(ring, ring->params.cq_off.head);
	uint32_t *tail = sq(ring, ring->params.cq_off.tail);
	uint32_t mask = *sq(ring, ring->params.cq_off.ring_mask);
	int64_t until = accel_now() + 5 * NSEC_PER_SEC;
	struct io_uring_cqe *cqe;

	while (__atomic_load_n(tail, __ATOMIC_ACQUIRE) == *head) {
		if (accel_now() > until)
			return false;
		/* Has it run what it has to do for us. */
		syscall(SYS_io_uring_enter, ring->fd, 0, 0,
			IORING_ENTER_GETEVENTS, NULL, 0);
		accel_sleep_ms(2);
	}
	cqe = (struct io_uring_cqe *)(ring->rings + ring->params.cq_off.cqes) +
	      (*head & mask);
	*data = cqe->user_data;
	*result = cqe->res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return true;
}

/*
 * Polls once and for ever, reads, by a file number and by one that only the
 * ring knows, and by a ring that the kernel polls.
 */
UNPLUG(io_uring)
{
	static const uint32_t flags[] = { 0, IORING_SETUP_SQPOLL };

	for (int i = 0; i < ARRAY_SIZE(flags); i++) {
		struct io_uring_sqe poll = { .opcode = IORING_OP_POLL_ADD,
					     .poll32_events = POLLIN,
					     .user_data = 1 };
		struct io_uring_sqe read = { .opcode = IORING_OP_READ,
					     .user_data = 4 };
		bool seen[5] = {};
		struct uring ring;
		char bytes[256];
		uint64_t data;
		int fd, result;

		fd = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, uring_open(&ring, flags[i]));
		ASSERT_EQ(0, syscall(SYS_io_uring_register, ring.fd,
				     IORING_REGISTER_FILES, &fd, 1));
		poll.fd = fd;
		ASSERT_EQ(0, uring_submit(&ring, poll));
		poll.len = IORING_POLL_ADD_MULTI;
		poll.user_data = 2;
		ASSERT_EQ(0, uring_submit(&ring, poll));
		poll.len = 0;
		/* Its place in the table; the file's own number is closed. */
		poll.fd = 0;
		poll.flags = IOSQE_FIXED_FILE;
		poll.user_data = 3;
		ASSERT_EQ(0, uring_submit(&ring, poll));
		read.flags = IOSQE_FIXED_FILE;
		read.addr = (uintptr_t)bytes;
		read.len = sizeof(bytes);
		ASSERT_EQ(0, uring_submit(&ring, read));
		accel_sleep_ms(50);
		close(fd);
		ASSERT_EQ(0, shape_remove(&self->shape));
		/* Whether it can be read or not, it ends. */
		for (int n = 0; n < 4; n++) {
			ASSERT_TRUE(uring_next(&ring, &data, &result))
			TH_LOG("%d, ring %d", n, i);
			ASSERT_GT(ARRAY_SIZE(seen), data);
			seen[data % ARRAY_SIZE(seen)] = true;
			EXPECT_TRUE(data == 4 ? result <= 0 :
						(result & POLLHUP) == POLLHUP)
			TH_LOG("%d: %#x", (int)data, result);
		}
		EXPECT_TRUE(seen[1] && seen[2] && seen[3] && seen[4]);
		/* The ring's table holds the file, and with it the number. */
		munmap(ring.rings, RINGS);
		munmap(ring.sqes, ENTRIES * sizeof(*ring.sqes));
		close(ring.fd);
		ASSERT_EQ(0, accel_restore());
	}
}

#define AREAS 16384
#define INHERITING 32
#define SMALL 4096

/*
 * Every second page made something else makes as many areas, which all have to
 * be walked when the device goes; and each fork has all of them again.
 */
UNPLUG(many_areas)
{
	/* Where calls are slow, there are fewer. */
	const int areas = AREAS / (accel_patience() * accel_patience());
	struct accel_info_limit limit = {};
	pid_t pids[INHERITING];
	uint32_t buffer;
	uint64_t offset;
	char path[128], most[16];
	char *map;
	int fd, status, i;

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/limits/%s",
		 accel_class(), accel_target()->number, "user_mappings");
	snprintf(most, sizeof(most), "%d", areas);
	ASSERT_EQ(0, accel_write_line(path, most));
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	map = accel_buffer_new(fd, 2 * areas * SMALL, &buffer);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0, accel_buffer_mmap(fd, buffer, &offset, NULL));
	memset(map, 'x', 2 * areas * SMALL);
	for (i = 0; i < areas; i++) {
		if (mprotect(map + 2 * i * SMALL, SMALL, PROT_READ))
			break;
	}
	EXPECT_EQ(areas / 2, i);
	EXPECT_EQ(ENOMEM, errno);
	ASSERT_EQ(0, accel_info(fd, ACCEL_INFO_LIMITS, ACCEL_LIMIT_MAPPINGS,
				&limit, sizeof(limit)));
	EXPECT_EQ(areas, limit.user_used);
	/* Nor by another mapping. */
	EXPECT_EQ(-EDQUOT,
		  accel_mmap_errno(fd, SMALL, PROT_READ, MAP_SHARED, offset));
	for (i = 0; i < INHERITING; i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i]) {
			pause();
			_exit(0);
		}
	}
	ASSERT_EQ(0, shape_remove(&self->shape));
	for (i = 0; i < INHERITING; i++) {
		kill(pids[i], SIGKILL);
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
	}
	/* Soon, if not at once. */
	for (i = 0; i < 100 && accel_touch(map) != SIGBUS; i++)
		accel_sleep_ms(100);
	EXPECT_EQ(SIGBUS, accel_touch(map));
	EXPECT_EQ(0, munmap(map, 2 * areas * SMALL));
	close(fd);
}

/* Jobs that would run for long, and a waiter for the last of them. */
UNPLUG(jobs)
{
	struct accel_timeline_wait wait = { .point = 1,
					    .deadline_ns = FOREVER };
	struct accel_call call;
	int fd, ret;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_timeline_create(fd, &wait.handle));
	switch (accel_target()->kind) {
	case ACCEL_EDU: {
		struct accel_edu_copy copy = { .dst_offset = 4096,
					       .size = 4096,
					       .timeline = wait.handle };

		ASSERT_EQ(0, accel_buffer_create(fd, 8192, &copy.src));
		copy.dst = copy.src;
		do {
			ret = accel_ioctl(fd, ACCEL_EDU_IOCTL_COPY, &copy);
			wait.point = copy.point;
		} while (!ret && copy.point < 64);
		EXPECT_TRUE(!ret || ret == -EAGAIN) TH_LOG("%d", ret);
		break;
	}
	case ACCEL_MOCK:
		ASSERT_EQ(0, accel_submit_held(fd, wait.handle));
		break;
	case ACCEL_NPU:
		wait.point = 64;
		ASSERT_EQ(0, npu_submit_long(fd, wait.handle, wait.point));
		break;
	}
	ASSERT_EQ(0, accel_call_start(&call, fd, ACCEL_IOCTL_TIMELINE_WAIT,
				      &wait));
	EXPECT_FALSE(accel_call_wait(&call, 30));
	ASSERT_EQ(0, shape_remove(&self->shape));
	EXPECT_TRUE(accel_call_wait(&call, 1000 * accel_patience()));
	accel_call_join(&call);
	EXPECT_EQ(-ENODEV, call.result);
	close(fd);
}

TEST_HARNESS_MAIN
