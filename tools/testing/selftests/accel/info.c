// SPDX-License-Identifier: GPL-2.0
/*
 * What INFO says, held against what sysfs, the clock and the test itself know;
 * on both nodes.
 */

#include "accel_test.h"
#include "kselftest_harness.h"

#define POISON 0xa5
#define ANSWER_MAX 65536

FIXTURE(info)
{
	int compute;
	int fd;
};

FIXTURE_VARIANT(info)
{
	bool control;
};

FIXTURE_VARIANT_ADD(info, compute){
	.control = false,
};

FIXTURE_VARIANT_ADD(info, control){
	.control = true,
};

FIXTURE_SETUP(info)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->compute = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->compute);
	self->fd = variant->control ? accel_open_control(O_RDONLY | O_CLOEXEC) :
				      dup(self->compute);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(info)
{
	close(self->fd);
	close(self->compute);
}

/* A known query, for this test to know what it should be. */
struct known {
	const char *name;
	uint32_t size;
};

static const struct known known[] = {
	[ACCEL_INFO_QUERIES] = { "queries", sizeof(struct accel_info_queries) },
	[ACCEL_INFO_IDENTITY] = { "identity",
				  sizeof(struct accel_info_identity) },
	[ACCEL_INFO_STATE] = { "state", sizeof(struct accel_info_state) },
	[ACCEL_INFO_MEMORY] = { "memory", sizeof(struct accel_info_memory) },
	[ACCEL_INFO_OPENS] = { "opens", sizeof(struct accel_info_opens) },
	[ACCEL_INFO_RESETS] = { "resets", sizeof(struct accel_info_resets) },
	[ACCEL_INFO_CLIENTS] = { "clients", sizeof(struct accel_info_client) },
	[ACCEL_INFO_LIMITS] = { "limits", sizeof(struct accel_info_limit) },
};

TEST_F(info, list)
{
	struct accel_info_queries entry;
	unsigned char answer[512];
	int64_t last = -1;
	uint32_t count;
	int ret;

	for (count = 0; count < 100; count++) {
		memset(&entry, POISON, sizeof(entry));
		ret = accel_info(self->fd, ACCEL_INFO_QUERIES, count, &entry,
				 sizeof(entry));
		if (ret)
			break;
		EXPECT_LT(last, (int64_t)entry.query);
		last = entry.query;
		EXPECT_EQ(0, entry.flags);
		EXPECT_LT(0, entry.size);
		EXPECT_LT(0, entry.count);
		ASSERT_TRUE(memchr(entry.name, 0, sizeof(entry.name)) != NULL);
		EXPECT_LT(0, strlen(entry.name));
		for (const char *c = entry.name; *c; c++) {
			EXPECT_TRUE((*c >= 'a' && *c <= 'z') || *c == '_' ||
				    (*c >= '0' && *c <= '9'))
			TH_LOG("%s", entry.name);
		}
		for (size_t i = strlen(entry.name); i < sizeof(entry.name);
		     i++) {
			EXPECT_EQ(0, entry.name[i]);
		}
		if (entry.query < ARRAY_SIZE(known)) {
			EXPECT_STREQ(known[entry.query].name, entry.name);
			EXPECT_LE(known[entry.query].size, entry.size);
		}
		/* What is listed can be asked, at every index and no other. */
		for (uint32_t i = 0; i < entry.count; i++) {
			EXPECT_EQ(0, accel_info(self->fd, entry.query, i,
						answer, entry.size))
			TH_LOG("%s %u", entry.name, i);
		}
		ret = accel_info(self->fd, entry.query, entry.count, answer,
				 entry.size);
		EXPECT_TRUE(ret == -ENODATA ||
			    (entry.count == 1 && ret == -EINVAL))
		TH_LOG("%s %u: %d", entry.name, entry.count, ret);
	}
	EXPECT_EQ(-ENODATA, ret);
	EXPECT_EQ(-ENODATA, accel_info(self->fd, ACCEL_INFO_QUERIES, ~0U,
				       &entry, sizeof(entry)));
	/* These every device has. */
	EXPECT_LE(ARRAY_SIZE(known), count);
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_QUERIES, 0, &entry,
				sizeof(entry)));
	EXPECT_EQ(ACCEL_INFO_QUERIES, entry.query);
	EXPECT_EQ(count, entry.count);
}

TEST_F(info, errors)
{
	struct accel_info_state state;
	struct accel_info info = {
		.query = ACCEL_INFO_STATE,
		.size = sizeof(state),
		.ptr = (uintptr_t)&state,
	};
	struct accel_info bad;

	static unsigned char large[ANSWER_MAX + 1];

	ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &info));
	bad = info;
	bad.size = 0;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad.size = ANSWER_MAX;
	bad.ptr = (uintptr_t)large;
	EXPECT_EQ(0, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad.size = ANSWER_MAX + 1;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad.size = ~0U;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad = info;
	bad.index = 1;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad.query = ACCEL_INFO_IDENTITY;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad.query = ACCEL_INFO_OPENS;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad.query = ACCEL_INFO_MEMORY;
	bad.index = 1000;
	EXPECT_EQ(-ENODATA, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad = info;
	bad.query = 0x7fffffff;
	EXPECT_EQ(-EOPNOTSUPP, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad.query = ~0U;
	EXPECT_EQ(-EOPNOTSUPP, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	/* A first query behind the known ones, unless there are more now. */
	bad.query = 10000;
	EXPECT_EQ(-EOPNOTSUPP, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad = info;
	bad.flags = 1;
	EXPECT_EQ(-EINVAL, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
	bad = info;
	bad.ptr = 0;
	EXPECT_EQ(-EFAULT, accel_ioctl(self->fd, ACCEL_IOCTL_INFO, &bad));
}

/* Every size from one byte to more than there is: a prefix, and zeroes. */
TEST_F(info, sizes)
{
	for (uint32_t query = 0; query < ARRAY_SIZE(known); query++) {
		unsigned char whole[512], part[512];
		uint32_t size = known[query].size;
		uint32_t kernel;

		memset(whole, 0, sizeof(whole));
		ASSERT_EQ(0,
			  accel_info(self->fd, query, 0, whole, sizeof(whole)));
		for (uint32_t n = 1; n < size + 72; n += n < 16 ? 1 : 7) {
			struct accel_info info = {
				.query = query,
				.size = n,
				.ptr = (uintptr_t)part,
			};

			memset(part, POISON, sizeof(part));
			ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_IOCTL_INFO,
						 &info));
			kernel = info.size;
			EXPECT_LE(size, kernel);
			EXPECT_EQ(0, memcmp(part, whole, n))
			TH_LOG("query %u, %u bytes", query, n);
			for (uint32_t i = kernel; i < n; i++)
				EXPECT_EQ(0, part[i]);
			for (uint32_t i = n; i < sizeof(part); i++) {
				ASSERT_EQ(POISON, part[i])
				TH_LOG("query %u, %u bytes, byte %u", query, n,
				       i);
			}
			/* in and out, the rest is as it was */
			EXPECT_EQ(query, info.query);
			EXPECT_EQ((uintptr_t)part, info.ptr);
		}
	}
}

/* An answer at the end of what can be written, and one byte too long. */
TEST_F(info, answer_at_end)
{
	struct accel_info_identity id;
	unsigned char *page;

	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(page != MAP_FAILED);
	ASSERT_EQ(0, munmap(page + 4096, 4096));
	EXPECT_EQ(0, accel_info(self->fd, ACCEL_INFO_IDENTITY, 0,
				page + 4096 - sizeof(id), sizeof(id)));
	EXPECT_EQ(-EFAULT, accel_info(self->fd, ACCEL_INFO_IDENTITY, 0,
				      page + 4097 - sizeof(id), sizeof(id)));
	/* Zeroes do not fit either. */
	EXPECT_EQ(-EFAULT, accel_info(self->fd, ACCEL_INFO_STATE, 0,
				      page + 4096 - 64, 65));
	ASSERT_EQ(0, mprotect(page, 4096, PROT_READ));
	EXPECT_EQ(-EFAULT, accel_info(self->fd, ACCEL_INFO_IDENTITY, 0, page,
				      sizeof(id)));
}

static bool clean_string(const char *s, size_t size)
{
	size_t length = strnlen(s, size);

	if (length == size)
		return false;
	for (; length < size; length++)
		if (s[length])
			return false;
	return true;
}

static unsigned long sysfs_number(const char *device, const char *name)
{
	char path[256], line[64];

	snprintf(path, sizeof(path), "%s/%s", device, name);
	if (accel_read_line(path, line, sizeof(line)))
		return ~0UL;
	return strtoul(line, NULL, 0);
}

TEST_F(info, identity)
{
	static const struct accel_info_identity identities[] = {
		[ACCEL_EDU] = { .device_class = ACCEL_CLASS_OTHER,
				.pci_vendor = 0x1234,
				.pci_device = 0x11e8,
				.uapi_name = "accel_edu",
				.driver = EDU_DRIVER },
		[ACCEL_MOCK] = { .device_class = ACCEL_CLASS_VIRTUAL,
				 .uapi_name = "accel_mock",
				 .driver = MOCK_DRIVER },
		[ACCEL_NPU] = { .device_class = ACCEL_CLASS_NPU,
				.pci_vendor = 0x1af4,
				.pci_device = 0x10f0,
				.uapi_name = "accel_npu",
				.driver = NPU_DRIVER },
	};
	const struct accel_info_identity *expected =
		&identities[accel_target()->kind];
	struct accel_info_identity id, again;
	char device[160], link[256], path[192];
	ssize_t n;

	memset(&id, POISON, sizeof(id));
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_IDENTITY, 0, &id,
				sizeof(id)));
	EXPECT_EQ(accel_target()->number, id.number);
	ASSERT_TRUE(clean_string(id.uapi_name, sizeof(id.uapi_name)));
	ASSERT_TRUE(clean_string(id.driver, sizeof(id.driver)));
	ASSERT_TRUE(clean_string(id.bus, sizeof(id.bus)));
	ASSERT_TRUE(clean_string(id.parent, sizeof(id.parent)));
	EXPECT_EQ(0, id.flags & ~(ACCEL_IDENTITY_PCI | ACCEL_IDENTITY_NUMA));
	EXPECT_EQ(0, id.function_index);
	EXPECT_EQ(ACCEL_FUNCTION_PF, id.function);
	EXPECT_LE(id.device_class, ACCEL_CLASS_VIRTUAL);
	EXPECT_STREQ(expected->uapi_name, id.uapi_name);
	EXPECT_EQ(expected->device_class, id.device_class);

	/* The parent is where it says, and the device hangs under it. */
	snprintf(device, sizeof(device), "/sys/bus/%s/devices/%s", id.bus,
		 id.parent);
	EXPECT_TRUE(accel_exists(device)) TH_LOG("%s", device);
	snprintf(path, sizeof(path), "%s/%s/accel%u", device, accel_class(),
		 id.number);
	EXPECT_TRUE(accel_exists(path)) TH_LOG("%s", path);
	snprintf(path, sizeof(path), "%s/driver", device);
	n = readlink(path, link, sizeof(link) - 1);
	ASSERT_LT(0, n);
	link[n] = '\0';
	EXPECT_STREQ(strrchr(link, '/') + 1, id.driver);

	EXPECT_EQ(expected->pci_vendor, id.pci_vendor);
	EXPECT_EQ(expected->pci_device, id.pci_device);
	if (expected->pci_vendor) {
		EXPECT_STREQ("pci", id.bus);
		EXPECT_STREQ(expected->driver, id.driver);
		ASSERT_TRUE(id.flags & ACCEL_IDENTITY_PCI);
		EXPECT_EQ(sysfs_number(device, "subsystem_vendor"),
			  id.pci_subvendor);
		EXPECT_EQ(sysfs_number(device, "subsystem_device"),
			  id.pci_subdevice);
	} else {
		EXPECT_STREQ("faux", id.bus);
		EXPECT_EQ(0, id.flags & ACCEL_IDENTITY_PCI);
	}
	if (!(id.flags & ACCEL_IDENTITY_PCI)) {
		EXPECT_EQ(0, id.pci_vendor);
		EXPECT_EQ(0, id.pci_device);
		EXPECT_EQ(0, id.pci_subvendor);
		EXPECT_EQ(0, id.pci_subdevice);
	}
	if (id.flags & ACCEL_IDENTITY_NUMA)
		EXPECT_EQ((int)sysfs_number(device, "numa_node"), id.numa_node);

	/* Constant, and the same on both nodes. */
	memset(&again, 0, sizeof(again));
	ASSERT_EQ(0, accel_info(self->compute, ACCEL_INFO_IDENTITY, 0, &again,
				sizeof(again)));
	EXPECT_EQ(0, memcmp(&id, &again, sizeof(id)));
}

TEST_F(info, state)
{
	struct accel_info_state state;
	uint64_t before;

	memset(&state, POISON, sizeof(state));
	before = accel_now();
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_STATE, 0, &state,
				sizeof(state)));
	EXPECT_EQ(ACCEL_STATE_OPERATIONAL, state.state);
	EXPECT_EQ(0, state.flags);
	EXPECT_LT(0, state.registered_ns);
	EXPECT_LE(state.registered_ns, state.since_ns);
	EXPECT_LE(state.since_ns, before);
}

TEST_F(info, registered_when)
{
	struct accel_info_state first, second;
	uint64_t before;

	/* Its own device is taken away: nothing of it may be open. */
	close(self->fd);
	close(self->compute);
	before = accel_now();
	ASSERT_EQ(0, accel_remove());
	ASSERT_EQ(0, accel_restore());
	self->compute = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->compute);
	self->fd = variant->control ? accel_open_control(O_RDONLY | O_CLOEXEC) :
				      dup(self->compute);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_STATE, 0, &first,
				sizeof(first)));
	EXPECT_LT(before, first.registered_ns);
	EXPECT_GT(accel_now(), first.registered_ns);
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_STATE, 0, &second,
				sizeof(second)));
	EXPECT_EQ(0, memcmp(&first, &second, sizeof(first)));
}

TEST_F(info, memory)
{
	struct accel_info_memory before, during, after, others;
	uint32_t handle;
	int other;

	memset(&before, POISON, sizeof(before));
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &before,
				sizeof(before)));
	EXPECT_EQ(ACCEL_MEMORY_HOST, before.kind);
	EXPECT_TRUE(before.flags & ACCEL_MEMORY_USED);
	/* The host's memory is not the device's: no total is made up. */
	EXPECT_FALSE(before.flags & ACCEL_MEMORY_TOTAL);
	EXPECT_EQ(0, before.total);
	ASSERT_EQ(0, accel_buffer_create(self->compute, 3 * MIB + 1, &handle));
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &during,
				sizeof(during)));
	EXPECT_EQ(before.used + 3 * MIB + 4096, during.used);

	/* All users: another file's count as well, until it is closed. */
	other = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &during,
				sizeof(during)));
	ASSERT_EQ(0, accel_buffer_create(other, MIB, &handle));
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &others,
				sizeof(others)));
	EXPECT_EQ(during.used + MIB, others.used);
	close(other);
	/* The first file again, for as many files may have as much of a start. */
	close(self->compute);
	if (!variant->control)
		close(self->fd);
	self->compute = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->compute);
	if (!variant->control)
		self->fd = dup(self->compute);
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &after,
				sizeof(after)));
	EXPECT_EQ(before.used, after.used);
}

TEST_F(info, memory_mapped)
{
	struct accel_info_memory before, during, after;
	uint32_t handle;
	void *map;

	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &before,
				sizeof(before)));
	map = accel_buffer_new(self->compute, MIB, &handle);
	ASSERT_TRUE(map != NULL);
	/* Destroyed, and still in use. */
	ASSERT_EQ(0, accel_buffer_destroy(self->compute, handle));
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &during,
				sizeof(during)));
	EXPECT_EQ(before.used + MIB, during.used);
	ASSERT_EQ(0, munmap(map, MIB));
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &after,
				sizeof(after)));
	EXPECT_EQ(before.used, after.used);
}

TEST_F(info, opens)
{
	struct accel_info_opens before, during, after;
	int files[5];

	memset(&before, POISON, sizeof(before));
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_OPENS, 0, &before,
				sizeof(before)));
	EXPECT_LE(1, before.compute_now);
	EXPECT_LE(before.compute_now, before.compute_total);
	EXPECT_LE(before.control_now, before.control_total);
	EXPECT_EQ(variant->control, before.control_now > 0);
	for (int i = 0; i < 3; i++) {
		files[i] = accel_open(O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, files[i]);
	}
	for (int i = 3; i < 5; i++) {
		files[i] = accel_open_control(O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, files[i]);
	}
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_OPENS, 0, &during,
				sizeof(during)));
	EXPECT_EQ(before.compute_now + 3, during.compute_now);
	EXPECT_EQ(before.compute_total + 3, during.compute_total);
	EXPECT_EQ(before.control_now + 2, during.control_now);
	EXPECT_EQ(before.control_total + 2, during.control_total);
	/* A file that is open twice is one file. */
	ASSERT_LE(0, dup2(files[0], files[1]));
	for (int i = 0; i < 5; i++)
		close(files[i]);
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_OPENS, 0, &after,
				sizeof(after)));
	EXPECT_EQ(before.compute_now, after.compute_now);
	EXPECT_EQ(before.control_now, after.control_now);
	EXPECT_EQ(during.compute_total, after.compute_total);
	EXPECT_EQ(during.control_total, after.control_total);
}

TEST_F(info, fdinfo)
{
	struct accel_info_identity id;
	char path[64], line[256], driver[64] = "";
	uint32_t handle;
	FILE *file;

	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_IDENTITY, 0, &id,
				sizeof(id)));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->compute);
	file = fopen(path, "re");
	ASSERT_TRUE(file != NULL);
	while (fgets(line, sizeof(line), file))
		sscanf(line, "accel-driver: %63s", driver);
	fclose(file);
	EXPECT_STREQ(id.driver, driver);
	EXPECT_EQ(id.number, accel_fdinfo(self->compute, "accel-number"));
	EXPECT_EQ(0, accel_fdinfo(self->compute, "accel-buffers"));
	EXPECT_EQ(0, accel_fdinfo(self->compute, "accel-buffer-bytes"));
	ASSERT_EQ(0, accel_buffer_create(self->compute, 5000, &handle));
	EXPECT_EQ(1, accel_fdinfo(self->compute, "accel-buffers"));
	EXPECT_EQ(8192, accel_fdinfo(self->compute, "accel-buffer-bytes"));
	ASSERT_EQ(0, accel_buffer_create(self->compute, 4096, &handle));
	EXPECT_EQ(2, accel_fdinfo(self->compute, "accel-buffers"));
	EXPECT_EQ(12288, accel_fdinfo(self->compute, "accel-buffer-bytes"));
	ASSERT_EQ(0, accel_buffer_destroy(self->compute, handle));
	EXPECT_EQ(1, accel_fdinfo(self->compute, "accel-buffers"));
	EXPECT_EQ(8192, accel_fdinfo(self->compute, "accel-buffer-bytes"));
}

/* A monitor needs no right to write, and sees no more for having one. */
TEST_F(info, read_only_open)
{
	struct accel_info_state state;
	int fd;

	fd = variant->control ? accel_open_control(O_RDONLY) :
				accel_open(O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0,
		  accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state)));
	close(fd);
}

TEST_HARNESS_MAIN
