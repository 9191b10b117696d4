// SPDX-License-Identifier: GPL-2.0
/*
 * A device that takes one compute file at a time: who comes second, who is told
 * of the first, and when the place is free again. The control node is as ever.
 */

#include "accel_pass.h"
#include "kselftest_harness.h"

#include <sys/socket.h>

#define PAGE 4096
#define ALICE 4001
#define BOB 4002

FIXTURE(exclusive)
{
	int control;
};

FIXTURE_SETUP(exclusive)
{
	const struct accel_target *target = accel_target();

	ASSERT_TRUE(target != NULL);
	ASSERT_EQ(0, accel_rmmod(MOCK_DRIVER));
	ASSERT_EQ(0, accel_modprobe(MOCK_DRIVER, "exclusive=1"));
	ASSERT_EQ(0, chmod(target->compute, 0666));
	ASSERT_EQ(0, chmod(target->control, 0666));
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->control);
}

FIXTURE_TEARDOWN(exclusive)
{
	close(self->control);
	accel_rmmod(MOCK_DRIVER);
	accel_restore();
}

static int open_as(uid_t user)
{
	int fd;

	if (seteuid(user))
		return -errno;
	fd = accel_open(O_RDWR | O_CLOEXEC);
	if (seteuid(0))
		return -errno;
	return fd;
}

static int holder_as(int control, uid_t user, struct accel_info_client *client)
{
	int ret;

	memset(client, 0xa5, sizeof(*client));
	if (seteuid(user))
		return -errno;
	ret = accel_info(control, ACCEL_INFO_CLIENTS, 0, client,
			 sizeof(*client));
	if (seteuid(0))
		return -errno;
	return ret;
}

TEST_F(exclusive, second_is_busy)
{
	struct accel_info_identity id;
	struct accel_info_limit limit;
	int fd, again;

	ASSERT_EQ(0, accel_info(self->control, ACCEL_INFO_IDENTITY, 0, &id,
				sizeof(id)));
	EXPECT_EQ(1, id.max_contexts);
	fd = open_as(ALICE);
	ASSERT_LE(0, fd);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-EBUSY, open_as(ALICE));
		EXPECT_EQ(-EBUSY, open_as(BOB));
		EXPECT_EQ(-EBUSY, open_as(0));
		/* For the same one too, in whatever way it asks. */
		EXPECT_EQ(-EBUSY, accel_open(O_RDONLY | O_NONBLOCK));
	}
	ASSERT_EQ(0, accel_info(self->control, ACCEL_INFO_LIMITS,
				ACCEL_LIMIT_CONTEXTS, &limit, sizeof(limit)));
	EXPECT_EQ(1, limit.device_max);
	EXPECT_EQ(1, limit.device_used);
	/* What is shared is one file. */
	again = dup(fd);
	close(fd);
	EXPECT_EQ(-EBUSY, open_as(BOB));
	close(again);
	fd = open_as(BOB);
	EXPECT_LE(0, fd);
	EXPECT_EQ(-EBUSY, open_as(ALICE));
	close(fd);
}

/* Every end of the holder frees the place. */
TEST_F(exclusive, place_is_free_again)
{
	int pair[2], go[2], status, fd;
	uint32_t handle;
	pid_t pid;
	void *map;
	char c;

	/* Killed, */
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		fd = open_as(ALICE);
		if (fd < 0 || !accel_buffer_new(fd, PAGE, &handle) ||
		    write(go[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	ASSERT_EQ(1, read(go[0], &c, 1));
	EXPECT_EQ(-EBUSY, open_as(BOB));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	fd = open_as(BOB);
	ASSERT_LE(0, fd);

	/* on its way through a socket that is closed, */
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ASSERT_EQ(0, accel_send_fd(pair[1], fd));
	close(fd);
	EXPECT_EQ(-EBUSY, open_as(ALICE));
	close(pair[0]);
	close(pair[1]);
	fd = open_as(ALICE);
	ASSERT_LE(0, fd);

	/* mapped, and nothing else. */
	map = accel_buffer_new(fd, PAGE, &handle);
	ASSERT_TRUE(map != NULL);
	close(fd);
	EXPECT_EQ(-EBUSY, open_as(ALICE));
	munmap(map, PAGE);
	fd = open_as(ALICE);
	ASSERT_LE(0, fd);
	close(fd);
	close(go[0]);
	close(go[1]);
}

TEST_F(exclusive, holder_is_told)
{
	struct accel_info_client client, zero = {};
	int fd;

	EXPECT_EQ(-ENODATA, holder_as(self->control, 0, &client));
	fd = open_as(ALICE);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, holder_as(self->control, 0, &client));
	EXPECT_EQ(ACCEL_CLIENT_VISIBLE, client.flags);
	EXPECT_EQ(getpid(), client.pid);
	EXPECT_EQ(ALICE, client.uid);
	ASSERT_EQ(0, holder_as(self->control, ALICE, &client));
	EXPECT_EQ(getpid(), client.pid);
	/* Others learn that there is one. */
	ASSERT_EQ(0, holder_as(self->control, BOB, &client));
	EXPECT_EQ(0, memcmp(&client, &zero, sizeof(zero)));
	close(fd);
	EXPECT_EQ(-ENODATA, holder_as(self->control, BOB, &client));
}

TEST_F(exclusive, control_is_not)
{
	enum { MANY = 500 };
	int fd, controls[MANY];
	struct accel_info_opens opens;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	for (int i = 0; i < MANY; i++) {
		controls[i] = accel_open_control(O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, controls[i]);
	}
	ASSERT_EQ(0, accel_info(controls[MANY - 1], ACCEL_INFO_OPENS, 0, &opens,
				sizeof(opens)));
	EXPECT_EQ(1, opens.compute_now);
	EXPECT_EQ(MANY + 1, opens.control_now);
	for (int i = 0; i < MANY; i++)
		close(controls[i]);
	close(fd);
}

TEST_HARNESS_MAIN
