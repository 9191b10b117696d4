// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes of the class devices: what they say against what INFO says, who
 * may read and write them, and what becomes of them when the device goes.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <dirent.h>
#include <linux/netlink.h>
#include <sys/socket.h>

/* Longest that anything may take, on a slow machine too. */
#define LIMIT_MS 5000
#define READERS 4

/* All that the core has: of both nodes, and of the compute node only. */
static const char *const of_both[] = {
	"driver_name",	"uapi_name",	      "uapi_version",
	"device_class", "function",	      "function_index",
	"max_contexts", "max_address_spaces", "interrupts",
};

static const char *const of_compute[] = {
	"state",
	"state_cause",
	"resets/total",
	"resets/failed",
	"resets/user",
	"resets/driver",
	"resets/deadline",
	"resets/watchdog",
	"resets/bus",
	"resets/resume",
	"opens/compute_now",
	"opens/compute_total",
	"opens/control_now",
	"opens/control_total",
	"memory/host_used_bytes",
};

/* Which only root may write. */
#define RESET "reset"
/* Where the device has memory of its own. */
#define DEVICE_MEMORY "memory/device_total_bytes"

static void attribute_path(char path[256], bool control, const char *name)
{
	snprintf(path, 256, "/sys/class/%s/accel%s%u/%s", accel_class(),
		 control ? "_control" : "", accel_target()->number, name);
}

/* Its value without the newline, or "" and a negative errno. */
static int attribute(const char *name, char *value, size_t size)
{
	char path[256];

	attribute_path(path, false, name);
	*value = '\0';
	return accel_read_line(path, value, size);
}

/* Its value as a number, or a negative errno. */
static int64_t number(const char *name)
{
	char value[64], *end;
	int64_t n;
	int ret;

	ret = attribute(name, value, sizeof(value));
	if (ret)
		return ret;
	n = strtoll(value, &end, 10);
	return *end || end == value ? -EINVAL : n;
}

FIXTURE(sysfs)
{
	struct accel_info_identity id;
	int control;
};

FIXTURE_SETUP(sysfs)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(0, accel_restore());
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->control);
	ASSERT_EQ(0, accel_info(self->control, ACCEL_INFO_IDENTITY, 0,
				&self->id, sizeof(self->id)));
}

FIXTURE_TEARDOWN(sysfs)
{
	close(self->control);
}

TEST_F(sysfs, identity)
{
	static const char *const classes[] = {
		[ACCEL_CLASS_OTHER] = "other",
		[ACCEL_CLASS_NPU] = "npu",
		[ACCEL_CLASS_DSP] = "dsp",
		[ACCEL_CLASS_FPGA] = "fpga",
		[ACCEL_CLASS_CRYPTO] = "crypto",
		[ACCEL_CLASS_VIRTUAL] = "virtual",
	};
	static const char *const functions[] = {
		[ACCEL_FUNCTION_PF] = "pf",
		[ACCEL_FUNCTION_VF] = "vf",
		[ACCEL_FUNCTION_PARTITION] = "partition",
	};
	char value[128], version[32];

	ASSERT_EQ(0, attribute("driver_name", value, sizeof(value)));
	EXPECT_STREQ(self->id.driver, value);
	ASSERT_EQ(0, attribute("uapi_name", value, sizeof(value)));
	EXPECT_STREQ(self->id.uapi_name, value);
	ASSERT_EQ(0, attribute("uapi_version", value, sizeof(value)));
	snprintf(version, sizeof(version), "%u.%u", self->id.uapi_major,
		 self->id.uapi_minor);
	EXPECT_STREQ(version, value);
	ASSERT_EQ(0, attribute("device_class", value, sizeof(value)));
	EXPECT_STREQ(classes[self->id.device_class], value);
	ASSERT_EQ(0, attribute("function", value, sizeof(value)));
	EXPECT_STREQ(functions[self->id.function], value);
	EXPECT_EQ(self->id.function_index, number("function_index"));
	EXPECT_EQ(self->id.max_contexts, number("max_contexts"));
	EXPECT_EQ(self->id.max_address_spaces, number("max_address_spaces"));
	/* The NPU has eight vectors, edu one, others none. */
	EXPECT_EQ(accel_target()->kind == ACCEL_NPU ? 8 :
		  accel_target()->kind == ACCEL_EDU ? 1 :
						      0,
		  number("interrupts"));
}

TEST_F(sysfs, state)
{
	static const char *const causes[] = {
		[ACCEL_CAUSE_NONE] = "none",
		[ACCEL_CAUSE_USER] = "user",
		[ACCEL_CAUSE_DRIVER] = "driver",
		[ACCEL_CAUSE_DEADLINE] = "deadline",
		[ACCEL_CAUSE_WATCHDOG] = "watchdog",
		[ACCEL_CAUSE_BUS] = "bus",
		[ACCEL_CAUSE_RESUME] = "resume",
		[ACCEL_CAUSE_SYSTEM] = "system",
		[ACCEL_CAUSE_IDLE] = "idle",
	};
	struct accel_info_state state;
	char value[64];
	int fd;

	/* Whoever opens it wakes it. */
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_info(self->control, ACCEL_INFO_STATE, 0, &state,
				sizeof(state)));
	ASSERT_EQ(ACCEL_STATE_OPERATIONAL, state.state);
	ASSERT_EQ(0, attribute("state", value, sizeof(value)));
	EXPECT_STREQ("operational", value);
	EXPECT_EQ(state.resets, number("resets/total"));
	ASSERT_EQ(0, attribute("state_cause", value, sizeof(value)));
	ASSERT_GT(ARRAY_SIZE(causes), state.cause);
	EXPECT_STREQ(causes[state.cause], value);
	/* Since the registration, unless something has happened to it. */
	if (state.cause == ACCEL_CAUSE_NONE)
		EXPECT_EQ(state.registered_ns, state.since_ns);
	close(fd);
}

/* Nonsense is nonsense, whatever state the device is in. */
TEST_F(sysfs, reset)
{
	char path[256];

	attribute_path(path, false, RESET);
	EXPECT_EQ(-EINVAL, accel_write_line(path, "0"));
}

TEST_F(sysfs, opens)
{
	struct accel_info_opens opens;
	int fds[2];

	for (int i = 0; i < 2; i++) {
		fds[i] = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fds[i]);
	}
	for (int left = 2; left >= 0; left--) {
		ASSERT_EQ(0, accel_info(self->control, ACCEL_INFO_OPENS, 0,
					&opens, sizeof(opens)));
		EXPECT_EQ(left, opens.compute_now);
		EXPECT_EQ(left, number("opens/compute_now"));
		EXPECT_EQ(1, number("opens/control_now"));
		EXPECT_EQ(opens.compute_total, number("opens/compute_total"));
		EXPECT_EQ(opens.control_total, number("opens/control_total"));
		if (left)
			close(fds[left - 1]);
	}
}

TEST_F(sysfs, memory)
{
	struct accel_info_memory memory;
	int64_t before = number("memory/host_used_bytes");
	uint32_t handle;
	int fd, ret;

	ASSERT_LE(0, before);
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, accel_buffer_create(fd, MIB, &handle));
	EXPECT_EQ(before + MIB, number("memory/host_used_bytes"));
	close(fd);
	EXPECT_EQ(before, number("memory/host_used_bytes"));
	ret = accel_info(self->control, ACCEL_INFO_MEMORY, 1, &memory,
			 sizeof(memory));
	if (ret) {
		EXPECT_EQ(-ENODATA, ret);
		EXPECT_EQ(-ENOENT, number(DEVICE_MEMORY));
	} else {
		EXPECT_EQ(memory.total, number(DEVICE_MEMORY));
	}
}

static bool listed(const char *name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* How many files there are, and the first that should not be. */
static int count_files(bool control, const char *directory, char unknown[256])
{
	char path[256], name[256];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	attribute_path(path, control, directory);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_type != DT_REG || !strcmp(entry->d_name, "dev") ||
		    !strcmp(entry->d_name, "uevent"))
			continue;
		snprintf(name, sizeof(name), "%s%s%.200s", directory,
			 *directory ? "/" : "", entry->d_name);
		if (!listed(name, of_both, ARRAY_SIZE(of_both)) &&
		    (control ||
		     (!listed(name, of_compute, ARRAY_SIZE(of_compute)) &&
		      strcmp(name, RESET) && strcmp(name, DEVICE_MEMORY))))
			strcpy(unknown, name);
		count++;
	}
	closedir(dir);
	return count;
}

/* What there is, is what this file tests. */
TEST_F(sysfs, nothing_else)
{
	static const char *const directories[] = { "", "resets", "opens",
						   "memory" };
	char unknown[256] = "";
	int count = 0, n;

	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		n = count_files(false, directories[i], unknown);
		ASSERT_LE(0, n);
		count += n;
	}
	EXPECT_STREQ("", unknown);
	EXPECT_EQ(ARRAY_SIZE(of_both) + ARRAY_SIZE(of_compute) + 1 +
			  (number(DEVICE_MEMORY) >= 0),
		  count);
	/* The control node says who it is, which is what rules of udev need. */
	EXPECT_EQ(ARRAY_SIZE(of_both), count_files(true, "", unknown));
	EXPECT_STREQ("", unknown);
	for (size_t i = 0; i < ARRAY_SIZE(of_both); i++) {
		char path[256], compute[128], control[128];

		ASSERT_EQ(0, attribute(of_both[i], compute, sizeof(compute)));
		attribute_path(path, true, of_both[i]);
		ASSERT_EQ(0, accel_read_line(path, control, sizeof(control)));
		EXPECT_STREQ(compute, control) TH_LOG("%s", of_both[i]);
	}
}

/* One value a file, with a newline and nothing after it. */
static int one_line(const char *name)
{
	char path[256], value[4096];
	ssize_t n;
	int fd;

	attribute_path(path, false, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, value, sizeof(value));
	close(fd);
	if (n < 2)
		return -EIO;
	return memchr(value, '\n', n) == value + n - 1 &&
			       !memchr(value, ' ', n) ?
		       0 :
		       -EINVAL;
}

/* In a process of nobody: what @call answers, which is not negative. */
static int as_nobody(int (*call)(const char *path), const char *path)
{
	int status;
	pid_t pid;

	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(255);
		_exit(call(path));
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return WEXITSTATUS(status);
}

static int try_read(const char *path)
{
	char line[4096];

	return -accel_read_line(path, line, sizeof(line));
}

static int try_write(const char *path)
{
	return -accel_write_line(path, "1");
}

TEST_F(sysfs, read_only)
{
	char path[256];
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(of_both) + ARRAY_SIZE(of_compute);
	     i++) {
		const char *name = i < ARRAY_SIZE(of_both) ?
					   of_both[i] :
					   of_compute[i - ARRAY_SIZE(of_both)];

		attribute_path(path, false, name);
		ASSERT_EQ(0, stat(path, &st)) TH_LOG("%s", name);
		EXPECT_EQ(0444, st.st_mode & 07777) TH_LOG("%s", name);
		EXPECT_EQ(0, st.st_uid);
		EXPECT_EQ(0, one_line(name)) TH_LOG("%s", name);
		EXPECT_EQ(EACCES, try_write(path)) TH_LOG("%s", name);
		EXPECT_EQ(0, as_nobody(try_read, path)) TH_LOG("%s", name);
		EXPECT_EQ(EACCES, as_nobody(try_write, path));
	}
}

/* What the NPU measures of itself, as its model does at rest. */
TEST_F(sysfs, sensors)
{
	static const struct {
		const char *name;
		int64_t least, most;
	} sensors[] = {
		{ "attributes/temp_millicelsius", 20000, 100000 },
		{ "attributes/temp_limit_millicelsius", 80000, 150000 },
		{ "attributes/power_milliwatts", 1, 300000 },
		{ "attributes/power_limit_milliwatts", 1000, 300000 },
		{ "attributes/core_millivolts", 300, 2000 },
		{ "attributes/core_clock_hertz", 1000000, 10000000000 },
		{ "attributes/memory_clock_hertz", 1000000, 10000000000 },
		{ "attributes/ecc_corrected_count", 0, 1000 },
		{ "attributes/ecc_uncorrected_count", 0, 1000 },
	};
	static const char *const secret[] = {
		"attributes/power_milliwatts",
		"attributes/core_millivolts",
	};

	for (size_t i = 0; i < ARRAY_SIZE(sensors); i++) {
		if (accel_target()->kind != ACCEL_NPU) {
			if (accel_target()->kind == ACCEL_EDU)
				EXPECT_EQ(-ENOENT, number(sensors[i].name));
			continue;
		}
		EXPECT_LE(sensors[i].least, number(sensors[i].name))
		TH_LOG("%s", sensors[i].name);
		EXPECT_GE(sensors[i].most, number(sensors[i].name))
		TH_LOG("%s", sensors[i].name);
	}
	/* What others compute is not to be read off. */
	for (size_t i = 0; i < ARRAY_SIZE(secret); i++) {
		char path[256];

		if (accel_target()->kind != ACCEL_NPU)
			break;
		attribute_path(path, false, secret[i]);
		EXPECT_EQ(0, try_read(path));
		EXPECT_EQ(EACCES, as_nobody(try_read, path));
	}
}

/* Files that are open when the device goes hold nothing up. */
TEST_F(sysfs, held_over_removal)
{
	int fds[ARRAY_SIZE(of_both) + ARRAY_SIZE(of_compute)];
	char path[256], value[256];
	int64_t began;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		attribute_path(path, false,
			       i < ARRAY_SIZE(of_both) ?
				       of_both[i] :
				       of_compute[i - ARRAY_SIZE(of_both)]);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, fds[i]);
		EXPECT_LT(0, pread(fds[i], value, sizeof(value), 0));
	}
	close(self->control);
	began = accel_now();
	ASSERT_EQ(0, accel_remove());
	EXPECT_GT(LIMIT_MS * accel_patience() * NSEC_PER_MSEC,
		  accel_now() - began);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-1, pread(fds[i], value, sizeof(value), 0));
		EXPECT_EQ(ENODEV, errno);
	}
	EXPECT_EQ(-ENOENT, number("state"));
	ASSERT_EQ(0, accel_restore());
	/* The device that has come is another one. */
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-1, pread(fds[i], value, sizeof(value), 0));
		EXPECT_EQ(ENODEV, errno);
		close(fds[i]);
	}
	EXPECT_LE(0, number("opens/compute_now"));
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
}

static bool hammering;
static uint64_t hammered, surprises;

static void *hammer(void *unused)
{
	char value[256];

	(void)unused;
	while (__atomic_load_n(&hammering, __ATOMIC_RELAXED)) {
		for (size_t i = 0; i < ARRAY_SIZE(of_compute); i++) {
			int ret =
				attribute(of_compute[i], value, sizeof(value));

			/* accel_read_line() says EIO for all of read(). */
			if (!ret)
				__atomic_fetch_add(&hammered, 1,
						   __ATOMIC_RELAXED);
			else if (ret != -ENOENT && ret != -ENODEV &&
				 ret != -EIO)
				__atomic_fetch_add(&surprises, 1,
						   __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

/* Readers while the device goes and comes: nobody waits for anybody. */
TEST_F_TIMEOUT(sysfs, readers_and_removal, 3600)
{
	int cycles = accel_cycles(20);
	pthread_t threads[READERS];
	int64_t longest = 0, began;

	close(self->control);
	__atomic_store_n(&hammering, true, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, hammer, NULL));
	for (int i = 0; i < cycles; i++) {
		began = accel_now();
		EXPECT_EQ(0, accel_remove());
		if (accel_now() - began > longest)
			longest = accel_now() - began;
		ASSERT_EQ(0, accel_restore());
	}
	__atomic_store_n(&hammering, false, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	EXPECT_LT(0, hammered);
	EXPECT_EQ(0, surprises);
	EXPECT_GT(LIMIT_MS * accel_patience() * NSEC_PER_MSEC, longest);
	TH_LOG("# stress: shape=sysfs.%s/readers_and_removal cycles=%d longest_unbind_ms=%lld leaks=0",
	       getenv("ACCEL_KIND") ?: "any", cycles,
	       (long long)(longest / NSEC_PER_MSEC));
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
}

static int uevents(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK,
				       .nl_groups = 1 };
	int fd;

	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC,
		    NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -errno;
	return bind(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno :
									fd;
}

/* The next uevent with that action of the class device. */
static int uevent(int fd, const char *action, char *event, size_t size)
{
	int64_t until =
		accel_now() + LIMIT_MS * accel_patience() * NSEC_PER_MSEC;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char head[64], tail[64];
	ssize_t n;

	snprintf(head, sizeof(head), "%s@", action);
	snprintf(tail, sizeof(tail), "/%s/accel%u", accel_class(),
		 accel_target()->number);
	while (accel_now() < until) {
		if (poll(&p, 1, 100) != 1)
			continue;
		n = recv(fd, event, size - 1, MSG_DONTWAIT);
		if (n <= 0)
			continue;
		event[n] = '\0';
		if (!strncmp(event, head, strlen(head)) &&
		    strlen(event) >= strlen(tail) &&
		    !strcmp(event + strlen(event) - strlen(tail), tail))
			return 0;
	}
	return -ETIMEDOUT;
}

/* Who is told that a device has come finds its attributes. */
TEST_F(sysfs, there_before_uevent)
{
	char event[4096], value[64];
	int fd;

	fd = uevents();
	ASSERT_LE(0, fd);
	close(self->control);
	ASSERT_EQ(0, accel_remove());
	ASSERT_EQ(0, uevent(fd, "remove", event, sizeof(event)));
	ASSERT_EQ(0, accel_restore());
	ASSERT_EQ(0, uevent(fd, "add", event, sizeof(event)));
	EXPECT_EQ(0, attribute("driver_name", value, sizeof(value)));
	EXPECT_EQ(0, attribute("memory/host_used_bytes", value, sizeof(value)));
	close(fd);
	self->control = accel_open_control(O_RDONLY | O_CLOEXEC);
}

TEST_HARNESS_MAIN
