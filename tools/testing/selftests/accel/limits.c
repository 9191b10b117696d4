// SPDX-License-Identifier: GPL-2.0
/*
 * How much of a thing one file, one user and one device may have: every limit
 * at n and n + 1, what is told of it, and that nothing stays counted.
 */

#include "accel_pass.h"
#include "users.h"
#include "kselftest_harness.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* What is documented. */
#define USER_FILES 4096

FIXTURE(limits)
{
	struct stat nodes[2];
	rlim_t files;
	int fd;
};

FIXTURE_SETUP(limits)
{
	const struct accel_target *target = accel_target();
	struct rlimit limit;

	ASSERT_TRUE(target != NULL);
	ASSERT_EQ(0, stat(target->compute, &self->nodes[0]));
	ASSERT_EQ(0, stat(target->control, &self->nodes[1]));
	allow(NULL);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	self->files = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max = 16384;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(limits)
{
	close(self->fd);
	allow(self->nodes);
}

TEST_F(limits, told)
{
	struct accel_info_limit limit;
	int control;

	control = accel_open_control(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, control);
	for (uint32_t i = 0; i < LIMITS; i++) {
		int fds[] = { self->fd, control };

		for (int n = 0; n < 2; n++) {
			memset(&limit, 0xa5, sizeof(limit));
			ASSERT_EQ(0, accel_info(fds[n], ACCEL_INFO_LIMITS, i,
						&limit, sizeof(limit)));
			EXPECT_EQ(i, limit.limit);
			EXPECT_EQ(0, limit.flags);
			EXPECT_LT(0, limit.file_max);
			EXPECT_LE(limit.file_max, limit.user_max);
			EXPECT_LE(limit.file_used, limit.user_used);
			EXPECT_LE(limit.user_used, limit.device_used);
			EXPECT_LE(limit.device_used, limit.device_max);
		}
	}
	EXPECT_EQ(-ENODATA, accel_info(self->fd, ACCEL_INFO_LIMITS, LIMITS,
				       &limit, sizeof(limit)));
	EXPECT_EQ(-ENODATA, accel_info(self->fd, ACCEL_INFO_LIMITS, ~0U, &limit,
				       sizeof(limit)));
	/* As documented. */
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_FILES).file_max);
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_CONTEXTS).file_max);
	EXPECT_EQ(ACCEL_HANDLES_MAX,
		  limit_of(self->fd, ACCEL_LIMIT_BUFFERS).file_max);
	EXPECT_EQ(65536, limit_of(self->fd, ACCEL_LIMIT_MAPPINGS).file_max);
	EXPECT_EQ(ACCEL_HANDLES_MAX,
		  limit_of(self->fd, ACCEL_LIMIT_TIMELINES).file_max);
	EXPECT_EQ(65536, limit_of(self->fd, ACCEL_LIMIT_JOBS).file_max);
	EXPECT_EQ(ACCEL_EVENTS_MAX,
		  limit_of(self->fd, ACCEL_LIMIT_EVENTS).file_max);
	EXPECT_EQ(USER_FILES, limit_of(self->fd, ACCEL_LIMIT_FILES).user_max);
	/* A control file is a file and no context. */
	EXPECT_EQ(1, limit_of(control, ACCEL_LIMIT_FILES).file_used);
	EXPECT_EQ(0, limit_of(control, ACCEL_LIMIT_CONTEXTS).file_used);
	EXPECT_EQ(2, limit_of(control, ACCEL_LIMIT_FILES).user_used);
	EXPECT_EQ(2, limit_of(control, ACCEL_LIMIT_FILES).device_used);
	EXPECT_EQ(1, limit_of(control, ACCEL_LIMIT_CONTEXTS).user_used);
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_CONTEXTS).file_used);
	close(control);
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_FILES).user_used);
}

/* Whether a limit's three counts are what they were, and so many more. */
#define EXPECT_MORE(fd, before, more)                                       \
	do {                                                                \
		struct accel_info_limit now = limit_of(fd, (before).limit); \
		EXPECT_EQ((before).file_used + (more), now.file_used);      \
		EXPECT_EQ((before).user_used + (more), now.user_used);      \
		EXPECT_EQ((before).device_used + (more), now.device_used);  \
	} while (0)

TEST_F(limits, counted)
{
	struct accel_info_limit limit;
	uint32_t handle, other;
	uint64_t offset;
	void *map, *half;
	int status;
	pid_t pid;

	limit = limit_of(self->fd, ACCEL_LIMIT_BUFFERS);
	ASSERT_EQ(0, accel_buffer_create(self->fd, 2 * PAGE, &handle));
	EXPECT_MORE(self->fd, limit, 1);
	/* What fails counts nothing. */
	EXPECT_EQ(-EINVAL, accel_buffer_create(self->fd, 0, &other));
	EXPECT_MORE(self->fd, limit, 1);
	EXPECT_EQ(1, accel_fdinfo(self->fd, "accel-buffers"));

	/* Each area that is made of it, be it cut or inherited. */
	limit = limit_of(self->fd, ACCEL_LIMIT_MAPPINGS);
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, handle, &offset, NULL));
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 3 * PAGE, PROT_READ,
					    MAP_SHARED, offset));
	EXPECT_MORE(self->fd, limit, 0);
	map = accel_buffer_map(self->fd, handle, 2 * PAGE, PROT_READ);
	ASSERT_TRUE(map != NULL);
	EXPECT_MORE(self->fd, limit, 1);
	half = (char *)map + PAGE;
	ASSERT_EQ(0, mprotect(half, PAGE, PROT_NONE));
	EXPECT_MORE(self->fd, limit, 2);
	ASSERT_EQ(0, munmap(map, PAGE));
	EXPECT_MORE(self->fd, limit, 1);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		pause();
		_exit(0);
	}
	EXPECT_MORE(self->fd, limit, 2);
	ASSERT_EQ(0, munmap(half, PAGE));
	EXPECT_MORE(self->fd, limit, 1);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_MORE(self->fd, limit, 0);

	/* The handle counts, and not what keeps the memory. */
	limit = limit_of(self->fd, ACCEL_LIMIT_BUFFERS);
	map = accel_buffer_map(self->fd, handle, PAGE, PROT_READ);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0, accel_buffer_destroy(self->fd, handle));
	EXPECT_MORE(self->fd, limit, -1);
	ASSERT_EQ(0, munmap(map, PAGE));

	limit = limit_of(self->fd, ACCEL_LIMIT_TIMELINES);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &handle));
	EXPECT_MORE(self->fd, limit, 1);
	ASSERT_EQ(0, accel_timeline_destroy(self->fd, handle));
	EXPECT_MORE(self->fd, limit, 0);
	EXPECT_EQ(-ENOENT, accel_timeline_destroy(self->fd, handle));
	EXPECT_MORE(self->fd, limit, 0);
}

/* A job counts until it has ended, whatever becomes of its timeline's handle. */
TEST_F(limits, jobs_counted)
{
	struct accel_info_limit limit;
	uint32_t timeline;
	uint64_t point;

	limit = limit_of(self->fd, ACCEL_LIMIT_JOBS);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	ASSERT_EQ(0, accel_submit(self->fd, timeline, &point));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, timeline, point, FOREVER,
					 NULL, NULL));
	/* Who waited may be faster than the one who ended it. */
	for (int i = 0; i < 1000; i++) {
		if (!limit_of(self->fd, ACCEL_LIMIT_JOBS).file_used)
			break;
		accel_sleep_ms(1);
	}
	EXPECT_MORE(self->fd, limit, 0);
	if (accel_target()->kind == ACCEL_EDU)
		return;
	ASSERT_EQ(0, accel_submit_held(self->fd, timeline));
	EXPECT_MORE(self->fd, limit, 1);
	ASSERT_EQ(0, accel_timeline_destroy(self->fd, timeline));
	EXPECT_MORE(self->fd, limit, 1);
	close(self->fd);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(0, limit_of(self->fd, ACCEL_LIMIT_JOBS).device_used);
}

/* A user's files, of both nodes, at n and n + 1; other users have their own. */
TEST_F_TIMEOUT(limits, user_files, 60)
{
	static int fds[USER_FILES];
	struct accel_info_limit limit;
	int fd, bobs;

	for (int i = 0; i < USER_FILES; i++) {
		fds[i] = open_as(ALICE, i > 2);
		ASSERT_LE(0, fds[i]) TH_LOG("%d", i);
	}
	limit = limit_of(fds[0], ACCEL_LIMIT_FILES);
	EXPECT_EQ(USER_FILES, limit.user_used);
	EXPECT_EQ(USER_FILES + 1, limit.device_used);
	EXPECT_EQ(-EDQUOT, open_as(ALICE, true));
	EXPECT_EQ(-EDQUOT, open_as(ALICE, false));
	EXPECT_EQ(3, limit_of(fds[0], ACCEL_LIMIT_CONTEXTS).user_used);
	bobs = open_as(BOB, true);
	ASSERT_LE(0, bobs);
	EXPECT_EQ(1, limit_of(bobs, ACCEL_LIMIT_FILES).user_used);
	EXPECT_EQ(USER_FILES + 2,
		  limit_of(bobs, ACCEL_LIMIT_FILES).device_used);
	/* A place that is given back is there at once. */
	close(fds[7]);
	fds[7] = open_as(ALICE, true);
	ASSERT_LE(0, fds[7]);
	EXPECT_EQ(-EDQUOT, open_as(ALICE, true));
	/* Who opened it counts, and not who has it: what is passed on stays. */
	fd = dup(fds[9]);
	close(fds[9]);
	EXPECT_EQ(-EDQUOT, open_as(ALICE, true));
	close(fd);
	fds[9] = open_as(ALICE, true);
	ASSERT_LE(0, fds[9]);
	for (int i = 0; i < USER_FILES; i++)
		close(fds[i]);
	fd = open_as(ALICE, true);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, limit_of(fd, ACCEL_LIMIT_FILES).user_used);
	EXPECT_EQ(3, limit_of(fd, ACCEL_LIMIT_FILES).device_used);
	EXPECT_EQ(0, limit_of(fd, ACCEL_LIMIT_CONTEXTS).user_used);
	close(fd);
	close(bobs);
}

/* Many users, in an order that is none: each has an account of its own. */
TEST_F(limits, many_users)
{
	enum { USERS = 300 };
	int fds[USERS];

	for (int i = 0; i < USERS; i++) {
		fds[i] = open_as(10000 + i * 7919 % USERS, true);
		ASSERT_LE(0, fds[i]);
	}
	for (int i = 0; i < USERS; i++) {
		struct accel_info_limit limit =
			limit_of(fds[i], ACCEL_LIMIT_FILES);

		EXPECT_EQ(1, limit.user_used);
		EXPECT_EQ(USERS + 1, limit.device_used);
	}
	for (int i = 0; i < USERS; i += 2)
		close(fds[i]);
	for (int i = 1; i < USERS; i += 2) {
		EXPECT_EQ(1, limit_of(fds[i], ACCEL_LIMIT_FILES).user_used);
		close(fds[i]);
	}
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_FILES).device_used);
}

/* A file's buffers and mappings at n and n + 1. */
TEST_F_TIMEOUT(limits, file_buffers_and_mappings, 120)
{
	enum { MOST = ACCEL_HANDLES_MAX };
	static uint32_t handles[MOST];
	static void *maps[MOST];
	uint32_t handle;
	uint64_t offset;
	char line[32];

	for (int i = 0; i < MOST; i++) {
		ASSERT_EQ(0, accel_buffer_create(self->fd, PAGE, &handles[i]))
		TH_LOG("%d", i);
	}
	EXPECT_EQ(-ENOSPC, accel_buffer_create(self->fd, PAGE, &handle));
	/* What would be refused anyhow takes no memory first. */
	EXPECT_EQ(-ENOSPC, accel_buffer_create(self->fd, ACCEL_BUFFER_SIZE_MAX,
					       &handle));
	EXPECT_EQ(MOST, limit_of(self->fd, ACCEL_LIMIT_BUFFERS).file_used);
	ASSERT_EQ(0, accel_buffer_destroy(self->fd, handles[5]));
	ASSERT_EQ(0, accel_buffer_create(self->fd, PAGE, &handles[5]));
	EXPECT_EQ(-ENOSPC, accel_buffer_create(self->fd, PAGE, &handle));
	for (int i = 1; i < MOST; i++)
		ASSERT_EQ(0, accel_buffer_destroy(self->fd, handles[i]));

	ASSERT_EQ(0, accel_read_line("/proc/sys/vm/max_map_count", line,
				     sizeof(line)));
	ASSERT_EQ(0, accel_write_line("/proc/sys/vm/max_map_count", "70000"));
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, handles[0], &offset, NULL));
	for (int i = 0; i < MOST; i++) {
		maps[i] = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd,
			       offset);
		ASSERT_TRUE(maps[i] != MAP_FAILED) TH_LOG("%d", i);
	}
	EXPECT_EQ(-ENOSPC, accel_mmap_errno(self->fd, PAGE, PROT_READ,
					    MAP_SHARED, offset));
	ASSERT_EQ(0, munmap(maps[11], PAGE));
	maps[11] = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, offset);
	EXPECT_TRUE(maps[11] != MAP_FAILED);
	EXPECT_EQ(-ENOSPC, accel_mmap_errno(self->fd, PAGE, PROT_READ,
					    MAP_SHARED, offset));
	for (int i = 0; i < MOST; i++)
		ASSERT_EQ(0, munmap(maps[i], PAGE));
	EXPECT_EQ(0, limit_of(self->fd, ACCEL_LIMIT_MAPPINGS).device_used);
	ASSERT_EQ(0, accel_write_line("/proc/sys/vm/max_map_count", line));
}

/* Whoever is killed leaves nothing behind, whatever was going on. */
TEST_F(limits, killed)
{
	for (int round = 0; round < 10; round++) {
		int go[2], status;
		pid_t pid;
		char c;

		ASSERT_EQ(0, pipe(go));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			for (int i = 0;; i++) {
				uint32_t handle, timeline;
				int fd = open_as(ALICE, i & 1);

				if (i == 20 && write(go[1], "x", 1) != 1)
					_exit(1);
				if (fd < 0)
					continue;
				accel_buffer_new(fd, PAGE, &handle);
				if (accel_timeline_create(fd, &timeline) == 0)
					accel_submit_held(fd, timeline);
			}
		}
		ASSERT_EQ(1, read(go[0], &c, 1));
		accel_sleep_ms(round);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		close(go[0]);
		close(go[1]);
		for (uint32_t i = 0; i < LIMITS; i++) {
			struct accel_info_limit limit = limit_of(self->fd, i);

			EXPECT_EQ(limit.file_used, limit.device_used)
			TH_LOG("limit %u", i);
		}
	}
}

/* What is in a socket counts still, for the one who opened it. */
TEST_F(limits, passed)
{
	int pair[2], fd, status;
	uint32_t handle;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		fd = open_as(ALICE, false);
		_exit(fd < 0 || accel_buffer_create(fd, PAGE, &handle) ||
		      accel_send_fd(pair[1], fd));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(2, limit_of(self->fd, ACCEL_LIMIT_CONTEXTS).device_used);
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_CONTEXTS).user_used);
	fd = accel_receive_fd(pair[0]);
	ASSERT_LE(0, fd);
	/* Used by root, counted for Alice. */
	ASSERT_EQ(0, accel_buffer_create(fd, PAGE, &handle));
	EXPECT_EQ(2, limit_of(fd, ACCEL_LIMIT_BUFFERS).user_used);
	EXPECT_EQ(0, limit_of(self->fd, ACCEL_LIMIT_BUFFERS).user_used);
	ASSERT_EQ(0, accel_send_fd(pair[1], fd));
	close(fd);
	EXPECT_EQ(2, limit_of(self->fd, ACCEL_LIMIT_CONTEXTS).device_used);
	close(pair[0]);
	close(pair[1]);
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_CONTEXTS).device_used);
	EXPECT_EQ(0, limit_of(self->fd, ACCEL_LIMIT_BUFFERS).device_used);
}

/* The number is the kernel's: a namespace does not make another user. */
TEST_F(limits, user_namespace)
{
	int pair[2], fd, status;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char line[64];

		if (setresgid(ALICE, ALICE, ALICE) ||
		    setresuid(ALICE, ALICE, ALICE) ||
		    prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER))
			_exit(1);
		snprintf(line, sizeof(line), "0 %u 1", ALICE);
		if (accel_write_line("/proc/self/uid_map", line) ||
		    geteuid() != 0)
			_exit(2);
		fd = accel_open_control(O_RDWR | O_CLOEXEC);
		_exit(fd < 0 || accel_send_fd(pair[1], fd) ? 3 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_FILES).user_used);
	fd = open_as(ALICE, true);
	ASSERT_LE(0, fd);
	EXPECT_EQ(2, limit_of(fd, ACCEL_LIMIT_FILES).user_used);
	close(fd);
	close(pair[0]);
	close(pair[1]);
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_FILES).device_used);
}

/* An unplug ends what there is; what files keep is given back as they close. */
TEST_F(limits, unplugged)
{
	uint32_t handle;
	void *map;

	map = accel_buffer_new(self->fd, PAGE, &handle);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0, accel_remove());
	munmap(map, PAGE);
	close(self->fd);
	ASSERT_EQ(0, accel_restore());
	allow(NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(1, limit_of(self->fd, ACCEL_LIMIT_FILES).device_used);
	EXPECT_EQ(0, limit_of(self->fd, ACCEL_LIMIT_BUFFERS).device_used);
	EXPECT_EQ(0, limit_of(self->fd, ACCEL_LIMIT_MAPPINGS).device_used);
}

TEST_HARNESS_MAIN
