// SPDX-License-Identifier: GPL-2.0
/*
 * Limits that root sets: who may, to what, and every limit of a user and of a
 * device at n and n + 1.
 */

#include "events.h"
#include "users.h"
#include "kselftest_harness.h"

FIXTURE(limits_set)
{
	struct stat nodes[2];
	int fd;
};

FIXTURE_SETUP(limits_set)
{
	const struct accel_target *target = accel_target();

	ASSERT_TRUE(target != NULL);
	ASSERT_EQ(0, stat(target->compute, &self->nodes[0]));
	ASSERT_EQ(0, stat(target->control, &self->nodes[1]));
	allow(NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(limits_set)
{
	close(self->fd);
	allow(self->nodes);
}

static const char *const limit_names[LIMITS] = {
	"files",     "contexts", "buffers", "mappings",
	"timelines", "jobs",	 "events",
};

static const char *const scopes[] = { "user", "device" };

static int set_limit(const char *scope, uint32_t limit, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/limits/%s_%s",
		 accel_class(), accel_target()->number, scope,
		 limit_names[limit]);
	return accel_write_line(path, value);
}

static int get_limit(const char *scope, uint32_t limit, char *value,
		     size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/limits/%s_%s",
		 accel_class(), accel_target()->number, scope,
		 limit_names[limit]);
	return accel_read_line(path, value, size);
}

static int set_limit_to(const char *scope, uint32_t limit, uint32_t value)
{
	char line[16];

	snprintf(line, sizeof(line), "%u", value);
	return set_limit(scope, limit, line);
}

/* Who sets limits, and to what. */
TEST_F(limits_set, attributes)
{
	static const char *const nonsense[] = {
		"",   "\n",	    "-1",	   "+1",  " 1",
		"1 ", "1\n\n",	    "0x10",	   "1k",  "max2",
		"ma", "4294967296", "99999999999", "1,2",
	};
	char value[32], again[32];

	for (uint32_t i = 0; i < LIMITS; i++) {
		struct accel_info_limit told = limit_of(self->fd, i);

		ASSERT_EQ(0, get_limit("file", i, value, sizeof(value)));
		EXPECT_EQ(told.file_max, strtoul(value, NULL, 10));
		EXPECT_NE(0, set_limit("file", i, "5"));
		ASSERT_EQ(0, get_limit("user", i, value, sizeof(value)));
		EXPECT_EQ(told.user_max, strtoul(value, NULL, 10));
		ASSERT_EQ(0, get_limit("device", i, value, sizeof(value)));
		EXPECT_EQ(told.device_max, strtoul(value, NULL, 10));
		for (int n = 0; n < 2; n++) {
			ASSERT_EQ(0, get_limit(scopes[n], i, value,
					       sizeof(value)));
			for (size_t k = 0; k < ARRAY_SIZE(nonsense); k++) {
				if (!*nonsense[k])
					continue;
				EXPECT_EQ(-EINVAL,
					  set_limit(scopes[n], i, nonsense[k]))
				TH_LOG("'%s'", nonsense[k]);
			}
			ASSERT_EQ(0, set_limit(scopes[n], i, "0017\n"));
			ASSERT_EQ(0, get_limit(scopes[n], i, again,
					       sizeof(again)));
			EXPECT_STREQ("17", again);
			EXPECT_EQ(17, n ? limit_of(self->fd, i).device_max :
					  limit_of(self->fd, i).user_max);
			/* Contexts may be limited by the hardware. */
			if (i != ACCEL_LIMIT_CONTEXTS || !n) {
				ASSERT_EQ(0, set_limit(scopes[n], i, "max"));
				ASSERT_EQ(0, get_limit(scopes[n], i, again,
						       sizeof(again)));
				EXPECT_STREQ("max", again);
				EXPECT_EQ(~0U,
					  n ? limit_of(self->fd, i).device_max :
					      limit_of(self->fd, i).user_max);
			}
			ASSERT_EQ(0, set_limit(scopes[n], i, value));
		}
	}
	/* Nobody but root. */
	ASSERT_EQ(0, seteuid(ALICE));
	EXPECT_EQ(-EACCES, set_limit("user", ACCEL_LIMIT_FILES, "5"));
	EXPECT_EQ(0,
		  get_limit("user", ACCEL_LIMIT_FILES, value, sizeof(value)));
	ASSERT_EQ(0, seteuid(0));
}

/* Makes one more of a thing for a file; what it takes back is its own. */
struct made {
	int fd;
	uint32_t buffer;
	uint32_t timeline;
	uint64_t offset;
};

static int make_one(struct made *on, uid_t user, uint32_t limit, uint64_t *one)
{
	struct accel_mock_later later = {
		.timeline = on->timeline,
		.milliseconds = ACCEL_MOCK_LATER_MS_MAX,
	};
	uint32_t handle;
	void *map;
	int ret;

	switch (limit) {
	case ACCEL_LIMIT_FILES:
	case ACCEL_LIMIT_CONTEXTS:
		/* Control files are the user's only. */
		ret = open_as(user, false);
		*one = ret;
		return ret < 0 ? ret : 0;
	case ACCEL_LIMIT_BUFFERS:
		ret = accel_buffer_create(on->fd, PAGE, &handle);
		*one = handle;
		return ret;
	case ACCEL_LIMIT_MAPPINGS:
		map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, on->fd,
			   on->offset);
		*one = (uintptr_t)map;
		return map == MAP_FAILED ? -errno : 0;
	case ACCEL_LIMIT_TIMELINES:
		ret = accel_timeline_create(on->fd, &handle);
		*one = handle;
		return ret;
	case ACCEL_LIMIT_JOBS:
		if (accel_target()->kind == ACCEL_NPU)
			return accel_submit_held(on->fd, on->timeline);
		return accel_ioctl(on->fd, ACCEL_MOCK_IOCTL_LATER, &later);
	}
	return -EINVAL;
}

static int undo_one(struct made *on, uint32_t limit, uint64_t one)
{
	switch (limit) {
	case ACCEL_LIMIT_FILES:
	case ACCEL_LIMIT_CONTEXTS:
		return close(one);
	case ACCEL_LIMIT_BUFFERS:
		return accel_buffer_destroy(on->fd, one);
	case ACCEL_LIMIT_MAPPINGS:
		return munmap((void *)(uintptr_t)one, PAGE);
	case ACCEL_LIMIT_TIMELINES:
		return accel_timeline_destroy(on->fd, one);
	}
	return -EINVAL;
}

static int prepare(struct made *on, uid_t user)
{
	int ret;

	on->fd = open_as(user, false);
	if (on->fd < 0)
		return on->fd;
	ret = accel_buffer_create(on->fd, PAGE, &on->buffer);
	if (!ret)
		ret = accel_buffer_mmap(on->fd, on->buffer, &on->offset, NULL);
	if (!ret)
		ret = accel_timeline_create(on->fd, &on->timeline);
	return ret;
}

/* Every limit of a user and of the device, at n and n + 1. */
TEST_F_TIMEOUT(limits_set, user_and_device, 60)
{
	enum { MORE = 9 };
	/* Its jobs are at an end at once. */
	bool edu = accel_target()->kind == ACCEL_EDU;

	for (int n = 0; n < 2; n++) {
		for (uint32_t i = 0; i <= ACCEL_LIMIT_JOBS; i++) {
			struct made alice, bob;
			uint64_t ones[MORE], one;
			struct accel_info_limit limit;
			char before[32];
			uint32_t used;
			int expected;

			if (i == ACCEL_LIMIT_JOBS && edu)
				continue;
			expected = i == ACCEL_LIMIT_JOBS     ? -EAGAIN :
				   !n			     ? -EDQUOT :
				   i == ACCEL_LIMIT_CONTEXTS ? -EBUSY :
							       -ENOSPC;
			ASSERT_EQ(0, prepare(&alice, ALICE));
			ASSERT_EQ(0, prepare(&bob, BOB));
			limit = limit_of(alice.fd, i);
			used = n ? limit.device_used : limit.user_used;
			ASSERT_EQ(0, get_limit(scopes[n], i, before,
					       sizeof(before)));
			ASSERT_EQ(0, set_limit_to(scopes[n], i, used + MORE));
			for (int k = 0; k < MORE; k++) {
				ASSERT_EQ(0,
					  make_one(&alice, ALICE, i, &ones[k]))
				TH_LOG("%s %s %d", scopes[n], limit_names[i],
				       k);
			}
			for (int k = 0; k < 3; k++) {
				EXPECT_EQ(expected,
					  make_one(&alice, ALICE, i, &one))
				TH_LOG("%s %s", scopes[n], limit_names[i]);
			}
			limit = limit_of(alice.fd, i);
			EXPECT_EQ(used + MORE,
				  n ? limit.device_used : limit.user_used);
			EXPECT_EQ(used + MORE,
				  n ? limit.device_max : limit.user_max);
			/* Others are refused by the device only. */
			if (n) {
				EXPECT_EQ(expected,
					  make_one(&bob, BOB, i, &one));
			} else if (i != ACCEL_LIMIT_JOBS) {
				ASSERT_EQ(0, make_one(&bob, BOB, i, &one));
				ASSERT_EQ(0, undo_one(&bob, i, one));
			}
			if (i != ACCEL_LIMIT_JOBS) {
				ASSERT_EQ(0, undo_one(&alice, i, ones[4]));
				ASSERT_EQ(0,
					  make_one(&alice, ALICE, i, &ones[4]));
				EXPECT_EQ(expected,
					  make_one(&alice, ALICE, i, &one));
			}
			/* Less than there is: nothing goes, nothing comes. */
			ASSERT_EQ(0, set_limit_to(scopes[n], i, 1));
			EXPECT_EQ(expected, make_one(&alice, ALICE, i, &one));
			limit = limit_of(alice.fd, i);
			EXPECT_EQ(used + MORE,
				  n ? limit.device_used : limit.user_used);
			ASSERT_EQ(0, set_limit(scopes[n], i, before));
			for (int k = 0; k < MORE && i != ACCEL_LIMIT_JOBS; k++)
				EXPECT_EQ(0, undo_one(&alice, i, ones[k]));
			close(alice.fd);
			close(bob.fd);
			limit = limit_of(self->fd, i);
			EXPECT_EQ(limit.file_used, limit.device_used)
			TH_LOG("%s %s", scopes[n], limit_names[i]);
		}
	}
}

/* Every event that is there to be read: what its types were, oldest first. */
static int read_types(int fd, uint32_t *types, int most)
{
	union event event;
	int count = 0, ret;

	while ((ret = next(fd, &event)) > 0) {
		if (count == most)
			return -E2BIG;
		types[count++] = event.header.type;
	}
	return ret == -EAGAIN ? count : ret;
}

/*
 * Unread events of a user, on both nodes, and of the device, at n and n + 1: of
 * one more the oldest of the same file is lost, or itself if that has no other.
 */
TEST_F(limits_set, events)
{
	enum { MORE = 5 };

	for (int n = 0; n < 3; n++) {
		const char *scope = scopes[n & 1];
		int full = open_as(ALICE, n & 2), empty = open_as(ALICE, n & 2);
		int other = open_as(BOB, n & 2);
		uint32_t types[2 * MORE];
		struct accel_info_limit limit;
		char before[32];

		ASSERT_LE(0, full);
		ASSERT_LE(0, empty);
		ASSERT_LE(0, other);
		ASSERT_EQ(0, fcntl(full, F_SETFL, O_NONBLOCK));
		ASSERT_EQ(0, fcntl(empty, F_SETFL, O_NONBLOCK));
		ASSERT_EQ(0, fcntl(other, F_SETFL, O_NONBLOCK));
		ASSERT_EQ(0, get_limit(scope, ACCEL_LIMIT_EVENTS, before,
				       sizeof(before)));
		ASSERT_EQ(0, set_limit_to(scope, ACCEL_LIMIT_EVENTS, MORE));
		for (int i = 0; i < MORE; i++)
			ASSERT_EQ(0, more(full));
		limit = limit_of(full, ACCEL_LIMIT_EVENTS);
		EXPECT_EQ(MORE, limit.file_used);
		EXPECT_EQ(MORE, limit.user_used);
		EXPECT_EQ(MORE, limit.device_used);
		EXPECT_EQ(MORE, n & 1 ? limit.device_max : limit.user_max);

		/* One more, of one that has some and of one that has none. */
		ASSERT_EQ(0, more(full));
		ASSERT_EQ(0, more(empty));
		EXPECT_EQ(MORE, limit_of(full, ACCEL_LIMIT_EVENTS).file_used);
		EXPECT_EQ(0, limit_of(empty, ACCEL_LIMIT_EVENTS).file_used);
		EXPECT_EQ(MORE, limit_of(full, ACCEL_LIMIT_EVENTS).user_used);
		ASSERT_EQ(1, read_types(empty, types, ARRAY_SIZE(types)));
		EXPECT_EQ(ACCEL_EVENT_LOST, types[0]);
		/* Somebody else, whom only the device refuses. */
		ASSERT_EQ(0, more(other));
		ASSERT_EQ(1, read_types(other, types, ARRAY_SIZE(types)));
		EXPECT_EQ(n & 1 ? ACCEL_EVENT_LOST : ACCEL_EVENT_STATE,
			  types[0]);

		/* All but the oldest; and what was read makes room at once. */
		ASSERT_EQ(MORE + 1, read_types(full, types, ARRAY_SIZE(types)));
		EXPECT_EQ(ACCEL_EVENT_LOST, types[0]);
		for (int i = 1; i <= MORE; i++)
			EXPECT_EQ(ACCEL_EVENT_STATE, types[i]);
		EXPECT_EQ(0, limit_of(full, ACCEL_LIMIT_EVENTS).device_used);
		for (int i = 0; i < MORE; i++)
			ASSERT_EQ(0, more(empty));
		ASSERT_EQ(MORE, read_types(empty, types, ARRAY_SIZE(types)));
		EXPECT_EQ(ACCEL_EVENT_STATE, types[0]);

		/* Less than there are: none goes, and the newest are kept. */
		for (int i = 0; i < MORE; i++)
			ASSERT_EQ(0, more(full));
		ASSERT_EQ(0, set_limit_to(scope, ACCEL_LIMIT_EVENTS, 1));
		EXPECT_EQ(MORE, limit_of(full, ACCEL_LIMIT_EVENTS).file_used);
		ASSERT_EQ(0, more(full));
		EXPECT_EQ(MORE, limit_of(full, ACCEL_LIMIT_EVENTS).file_used);
		ASSERT_EQ(MORE + 1, read_types(full, types, ARRAY_SIZE(types)));
		EXPECT_EQ(ACCEL_EVENT_LOST, types[0]);
		/* None at all. */
		ASSERT_EQ(0, set_limit_to(scope, ACCEL_LIMIT_EVENTS, 0));
		ASSERT_EQ(0, more(full));
		ASSERT_EQ(1, read_types(full, types, ARRAY_SIZE(types)));
		EXPECT_EQ(ACCEL_EVENT_LOST, types[0]);

		ASSERT_EQ(0, set_limit(scope, ACCEL_LIMIT_EVENTS, before));
		close(full);
		close(empty);
		close(other);
	}
	EXPECT_EQ(0, limit_of(self->fd, ACCEL_LIMIT_EVENTS).device_used);
}

/* Root does not make the device take more than it can. */
TEST_F(limits_set, hardware_contexts)
{
	struct accel_info_identity id;
	char before[32];

	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_IDENTITY, 0, &id,
				sizeof(id)));
	ASSERT_EQ(0, get_limit("device", ACCEL_LIMIT_CONTEXTS, before,
			       sizeof(before)));
	if (id.max_contexts) {
		EXPECT_EQ(id.max_contexts, strtoul(before, NULL, 10));
		EXPECT_EQ(-EINVAL,
			  set_limit("device", ACCEL_LIMIT_CONTEXTS, "max"));
		EXPECT_EQ(-EINVAL, set_limit_to("device", ACCEL_LIMIT_CONTEXTS,
						id.max_contexts + 1));
		EXPECT_EQ(0, set_limit_to("device", ACCEL_LIMIT_CONTEXTS,
					  id.max_contexts));
	} else {
		EXPECT_EQ(0, set_limit("device", ACCEL_LIMIT_CONTEXTS, "max"));
		EXPECT_EQ(0, set_limit("device", ACCEL_LIMIT_CONTEXTS, before));
	}
}

/* A user leaves some of what a device takes; and is told that it is his limit. */
TEST_F_TIMEOUT(limits_set, one_user_leaves_some, 60)
{
	enum { CONTEXTS = 64 };
	struct accel_info_identity id;
	int fds[CONTEXTS], bobs, count = 0;

	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_IDENTITY, 0, &id,
				sizeof(id)));
	if (!id.max_contexts || id.max_contexts > CONTEXTS)
		return;
	while (count < CONTEXTS) {
		fds[count] = open_as(ALICE, false);
		if (fds[count] < 0)
			break;
		count++;
	}
	ASSERT_GT(CONTEXTS, count);
	EXPECT_EQ(-EDQUOT, fds[count]);
	EXPECT_EQ(id.max_contexts - (id.max_contexts + 3) / 4, (uint32_t)count);
	bobs = open_as(BOB, false);
	EXPECT_LE(0, bobs);
	close(bobs);
	while (count--)
		close(fds[count]);
}

/* Those who compute do not keep anybody from the control node. */
TEST_F(limits_set, control_is_always_there)
{
	char before[32];
	int fd;

	ASSERT_EQ(0, get_limit("device", ACCEL_LIMIT_FILES, before,
			       sizeof(before)));
	ASSERT_EQ(0, set_limit_to("device", ACCEL_LIMIT_FILES, 1));
	EXPECT_EQ(-ENOSPC, open_as(BOB, false));
	fd = open_as(BOB, true);
	EXPECT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, set_limit("device", ACCEL_LIMIT_FILES, before));
	/* The user's own limit holds. */
	ASSERT_EQ(0,
		  get_limit("user", ACCEL_LIMIT_FILES, before, sizeof(before)));
	ASSERT_EQ(0, set_limit_to("user", ACCEL_LIMIT_FILES, 0));
	EXPECT_EQ(-EDQUOT, open_as(BOB, true));
	ASSERT_EQ(0, set_limit("user", ACCEL_LIMIT_FILES, before));
}

struct race {
	pthread_barrier_t start;
	int fds[8];
	int next;
};

static void *race_thread(void *data)
{
	struct race *race = data;
	int i = __atomic_fetch_add(&race->next, 1, __ATOMIC_RELAXED);

	pthread_barrier_wait(&race->start);
	race->fds[i] = accel_open(O_RDWR | O_CLOEXEC);
	return NULL;
}

/* Of many who want the last places as many get one as there are, always. */
TEST_F_TIMEOUT(limits_set, raced, 60)
{
	enum { THREADS = 8, PLACES = 3 };
	char before[32];

	for (int n = 0; n < 2; n++) {
		ASSERT_EQ(0, get_limit(scopes[n], ACCEL_LIMIT_CONTEXTS, before,
				       sizeof(before)));
		/* One is the fixture's. */
		ASSERT_EQ(0, set_limit_to(scopes[n], ACCEL_LIMIT_CONTEXTS,
					  1 + PLACES));
		for (int round = 0; round < 30; round++) {
			pthread_t threads[THREADS];
			struct race race = {};
			int got = 0;

			pthread_barrier_init(&race.start, NULL, THREADS);
			for (int i = 0; i < THREADS; i++)
				ASSERT_EQ(0,
					  pthread_create(&threads[i], NULL,
							 race_thread, &race));
			for (int i = 0; i < THREADS; i++)
				pthread_join(threads[i], NULL);
			for (int i = 0; i < THREADS; i++) {
				if (race.fds[i] >= 0) {
					got++;
					close(race.fds[i]);
				} else {
					EXPECT_EQ(n ? -EBUSY : -EDQUOT,
						  race.fds[i]);
				}
			}
			EXPECT_EQ(PLACES, got);
			pthread_barrier_destroy(&race.start);
		}
		ASSERT_EQ(0,
			  set_limit(scopes[n], ACCEL_LIMIT_CONTEXTS, before));
	}
}

TEST_HARNESS_MAIN
