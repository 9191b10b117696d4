// SPDX-License-Identifier: GPL-2.0
/*
 * Very many devices: a thousand, and the limit. Loads and unloads the null
 * driver itself and leaves it loaded with one device, so it runs last.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <dirent.h>
#include <sys/klog.h>
#include <sys/sysmacros.h>

/* Devices of all drivers together. */
#define LIMIT 4096
/* Longest that removing them may take. */
#define REMOVE_S 60

FIXTURE(scale)
{
	unsigned int *numbers;
	/* Devices that are others', and stay. */
	int others;
	unsigned int first;
};

FIXTURE_SETUP(scale)
{
	self->numbers = calloc(2 * LIMIT, sizeof(*self->numbers));
	ASSERT_TRUE(self->numbers != NULL);
	if (accel_loaded(NULL_DRIVER))
		ASSERT_EQ(0, accel_rmmod(NULL_DRIVER));
	ASSERT_TRUE(accel_loaded("accel") || !accel_modprobe("accel", NULL));
	self->others = accel_numbers(self->numbers, 2 * LIMIT);
	ASSERT_LE(0, self->others);
	self->first = strcmp(accel_class(), "accel") ? DRM_ACCEL_MINORS : 0;
}

FIXTURE_TEARDOWN(scale)
{
	if (accel_loaded(NULL_DRIVER))
		EXPECT_EQ(0, accel_rmmod(NULL_DRIVER));
	EXPECT_EQ(self->others, accel_numbers(self->numbers, 2 * LIMIT));
	EXPECT_EQ(0, accel_modprobe(NULL_DRIVER, NULL));
}

static int open_node(const char *name, unsigned int number)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/accel/%s%u", name, number);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* Both nodes of a number: they open, say who they are, and differ. */
static int check_device(unsigned int number)
{
	struct accel_info_identity id;
	struct stat compute, control;
	int fds[2], bad = 0;

	fds[0] = open_node("accel", number);
	fds[1] = open_node("accel_control", number);
	for (int i = 0; i < 2; i++)
		if (fds[i] < 0 ||
		    accel_info(fds[i], ACCEL_INFO_IDENTITY, 0, &id,
			       sizeof(id)) ||
		    id.number != number)
			bad = 1 + i;
	if (!bad && (fstat(fds[0], &compute) || fstat(fds[1], &control) ||
		     compute.st_rdev == control.st_rdev))
		bad = 3;
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return bad;
}

static int count_nodes(void)
{
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	dir = opendir("/dev/accel");
	/* It goes with the last node. */
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir)))
		count += !strncmp(entry->d_name, "accel", 5);
	closedir(dir);
	return count;
}

TEST_F_TIMEOUT(scale, thousand, 120)
{
	int64_t before;
	int count;

	before = accel_now();
	ASSERT_EQ(0, accel_modprobe(NULL_DRIVER, "devices=1024"));
	TH_LOG("1024 devices made in %lld ms",
	       (long long)((accel_now() - before) / NSEC_PER_MSEC));
	count = accel_numbers(self->numbers, 2 * LIMIT);
	ASSERT_EQ(self->others + 1024, count);
	for (int i = 0; i < count; i++)
		ASSERT_EQ(self->first + i, self->numbers[i]);
	/* devtmpfs has no other's nodes here. */
	EXPECT_EQ(2 * count, count_nodes());
	for (int i = 0; i < count; i += 31) {
		ASSERT_EQ(0, check_device(self->first + i))
		TH_LOG("device %u", self->first + i);
	}
	EXPECT_EQ(0, check_device(self->first + count - 1));
	EXPECT_NE(0, check_device(self->first + count));
	before = accel_now();
	EXPECT_EQ(0, accel_rmmod(NULL_DRIVER));
	EXPECT_GT(REMOVE_S * NSEC_PER_SEC, accel_now() - before);
	TH_LOG("and removed in %lld ms",
	       (long long)((accel_now() - before) / NSEC_PER_MSEC));
	EXPECT_EQ(2 * self->others, count_nodes());
}

/* Whether the core has said, since the log was cleared, that this is the limit. */
static bool log_says_limit(void)
{
	bool found = false;
	int size = klogctl(10, NULL, 0);
	char *text, *line, *rest, word[16];
	int n;

	text = malloc(size + 1);
	if (!text)
		return false;
	/* 4: read what came since the last time it was cleared. */
	n = klogctl(4, text, size);
	text[n < 0 ? 0 : n] = '\0';
	rest = text;
	snprintf(word, sizeof(word), "%d", LIMIT);
	while ((line = strsep(&rest, "\n")))
		if (strstr(line, "accel: ") && strstr(line, "limit") &&
		    strstr(line, word))
			found = true;
	free(text);
	return found;
}

/* n devices, and one more, which is an edu device: it is refused, cleanly. */
TEST_F_TIMEOUT(scale, limit, 240)
{
	struct accel_pci pci;
	char parameter[32];
	int64_t before;
	int count;

	ASSERT_LT(0, accel_pci_find(&pci));
	ASSERT_TRUE(accel_pci_bound(pci.address[pci.count - 1]));
	ASSERT_EQ(0, accel_pci_unbind(pci.address[pci.count - 1]));
	snprintf(parameter, sizeof(parameter), "devices=%d",
		 LIMIT - self->others + 1);
	klogctl(5, NULL, 0);
	before = accel_now();
	ASSERT_EQ(0, accel_modprobe(NULL_DRIVER, parameter));
	TH_LOG("%d devices made in %lld ms", LIMIT - self->others + 1,
	       (long long)((accel_now() - before) / NSEC_PER_MSEC));
	count = accel_numbers(self->numbers, 2 * LIMIT);
	ASSERT_EQ(LIMIT, count);
	for (int i = 0; i < count; i++)
		ASSERT_EQ(self->first + i, self->numbers[i]);
	EXPECT_EQ(0, check_device(self->first + LIMIT - 1));
	EXPECT_FALSE(log_says_limit());

	/* The core's errno comes through the bus; the log says why. */
	EXPECT_NE(0, accel_pci_bind(pci.address[pci.count - 1]));
	EXPECT_FALSE(accel_pci_bound(pci.address[pci.count - 1]));
	EXPECT_TRUE(log_says_limit());
	EXPECT_EQ(LIMIT, accel_numbers(self->numbers, 2 * LIMIT));
	/* Those that are there work on. */
	EXPECT_EQ(0, check_device(self->first));
	EXPECT_EQ(0, check_device(self->first + LIMIT - 1));

	before = accel_now();
	EXPECT_EQ(0, accel_rmmod(NULL_DRIVER));
	EXPECT_GT(REMOVE_S * NSEC_PER_SEC, accel_now() - before);
	TH_LOG("and removed in %lld ms",
	       (long long)((accel_now() - before) / NSEC_PER_MSEC));
	/* There is room again. */
	EXPECT_EQ(0, accel_pci_bind(pci.address[pci.count - 1]));
}

TEST_HARNESS_MAIN
