// SPDX-License-Identifier: GPL-2.0
/*
 * Faults of lifetime that other subsystems have had, each under its number or
 * what it was. Others have their place elsewhere: Documentation/testing.rst.
 */

#include "accel_pass.h"
#include "kselftest_harness.h"
#include "shape.h"

#include <dirent.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define PAGE 4096
#define SIZE (4 * PAGE)
#define CYCLES 20

FIXTURE(lifetime)
{
	int fd;
	bool stop;
	int bad;
	unsigned long done;
};

FIXTURE_SETUP(lifetime)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(lifetime)
{
	if (self->fd >= 0)
		close(self->fd);
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_healthy(accel_target()->compute));
}

static uint64_t memory_used(void)
{
	struct accel_info_memory memory = {};
	int fd = accel_open_control(O_RDONLY | O_CLOEXEC);
	int ret = accel_info(fd, ACCEL_INFO_MEMORY, 0, &memory, sizeof(memory));

	close(fd);
	return ret ? ~0ULL : memory.used;
}

/* Addresses that nobody has. */
static unsigned char *reserve(size_t size)
{
	void *at =
		mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static bool move(void *from, size_t size, void *to)
{
	return mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
	       to;
}

/*
 * The mapping was given back once for the place that it had left, and once for
 * the one it had. As a whole, a part of it, of a fork, and after the device.
 */
TEST_F(lifetime, cve_2026_23056)
{
	const uint64_t before = memory_used();

	ASSERT_NE(~0ULL, before);
	for (int what = 0; what < 4; what++) {
		unsigned char *map, *place = reserve(SIZE);
		uint32_t buffer;
		int status;
		pid_t pid;

		ASSERT_TRUE(place != NULL);
		map = accel_buffer_new(self->fd, SIZE, &buffer);
		ASSERT_TRUE(map != NULL);
		memset(map, 'x', SIZE);
		/* A second one at once is not to be had by these means. */
		EXPECT_TRUE(mremap(map, 0, SIZE, MREMAP_MAYMOVE) == MAP_FAILED);
		EXPECT_TRUE(mremap(map, SIZE, 2 * SIZE, MREMAP_MAYMOVE) ==
			    MAP_FAILED);
		ASSERT_TRUE(what == 1 ? move(map + PAGE, 2 * PAGE, place) :
					move(map, SIZE, place));
		EXPECT_EQ('x', place[2 * PAGE - 1]);
		pid = what == 2 ? fork() : 0;
		ASSERT_LE(0, pid);
		if (what == 2 && !pid) {
			munmap(map, SIZE);
			munmap(place, SIZE);
			_exit(0);
		}
		if (pid) {
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			EXPECT_EQ(0, status);
		}
		if (what == 3) {
			ASSERT_EQ(0, accel_remove());
			EXPECT_EQ(SIGBUS, accel_touch(place));
			/* And once more, without a device. */
			ASSERT_TRUE(move(place, SIZE, map));
			EXPECT_EQ(SIGBUS, accel_touch(map));
		} else {
			EXPECT_EQ(0, accel_buffer_destroy(self->fd, buffer));
			EXPECT_EQ('x', place[0]);
		}
		EXPECT_EQ(0, munmap(map, SIZE));
		EXPECT_EQ(0, munmap(place, SIZE));
		if (what == 3)
			break;
		EXPECT_EQ(before, memory_used());
		EXPECT_EQ(0, accel_fdinfo(self->fd, "accel-buffers"));
	}
}

/* Opens the control node, and asks, until it is told to stop. */
static void *ask(void *data)
{
	FIXTURE_DATA(lifetime) *self = data;

	while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
		struct accel_info_identity id;
		struct accel_info_opens opens;
		int fd = accel_open_control(O_RDONLY | O_CLOEXEC);
		int ret;

		if (fd < 0) {
			/* Who makes it anew has to get by. */
			accel_sleep_ms(1);
			continue;
		}
		ret = accel_info(fd, ACCEL_INFO_IDENTITY, 0, &id, sizeof(id));
		if (!ret)
			ret = accel_info(fd, ACCEL_INFO_OPENS, 0, &opens,
					 sizeof(opens));
		if (ret && ret != -ENODEV)
			self->bad = ret;
		close(fd);
		self->done++;
	}
	return NULL;
}

/* habanalabs: the control node was opened while its device was freed. */
TEST_F_TIMEOUT(lifetime, control_races_remove, SHAPE_TIMEOUT)
{
	pthread_t threads[2];

	close(self->fd);
	self->fd = -1;
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, ask, self));
	for (int i = 0; i < CYCLES; i++) {
		accel_sleep_ms(i % 4);
		ASSERT_EQ(0, accel_remove());
		ASSERT_EQ(0, accel_restore());
	}
	self->stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, self->bad);
	EXPECT_LT(0, self->done);
}

#define ATTRIBUTES 64

/* The attributes of a node, open. */
static int open_attributes(const char *node, int *fds, int most)
{
	struct dirent *entry;
	char path[600];
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/class/%s/%s", accel_class(), node);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) && count < most) {
		if (entry->d_type != DT_REG)
			continue;
		snprintf(path, sizeof(path), "/sys/class/%s/%s/%s",
			 accel_class(), node, entry->d_name);
		fds[count] = open(path, O_RDONLY | O_CLOEXEC);
		count += fds[count] >= 0;
	}
	if (dir)
		closedir(dir);
	return count;
}

static void *read_attributes(void *data)
{
	FIXTURE_DATA(lifetime) *self = data;

	while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
		int fds[ATTRIBUTES], count;
		char node[32], text[4096];

		snprintf(node, sizeof(node), "accel%u", accel_target()->number);
		count = open_attributes(node, fds, ATTRIBUTES);
		if (!count)
			accel_sleep_ms(1);
		for (int i = 0; i < count; i++) {
			if (read(fds[i], text, sizeof(text)) < 0 &&
			    errno != ENODEV && errno != EIO &&
			    errno != EAGAIN && errno != EBUSY)
				self->bad = -errno;
			close(fds[i]);
			self->done++;
		}
	}
	return NULL;
}

/* The state was freed, and attributes that were open still told of it. */
TEST_F_TIMEOUT(lifetime, attributes_race_remove, SHAPE_TIMEOUT)
{
	pthread_t threads[2];

	close(self->fd);
	self->fd = -1;
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, read_attributes,
					    self));
	for (int i = 0; i < CYCLES; i++) {
		int fds[ATTRIBUTES], count;
		char node[32], text[4096];

		snprintf(node, sizeof(node), "accel%s%u",
			 i % 2 ? "_control" : "", accel_target()->number);
		count = open_attributes(node, fds, ATTRIBUTES);
		ASSERT_LT(0, count);
		ASSERT_EQ(0, accel_remove());
		for (int n = 0; n < count; n++) {
			EXPECT_EQ(-1, read(fds[n], text, sizeof(text)));
			EXPECT_EQ(ENODEV, errno);
			close(fds[n]);
		}
		ASSERT_EQ(0, accel_restore());
	}
	self->stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, self->bad);
	EXPECT_LT(0, self->done);
}

/* Uses handles that are being made, and are being forgotten. */
static void *guess(void *data)
{
	FIXTURE_DATA(lifetime) *self = data;

	while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
		uint32_t latest =
			__atomic_load_n(&self->done, __ATOMIC_RELAXED);
		int ret = 0;

		for (uint32_t handle = latest; handle <= latest + 1 && !ret;
		     handle++) {
			uint64_t value = ~0ULL;

			ret = accel_timeline_wait(self->fd, handle, 0, 0,
						  &value, NULL);
			if (!ret && value)
				ret = -EBADMSG;
			if (ret == -ENOENT)
				ret = 0;
		}
		if (ret)
			self->bad = ret;
	}
	return NULL;
}

/* A handle was found whose object was not complete, or was at its end. */
TEST_F(lifetime, handle_without_object)
{
	int64_t until = accel_now() + NSEC_PER_SEC / 2;
	pthread_t threads[2];
	uint32_t handle;

	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, guess, self));
	while (accel_now() < until) {
		ASSERT_EQ(0, accel_timeline_create(self->fd, &handle));
		__atomic_store_n(&self->done, handle, __ATOMIC_RELAXED);
		ASSERT_EQ(0, accel_timeline_destroy(self->fd, handle));
	}
	/* Nor when all goes under them. */
	ASSERT_EQ(0, accel_remove());
	self->stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_TRUE(self->bad == 0 || self->bad == -ENODEV)
	TH_LOG("%d", self->bad);
}

/* The process that had opened the file was killed, whoever had it by then. */
TEST_F(lifetime, opener_is_not_killed)
{
	struct accel_timeline_wait wait = { .point = 1,
					    .deadline_ns = FOREVER };
	int sockets[2], gone[2], fd, status;
	struct accel_call call;
	pid_t pid;
	char c;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	ASSERT_EQ(0, pipe(gone));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(self->fd);
		fd = accel_open(O_RDWR | O_CLOEXEC);
		if (fd < 0 || accel_send_fd(sockets[1], fd))
			_exit(1);
		close(fd);
		/* It has nothing to do with the device any more. */
		_exit(read(gone[0], &c, 1) == 1 ? 0 : 2);
	}
	fd = accel_receive_fd(sockets[0]);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_timeline_create(fd, &wait.handle));
	ASSERT_EQ(0, accel_call_start(&call, fd, ACCEL_IOCTL_TIMELINE_WAIT,
				      &wait));
	ASSERT_EQ(0, accel_remove());
	EXPECT_TRUE(accel_call_wait(&call, 5000 * accel_patience()));
	accel_call_join(&call);
	EXPECT_EQ(-ENODEV, call.result);
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));
	ASSERT_EQ(1, write(gone[1], "x", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(fd);
}

TEST_HARNESS_MAIN
