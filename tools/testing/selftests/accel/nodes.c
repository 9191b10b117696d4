// SPDX-License-Identifier: GPL-2.0
/*
 * The nodes, their numbers and their place in sysfs. Numbers are tried with
 * the two edu devices, which can be unbound one at a time.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <grp.h>
#include <limits.h>
#include <sys/sysmacros.h>

FIXTURE(nodes)
{
	const struct accel_target *target;
	char names[2][32];
	const char *paths[2];
};

FIXTURE_SETUP(nodes)
{
	self->target = accel_target();
	ASSERT_TRUE(self->target != NULL);
	snprintf(self->names[0], sizeof(self->names[0]), "accel%u",
		 self->target->number);
	snprintf(self->names[1], sizeof(self->names[1]), "accel_control%u",
		 self->target->number);
	self->paths[0] = self->target->compute;
	self->paths[1] = self->target->control;
}

FIXTURE_TEARDOWN(nodes)
{
}

/* Whether a major of that name is registered for character devices. */
static bool major_is(unsigned int major, const char *name)
{
	char line[128], found[64];
	unsigned int listed;
	bool is = false;
	FILE *file;

	file = fopen("/proc/devices", "re");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file) && strncmp(line, "Block", 5))
		if (sscanf(line, "%u %63s", &listed, found) == 2 &&
		    listed == major && !strcmp(found, name))
			is = true;
	fclose(file);
	return is;
}

TEST_F(nodes, character_devices)
{
	struct stat stats[2];

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, stat(self->paths[i], &stats[i]));
		EXPECT_TRUE(S_ISCHR(stats[i].st_mode));
		EXPECT_EQ(0, stats[i].st_uid);
		EXPECT_EQ(0, stats[i].st_gid);
		/* To compute is to use up the device, to monitor is to read. */
		EXPECT_EQ(i ? 0440 : 0660, stats[i].st_mode & 07777);
		EXPECT_TRUE(major_is(major(stats[i].st_rdev), accel_class()))
		TH_LOG("major %u", major(stats[i].st_rdev));
	}
	EXPECT_NE(stats[0].st_rdev, stats[1].st_rdev);
	EXPECT_EQ(major(stats[0].st_rdev), major(stats[1].st_rdev));
}

TEST_F(nodes, names_by_kernel)
{
	unsigned int numbers[64], first;
	struct stat st;
	char path[128];
	int count;

	/* /dev/accel/accelN, the number the same for both. */
	snprintf(path, sizeof(path), "/dev/accel/accel%u",
		 self->target->number);
	EXPECT_STREQ(path, self->target->compute);
	snprintf(path, sizeof(path), "/dev/accel/accel_control%u",
		 self->target->number);
	EXPECT_EQ(0, access(path, R_OK | W_OK));
	ASSERT_EQ(0, stat(self->target->compute, &st));
	EXPECT_TRUE(major_is(major(st.st_rdev), accel_class()));
	count = accel_numbers(numbers, ARRAY_SIZE(numbers));
	ASSERT_LT(0, count);
	/* Dense from the first on: nothing was taken away so far. */
	first = strcmp(accel_class(), "accel") ? DRM_ACCEL_MINORS : 0;
	for (int i = 0; i < count && i < (int)ARRAY_SIZE(numbers); i++)
		EXPECT_EQ(first + i, numbers[i]);
}

TEST_F(nodes, sysfs)
{
	char parents[2][PATH_MAX], path[128], line[256], link[PATH_MAX];
	char expected[64];
	struct stat st;

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, stat(self->paths[i], &st));
		snprintf(path, sizeof(path), "/sys/class/%s/%s/dev",
			 accel_class(), self->names[i]);
		ASSERT_EQ(0, accel_read_line(path, line, sizeof(line)));
		snprintf(expected, sizeof(expected), "%u:%u", major(st.st_rdev),
			 minor(st.st_rdev));
		EXPECT_STREQ(expected, line);
		snprintf(path, sizeof(path), "/sys/class/%s/%s/device",
			 accel_class(), self->names[i]);
		ASSERT_TRUE(realpath(path, parents[i]) != NULL);
		snprintf(path, sizeof(path), "/sys/class/%s/%s/subsystem",
			 accel_class(), self->names[i]);
		ASSERT_TRUE(realpath(path, link) != NULL);
		EXPECT_STREQ(accel_class(), strrchr(link, '/') + 1);
		snprintf(path, sizeof(path), "/sys/dev/char/%s", expected);
		ASSERT_TRUE(realpath(path, link) != NULL);
		EXPECT_STREQ(self->names[i], strrchr(link, '/') + 1);
	}
	EXPECT_STREQ(parents[0], parents[1]);
}

TEST_F(nodes, uevent)
{
	char path[128], line[256], expected[64];
	bool found;
	FILE *file;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/class/%s/%s/uevent",
			 accel_class(), self->names[i]);
		snprintf(expected, sizeof(expected), "DEVNAME=accel/%s\n",
			 self->names[i]);
		file = fopen(path, "re");
		ASSERT_TRUE(file != NULL);
		found = false;
		while (fgets(line, sizeof(line), file))
			found |= !strcmp(line, expected);
		fclose(file);
		EXPECT_TRUE(found) TH_LOG("no %s", expected);
	}
}

/*
 * DRM's accelerators, where the kernel has them (and only then are our class
 * and numbers others): their class, major and names are theirs alone.
 */
TEST_F(nodes, beside_drm)
{
	bool had = accel_loaded("drm");
	unsigned int numbers[64];
	bool drm;
	int count;

	accel_modprobe("drm", NULL);
	drm = major_is(DRM_ACCEL_MAJOR, "accel");
	EXPECT_STREQ(drm ? "accel_core" : "accel", accel_class());
	count = accel_numbers(numbers, ARRAY_SIZE(numbers));
	ASSERT_LT(0, count);
	for (int i = 0; i < count && i < (int)ARRAY_SIZE(numbers); i++) {
		char path[64];
		struct stat st;

		snprintf(path, sizeof(path), "/dev/accel/accel%u", numbers[i]);
		ASSERT_EQ(0, stat(path, &st));
		if (!drm)
			continue;
		EXPECT_NE(DRM_ACCEL_MAJOR, major(st.st_rdev));
		EXPECT_LE(DRM_ACCEL_MINORS, numbers[i]);
		snprintf(path, sizeof(path), "/sys/class/accel/accel%u",
			 numbers[i]);
		EXPECT_FALSE(accel_exists(path));
	}
	if (drm) {
		EXPECT_TRUE(accel_exists("/sys/class/accel"));
		/* One of its minors, made by hand: there is no such device. */
		ASSERT_EQ(0, mknod("/tmp/accel-drm", S_IFCHR | 0600,
				   makedev(DRM_ACCEL_MAJOR, 0)));
		EXPECT_EQ(-1, open("/tmp/accel-drm", O_RDWR | O_CLOEXEC));
		EXPECT_TRUE(errno == ENODEV || errno == ENXIO);
		unlink("/tmp/accel-drm");
	}
	if (!had)
		accel_modprobe("-r", "drm");
}

/* Numbers that no device has, on our own major. */
TEST_F(nodes, no_such_minor)
{
	struct stat st;
	int fd;

	ASSERT_EQ(0, stat(self->target->compute, &st));
	for (unsigned int shift = 0; shift < 20; shift++) {
		unsigned int number = minor(st.st_rdev) + (1U << shift);
		char path[64];

		snprintf(path, sizeof(path), "/sys/dev/char/%u:%u",
			 major(st.st_rdev), number);
		if (accel_exists(path))
			continue;
		ASSERT_EQ(0, mknod("/tmp/accel-none", S_IFCHR | 0600,
				   makedev(major(st.st_rdev), number)));
		fd = open("/tmp/accel-none", O_RDWR | O_CLOEXEC);
		EXPECT_EQ(-1, fd) TH_LOG("minor %u", number);
		EXPECT_TRUE(errno == ENODEV || errno == ENXIO);
		close(fd);
		unlink("/tmp/accel-none");
	}
}

TEST_F(nodes, open_flags)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		for (int n = 0; n < 2; n++) {
			int fd = open(self->paths[n], modes[i]);

			ASSERT_LE(0, fd)
			TH_LOG("%s %d", self->paths[n], modes[i]);
			/* Closing on exec is what the opener says. */
			EXPECT_EQ(0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
			EXPECT_EQ(modes[i], fcntl(fd, F_GETFL) & O_ACCMODE);
			close(fd);
			fd = open(self->paths[n],
				  modes[i] | O_CLOEXEC | O_NONBLOCK);
			ASSERT_LE(0, fd);
			EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD) & FD_CLOEXEC);
			EXPECT_TRUE(fcntl(fd, F_GETFL) & O_NONBLOCK);
			/* There is no position to move. */
			EXPECT_TRUE(lseek(fd, 0, SEEK_SET) < 1);
			close(fd);
		}
	}
	EXPECT_EQ(-1, open(self->target->compute, O_RDWR | O_DIRECTORY));
	EXPECT_EQ(ENOTDIR, errno);
}

TEST_F(nodes, opened_many_times)
{
	enum { COUNT = 200 };
	struct accel_info_identity id;
	int control[COUNT], compute[COUNT], most = COUNT;
	uint32_t handle;

	for (int i = 0; i < COUNT; i++) {
		control[i] = accel_open_control(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, control[i]);
	}
	ASSERT_EQ(0, accel_info(control[0], ACCEL_INFO_IDENTITY, 0, &id,
				sizeof(id)));
	if (id.max_contexts && id.max_contexts < COUNT)
		most = id.max_contexts;
	ASSERT_EQ(0, accel_take_all_contexts(accel_target()->compute));
	for (int i = 0; i < most; i++) {
		compute[i] = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, compute[i]);
	}
	if (most < COUNT)
		EXPECT_EQ(-EBUSY, accel_open(O_RDWR | O_CLOEXEC));
	for (int i = 0; i < most; i++) {
		EXPECT_EQ(0, accel_buffer_create(compute[i], 1, &handle));
		close(compute[i]);
	}
	for (int i = 0; i < COUNT; i++)
		close(control[i]);
}

/* The node's mode decides, and nothing else: no capability is asked for. */
TEST_F(nodes, permissions)
{
	int status;
	pid_t pid;

	for (int n = 0; n < 2; n++) {
		struct stat st;

		ASSERT_EQ(0, stat(self->paths[n], &st));
		for (int allowed = 0; allowed < 2; allowed++) {
			ASSERT_EQ(0,
				  chmod(self->paths[n], allowed ? 0666 : 0600));
			pid = fork();
			ASSERT_LE(0, pid);
			if (!pid) {
				struct accel_info_state state;
				int fd;

				if (setgroups(0, NULL) || setgid(65534) ||
				    setuid(65534))
					_exit(1);
				fd = open(self->paths[n], O_RDWR | O_CLOEXEC);
				if (!allowed)
					_exit(fd < 0 && errno == EACCES ? 0 :
									  2);
				if (fd < 0)
					_exit(3);
				_exit(accel_info(fd, ACCEL_INFO_STATE, 0,
						 &state, sizeof(state)) ?
					      4 :
					      0);
			}
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			EXPECT_EQ(0, status);
		}
		ASSERT_EQ(0, chmod(self->paths[n], st.st_mode & 07777));
	}
}

FIXTURE(numbers)
{
	struct accel_pci pci;
	int first, second;
};

FIXTURE_SETUP(numbers)
{
	ASSERT_EQ(2, accel_pci_find(&self->pci));
	ASSERT_TRUE(accel_loaded(EDU_DRIVER));
	for (int i = 0; i < 2; i++) {
		if (!accel_pci_bound(self->pci.address[i]))
			ASSERT_EQ(0, accel_pci_bind(self->pci.address[i]));
	}
	self->first = accel_pci_number(self->pci.address[0]);
	self->second = accel_pci_number(self->pci.address[1]);
	ASSERT_LE(0, self->first);
	ASSERT_LE(0, self->second);
}

FIXTURE_TEARDOWN(numbers)
{
	/* As it was: the numbers are free, the lower one is given first. */
	const int low = self->first < self->second ? 0 : 1;

	if (accel_pci_number(self->pci.address[0]) != self->first ||
	    accel_pci_number(self->pci.address[1]) != self->second) {
		for (int i = 0; i < 2; i++)
			accel_pci_unbind(self->pci.address[i]);
		accel_pci_bind(self->pci.address[low]);
		accel_pci_bind(self->pci.address[!low]);
	}
	EXPECT_EQ(self->first, accel_pci_number(self->pci.address[0]));
	EXPECT_EQ(self->second, accel_pci_number(self->pci.address[1]));
}

TEST_F(numbers, lowest_free_first)
{
	int low = self->first < self->second ? self->first : self->second;
	int high = self->first + self->second - low;

	for (int order = 0; order < 2; order++) {
		for (int i = 0; i < 2; i++)
			ASSERT_EQ(0, accel_pci_unbind(self->pci.address[i]));
		ASSERT_EQ(0, accel_pci_bind(self->pci.address[order]));
		ASSERT_EQ(0, accel_pci_bind(self->pci.address[!order]));
		EXPECT_EQ(low, accel_pci_number(self->pci.address[order]));
		EXPECT_EQ(high, accel_pci_number(self->pci.address[!order]));
	}
	/* A gap is filled. */
	ASSERT_EQ(0, accel_pci_unbind(self->pci.address[1]));
	ASSERT_EQ(0, accel_pci_bind(self->pci.address[1]));
	EXPECT_EQ(low, accel_pci_number(self->pci.address[1]));
}

static int open_number(const char *name, int number)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/accel/%s%d", name, number);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* A number that somebody still has a file of is nobody else's. */
TEST_F(numbers, not_reused_while_open)
{
	static const char *const names[] = { "accel", "accel_control" };
	const char *address = self->pci.address[0];
	char path[64];

	for (int n = 0; n < 2; n++) {
		struct accel_info_state state;
		int fd, number;

		fd = open_number(names[n], self->first);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, accel_pci_unbind(address));
		snprintf(path, sizeof(path), "/dev/accel/accel%d", self->first);
		EXPECT_FALSE(accel_exists(path));
		ASSERT_EQ(0, accel_pci_bind(address));
		number = accel_pci_number(address);
		EXPECT_NE(self->first, number);
		EXPECT_NE(self->second, number);
		EXPECT_EQ(-ENODEV, accel_info(fd, ACCEL_INFO_STATE, 0, &state,
					      sizeof(state)));
		close(fd);
		/* The last file has gone: the number is back. */
		ASSERT_EQ(0, accel_pci_unbind(address));
		ASSERT_EQ(0, accel_pci_bind(address));
		EXPECT_EQ(self->first, accel_pci_number(address));
	}
}

/* Nor is it while only a mapping is left. */
TEST_F(numbers, not_reused_while_mapped)
{
	const char *address = self->pci.address[0];
	uint32_t handle;
	void *map;
	int fd;

	fd = open_number("accel", self->first);
	ASSERT_LE(0, fd);
	map = accel_buffer_new(fd, 4096, &handle);
	ASSERT_TRUE(map != NULL);
	close(fd);
	ASSERT_EQ(0, accel_pci_unbind(address));
	ASSERT_EQ(0, accel_pci_bind(address));
	EXPECT_NE(self->first, accel_pci_number(address));
	EXPECT_EQ(SIGBUS, accel_touch(map));
	munmap(map, 4096);
	ASSERT_EQ(0, accel_pci_unbind(address));
	ASSERT_EQ(0, accel_pci_bind(address));
	EXPECT_EQ(self->first, accel_pci_number(address));
}

/* The parent is the name that stays. */
TEST_F(numbers, parent_is_stable)
{
	struct accel_info_identity id;
	int fd, number;

	for (int order = 0; order < 2; order++) {
		for (int i = 0; i < 2; i++)
			ASSERT_EQ(0, accel_pci_unbind(self->pci.address[i]));
		ASSERT_EQ(0, accel_pci_bind(self->pci.address[order]));
		ASSERT_EQ(0, accel_pci_bind(self->pci.address[!order]));
		for (int i = 0; i < 2; i++) {
			number = accel_pci_number(self->pci.address[i]);
			fd = open_number("accel_control", number);
			ASSERT_LE(0, fd);
			ASSERT_EQ(0, accel_info(fd, ACCEL_INFO_IDENTITY, 0, &id,
						sizeof(id)));
			EXPECT_EQ(number, id.number);
			EXPECT_STREQ(self->pci.address[i], id.parent);
			close(fd);
		}
	}
}

TEST_HARNESS_MAIN
