// SPDX-License-Identifier: GPL-2.0
/*
 * Events as a file reads them, on both nodes and every kind of device: their
 * order, what is lost, and every way in which a read can end.
 */

#include "events.h"
#include "kselftest_harness.h"

#include <sys/mount.h>
#include <sys/time.h>
#include <sys/uio.h>

FIXTURE(events)
{
	/* Does not block, on the node that the variant names. */
	int fd;
};

FIXTURE_VARIANT(events)
{
	bool control;
};

FIXTURE_VARIANT_ADD(events, compute){
	.control = false,
};

FIXTURE_VARIANT_ADD(events, control){
	.control = true,
};

FIXTURE_SETUP(events)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->fd = open_node(variant->control, O_NONBLOCK);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(events)
{
	close(self->fd);
	EXPECT_EQ(0, accel_restore());
}

TEST_F(events, none_before)
{
	union event event;

	EXPECT_EQ(-EINVAL, next(self->fd, &event));
	EXPECT_EQ(-EINVAL, accel_read(self->fd, &event, 0));
	EXPECT_EQ(0, polled(self->fd, 0));
	/* Nor does a file that would wait. */
	ASSERT_EQ(0, block(self->fd));
	EXPECT_EQ(-EINVAL, next(self->fd, &event));
}

TEST_F(events, first)
{
	union event event;

	ASSERT_EQ(0, accel_events(self->fd, STATE, NULL));
	EXPECT_EQ(POLLIN, polled(self->fd, 0));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_TRUE(is_present(&event, self->fd));
	EXPECT_EQ(1, event.header.sequence);
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, event.state.state);
	EXPECT_GE(accel_now(), event.header.time_ns);
	EXPECT_EQ(0, polled(self->fd, 0));
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
	/* Who has it already is not told it once more. */
	ASSERT_EQ(0, accel_events(self->fd, STATE | LOST, NULL));
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
}

TEST_F(events, arguments)
{
	uint64_t known = STATE | LOST, before;
	struct accel_events events = {};
	union event event;

	if (!variant->control)
		known |= CONTEXT_LOST | FAULT;
	for (int bit = 0; bit < 64; bit++) {
		EXPECT_EQ(known >> bit & 1 ? 0 : -EINVAL,
			  accel_events(self->fd, 1ULL << bit, NULL))
		TH_LOG("bit %d", bit);
		EXPECT_EQ(known >> bit & 1 ? 0 : -EINVAL,
			  accel_events(self->fd, STATE | 1ULL << bit, NULL))
		TH_LOG("bit %d", bit);
	}
	/* What was wrong has changed nothing. */
	ASSERT_EQ(0, accel_events(self->fd, 0, NULL));
	EXPECT_EQ(-EINVAL, accel_events(self->fd, STATE | 1ULL << 63, NULL));
	events.types = STATE;
	events.flags = 1;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_EVENTS, &events));
	events.flags = 0;
	events.reserved = 1;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_EVENTS, &events));
	EXPECT_EQ(-EINVAL, next(self->fd, &event));
	/* Each answer is what was asked for before. */
	ASSERT_EQ(0, accel_events(self->fd, LOST, &before));
	EXPECT_EQ(0, before);
	ASSERT_EQ(0, accel_events(self->fd, known, &before));
	EXPECT_EQ(LOST, before);
	ASSERT_EQ(0, accel_events(self->fd, 0, &before));
	EXPECT_EQ(known, before);
	ASSERT_EQ(0, accel_events(self->fd, 0, &before));
	EXPECT_EQ(0, before);
}

TEST_F(events, sequence)
{
	union event event;

	for (uint64_t i = 1; i <= 1000; i++) {
		ASSERT_EQ(0, more(self->fd));
		ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
		ASSERT_EQ(i, event.header.sequence);
		ASSERT_TRUE(is_present(&event, self->fd));
	}
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
}

/* As many as a file may have are all there; of one more the oldest is lost. */
TEST_F(events, loss)
{
	static const unsigned int extra[] = { 0, 1, 2, MOST, 3 * MOST + 7 };
	uint64_t sequence = 0;
	union event event;

	for (size_t i = 0; i < ARRAY_SIZE(extra); i++) {
		for (unsigned int n = 0; n < MOST + extra[i]; n++)
			ASSERT_EQ(0, more(self->fd));
		EXPECT_EQ(POLLIN, polled(self->fd, 0));
		if (extra[i]) {
			ASSERT_EQ(sizeof(event.lost), next(self->fd, &event));
			EXPECT_EQ(ACCEL_EVENT_LOST, event.header.type);
			EXPECT_EQ(sizeof(event.lost), event.header.size);
			EXPECT_EQ(extra[i], event.lost.count);
			sequence += extra[i];
			EXPECT_EQ(sequence, event.header.sequence);
			EXPECT_LT(0, event.header.time_ns);
		}
		for (unsigned int n = 0; n < MOST; n++) {
			ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
			ASSERT_EQ(++sequence, event.header.sequence);
		}
		EXPECT_EQ(-EAGAIN, next(self->fd, &event));
	}
}

/* Events that were not read, of the file and of all files on the device. */
static bool counted(int fd, uint32_t file, uint32_t others)
{
	struct accel_info_limit limit;

	return !accel_info(fd, ACCEL_INFO_LIMITS, ACCEL_LIMIT_EVENTS, &limit,
			   sizeof(limit)) &&
	       limit.file_max == MOST && limit.file_used == file &&
	       limit.user_used == file + others &&
	       limit.device_used == file + others;
}

TEST_F(events, counted)
{
	int other = open_node(variant->control, O_NONBLOCK);
	union event event;

	ASSERT_LE(0, other);
	EXPECT_TRUE(counted(self->fd, 0, 0));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(0, more(other));
	EXPECT_TRUE(counted(self->fd, 3, 1));
	/* What is given back counts, what is read does not any more. */
	EXPECT_EQ(-EFAULT, accel_read(self->fd, NULL, 4096));
	EXPECT_TRUE(counted(self->fd, 3, 1));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_TRUE(counted(self->fd, 2, 1));
	for (int i = 0; i < MOST + 10; i++)
		ASSERT_EQ(0, more(self->fd));
	EXPECT_TRUE(counted(self->fd, MOST, 1));
	ASSERT_EQ(sizeof(event.lost), next(self->fd, &event));
	EXPECT_TRUE(counted(self->fd, MOST, 1));
	close(other);
	EXPECT_TRUE(counted(self->fd, MOST, 0));
	ASSERT_EQ(0, accel_events(self->fd, 0, NULL));
	EXPECT_TRUE(counted(self->fd, 0, 0));
}

/* Whole events, as many as there is room for. */
TEST_F(events, room)
{
	unsigned char room[4 * STATE_SIZE];
	union event event;

	/* Even when there is none: no event is that small. */
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	EXPECT_EQ(-EINVAL, accel_read(self->fd, room, 0));
	EXPECT_EQ(-EINVAL, accel_read(self->fd, room, 31));
	EXPECT_EQ(-EAGAIN, accel_read(self->fd, room, 32));
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, more(self->fd));
	for (size_t size = 0; size < STATE_SIZE; size++)
		EXPECT_EQ(-EINVAL, accel_read(self->fd, room, size));
	memset(room, 0xa5, sizeof(room));
	EXPECT_EQ(STATE_SIZE, accel_read(self->fd, room, STATE_SIZE));
	EXPECT_EQ(0xa5, room[STATE_SIZE]);
	memset(room, 0xa5, sizeof(room));
	EXPECT_EQ(STATE_SIZE, accel_read(self->fd, room, 2 * STATE_SIZE - 1));
	for (size_t i = STATE_SIZE; i < sizeof(room); i++)
		ASSERT_EQ(0xa5, room[i]);
	EXPECT_EQ(2 * STATE_SIZE, accel_read(self->fd, room, 2 * STATE_SIZE));
	memcpy(&event, room, sizeof(event));
	EXPECT_EQ(3, event.header.sequence);
	memcpy(&event, room + STATE_SIZE, STATE_SIZE);
	EXPECT_EQ(4, event.header.sequence);
	EXPECT_EQ(STATE_SIZE, accel_read(self->fd, room, sizeof(room)));
	EXPECT_EQ(-EAGAIN, accel_read(self->fd, room, sizeof(room)));

	/* What was lost comes first, and needs less room than the next. */
	for (int i = 0; i < MOST + 1; i++)
		ASSERT_EQ(0, more(self->fd));
	EXPECT_EQ(-EINVAL, accel_read(self->fd, room, 31));
	EXPECT_EQ(32, accel_read(self->fd, room, 79));
	EXPECT_EQ(-EINVAL, accel_read(self->fd, room, 47));
	EXPECT_EQ(48, accel_read(self->fd, room, 48));
	memcpy(&event, room, STATE_SIZE);
	EXPECT_EQ(7, event.header.sequence);
}

/* Where it goes may be in pieces. */
TEST_F(events, pieces)
{
	struct accel_event header[2];
	unsigned char rest[2][STATE_SIZE - sizeof(*header)];
	struct iovec pieces[] = {
		{ &header[0], sizeof(header[0]) },
		{ rest[0], sizeof(rest[0]) },
		{ &header[1], sizeof(header[1]) },
		{ rest[1], sizeof(rest[1]) },
	};

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(2 * STATE_SIZE, readv(self->fd, pieces, ARRAY_SIZE(pieces)));
	EXPECT_EQ(1, header[0].sequence);
	EXPECT_EQ(STATE_SIZE, header[0].size);
	EXPECT_EQ(2, header[1].sequence);
	/* It does not wait for the piece that is left. */
	ASSERT_EQ(0, block(self->fd));
	ASSERT_EQ(STATE_SIZE, readv(self->fd, pieces, ARRAY_SIZE(pieces)));
	EXPECT_EQ(3, header[0].sequence);
}

/* A read that is not to wait does not, whatever the file is. */
TEST_F(events, nowait)
{
	union event event;
	struct iovec piece = { &event, sizeof(event) };

	ASSERT_EQ(0, block(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	ASSERT_EQ(-1, preadv2(self->fd, &piece, 1, -1, RWF_NOWAIT));
	EXPECT_EQ(EAGAIN, errno);
	ASSERT_EQ(0, more(self->fd));
	EXPECT_EQ(STATE_SIZE, preadv2(self->fd, &piece, 1, -1, RWF_NOWAIT));
	EXPECT_EQ(1, event.header.sequence);
}

/* An event that cannot be written is there for the next one who asks. */
TEST_F(events, fault)
{
	unsigned char *page;
	union event event;

	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(page != MAP_FAILED);
	ASSERT_EQ(0, munmap(page + 4096, 4096));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, more(self->fd));
	EXPECT_EQ(-EFAULT, accel_read(self->fd, page + 4096, 4096));
	EXPECT_EQ(-EFAULT, accel_read(self->fd, page + 4096 - 8, 4096));
	EXPECT_EQ(-EFAULT, accel_read(self->fd, NULL, 4096));
	EXPECT_EQ(POLLIN, polled(self->fd, 0));
	/* Those that could be are not told of the one that could not. */
	EXPECT_EQ(STATE_SIZE,
		  accel_read(self->fd, page + 4096 - STATE_SIZE, 4096));
	memcpy(&event, page + 4096 - STATE_SIZE, STATE_SIZE);
	EXPECT_EQ(1, event.header.sequence);
	EXPECT_EQ(STATE_SIZE,
		  accel_read(self->fd, page + 4096 - 2 * STATE_SIZE + 1, 4096));
	memcpy(&event, page + 4096 - 2 * STATE_SIZE + 1, STATE_SIZE);
	EXPECT_EQ(2, event.header.sequence);
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(3, event.header.sequence);
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));

	/* Likewise what says how many were lost. */
	for (int i = 0; i < MOST + 5; i++)
		ASSERT_EQ(0, more(self->fd));
	EXPECT_EQ(-EFAULT, accel_read(self->fd, NULL, 4096));
	ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(sizeof(event.lost), next(self->fd, &event));
	EXPECT_EQ(6, event.lost.count);
	EXPECT_EQ(9, event.header.sequence);
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(10, event.header.sequence);
	munmap(page, 4096);
}

TEST_F(events, forgotten)
{
	union event event;

	for (int i = 0; i < MOST + 3; i++)
		ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, 0, NULL));
	EXPECT_EQ(0, polled(self->fd, 0));
	EXPECT_EQ(-EINVAL, next(self->fd, &event));
	/* The count goes on. */
	ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(MOST + 4, event.header.sequence);
	/* What was told stays, although no more of the kind comes. */
	ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
}

TEST_F(events, wakes)
{
	struct accel_call call;
	union event event;

	ASSERT_EQ(0, block(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	ASSERT_EQ(0, accel_call_read(&call, self->fd, &event, sizeof(event)));
	EXPECT_FALSE(accel_call_wait(&call, 50));
	ASSERT_EQ(0, more(self->fd));
	EXPECT_TRUE(accel_call_wait(&call, 5000));
	accel_call_join(&call);
	EXPECT_EQ(STATE_SIZE, call.result);
	EXPECT_TRUE(is_present(&event, self->fd));

	/* Who wants none any more does not wait for one. */
	ASSERT_EQ(0, accel_call_read(&call, self->fd, &event, sizeof(event)));
	EXPECT_FALSE(accel_call_wait(&call, 50));
	ASSERT_EQ(0, accel_events(self->fd, 0, NULL));
	EXPECT_TRUE(accel_call_wait(&call, 5000));
	accel_call_join(&call);
	EXPECT_EQ(-EINVAL, call.result);
}

static void *poll_thread(void *data)
{
	int fd = (intptr_t)data;

	return (void *)(intptr_t)polled(fd, 8000);
}

TEST_F(events, poll_wakes)
{
	pthread_t thread;
	void *revents;

	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	ASSERT_EQ(0, pthread_create(&thread, NULL, poll_thread,
				    (void *)(intptr_t)self->fd));
	accel_sleep_ms(20);
	ASSERT_EQ(0, more(self->fd));
	pthread_join(thread, &revents);
	EXPECT_EQ(POLLIN, (intptr_t)revents);
}

static int alarms;

static void on_alarm(int sig)
{
	(void)sig;
	__atomic_fetch_add(&alarms, 1, __ATOMIC_RELAXED);
}

static void alarm_in(unsigned int ms, int flags)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = flags };
	struct itimerval timer = { .it_value.tv_usec = ms * 1000 };

	alarms = 0;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

TEST_F(events, interrupted)
{
	union event event;

	ASSERT_EQ(0, block(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	alarm_in(50, 0);
	EXPECT_EQ(-EINTR, next(self->fd, &event));
	EXPECT_EQ(1, __atomic_load_n(&alarms, __ATOMIC_RELAXED));
}

TEST_F(events, restarted)
{
	union event event;
	int status;
	pid_t pid;

	ASSERT_EQ(0, block(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Not before the other has been interrupted. */
		accel_sleep_ms(300);
		_exit(more(self->fd) ? 1 : 0);
	}
	alarm_in(50, SA_RESTART);
	EXPECT_EQ(STATE_SIZE, next(self->fd, &event));
	EXPECT_EQ(1, __atomic_load_n(&alarms, __ATOMIC_RELAXED));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(events, killed)
{
	union event event;
	int status;
	pid_t pid;

	ASSERT_EQ(0, block(self->fd));
	ASSERT_EQ(0, accel_events(self->fd, LOST, NULL));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		next(self->fd, &event);
		_exit(1);
	}
	accel_sleep_ms(50);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Who shares the file shares its events, each of which is read once. */
TEST_F(events, shared)
{
	union event event;
	int status;
	pid_t pid;

	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, more(self->fd));
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (next(self->fd, &event) != STATE_SIZE ||
		    event.header.sequence != 2)
			_exit(1);
		/* It is asked for once more, and for all who share it. */
		_exit(more(self->fd) ? 2 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	for (uint64_t i = 3; i <= 5; i++) {
		ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
		EXPECT_EQ(i, event.header.sequence);
	}
	EXPECT_EQ(-EAGAIN, next(self->fd, &event));
}

/* Nor does another open file of the same device have a part in them. */
TEST_F(events, apart)
{
	int other = open_node(variant->control, O_NONBLOCK);
	union event event;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, accel_events(other, LOST, NULL));
	ASSERT_EQ(0, more(self->fd));
	EXPECT_EQ(-EAGAIN, next(other, &event));
	ASSERT_EQ(0, more(other));
	ASSERT_EQ(STATE_SIZE, next(other, &event));
	EXPECT_EQ(1, event.header.sequence);
	ASSERT_EQ(STATE_SIZE, next(self->fd, &event));
	close(other);
}

#define CGROUP "/sys/fs/cgroup"
#define GROUP CGROUP "/accel-events"
/* Of an NPU one user has no more than 47 files. */
#define FILES 40

static long long group_current(void)
{
	char line[64];

	if (accel_read_line(GROUP "/memory.current", line, sizeof(line)))
		return -1;
	return atoll(line);
}

static int ask_all(const int *fds, uint64_t types)
{
	int ret = 0;

	for (int i = 0; i < FILES && !ret; i++)
		ret = accel_events(fds[i], types, NULL);
	return ret;
}

static void charged(bool control)
{
	long long before, during;
	char number[32];
	int fds[FILES];

	snprintf(number, sizeof(number), "%d", getpid());
	if (accel_write_line(GROUP "/cgroup.procs", number))
		_exit(1);
	for (int i = 0; i < FILES; i++) {
		fds[i] = open_node(control, 0);
		if (fds[i] < 0)
			_exit(2);
	}
	before = group_current();
	if (ask_all(fds, LOST))
		_exit(3);
	during = group_current();
	/*
	 * A ring has room for all that a file may have. Charges are counted in
	 * batches of 64 pages.
	 */
	if (during - before < (long long)(FILES * MOST * 40 - 64 * 4096))
		_exit(4);
	/* Asking once more costs nothing more. */
	if (ask_all(fds, 0) || ask_all(fds, STATE))
		_exit(5);
	if (group_current() - during > (long long)MIB)
		_exit(6);
	for (int i = 0; i < FILES; i++)
		close(fds[i]);
	_exit(group_current() - before > (long long)MIB ? 7 : 0);
}

/* The ring is charged to who asks for events, and goes with the file. */
TEST_F(events, charged)
{
	int status;
	pid_t pid;

	if (!accel_exists(CGROUP "/cgroup.controllers"))
		ASSERT_EQ(0, mount("cgroup2", CGROUP, "cgroup2", 0, NULL));
	accel_write_line(CGROUP "/cgroup.subtree_control", "+memory");
	ASSERT_TRUE(!mkdir(GROUP, 0755) || errno == EEXIST);
	ASSERT_TRUE(accel_exists(GROUP "/memory.max"));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		charged(variant->control);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status)
	TH_LOG("step %d", WEXITSTATUS(status));
	for (int i = 0; i < 50 && rmdir(GROUP) && errno == EBUSY; i++)
		accel_sleep_ms(20);
	EXPECT_FALSE(accel_exists(GROUP));
}

TEST_HARNESS_MAIN
