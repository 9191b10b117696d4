// SPDX-License-Identifier: GPL-2.0
/*
 * A device that goes while it is used, by unbind and by its module's removal,
 * and comes back. Whatever is left open answers ENODEV for ever and holds
 * nothing up.
 */

#include "accel_pass.h"
#include "kselftest_harness.h"
#include "npu.h"
#include "shape.h"

#include <sys/socket.h>

/* Longest that taking a device away may take, on a slow machine too. */
#define REMOVE_MS 5000

/* One user of the device, with everything that a user may have. */
struct user {
	int fd;
	int control;
	int event;
	uint32_t buffer;
	uint32_t timeline;
	uint64_t offset;
	unsigned char *map;
	struct accel_timeline_wait wait;
	struct accel_call waiter;
};

static int user_start(struct user *user)
{
	int ret;

	memset(user, 0, sizeof(*user));
	user->fd = accel_open(O_RDWR | O_CLOEXEC);
	user->control = accel_open_control(O_RDWR | O_CLOEXEC);
	user->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (user->fd < 0 || user->control < 0 || user->event < 0)
		return -ENODEV;
	ret = accel_timeline_create(user->fd, &user->timeline);
	if (ret)
		return ret;
	user->map = accel_buffer_new(user->fd, 2 * MIB, &user->buffer);
	if (!user->map)
		return -errno;
	ret = accel_buffer_mmap(user->fd, user->buffer, &user->offset, NULL);
	if (ret)
		return ret;
	user->map[0] = 1;
	ret = accel_timeline_eventfd(user->fd, user->timeline, ~0ULL,
				     user->event);
	if (ret)
		return ret;
	user->wait.handle = user->timeline;
	user->wait.point = ~0ULL;
	user->wait.deadline_ns = FOREVER;
	return accel_call_start(&user->waiter, user->fd,
				ACCEL_IOCTL_TIMELINE_WAIT, &user->wait);
}

static void user_end(struct user *user)
{
	munmap(user->map, 2 * MIB);
	close(user->fd);
	close(user->control);
	close(user->event);
}

static short polled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 ? p.revents : 0;
}

/* What a user finds when the device is gone: the number of the first surprise. */
static int user_finds_it_gone(struct user *user)
{
	struct accel_info_state state;
	uint32_t handle;

	if (!accel_call_wait(&user->waiter, REMOVE_MS * accel_patience()))
		return 1;
	accel_call_join(&user->waiter);
	if (user->waiter.result != -ENODEV)
		return 2;
	if (accel_eventfd_wait(user->event, 1) != 1)
		return 3;
	if (polled(user->fd) != (POLLHUP | POLLERR) &&
	    polled(user->fd) != (POLLHUP | POLLERR | POLLIN))
		return 4;
	if (!(polled(user->control) & POLLHUP))
		return 5;
	if (accel_touch(user->map) != SIGBUS)
		return 6;
	if (accel_touch_write(user->map + MIB) != SIGBUS)
		return 7;
	if (accel_mmap_errno(user->fd, 4096, PROT_READ, MAP_SHARED,
			     user->offset) != -ENODEV)
		return 8;
	if (accel_info(user->fd, ACCEL_INFO_STATE, 0, &state, sizeof(state)) !=
	    -ENODEV)
		return 9;
	if (accel_info(user->control, ACCEL_INFO_STATE, 0, &state,
		       sizeof(state)) != -ENODEV)
		return 10;
	if (accel_buffer_create(user->fd, 4096, &handle) != -ENODEV)
		return 11;
	if (accel_timeline_wait(user->fd, user->timeline, 0, 0, NULL, NULL) !=
	    -ENODEV)
		return 12;
	if (accel_timeline_wait(user->fd, user->timeline, ~0ULL, FOREVER, NULL,
				NULL) != -ENODEV)
		return 13;
	return 0;
}

FIXTURE(lifecycle)
{
	struct user users[2];
};

FIXTURE_SETUP(lifecycle)
{
	ASSERT_TRUE(accel_target() != NULL);
}

FIXTURE_TEARDOWN(lifecycle)
{
	EXPECT_EQ(0, accel_restore());
	EXPECT_EQ(0, shape_healthy(accel_target()->compute));
}

TEST_F(lifecycle, idle)
{
	int64_t before = accel_now();

	ASSERT_EQ(0, accel_remove());
	EXPECT_GT(REMOVE_MS * accel_patience() * NSEC_PER_MSEC,
		  accel_now() - before);
	EXPECT_FALSE(accel_exists(accel_target()->compute));
	EXPECT_FALSE(accel_exists(accel_target()->control));
	ASSERT_EQ(0, accel_restore());
	EXPECT_TRUE(accel_exists(accel_target()->compute));
	EXPECT_TRUE(accel_exists(accel_target()->control));
}

TEST_F(lifecycle, in_use)
{
	int64_t before;

	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, user_start(&self->users[i]));
	accel_sleep_ms(50);
	before = accel_now();
	ASSERT_EQ(0, accel_remove());
	EXPECT_GT(REMOVE_MS * accel_patience() * NSEC_PER_MSEC,
		  accel_now() - before);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(0, user_finds_it_gone(&self->users[i]));
	for (int i = 0; i < 2; i++)
		user_end(&self->users[i]);
}

/* The new device is not the old one: old files do not come back with it. */
TEST_F(lifecycle, late_close)
{
	struct accel_info_state state;
	struct user *user = &self->users[0];
	char path[64];
	int number, fd;

	ASSERT_EQ(0, user_start(user));
	ASSERT_EQ(0, accel_remove());
	ASSERT_EQ(0, user_finds_it_gone(user));
	/* Back, under another number, while the old file is open. */
	number = accel_restore_anywhere();
	ASSERT_LE(0, number);
	EXPECT_NE((int)accel_target()->number, number);
	snprintf(path, sizeof(path), "/dev/accel/accel%d", number);
	EXPECT_FALSE(accel_exists(accel_target()->compute));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd) TH_LOG("%s", path);
	EXPECT_EQ(0,
		  accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state)));
	EXPECT_EQ(-ENODEV, accel_info(user->fd, ACCEL_INFO_STATE, 0, &state,
				      sizeof(state)));
	EXPECT_EQ(SIGBUS, accel_touch(user->map));
	/* Nor do mappings of the new one end the old one's. */
	close(fd);
	user_end(user);
}

/* With a job on the device, and more in its queue. */
TEST_F(lifecycle, with_jobs)
{
	struct accel_timeline_wait wait = { .deadline_ns = FOREVER };
	struct accel_edu_copy copy = { .dst_offset = 4096, .size = 4096 };
	struct accel_call call;
	uint32_t buffer;
	int64_t before;
	int fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_timeline_create(fd, &wait.handle));
	switch (accel_target()->kind) {
	case ACCEL_EDU:
		ASSERT_EQ(0, accel_buffer_create(fd, 8192, &buffer));
		copy.src = buffer;
		copy.dst = buffer;
		copy.timeline = wait.handle;
		for (int i = 0; i < 8; i++) {
			ASSERT_EQ(0,
				  accel_ioctl(fd, ACCEL_EDU_IOCTL_COPY, &copy));
		}
		wait.point = copy.point;
		break;
	case ACCEL_MOCK:
		ASSERT_EQ(0, accel_submit_held(fd, wait.handle));
		wait.point = 1;
		break;
	case ACCEL_NPU:
		wait.point = 8;
		ASSERT_EQ(0, npu_submit_long(fd, wait.handle, wait.point));
		break;
	}
	ASSERT_EQ(0, accel_call_start(&call, fd, ACCEL_IOCTL_TIMELINE_WAIT,
				      &wait));
	accel_sleep_ms(30);
	before = accel_now();
	ASSERT_EQ(0, accel_remove());
	EXPECT_GT(REMOVE_MS * accel_patience() * NSEC_PER_MSEC,
		  accel_now() - before);
	EXPECT_TRUE(accel_call_wait(&call, 1000));
	accel_call_join(&call);
	EXPECT_EQ(-ENODEV, call.result);
	close(fd);
}

struct busy {
	int fd;
	int bad;
};

static void *busy_thread(void *data)
{
	struct busy *busy = data;

	for (;;) {
		uint32_t timeline, buffer;
		uint64_t point;
		int ret;

		ret = accel_timeline_create(busy->fd, &timeline);
		if (!ret)
			ret = accel_submit(busy->fd, timeline, &point);
		if (!ret)
			ret = accel_buffer_create(busy->fd, 8192, &buffer);
		if (!ret) {
			unsigned char *map;

			map = accel_buffer_map(busy->fd, buffer, 8192,
					       PROT_READ | PROT_WRITE);
			if (map)
				munmap(map, 8192);
			accel_buffer_destroy(busy->fd, buffer);
			accel_timeline_destroy(busy->fd, timeline);
		}
		if (ret == -EAGAIN)
			continue;
		if (ret == -ENODEV)
			break;
		if (ret)
			busy->bad = ret;
	}
	return NULL;
}

/* Under calls, not only beside them. */
TEST_F(lifecycle, under_load)
{
	for (int round = 0; round < 4; round++) {
		struct busy busy[2] = {};
		pthread_t threads[2];
		int64_t before;

		for (int i = 0; i < 2; i++) {
			busy[i].fd = accel_open(O_RDWR | O_CLOEXEC);
			ASSERT_LE(0, busy[i].fd);
			ASSERT_EQ(0, pthread_create(&threads[i], NULL,
						    busy_thread, &busy[i]));
		}
		accel_sleep_ms(20 + 13 * round);
		before = accel_now();
		ASSERT_EQ(0, accel_remove());
		EXPECT_GT(REMOVE_MS * accel_patience() * NSEC_PER_MSEC,
			  accel_now() - before);
		for (int i = 0; i < 2; i++) {
			pthread_join(threads[i], NULL);
			EXPECT_EQ(0, busy[i].bad);
			close(busy[i].fd);
		}
		ASSERT_EQ(0, accel_restore());
	}
}

TEST_F_TIMEOUT(lifecycle, hundred_times, 60)
{
	int64_t before = accel_now();
	int rounds = accel_target()->kind == ACCEL_EDU ? 100 : 20;

	for (int i = 0; i < rounds; i++) {
		int fd;

		/* Every other time with a file that is open meanwhile. */
		fd = i % 2 ? accel_open(O_RDWR | O_CLOEXEC) : -1;
		ASSERT_EQ(0, accel_remove()) TH_LOG("round %d", i);
		if (fd >= 0)
			close(fd);
		ASSERT_EQ(0, accel_restore()) TH_LOG("round %d", i);
	}
	TH_LOG("%d rounds in %lld ms", rounds,
	       (long long)((accel_now() - before) / NSEC_PER_MSEC));
}

/* The whole driver goes: nothing of the core's points into it any more. */
TEST_F(lifecycle, module_removed_in_use)
{
	const char *module = accel_target()->driver;
	struct user *user = &self->users[0];
	int64_t before;

	ASSERT_EQ(0, user_start(user));
	before = accel_now();
	ASSERT_EQ(0, accel_rmmod(module));
	EXPECT_GT(REMOVE_MS * accel_patience() * NSEC_PER_MSEC,
		  accel_now() - before);
	EXPECT_FALSE(accel_loaded(module));
	EXPECT_EQ(0, user_finds_it_gone(user));
	/* The core has the file's operations, and stays for that. */
	EXPECT_TRUE(accel_loaded("accel"));
	EXPECT_NE(0, accel_rmmod("accel"));
	user_end(user);
	ASSERT_EQ(0, accel_restore());
}

/* Opening races with going: a working file, or none. */
TEST_F(lifecycle, open_races)
{
	for (int i = 0; i < 10; i++) {
		int opened = 0, status;
		pid_t pid;

		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			for (int n = 0; n < 300; n++) {
				struct accel_info_state state;
				int fd = accel_open(O_RDWR | O_CLOEXEC);
				int ret;

				if (fd == -ENOENT)
					break;
				if (fd == -ENODEV || fd == -ENXIO)
					continue;
				if (fd < 0)
					_exit(1);
				ret = accel_info(fd, ACCEL_INFO_STATE, 0,
						 &state, sizeof(state));
				close(fd);
				if (ret && ret != -ENODEV)
					_exit(2);
				opened++;
			}
			_exit(0);
		}
		accel_sleep_ms(3 * i);
		EXPECT_EQ(0, accel_remove());
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		ASSERT_EQ(0, accel_restore());
	}
}

/* A file that was passed on is the receiver's; its handles go with it. */
TEST_F(lifecycle, passed_on)
{
	uint32_t buffer, timeline;
	unsigned char *map;
	int sockets[2], fd, status;
	uint64_t point;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	map = accel_buffer_new(fd, 8192, &buffer);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0, accel_timeline_create(fd, &timeline));
	map[4097] = 99;
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(fd);
		munmap(map, 8192);
		fd = accel_receive_fd(sockets[1]);
		if (fd < 0)
			_exit(1);
		map = accel_buffer_map(fd, buffer, 8192,
				       PROT_READ | PROT_WRITE);
		if (!map || map[4097] != 99)
			_exit(2);
		map[4097] = 100;
		if (accel_submit(fd, timeline, &point) ||
		    accel_timeline_wait(fd, timeline, point,
					accel_now() + 5 * NSEC_PER_SEC, NULL,
					NULL))
			_exit(3);
		/* Wait for the device to go, with the sender's file closed. */
		if (write(sockets[1], "r", 1) != 1 ||
		    accel_timeline_wait(fd, timeline, point + 1, FOREVER, NULL,
					NULL) != -ENODEV)
			_exit(4);
		/* Waiters are woken first, mappings go a moment later. */
		for (int i = 0; i < 200; i++) {
			if (accel_touch(map) == SIGBUS)
				_exit(0);
			accel_sleep_ms(10);
		}
		_exit(5);
	}
	ASSERT_EQ(0, accel_send_fd(sockets[0], fd));
	EXPECT_EQ(1, read(sockets[0], &status, 1));
	EXPECT_EQ(100, map[4097]);
	munmap(map, 8192);
	close(fd);
	accel_sleep_ms(30);
	ASSERT_EQ(0, accel_remove());
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* In a socket that nobody reads, the file is still a file. */
TEST_F(lifecycle, passed_to_nobody)
{
	int sockets[2], fd;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_send_fd(sockets[0], fd));
	close(fd);
	ASSERT_EQ(0, accel_remove());
	fd = accel_receive_fd(sockets[1]);
	ASSERT_LE(0, fd);
	EXPECT_EQ(POLLHUP, polled(fd) & POLLHUP);
	close(fd);
	close(sockets[0]);
	close(sockets[1]);
}

/* A poller that sleeps is woken, not only one that asks. */
static void *poll_forever(void *data)
{
	struct pollfd *p = data;

	poll(p, 1, 10000);
	return NULL;
}

TEST_F(lifecycle, pollers_wake)
{
	struct pollfd polls[2] = { { .events = POLLIN }, { .events = POLLIN } };
	pthread_t threads[2];

	polls[0].fd = accel_open(O_RDWR | O_CLOEXEC);
	polls[1].fd = accel_open_control(O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, poll_forever,
					    &polls[i]));
	}
	accel_sleep_ms(50);
	ASSERT_EQ(0, accel_remove());
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(POLLHUP | POLLERR,
			  polls[i].revents & (POLLHUP | POLLERR));
		close(polls[i].fd);
	}
}

TEST_HARNESS_MAIN
