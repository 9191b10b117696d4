// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes that a driver declares, and what the core says of resets: values
 * of every type, nonsense, what readers and writers find while the hardware is
 * not to be asked, and uevents. The mock has no hardware, so that all of it is
 * what the core does.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <linux/netlink.h>
#include <sys/mount.h>
#include <sys/socket.h>

/* Longest that anything takes that is not to wait, on a slow machine too. */
#define SOON_MS 5000
/* A reset that is not over before the test has looked. */
#define LONG_MS 2000

static void path_of(char path[256], const char *name)
{
	snprintf(path, 256, "/sys/class/%s/accel%u/%s", accel_class(),
		 accel_target()->number, name);
}

/* read(2) of an attribute: 0 and its value without the newline, or an errno. */
static int get(const char *name, char value[64])
{
	char path[256];
	ssize_t n;
	int fd;

	path_of(path, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, value, 63);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return n;
	value[n] = '\0';
	value[strcspn(value, "\n")] = '\0';
	return 0;
}

static int put(const char *name, const char *value)
{
	char path[256];

	path_of(path, name);
	return accel_write_line(path, value);
}

static int64_t number(const char *name)
{
	char value[64];
	int ret = get(name, value);

	return ret ? ret : strtoll(value, NULL, 10);
}

/* Whether an attribute has that value, soon. */
static bool comes_to(const char *name, const char *expected)
{
	int64_t until =
		accel_now() + SOON_MS * accel_patience() * NSEC_PER_MSEC;
	char value[64];

	do {
		if (!get(name, value) && !strcmp(value, expected))
			return true;
		accel_sleep_ms(2);
	} while (accel_now() < until);
	return false;
}

static int ask(int fd, uint32_t what, uint32_t flags, uint32_t ms)
{
	struct accel_mock_reset arg = {
		.ask = what,
		.flags = flags,
		.milliseconds = ms,
	};

	return accel_ioctl(fd, ACCEL_MOCK_IOCTL_RESET, &arg);
}

FIXTURE(attributes)
{
	int fd;
	int control;
};

/* Each case has a device that was just made. */
FIXTURE_SETUP(attributes)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(ACCEL_MOCK, accel_target()->kind);
	accel_remove();
	ASSERT_EQ(0, accel_restore());
	/* EBUSY where it is mounted already. */
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->control);
}

FIXTURE_TEARDOWN(attributes)
{
	close(self->fd);
	close(self->control);
	accel_remove();
	EXPECT_EQ(0, accel_restore());
}

TEST_F(attributes, values)
{
	static const struct {
		const char *name, *first, *written, *then;
	} cases[] = {
		{ "temp_millicelsius", "25000", "-40000", "-40000" },
		{ "temp_millicelsius", "-40000", "125000\n", "125000" },
		{ "temp_millicelsius", "125000", "-0x10", "-16" },
		{ "power_limit_milliwatts", "15000", "1000\n", "1000" },
		{ "power_limit_milliwatts", "1000", "0x124f8", "75000" },
		{ "turbo", "0", "1", "1" },
		{ "turbo", "1", "0\n", "0" },
		{ "governor", "balanced", "fast\n", "fast" },
		{ "governor", "fast", "slow", "slow" },
	};
	char name[64], value[64], count[16];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(name, sizeof(name), "attributes/%s", cases[i].name);
		ASSERT_EQ(0, get(name, value));
		EXPECT_STREQ(cases[i].first, value);
		EXPECT_EQ(0, put(name, cases[i].written));
		EXPECT_TRUE(comes_to(name, cases[i].then))
		TH_LOG("%s = %s", name, cases[i].then);
		snprintf(count, sizeof(count), "%zu", i + 1);
		EXPECT_TRUE(comes_to("attributes/stores_count", count));
	}
	/* The greatest number that there is. */
	ASSERT_EQ(0, get("attributes/serial_number", value));
	EXPECT_STREQ("18446744073709551615", value);
}

TEST_F(attributes, nonsense)
{
	static const struct {
		const char *name, *text;
		int expected;
	} cases[] = {
		{ "temp_millicelsius", "\n", -EINVAL },
		{ "temp_millicelsius", " 1", -EINVAL },
		{ "temp_millicelsius", "1 ", -EINVAL },
		{ "temp_millicelsius", "1\n\n", -EINVAL },
		{ "temp_millicelsius", "1\n2", -EINVAL },
		{ "temp_millicelsius", "+1", -EINVAL },
		{ "temp_millicelsius", "--1", -EINVAL },
		{ "temp_millicelsius", "-", -EINVAL },
		{ "temp_millicelsius", "0x", -EINVAL },
		{ "temp_millicelsius", "0x-1", -EINVAL },
		{ "temp_millicelsius", "0x+1", -EINVAL },
		{ "temp_millicelsius", "1.5", -EINVAL },
		{ "temp_millicelsius", "1e3", -EINVAL },
		{ "temp_millicelsius", "1_000", -EINVAL },
		{ "temp_millicelsius", "warm", -EINVAL },
		{ "temp_millicelsius", "9223372036854775808", -EINVAL },
		{ "temp_millicelsius", "-40001", -ERANGE },
		{ "temp_millicelsius", "125001\n", -ERANGE },
		{ "power_limit_milliwatts", "-1", -EINVAL },
		{ "power_limit_milliwatts", "999", -ERANGE },
		{ "power_limit_milliwatts", "75001", -ERANGE },
		{ "power_limit_milliwatts", "18446744073709551615", -ERANGE },
		{ "power_limit_milliwatts", "18446744073709551616", -EINVAL },
		{ "turbo", "2", -EINVAL },
		{ "turbo", "yes", -EINVAL },
		{ "turbo", "01", -EINVAL },
		{ "governor", "", 0 },
		{ "governor", "faster", -EINVAL },
		{ "governor", "fas", -EINVAL },
		{ "governor", "Fast", -EINVAL },
		{ "governor", "fast slow", -EINVAL },
		{ "governor", "2", -EINVAL },
	};
	char name[64], text[4097];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(name, sizeof(name), "attributes/%s", cases[i].name);
		EXPECT_EQ(cases[i].expected, put(name, cases[i].text))
		TH_LOG("%s < '%s'", name, cases[i].text);
	}
	memset(text, '1', 4096);
	text[4096] = '\0';
	EXPECT_EQ(-EINVAL, put("attributes/temp_millicelsius", text));
	EXPECT_EQ(0, number("attributes/stores_count"));
	EXPECT_EQ(25000, number("attributes/temp_millicelsius"));
}

/* In a process of nobody: what open(2) answers. */
static int nobody_opens(const char *name, int flags)
{
	char path[256];
	int status;
	pid_t pid;

	path_of(path, name);
	pid = fork();
	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(255);
		_exit(open(path, flags) < 0 ? errno : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return WEXITSTATUS(status);
}

TEST_F(attributes, modes)
{
	static const struct {
		const char *name;
		unsigned int mode;
	} cases[] = {
		{ "attributes/temp_millicelsius", 0644 },
		{ "attributes/power_limit_milliwatts", 0644 },
		{ "attributes/turbo", 0644 },
		{ "attributes/governor", 0644 },
		{ "attributes/serial_number", 0400 },
		{ "attributes/poke_count", 0200 },
		{ "attributes/poked_count", 0444 },
		{ "reset", 0200 },
	};
	char path[256], value[64];
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		path_of(path, cases[i].name);
		ASSERT_EQ(0, stat(path, &st)) TH_LOG("%s", path);
		EXPECT_EQ(cases[i].mode, st.st_mode & 07777)
		TH_LOG("%s", path);
		EXPECT_EQ(cases[i].mode & 04 ? 0 : EACCES,
			  nobody_opens(cases[i].name, O_RDONLY));
		EXPECT_EQ(EACCES, nobody_opens(cases[i].name, O_WRONLY));
		if (!(cases[i].mode & 0200))
			EXPECT_EQ(-EACCES, put(cases[i].name, "1"));
		if (!(cases[i].mode & 0400))
			EXPECT_EQ(-EACCES, get(cases[i].name, value));
	}
}

/* What the driver answers is what the reader gets; a writer does not wait. */
TEST_F(attributes, errors_of_the_driver)
{
	char value[64];

	EXPECT_EQ(-ENXIO, get("attributes/broken", value));
	EXPECT_EQ(0, put("attributes/broken", "1"));
	EXPECT_EQ(0, put("attributes/poke_count", "3"));
	EXPECT_EQ(0, put("attributes/stall_milliseconds", "1500"));
	EXPECT_EQ(0, number("attributes/stall_milliseconds"));
	EXPECT_TRUE(comes_to("attributes/stall_milliseconds", "1500"));
	EXPECT_EQ(3, number("attributes/poked_count"));
	/* The one that failed was not stored. */
	EXPECT_EQ(2, number("attributes/stores_count"));
}

/* Of what is written while the driver is busy, the last is what it gets. */
TEST_F(attributes, the_last_wins)
{
	EXPECT_EQ(0, put("attributes/stall_milliseconds", "1500"));
	for (int i = 1; i <= 100; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%d", 1000 + i);
		ASSERT_EQ(0, put("attributes/power_limit_milliwatts", text));
	}
	EXPECT_TRUE(comes_to("attributes/power_limit_milliwatts", "1100"));
	EXPECT_TRUE(comes_to("attributes/stall_milliseconds", "1500"));
	EXPECT_GE(101, number("attributes/stores_count"));
}

TEST_F(attributes, while_resetting)
{
	char value[64];

	EXPECT_EQ(25000, number("attributes/temp_millicelsius"));
	EXPECT_EQ(1, number("attributes/shows_count"));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, LONG_MS));
	ASSERT_TRUE(comes_to("state", "resetting"));
	ASSERT_EQ(0, get("state_cause", value));
	EXPECT_STREQ("driver", value);
	/* What was said last, or nothing. */
	EXPECT_EQ(25000, number("attributes/temp_millicelsius"));
	EXPECT_EQ(1, number("attributes/shows_count"));
	EXPECT_EQ(-ENODATA, number("attributes/power_limit_milliwatts"));
	/* It is taken, and stored later. */
	EXPECT_EQ(0, put("attributes/temp_millicelsius", "30000"));
	EXPECT_EQ(25000, number("attributes/temp_millicelsius"));
	EXPECT_EQ(-EINVAL, put("attributes/temp_millicelsius", "warm"));
	ASSERT_EQ(0, get("state", value));
	EXPECT_STREQ("resetting", value)
	TH_LOG("the reset was over too soon for this test");
	ASSERT_TRUE(comes_to("state", "operational"));
	EXPECT_TRUE(comes_to("attributes/temp_millicelsius", "30000"));
	EXPECT_EQ(15000, number("attributes/power_limit_milliwatts"));
}

TEST_F(attributes, while_broken)
{
	char value[64];

	EXPECT_EQ(25000, number("attributes/temp_millicelsius"));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_FAIL, 0, 0));
	ASSERT_TRUE(comes_to("state", "malfunction"));
	EXPECT_EQ(25000, number("attributes/temp_millicelsius"));
	EXPECT_EQ(-ENODATA, number("attributes/turbo"));
	EXPECT_EQ(-EIO, put("attributes/temp_millicelsius", "30000"));
	EXPECT_EQ(0, number("resets/total"));
	/* Root has it reset. */
	ASSERT_EQ(0, put("reset", "1\n"));
	ASSERT_TRUE(comes_to("state", "operational"));
	ASSERT_EQ(0, get("state_cause", value));
	EXPECT_STREQ("user", value);
	EXPECT_EQ(25000, number("attributes/temp_millicelsius"));
	EXPECT_EQ(0, number("attributes/turbo"));
}

TEST_F(attributes, reset)
{
	static const char *const nonsense[] = { "\n", "0",   "2",  "11",   "1 ",
						" 1", "yes", "-1", "1\n\n" };
	static const struct {
		const char *name;
		uint32_t cause;
	} causes[] = {
		{ "resets/user", ACCEL_CAUSE_USER },
		{ "resets/driver", ACCEL_CAUSE_DRIVER },
		{ "resets/deadline", ACCEL_CAUSE_DEADLINE },
		{ "resets/watchdog", ACCEL_CAUSE_WATCHDOG },
		{ "resets/bus", ACCEL_CAUSE_BUS },
		{ "resets/resume", ACCEL_CAUSE_RESUME },
	};
	struct accel_info_resets resets;
	struct accel_info_state state;
	int64_t total = 0;

	for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
		EXPECT_EQ(-EINVAL, put("reset", nonsense[i]))
		TH_LOG("reset < '%s'", nonsense[i]);
	}
	EXPECT_EQ(0, number("resets/total"));
	for (int i = 1; i <= 3; i++) {
		char count[8];

		snprintf(count, sizeof(count), "%d", i);
		ASSERT_EQ(0, put("reset", "1"));
		ASSERT_TRUE(comes_to("resets/user", count));
		ASSERT_TRUE(comes_to("state", "operational"));
	}
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_DEADLINE, 0, 0));
	ASSERT_TRUE(comes_to("resets/deadline", "1"));
	ASSERT_TRUE(comes_to("state", "operational"));
	EXPECT_EQ(0, number("resets/failed"));
	for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
		bool found = false;

		for (uint32_t index = 0;
		     !accel_info(self->control, ACCEL_INFO_RESETS, index,
				 &resets, sizeof(resets));
		     index++)
			if (resets.cause == causes[i].cause) {
				EXPECT_EQ(resets.count, number(causes[i].name))
				TH_LOG("%s", causes[i].name);
				total += resets.count;
				found = true;
			}
		EXPECT_TRUE(found) TH_LOG("%s", causes[i].name);
	}
	ASSERT_EQ(0, accel_info(self->control, ACCEL_INFO_STATE, 0, &state,
				sizeof(state)));
	EXPECT_EQ(state.resets, number("resets/total"));
	EXPECT_EQ(4, total);
	/* One that does not help. */
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_NOTHING,
			 ACCEL_MOCK_RESET_FAIL, 0));
	ASSERT_EQ(0, put("reset", "1"));
	ASSERT_TRUE(comes_to("state", "malfunction"));
	EXPECT_EQ(1, number("resets/failed"));
	EXPECT_EQ(5, number("resets/total"));
}

/* A variable of a uevent, or "". */
static const char *variable(const char *event, size_t size, const char *name)
{
	size_t length = strlen(name);

	for (const char *it = event; it < event + size; it += strlen(it) + 1)
		if (!strncmp(it, name, length) && it[length] == '=')
			return it + length + 1;
	return "";
}

/* The next change of the device that is told, as "from>to:cause". */
static int next_change(int fd, char change[128])
{
	int64_t until =
		accel_now() + SOON_MS * accel_patience() * NSEC_PER_MSEC;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char event[4096], name[64];
	ssize_t n;

	snprintf(name, sizeof(name), "accel/accel%u", accel_target()->number);
	while (accel_now() < until) {
		if (poll(&p, 1, 100) != 1)
			continue;
		n = recv(fd, event, sizeof(event) - 1, MSG_DONTWAIT);
		if (n <= 0)
			continue;
		event[n] = '\0';
		if (strncmp(event, "change@", 7) ||
		    strcmp(variable(event, n, "DEVNAME"), name))
			continue;
		snprintf(change, 128, "%.32s>%.32s:%.32s",
			 variable(event, n, "ACCEL_PREVIOUS"),
			 variable(event, n, "ACCEL_STATE"),
			 variable(event, n, "ACCEL_CAUSE"));
		return 0;
	}
	return -ETIMEDOUT;
}

TEST_F(attributes, uevents)
{
	static const char *const expected[] = {
		"operational>resetting:driver",
		"resetting>operational:driver",
		"operational>malfunction:driver",
		"malfunction>resetting:user",
		"resetting>operational:user",
	};
	struct sockaddr_nl address = { .nl_family = AF_NETLINK,
				       .nl_groups = 1 };
	char change[128];
	int fd;

	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC,
		    NETLINK_KOBJECT_UEVENT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, bind(fd, (struct sockaddr *)&address, sizeof(address)));
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, 0, 0));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		if (i == 2)
			ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_FAIL, 0, 0));
		if (i == 3)
			ASSERT_EQ(0, put("reset", "1"));
		ASSERT_EQ(0, next_change(fd, change)) TH_LOG("%s", expected[i]);
		EXPECT_STREQ(expected[i], change);
	}
	close(fd);
}

static int debug_text(const char *name, char *text, size_t size)
{
	char path[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/accel%u/%s",
		 accel_class(), accel_target()->number, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	text[n] = '\0';
	return 0;
}

/* The count of a kind of operation. */
static int64_t operations(const char *name)
{
	char text[8192], line[64];
	const char *found;

	if (debug_text("operations", text, sizeof(text)))
		return -EIO;
	snprintf(line, sizeof(line), "\n%s\t", name);
	found = strstr(text, line);
	return found ? strtoll(found + strlen(line), NULL, 10) : -ENOENT;
}

/* What debugfs tells of it: lost contexts, history, counts, the driver's. */
TEST_F(attributes, debugfs)
{
	struct accel_mock_submit submit = { .flags = ACCEL_MOCK_SUBMIT_HOLD };
	struct accel_mock_add add = {};
	char text[8192], line[64];
	int64_t adds;

	ASSERT_EQ(0, debug_text("history", text, sizeof(text)));
	EXPECT_STREQ("number\ttime_ns\tfrom\tto\tcause\n", text);
	adds = operations("add");
	ASSERT_LE(0, adds);
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_ADD, &add));
	EXPECT_EQ(adds + 5, operations("add"));
	EXPECT_EQ(1, operations("open"));

	ASSERT_EQ(0, debug_text("jobs", text, sizeof(text)));
	EXPECT_STREQ("context\tpoint\n", text);
	ASSERT_EQ(0, accel_timeline_create(self->fd, &submit.timeline));
	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_MOCK_IOCTL_SUBMIT, &submit));
	ASSERT_EQ(0, debug_text("jobs", text, sizeof(text)));
	snprintf(line, sizeof(line), "\t%llu\n",
		 (unsigned long long)submit.point);
	EXPECT_TRUE(strstr(text, line) != NULL);

	ASSERT_EQ(0, debug_text("contexts", text, sizeof(text)));
	EXPECT_TRUE(strstr(text, "\topen\n") != NULL);
	ASSERT_EQ(0, ask(self->fd, ACCEL_MOCK_ASK_RESET, ACCEL_MOCK_RESET_LOSE,
			 LONG_MS));
	ASSERT_TRUE(comes_to("state", "resetting"));
	/* The core goes on telling; the driver is not asked. */
	EXPECT_EQ(0, debug_text("clients", text, sizeof(text)));
	EXPECT_EQ(-EAGAIN, debug_text("jobs", text, sizeof(text)));
	ASSERT_TRUE(comes_to("state", "operational"));
	ASSERT_EQ(0, debug_text("contexts", text, sizeof(text)));
	EXPECT_TRUE(strstr(text, "\tlost\n") != NULL);
	ASSERT_EQ(0, debug_text("history", text, sizeof(text)));
	EXPECT_TRUE(strstr(text, "\toperational\tresetting\tdriver\n") != NULL);
	EXPECT_TRUE(strstr(text, "\tresetting\toperational\tdriver\n") != NULL);
	EXPECT_EQ(0, debug_text("jobs", text, sizeof(text)));
}

/* What was written and not stored yet goes with the device, soon. */
TEST_F_TIMEOUT(attributes, stores_and_removal, 3600)
{
	int cycles = accel_cycles(20);
	int64_t began, longest = 0;
	char path[256];
	int held;

	for (int i = 0; i < cycles; i++) {
		path_of(path, "attributes/power_limit_milliwatts");
		held = open(path, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, held);
		/* Every other time the driver is busy with one. */
		if (i % 2)
			ASSERT_EQ(0,
				  put("attributes/stall_milliseconds", "100"));
		for (int j = 0; j < 10; j++)
			ASSERT_EQ(4, write(held, "2000", 4));
		close(self->fd);
		close(self->control);
		began = accel_now();
		ASSERT_EQ(0, accel_remove());
		if (accel_now() - began > longest)
			longest = accel_now() - began;
		EXPECT_EQ(-1, write(held, "2000", 4));
		EXPECT_EQ(ENODEV, errno);
		close(held);
		ASSERT_EQ(0, accel_restore());
		EXPECT_EQ(15000, number("attributes/power_limit_milliwatts"));
		self->fd = accel_open(O_RDWR | O_CLOEXEC);
		self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
	}
	EXPECT_GT(SOON_MS * accel_patience() * NSEC_PER_MSEC, longest);
	TH_LOG("# stress: shape=attributes.mock/stores_and_removal cycles=%d longest_unbind_ms=%lld leaks=0",
	       cycles, (long long)(longest / NSEC_PER_MSEC));
}

TEST_HARNESS_MAIN
