// SPDX-License-Identifier: GPL-2.0
/* Timelines: waiting, deadlines, signals, poll and eventfds. */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <sys/epoll.h>
#include <sys/time.h>

/* A wait that ends this much late is late, on a slow machine too. */
#define LATE_MS 1000

FIXTURE(timelines)
{
	int fd;
	uint32_t timeline;
};

FIXTURE_SETUP(timelines)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &self->timeline));
}

FIXTURE_TEARDOWN(timelines)
{
	close(self->fd);
}

static int64_t in_ms(unsigned int ms)
{
	return accel_now() + ms * NSEC_PER_MSEC;
}

static short polled(int fd, short events, int ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, ms) == 1 ? p.revents : 0;
}

TEST_F(timelines, create)
{
	uint64_t value = 1;
	int32_t status = 1;
	uint32_t other;

	EXPECT_NE(0, self->timeline);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &other));
	EXPECT_NE(self->timeline, other);
	ASSERT_EQ(0,
		  accel_timeline_wait(self->fd, other, 0, 0, &value, &status));
	EXPECT_EQ(0, value);
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, accel_timeline_destroy(self->fd, other));
	EXPECT_EQ(-ENOENT, accel_timeline_destroy(self->fd, other));
	EXPECT_EQ(-ENOENT,
		  accel_timeline_wait(self->fd, other, 0, 0, NULL, NULL));
	EXPECT_EQ(-ENOENT, accel_timeline_destroy(self->fd, 0));
	EXPECT_EQ(-ENOENT, accel_timeline_destroy(self->fd, ~0U));
	EXPECT_EQ(-ENOENT, accel_timeline_wait(self->fd, 0, 0, 0, NULL, NULL));
}

TEST_F(timelines, points)
{
	uint64_t point, value;
	uint32_t other;
	int32_t status;

	ASSERT_EQ(0, accel_timeline_create(self->fd, &other));
	for (uint64_t i = 1; i <= 10; i++) {
		ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
		EXPECT_EQ(i, point);
		ASSERT_EQ(0,
			  accel_timeline_wait(self->fd, self->timeline, point,
					      in_ms(5000), &value, &status));
		EXPECT_EQ(i, value);
		EXPECT_EQ(0, status);
	}
	/* What is past is past; the value is that of now. */
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 3, 0, &value,
					 &status));
	EXPECT_EQ(10, value);
	/* Timelines count for themselves. */
	ASSERT_EQ(0, accel_timeline_wait(self->fd, other, 0, 0, &value, NULL));
	EXPECT_EQ(0, value);
	ASSERT_EQ(0, accel_submit(self->fd, other, &point));
	EXPECT_EQ(1, point);
}

TEST_F(timelines, deadline)
{
	struct accel_timeline_wait wait = {
		.handle = self->timeline,
		.point = 1,
		.deadline_ns = -1,
	};
	int64_t before, took;

	EXPECT_EQ(-EINVAL,
		  accel_ioctl(self->fd, ACCEL_IOCTL_TIMELINE_WAIT, &wait));
	wait.deadline_ns = INT64_MIN;
	EXPECT_EQ(-EINVAL,
		  accel_ioctl(self->fd, ACCEL_IOCTL_TIMELINE_WAIT, &wait));
	/* In the past: an answer, no sleep. */
	before = accel_now();
	EXPECT_EQ(-ETIME, accel_timeline_wait(self->fd, self->timeline, 1, 0,
					      NULL, NULL));
	EXPECT_EQ(-ETIME, accel_timeline_wait(self->fd, self->timeline, 1,
					      before - 1, NULL, NULL));
	EXPECT_EQ(-ETIME, accel_timeline_wait(self->fd, self->timeline, ~0ULL,
					      0, NULL, NULL));
	EXPECT_GT(LATE_MS * NSEC_PER_MSEC, accel_now() - before);
	/* In the future: not before it. */
	for (int ms = 1; ms <= 256; ms *= 16) {
		before = accel_now();
		EXPECT_EQ(-ETIME,
			  accel_timeline_wait(self->fd, self->timeline, 1,
					      before + ms * NSEC_PER_MSEC, NULL,
					      NULL));
		took = accel_now() - before;
		EXPECT_LE(ms * NSEC_PER_MSEC, took);
		EXPECT_GT((ms + LATE_MS) * NSEC_PER_MSEC, took);
	}
	/* Reached already: no deadline is looked at. */
	EXPECT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 0, 0, NULL,
					 NULL));
	EXPECT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 0, FOREVER,
					 NULL, NULL));
}

static struct accel_timeline_wait wait_of(uint32_t timeline, uint64_t point,
					  int64_t deadline)
{
	return (struct accel_timeline_wait){
		.handle = timeline,
		.point = point,
		.deadline_ns = deadline,
	};
}

TEST_F(timelines, wait_before_submit)
{
	struct accel_timeline_wait wait =
		wait_of(self->timeline, 2, in_ms(10000));
	struct accel_call call;
	uint64_t point;

	ASSERT_EQ(0, accel_call_start(&call, self->fd,
				      ACCEL_IOCTL_TIMELINE_WAIT, &wait));
	EXPECT_FALSE(accel_call_wait(&call, 50));
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	/* One is not two. */
	EXPECT_FALSE(accel_call_wait(&call, 100));
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	EXPECT_TRUE(accel_call_wait(&call, 5000));
	accel_call_join(&call);
	EXPECT_EQ(0, call.result);
	EXPECT_EQ(2, wait.value);
	EXPECT_EQ(0, wait.status);
}

TEST_F(timelines, two_waiters)
{
	struct accel_timeline_wait first = wait_of(self->timeline, 1, FOREVER);
	struct accel_timeline_wait second = wait_of(self->timeline, 1, FOREVER);
	struct accel_timeline_wait third = wait_of(self->timeline, 2, FOREVER);
	struct accel_call one, two, three;
	uint64_t point;

	ASSERT_EQ(0, accel_call_start(&one, self->fd, ACCEL_IOCTL_TIMELINE_WAIT,
				      &first));
	ASSERT_EQ(0, accel_call_start(&two, self->fd, ACCEL_IOCTL_TIMELINE_WAIT,
				      &second));
	ASSERT_EQ(0, accel_call_start(&three, self->fd,
				      ACCEL_IOCTL_TIMELINE_WAIT, &third));
	accel_sleep_ms(50);
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	EXPECT_TRUE(accel_call_wait(&one, 5000));
	EXPECT_TRUE(accel_call_wait(&two, 5000));
	EXPECT_FALSE(accel_call_wait(&three, 50));
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	EXPECT_TRUE(accel_call_wait(&three, 5000));
	accel_call_join(&one);
	accel_call_join(&two);
	accel_call_join(&three);
	EXPECT_EQ(0, one.result);
	EXPECT_EQ(0, two.result);
	EXPECT_EQ(0, three.result);
	EXPECT_EQ(2, third.value);
}

/* Many short waits against as many jobs: no wake-up is lost. */
TEST_F(timelines, no_lost_wakeup)
{
	for (uint64_t i = 1; i <= 50; i++) {
		struct accel_timeline_wait wait =
			wait_of(self->timeline, i, in_ms(8000));
		struct accel_call call;
		uint64_t point;

		ASSERT_EQ(0,
			  accel_call_start(&call, self->fd,
					   ACCEL_IOCTL_TIMELINE_WAIT, &wait));
		ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
		accel_call_join(&call);
		ASSERT_EQ(0, call.result);
		ASSERT_EQ(i, wait.value);
	}
}

TEST_F(timelines, destroy_while_waiting)
{
	struct accel_timeline_wait wait =
		wait_of(self->timeline, 1, in_ms(400));
	struct accel_call call;
	uint64_t point;

	ASSERT_EQ(0, accel_call_start(&call, self->fd,
				      ACCEL_IOCTL_TIMELINE_WAIT, &wait));
	EXPECT_FALSE(accel_call_wait(&call, 50));
	EXPECT_EQ(0, accel_timeline_destroy(self->fd, self->timeline));
	EXPECT_EQ(-ENOENT, accel_submit(self->fd, self->timeline, &point));
	/* The waiter keeps what it waits on. */
	accel_call_join(&call);
	EXPECT_EQ(-ETIME, call.result);
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
	struct itimerval timer = {
		.it_value.tv_sec = ms / 1000,
		.it_value.tv_usec = ms % 1000 * 1000,
	};

	alarms = 0;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

TEST_F(timelines, interrupted)
{
	int64_t before = accel_now();

	alarm_in(100, 0);
	EXPECT_EQ(-EINTR,
		  accel_timeline_wait(self->fd, self->timeline, 1,
				      before + 10 * NSEC_PER_SEC, NULL, NULL));
	EXPECT_EQ(1, __atomic_load_n(&alarms, __ATOMIC_RELAXED));
	EXPECT_GT(5 * NSEC_PER_SEC, accel_now() - before);
}

TEST_F(timelines, restarted)
{
	int64_t before = accel_now();
	int64_t took;

	alarm_in(100, SA_RESTART);
	EXPECT_EQ(-ETIME, accel_timeline_wait(self->fd, self->timeline, 1,
					      before + 400 * NSEC_PER_MSEC,
					      NULL, NULL));
	took = accel_now() - before;
	EXPECT_EQ(1, __atomic_load_n(&alarms, __ATOMIC_RELAXED));
	/* To the same deadline, not the same time once more. */
	EXPECT_LE(400 * NSEC_PER_MSEC, took);
	EXPECT_GT((400 + LATE_MS) * NSEC_PER_MSEC, took);
}

/* Without a limit a fatal signal still ends it. */
TEST_F(timelines, killed)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		accel_timeline_wait(self->fd, self->timeline, 1, FOREVER, NULL,
				    NULL);
		_exit(1);
	}
	accel_sleep_ms(100);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	/* The file is the parent's too, and works. */
	EXPECT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 0, 0, NULL,
					 NULL));
}

TEST_F(timelines, poll)
{
	uint64_t point, value;
	uint32_t other;

	EXPECT_EQ(0, polled(self->fd, POLLIN, 0));
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	EXPECT_EQ(POLLIN, polled(self->fd, POLLIN, 5000));
	/* Until somebody was told. */
	EXPECT_EQ(POLLIN, polled(self->fd, POLLIN, 0));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 1,
					 in_ms(5000), &value, NULL));
	EXPECT_EQ(1, value);
	EXPECT_EQ(0, polled(self->fd, POLLIN, 0));
	/* Any of the file's timelines. */
	ASSERT_EQ(0, accel_timeline_create(self->fd, &other));
	EXPECT_EQ(0, polled(self->fd, POLLIN, 0));
	ASSERT_EQ(0, accel_submit(self->fd, other, &point));
	EXPECT_EQ(POLLIN, polled(self->fd, POLLIN, 5000));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 1, 0, &value,
					 NULL));
	EXPECT_EQ(POLLIN, polled(self->fd, POLLIN, 0));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, other, 0, 0, &value, NULL));
	EXPECT_EQ(1, value);
	EXPECT_EQ(0, polled(self->fd, POLLIN, 0));
	/* A timeline that is gone has nothing to tell. */
	ASSERT_EQ(0, accel_submit(self->fd, other, &point));
	EXPECT_EQ(POLLIN, polled(self->fd, POLLIN, 5000));
	ASSERT_EQ(0, accel_timeline_destroy(self->fd, other));
	EXPECT_EQ(0, polled(self->fd, POLLIN, 0));
}

struct poller {
	int fd;
	short revents;
};

static void *poll_thread(void *data)
{
	struct poller *poller = data;

	poller->revents = polled(poller->fd, POLLIN, 8000);
	return NULL;
}

TEST_F(timelines, poll_wakes)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct poller poller = { .fd = self->fd };
	uint64_t point;
	pthread_t thread;
	int epoll;

	epoll = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, epoll);
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, self->fd, &event));
	EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, poll_thread, &poller));
	accel_sleep_ms(50);
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	pthread_join(thread, NULL);
	EXPECT_EQ(POLLIN, poller.revents);
	EXPECT_EQ(1, epoll_wait(epoll, &event, 1, 5000));
	EXPECT_EQ(EPOLLIN, event.events);
	close(epoll);
}

TEST_F(timelines, eventfd)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int second = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	uint64_t point;

	ASSERT_LE(0, event);
	/* Reached: at once, and once. */
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 0, event));
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	/* Not reached: when it is. */
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, event));
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, event));
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 2, second));
	EXPECT_EQ(0, accel_eventfd_count(event));
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	EXPECT_EQ(POLLIN, polled(event, POLLIN, 5000));
	ASSERT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 1,
					 in_ms(5000), NULL, NULL));
	EXPECT_EQ(2, accel_eventfd_wait(event, 2));
	EXPECT_EQ(0, accel_eventfd_count(second));
	/* Then it is forgotten. */
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	EXPECT_EQ(POLLIN, polled(second, POLLIN, 5000));
	EXPECT_EQ(1, accel_eventfd_wait(second, 1));
	EXPECT_EQ(0, accel_eventfd_count(event));
	close(event);
	close(second);
}

TEST_F(timelines, eventfd_errors)
{
	struct accel_timeline_eventfd arg = {
		.handle = self->timeline,
		.point = 1,
	};
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, null);
	EXPECT_EQ(-EBADF,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, -1));
	EXPECT_EQ(-EBADF,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, 1000));
	EXPECT_EQ(-EINVAL,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, null));
	EXPECT_EQ(-EINVAL, accel_timeline_eventfd(self->fd, self->timeline, 1,
						  self->fd));
	EXPECT_EQ(-ENOENT, accel_timeline_eventfd(self->fd, 0, 1, event));
	EXPECT_EQ(-ENOENT, accel_timeline_eventfd(self->fd, ~0U, 1, event));
	arg.eventfd = event;
	arg.reserved = 1;
	EXPECT_EQ(-EINVAL,
		  accel_ioctl(self->fd, ACCEL_IOCTL_TIMELINE_EVENTFD, &arg));
	/* None of these left it bound. */
	close(self->fd);
	EXPECT_EQ(0, accel_eventfd_count(event));
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	close(null);
	close(event);
}

/* The limit, and what the file's end does to all that are there. */
TEST_F(timelines, eventfd_limit)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	uint32_t other;

	ASSERT_LE(0, event);
	for (int i = 0; i < ACCEL_EVENTFDS_MAX; i++) {
		ASSERT_EQ(0, accel_timeline_eventfd(self->fd, self->timeline,
						    ~0ULL, event));
	}
	EXPECT_EQ(-ENOSPC, accel_timeline_eventfd(self->fd, self->timeline,
						  ~0ULL, event));
	/* What is reached takes no room. */
	EXPECT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 0, event));
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	/* The limit is the file's: another timeline of it has no room either. */
	ASSERT_EQ(0, accel_timeline_create(self->fd, &other));
	EXPECT_EQ(-ENOSPC, accel_timeline_eventfd(self->fd, other, 1, event));
	/* A timeline that goes gives its room back. */
	EXPECT_EQ(0, accel_timeline_destroy(self->fd, self->timeline));
	EXPECT_EQ(ACCEL_EVENTFDS_MAX,
		  accel_eventfd_wait(event, ACCEL_EVENTFDS_MAX));
	EXPECT_EQ(0, accel_timeline_eventfd(self->fd, other, 1, event));
	EXPECT_EQ(0, accel_eventfd_count(event));
	close(self->fd);
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	close(event);
}

/* An eventfd whose counter is full must not hold anything up. */
TEST_F(timelines, eventfd_full)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	uint64_t most = ~0ULL - 1, point;

	ASSERT_EQ(8, write(event, &most, 8));
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, event));
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, event));
	ASSERT_EQ(0, accel_submit(self->fd, self->timeline, &point));
	EXPECT_EQ(0, accel_timeline_wait(self->fd, self->timeline, 1,
					 in_ms(5000), NULL, NULL));
	EXPECT_LE(most, accel_eventfd_count(event));
	close(event);
}

/* Without handle and job nothing will come: said at once, and once. */
TEST_F(timelines, eventfd_of_destroyed)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, event));
	EXPECT_EQ(0, accel_eventfd_count(event));
	ASSERT_EQ(0, accel_timeline_destroy(self->fd, self->timeline));
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	close(self->fd);
	EXPECT_EQ(0, accel_eventfd_count(event));
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	close(event);
}

/* A job keeps the timeline, and the eventfd, when the handle has gone. */
TEST_F(timelines, eventfd_outlives_handle)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct accel_edu_copy copy = {
		.dst_offset = 4096,
		.size = 4096,
		.timeline = self->timeline,
	};
	bool edu = accel_target()->kind == ACCEL_EDU;

	ASSERT_EQ(0, accel_buffer_create(self->fd, 8192, &copy.src));
	copy.dst = copy.src;
	/* Either takes a while: 200 ms, or until the file is closed. */
	ASSERT_EQ(0, edu ? accel_ioctl(self->fd, ACCEL_EDU_IOCTL_COPY, &copy) :
			   accel_submit_held(self->fd, self->timeline));
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, event));
	ASSERT_EQ(0, accel_timeline_destroy(self->fd, self->timeline));
	EXPECT_EQ(0, accel_eventfd_count(event));
	if (!edu)
		close(self->fd);
	EXPECT_EQ(POLLIN, polled(event, POLLIN, 5000));
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	if (!edu)
		self->fd = accel_open(O_RDWR | O_CLOEXEC);
	close(event);
}

/* The file ends with its last reference, wherever that is. */
TEST_F(timelines, close_is_the_last_one)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int copy = dup(self->fd), go[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0,
		  accel_timeline_eventfd(self->fd, self->timeline, 1, event));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &c, 1) == 1 ? 0 : 1);
	}
	close(self->fd);
	EXPECT_EQ(0, accel_eventfd_count(event));
	EXPECT_EQ(0,
		  accel_timeline_wait(copy, self->timeline, 0, 0, NULL, NULL));
	close(copy);
	EXPECT_EQ(0, accel_eventfd_count(event));
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(POLLIN, polled(event, POLLIN, 5000));
	EXPECT_EQ(1, accel_eventfd_wait(event, 1));
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	close(event);
}

/* n and n + 1; a failure at the limit's edge takes nothing away. */
TEST_F_TIMEOUT(timelines, limit, 60)
{
	struct accel_timeline_create *ro;
	struct accel_info_state state;
	uint32_t last = 0, handle;

	/* One is there already. */
	for (int i = 1; i < ACCEL_HANDLES_MAX - 1; i++) {
		ASSERT_EQ(0, accel_timeline_create(self->fd, &last))
		TH_LOG("%d", i);
	}
	ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(ro != MAP_FAILED);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-EFAULT,
			  accel_ioctl(self->fd, ACCEL_IOCTL_TIMELINE_CREATE,
				      ro));
	}
	EXPECT_EQ(0, accel_timeline_create(self->fd, &last));
	EXPECT_EQ(-ENOSPC, accel_timeline_create(self->fd, &handle));
	EXPECT_EQ(-ENOSPC, accel_timeline_create(self->fd, &handle));
	/* Buffers have a limit of their own. */
	EXPECT_EQ(0, accel_buffer_create(self->fd, 4096, &handle));
	EXPECT_EQ(0, accel_timeline_destroy(self->fd, last));
	EXPECT_EQ(0, accel_timeline_create(self->fd, &last));
	EXPECT_EQ(-ENOSPC, accel_timeline_create(self->fd, &handle));
	EXPECT_EQ(0, accel_timeline_wait(self->fd, last, 0, 0, NULL, NULL));
	EXPECT_EQ(0, accel_info(self->fd, ACCEL_INFO_STATE, 0, &state,
				sizeof(state)));
}

TEST_HARNESS_MAIN
