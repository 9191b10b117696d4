// SPDX-License-Identifier: GPL-2.0
/*
 * Who has a compute file open, and who is told: root, and the same user, each
 * in the words of their own namespaces.
 */

#include "accel_pass.h"
#include "accel_test.h"
#include "kselftest_harness.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define PAGE 4096
#define ALICE 4001
#define BOB 4002

FIXTURE(clients)
{
	struct stat nodes[2];
	int control;
};

FIXTURE_SETUP(clients)
{
	const struct accel_target *target = accel_target();

	ASSERT_TRUE(target != NULL);
	ASSERT_EQ(0, stat(target->compute, &self->nodes[0]));
	ASSERT_EQ(0, stat(target->control, &self->nodes[1]));
	ASSERT_EQ(0, chmod(target->compute, 0666));
	ASSERT_EQ(0, chmod(target->control, 0666));
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->control);
}

FIXTURE_TEARDOWN(clients)
{
	const struct accel_target *target = accel_target();

	close(self->control);
	chmod(target->compute, self->nodes[0].st_mode & 07777);
	chmod(target->control, self->nodes[1].st_mode & 07777);
}

static int client(int fd, uint32_t index, struct accel_info_client *answer)
{
	memset(answer, 0xa5, sizeof(*answer));
	return accel_info(fd, ACCEL_INFO_CLIENTS, index, answer,
			  sizeof(*answer));
}

static bool is_zero(const struct accel_info_client *answer)
{
	static const struct accel_info_client zero;

	return !memcmp(answer, &zero, sizeof(zero));
}

/* A child that has opened the compute node and does as it is told. */
struct child {
	pid_t pid;
	int to, from;
};

/* Runs in the child, as a user; the answer is its exit status. */
typedef int (*body)(struct child *child, int fd);

static int told(struct child *child)
{
	char c;

	return read(child->to, &c, 1) == 1 ? 0 : -1;
}

static int tell(int fd)
{
	return write(fd, "x", 1) == 1 ? 0 : -1;
}

static int just_wait(struct child *child, int fd)
{
	(void)fd;
	return told(child) ? 9 : 0;
}

static int start(struct child *child, uid_t user, body run)
{
	int to[2], from[2];
	char c;

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		return -errno;
	child->pid = fork();
	if (child->pid < 0)
		return -errno;
	if (!child->pid) {
		int fd;

		child->to = to[0];
		child->from = from[1];
		close(to[1]);
		close(from[0]);
		prctl(PR_SET_NAME, "accel-client-name-too-long");
		if (setresgid(user, user, user) || setresuid(user, user, user))
			_exit(10);
		fd = accel_open(O_RDWR | O_CLOEXEC);
		if (fd < 0 || tell(from[1]))
			_exit(11);
		_exit(run(child, fd));
	}
	close(to[0]);
	close(from[1]);
	child->to = to[1];
	child->from = from[0];
	return read(child->from, &c, 1) == 1 ? 0 : -ECHILD;
}

static int finish(struct child *child)
{
	int status;

	tell(child->to);
	if (waitpid(child->pid, &status, 0) != child->pid)
		return -errno;
	close(child->to);
	close(child->from);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

TEST_F(clients, none)
{
	struct accel_info_client answer;
	struct accel_info_queries entry;

	EXPECT_EQ(-ENODATA, client(self->control, 0, &answer));
	EXPECT_EQ(-ENODATA, client(self->control, ~0U, &answer));
	/* A query of which there may be none is listed all the same. */
	for (uint32_t i = 0; i < 100; i++) {
		ASSERT_EQ(0, accel_info(self->control, ACCEL_INFO_QUERIES, i,
					&entry, sizeof(entry)));
		if (entry.query == ACCEL_INFO_CLIENTS)
			break;
	}
	EXPECT_EQ(0, entry.count);
	EXPECT_EQ(sizeof(answer), entry.size);
}

TEST_F(clients, oneself)
{
	int64_t before = accel_now(), after;
	struct accel_info_client answer;
	uint32_t first, second;
	int fd, control;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	after = accel_now();
	ASSERT_EQ(0, accel_buffer_create(fd, PAGE + 1, &first));
	ASSERT_EQ(0, accel_buffer_create(fd, PAGE, &second));
	for (int n = 0; n < 2; n++) {
		ASSERT_EQ(0, client(n ? fd : self->control, 0, &answer));
		EXPECT_EQ(ACCEL_CLIENT_VISIBLE, answer.flags);
		EXPECT_EQ(getpid(), answer.pid);
		EXPECT_EQ(0, answer.uid);
		EXPECT_EQ(0, answer.lost);
		/* To the tick. */
		EXPECT_LE(before - 20 * NSEC_PER_MSEC,
			  (int64_t)answer.opened_ns);
		EXPECT_GE(after, (int64_t)answer.opened_ns);
		EXPECT_EQ(2, answer.buffers);
		EXPECT_EQ(3 * PAGE, answer.buffer_bytes);
	}
	/* Control files are no clients. */
	control = accel_open_control(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, control);
	EXPECT_EQ(-ENODATA, client(self->control, 1, &answer));
	close(control);
	ASSERT_EQ(0, accel_buffer_destroy(fd, first));
	ASSERT_EQ(0, client(self->control, 0, &answer));
	EXPECT_EQ(1, answer.buffers);
	EXPECT_EQ(PAGE, answer.buffer_bytes);
	close(fd);
	EXPECT_EQ(-ENODATA, client(self->control, 0, &answer));
}

/* Each file is told once, whichever others are opened and closed. */
TEST_F(clients, many)
{
	enum { MANY = 8 };
	struct accel_info_client answer;
	uint64_t opened[MANY];
	uint32_t handle;
	int fds[MANY];

	for (uint64_t i = 0; i < MANY; i++) {
		fds[i] = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0,
			  accel_buffer_create(fds[i], (i + 1) * PAGE, &handle));
	}
	close(fds[2]);
	close(fds[0]);
	memset(opened, 0, sizeof(opened));
	for (uint32_t i = 0; i < MANY - 2; i++) {
		uint64_t which;

		ASSERT_EQ(0, client(self->control, i, &answer));
		EXPECT_EQ(1, answer.buffers);
		which = answer.buffer_bytes / PAGE - 1;
		ASSERT_LT(which, MANY);
		EXPECT_EQ(0, opened[which]);
		opened[which] = answer.opened_ns;
	}
	EXPECT_EQ(-ENODATA, client(self->control, MANY - 2, &answer));
	EXPECT_EQ(0, opened[0]);
	EXPECT_EQ(0, opened[2]);
	EXPECT_LE(opened[1], opened[3]);
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
}

/* What root may do that others may not is to see who others are. */
static int bob_looks(struct child *child, int fd)
{
	struct accel_info_client answer;
	int seen = 0;

	for (uint32_t i = 0; i < 2; i++) {
		if (client(fd, i, &answer))
			return 2;
		if (is_zero(&answer))
			continue;
		seen++;
		if (answer.flags != ACCEL_CLIENT_VISIBLE ||
		    answer.pid != (uint32_t)getpid() || answer.uid != BOB)
			return 3;
	}
	if (seen != 1 || client(fd, 2, &answer) != -ENODATA)
		return 4;
	return just_wait(child, fd);
}

TEST_F(clients, others)
{
	struct accel_info_client answer;
	struct child alice, bob;
	bool alices = false, bobs = false;

	ASSERT_EQ(0, start(&alice, ALICE, just_wait));
	ASSERT_EQ(0, start(&bob, BOB, bob_looks));
	for (uint32_t i = 0; i < 2; i++) {
		ASSERT_EQ(0, client(self->control, i, &answer));
		EXPECT_EQ(ACCEL_CLIENT_VISIBLE, answer.flags);
		EXPECT_STREQ("accel-client-na", answer.name);
		if (answer.uid == ALICE) {
			EXPECT_EQ(alice.pid, answer.pid);
			alices = true;
		} else {
			EXPECT_EQ(BOB, answer.uid);
			EXPECT_EQ(bob.pid, answer.pid);
			bobs = true;
		}
	}
	EXPECT_TRUE(alices && bobs);
	/* Not who has the file, but who asks: root's file, Bob's question. */
	ASSERT_EQ(0, seteuid(BOB));
	for (uint32_t i = 0, seen = 0; i < 2; i++) {
		EXPECT_EQ(0, client(self->control, i, &answer));
		seen += !is_zero(&answer);
		EXPECT_TRUE(is_zero(&answer) || answer.uid == BOB);
		EXPECT_EQ(i, i ? seen == 1 : 0);
	}
	ASSERT_EQ(0, seteuid(0));
	EXPECT_EQ(0, finish(&bob));
	EXPECT_EQ(0, finish(&alice));
}

/* The file of somebody who is gone: no number, it may be another's by now. */
TEST_F(clients, passed_on)
{
	struct accel_info_client answer;
	int pair[2], fd, status;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_NAME, "alice");
		if (setresgid(ALICE, ALICE, ALICE) ||
		    setresuid(ALICE, ALICE, ALICE))
			_exit(1);
		fd = accel_open(O_RDWR | O_CLOEXEC);
		_exit(fd < 0 || accel_send_fd(pair[1], fd) ? 2 : 0);
	}
	fd = accel_receive_fd(pair[0]);
	ASSERT_LE(0, fd);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, client(self->control, 0, &answer));
	EXPECT_EQ(ACCEL_CLIENT_VISIBLE, answer.flags);
	EXPECT_EQ(0, answer.pid);
	EXPECT_EQ(ALICE, answer.uid);
	EXPECT_STREQ("alice", answer.name);
	close(fd);
	close(pair[0]);
	close(pair[1]);
	EXPECT_EQ(-ENODATA, client(self->control, 0, &answer));
}

/* Asks from a child that is alone in a PID namespace, and from one beside it. */
TEST_F(clients, pid_namespace)
{
	struct accel_info_client answer;
	int status, go[2], ready[2];
	pid_t inner, outer;
	char c;
	int fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	outer = fork();
	ASSERT_LE(0, outer);
	if (!outer) {
		close(fd);
		if (unshare(CLONE_NEWPID))
			_exit(1);
		inner = fork();
		if (!inner) {
			bool own = false, others = false;
			int mine = accel_open(O_RDWR | O_CLOEXEC);

			if (mine < 0 || getpid() != 1)
				_exit(2);
			/* Same user: told, but the process is not seen here. */
			for (uint32_t i = 0; i < 2; i++) {
				if (client(mine, i, &answer) ||
				    answer.flags != ACCEL_CLIENT_VISIBLE)
					_exit(3);
				own |= answer.pid == 1;
				others |= answer.pid == 0;
			}
			if (!own || !others || tell(ready[1]))
				_exit(4);
			_exit(read(go[0], &c, 1) == 1 ? 0 : 5);
		}
		waitpid(inner, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 6);
	}
	close(ready[1]);
	EXPECT_EQ(1, read(ready[0], &c, 1));
	/* From here its number is one of ours, and another one. */
	for (uint32_t i = 0, seen = 0; i < 2; i++) {
		EXPECT_EQ(0, client(self->control, i, &answer));
		EXPECT_LT(1, answer.pid);
		seen += answer.pid == (uint32_t)getpid();
		EXPECT_TRUE(i == 0 || seen == 1);
	}
	EXPECT_EQ(0, tell(go[1]));
	ASSERT_EQ(outer, waitpid(outer, &status, 0));
	EXPECT_EQ(0, status);
	close(fd);
	close(go[0]);
	close(go[1]);
	close(ready[0]);
}

/*
 * In a user namespace: one's own user has the number that it has there, and to
 * be root there is not to be root.
 */
TEST_F(clients, user_namespace)
{
	struct accel_info_client answer;
	struct child alice, bob;
	int status;
	pid_t pid;

	ASSERT_EQ(0, start(&alice, ALICE, just_wait));
	ASSERT_EQ(0, start(&bob, BOB, just_wait));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int seen = 0;
		char line[64];

		if (setresgid(ALICE, ALICE, ALICE) ||
		    setresuid(ALICE, ALICE, ALICE) ||
		    prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER))
			_exit(1);
		/* Without a mapping one is nobody to oneself. */
		for (uint32_t i = 0; i < 2; i++) {
			if (client(self->control, i, &answer))
				_exit(2);
			if (!is_zero(&answer) && answer.uid != 65534)
				_exit(3);
		}
		snprintf(line, sizeof(line), "0 %u 1", ALICE);
		if (accel_write_line("/proc/self/uid_map", line) || geteuid())
			_exit(4);
		for (uint32_t i = 0; i < 2; i++) {
			if (client(self->control, i, &answer))
				_exit(5);
			if (is_zero(&answer))
				continue;
			seen++;
			if (answer.uid != 0 ||
			    answer.pid != (uint32_t)alice.pid)
				_exit(6);
		}
		_exit(seen == 1 ? 0 : 7);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) TH_LOG("exit %d", WEXITSTATUS(status));
	EXPECT_EQ(0, finish(&alice));
	EXPECT_EQ(0, finish(&bob));
}

/* Who looks while files come and go gets answers that are whole. */
static void *open_and_close(void *stop)
{
	while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED)) {
		int fd = accel_open(O_RDWR | O_CLOEXEC);

		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

TEST_F(clients, while_others_come_and_go)
{
	struct accel_info_client answer;
	pthread_t threads[4];
	bool stop = false;
	int seen = 0;

	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, open_and_close,
					    &stop));
	for (int round = 0; round < 1000 || (!seen && round < 500000);
	     round++) {
		int ret = client(self->control, round % 5, &answer);

		ASSERT_TRUE(ret == 0 || ret == -ENODATA) TH_LOG("%d", ret);
		if (ret)
			continue;
		seen++;
		ASSERT_EQ(ACCEL_CLIENT_VISIBLE, answer.flags);
		ASSERT_EQ(getpid(), answer.pid);
		ASSERT_EQ(0, answer.buffers);
	}
	EXPECT_LT(0, seen);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(-ENODATA, client(self->control, 0, &answer));
}

TEST_HARNESS_MAIN
