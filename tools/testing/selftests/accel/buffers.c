// SPDX-License-Identifier: GPL-2.0
/* Buffers of host memory: what they are, how long they live, how they map. */

#include "accel_test.h"
#include "kselftest_harness.h"

#include <linux/memfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/uio.h>

FIXTURE(buffers)
{
	int fd;
};

FIXTURE_SETUP(buffers)
{
	ASSERT_TRUE(accel_target() != NULL);
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(buffers)
{
	close(self->fd);
}

static bool all(const unsigned char *p, size_t size, unsigned char byte)
{
	return !size || (p[0] == byte && !memcmp(p, p + 1, size - 1));
}

TEST_F(buffers, sizes)
{
	static const struct {
		uint64_t size;
		uint64_t rounded;
	} good[] = {
		{ 1, 4096 },
		{ 4095, 4096 },
		{ 4096, 4096 },
		{ 4097, 8192 },
		{ 2 * MIB - 1, 2 * MIB },
		{ 2 * MIB, 2 * MIB },
		{ 2 * MIB + 1, 2 * MIB + 4096 },
		{ 32 * MIB, 32 * MIB },
	};
	static const uint64_t bad[] = {
		0,
		ACCEL_BUFFER_SIZE_MAX + 1,
		ACCEL_BUFFER_SIZE_MAX + 4096,
		1ULL << 44,
		1ULL << 63,
		~0ULL - 4095,
		~0ULL,
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct accel_buffer_create create = { .size = good[i].size };
		uint64_t offset, size;

		ASSERT_EQ(0, accel_ioctl(self->fd, ACCEL_IOCTL_BUFFER_CREATE,
					 &create));
		EXPECT_EQ(good[i].rounded, create.size);
		EXPECT_EQ(0, create.flags);
		EXPECT_NE(0, create.handle);
		ASSERT_EQ(0, accel_buffer_mmap(self->fd, create.handle, &offset,
					       &size));
		EXPECT_EQ(good[i].rounded, size);
		EXPECT_EQ((int64_t)size,
			  accel_fdinfo(self->fd, "accel-buffer-bytes"));
		EXPECT_EQ(0, accel_buffer_destroy(self->fd, create.handle));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct accel_buffer_create create = { .size = bad[i] };

		EXPECT_EQ(-EINVAL,
			  accel_ioctl(self->fd, ACCEL_IOCTL_BUFFER_CREATE,
				      &create))
		TH_LOG("size %#llx", (unsigned long long)bad[i]);
	}
	EXPECT_EQ(0, accel_fdinfo(self->fd, "accel-buffers"));
}

/* Whoever had the pages before: nothing of theirs is seen. */
TEST_F(buffers, zeroed)
{
	static const size_t sizes[] = { 4096, 64 * KIB, 2 * MIB, 3 * MIB };
	uint32_t handle;

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			unsigned char *map;

			map = accel_buffer_new(self->fd, sizes[i], &handle);
			ASSERT_TRUE(map != NULL);
			EXPECT_TRUE(all(map, sizes[i], 0));
			memset(map, 0xa5, sizes[i]);
			munmap(map, sizes[i]);
			ASSERT_EQ(0, accel_buffer_destroy(self->fd, handle));
		}
	}
}

TEST_F(buffers, destroy)
{
	uint64_t offset;
	uint32_t first, second, timeline;

	ASSERT_EQ(0, accel_buffer_create(self->fd, 4096, &first));
	ASSERT_EQ(0, accel_buffer_create(self->fd, 4096, &second));
	EXPECT_NE(first, second);
	EXPECT_EQ(0, accel_buffer_destroy(self->fd, first));
	EXPECT_EQ(-ENOENT, accel_buffer_destroy(self->fd, first));
	EXPECT_EQ(-ENOENT, accel_buffer_mmap(self->fd, first, &offset, NULL));
	EXPECT_EQ(0, accel_buffer_mmap(self->fd, second, &offset, NULL));
	EXPECT_EQ(-ENOENT, accel_buffer_destroy(self->fd, 0));
	EXPECT_EQ(-ENOENT, accel_buffer_destroy(self->fd, ~0U));
	EXPECT_EQ(-ENOENT, accel_buffer_mmap(self->fd, 0, &offset, NULL));
	EXPECT_EQ(-ENOENT, accel_buffer_mmap(self->fd, ~0U, &offset, NULL));
	EXPECT_EQ(0, accel_buffer_destroy(self->fd, second));
	/* A handle of the other kind is no buffer. */
	ASSERT_EQ(0, accel_timeline_create(self->fd, &timeline));
	EXPECT_EQ(-ENOENT, accel_buffer_destroy(self->fd, timeline));
	EXPECT_EQ(0, accel_timeline_destroy(self->fd, timeline));
}

TEST_F(buffers, destroy_while_mapped)
{
	struct accel_info_memory memory, before;
	unsigned char *map, *others[8];
	uint64_t offset;
	uint32_t handle;

	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &before,
				sizeof(before)));
	map = accel_buffer_new(self->fd, 64 * KIB, &handle);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, handle, &offset, NULL));
	memset(map, 1, 32 * KIB);
	ASSERT_EQ(0, accel_buffer_destroy(self->fd, handle));
	/* What was not touched before is there as well. */
	EXPECT_TRUE(all(map, 32 * KIB, 1));
	memset(map + 32 * KIB, 2, 32 * KIB);
	EXPECT_TRUE(all(map + 32 * KIB, 32 * KIB, 2));
	/* Nothing new is made of it. */
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 4096, PROT_READ,
					    MAP_SHARED, offset));
	/* A neighbour does not get the pages. */
	for (int i = 0; i < 8; i++) {
		others[i] = accel_buffer_new(self->fd, 64 * KIB, &handle);
		ASSERT_TRUE(others[i] != NULL);
		memset(others[i], 3, 64 * KIB);
	}
	EXPECT_TRUE(all(map, 32 * KIB, 1));
	EXPECT_TRUE(all(map + 32 * KIB, 32 * KIB, 2));

	/* The mapping keeps them when the file is closed as well. */
	close(self->fd);
	EXPECT_TRUE(all(map, 32 * KIB, 1));
	memset(map, 4, 64 * KIB);
	munmap(map, 64 * KIB);
	for (int i = 0; i < 8; i++) {
		EXPECT_TRUE(all(others[i], 64 * KIB, 3));
		munmap(others[i], 64 * KIB);
	}
	self->fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, accel_info(self->fd, ACCEL_INFO_MEMORY, 0, &memory,
				sizeof(memory)));
	EXPECT_EQ(before.used, memory.used);
}

TEST_F(buffers, offsets)
{
	enum { COUNT = 64 };
	uint64_t offset[COUNT], size[COUNT];

	for (int i = 0; i < COUNT; i++) {
		uint32_t handle;

		ASSERT_EQ(0, accel_buffer_create(self->fd,
						 i % 8 ? (i % 5 + 1) * 4096 :
							 2 * MIB + i * 4096,
						 &handle));
		ASSERT_EQ(0, accel_buffer_mmap(self->fd, handle, &offset[i],
					       &size[i]));
		EXPECT_LE(ACCEL_MMAP_BUFFERS, offset[i]);
		EXPECT_LE(offset[i] + size[i], 1ULL << 44);
		EXPECT_EQ(0, offset[i] % 4096);
		if (size[i] >= 2 * MIB)
			EXPECT_EQ(0, offset[i] % (2 * MIB));
		for (int j = 0; j < i; j++) {
			EXPECT_TRUE(offset[i] + size[i] <= offset[j] ||
				    offset[j] + size[j] <= offset[i]);
		}
	}
}

TEST_F(buffers, mmap_errors)
{
	const int rw = PROT_READ | PROT_WRITE;
	uint64_t offset, size, other_offset;
	uint32_t handle, other_handle;
	int fd, ro;

	ASSERT_EQ(0, accel_buffer_create(self->fd, 16384, &handle));
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, handle, &offset, &size));
	EXPECT_EQ(0, accel_mmap_errno(self->fd, 16384, rw, MAP_SHARED, offset));
	EXPECT_EQ(-EINVAL,
		  accel_mmap_errno(self->fd, 16384, rw, MAP_PRIVATE, offset));
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 4096, PROT_READ,
					    MAP_PRIVATE, offset));
	EXPECT_EQ(-EACCES,
		  accel_mmap_errno(self->fd, 4096, PROT_READ | PROT_EXEC,
				   MAP_SHARED, offset));
	/* Beyond the end, by a page and by far. */
	EXPECT_EQ(-EINVAL,
		  accel_mmap_errno(self->fd, 20480, rw, MAP_SHARED, offset));
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 8192, rw, MAP_SHARED,
					    offset + 12288));
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 4096, rw, MAP_SHARED,
					    offset + 16384));
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 8192, rw, MAP_SHARED,
					    offset - 4096));
	EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 4096, rw, MAP_SHARED,
					    (1ULL << 44) - 4096));
	EXPECT_EQ(0, accel_mmap_errno(self->fd, 4096, rw, MAP_SHARED,
				      offset + 12288));

	/* Another file's buffers are not there. */
	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EINVAL, accel_mmap_errno(fd, 4096, rw, MAP_SHARED, offset));
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, accel_buffer_create(fd, 65536, &other_handle));
	ASSERT_EQ(0, accel_buffer_mmap(fd, other_handle, &other_offset, NULL));
	if (other_offset != offset) {
		EXPECT_EQ(-EINVAL, accel_mmap_errno(self->fd, 65536, rw,
						    MAP_SHARED, other_offset));
	}
	close(fd);

	/* The file's mode bounds the mapping's. */
	ro = accel_open(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ro);
	ASSERT_EQ(0, accel_buffer_create(ro, 4096, &handle));
	ASSERT_EQ(0, accel_buffer_mmap(ro, handle, &offset, NULL));
	EXPECT_EQ(0, accel_mmap_errno(ro, 4096, PROT_READ, MAP_SHARED, offset));
	EXPECT_EQ(-EACCES, accel_mmap_errno(ro, 4096, rw, MAP_SHARED, offset));
	close(ro);
}

TEST_F(buffers, mprotect)
{
	uint32_t handle;
	uint64_t offset;
	unsigned char *map;
	int ro;

	map = accel_buffer_new(self->fd, 8192, &handle);
	ASSERT_TRUE(map != NULL);
	map[0] = 7;
	EXPECT_EQ(-1, mprotect(map, 4096, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, mprotect(map, 4096, PROT_READ));
	EXPECT_EQ(SIGSEGV, accel_touch_write(map));
	EXPECT_EQ(0, accel_touch(map));
	EXPECT_EQ(0, accel_touch_write(map + 4096));
	EXPECT_EQ(0, mprotect(map, 4096, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, accel_touch_write(map));
	EXPECT_EQ(7, map[0]);

	ro = accel_open(O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ro);
	ASSERT_EQ(0, accel_buffer_create(ro, 4096, &handle));
	ASSERT_EQ(0, accel_buffer_mmap(ro, handle, &offset, NULL));
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, offset);
	ASSERT_TRUE(map != MAP_FAILED);
	EXPECT_EQ(0, accel_touch(map));
	EXPECT_EQ(-1, mprotect(map, 4096, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	close(ro);
}

TEST_F(buffers, parts)
{
	unsigned char *map, *part;
	uint32_t handle;
	uint64_t offset;

	map = accel_buffer_new(self->fd, 64 * KIB, &handle);
	ASSERT_TRUE(map != NULL);
	for (int i = 0; i < 16; i++)
		memset(map + i * 4096, i, 4096);
	ASSERT_EQ(0, accel_buffer_mmap(self->fd, handle, &offset, NULL));
	for (int i = 0; i < 16; i++) {
		part = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			    self->fd, offset + i * 4096);
		ASSERT_TRUE(part != MAP_FAILED);
		EXPECT_TRUE(all(part, 4096, i));
		part[0] = 0x80 + i;
		EXPECT_EQ(0x80 + i, map[i * 4096]);
		munmap(part, 4096);
	}
	/* A hole in the middle: both ends stay, the hole is none of theirs. */
	ASSERT_EQ(0, munmap(map + 4 * 4096, 4096));
	EXPECT_EQ(SIGSEGV, accel_touch(map + 4 * 4096));
	EXPECT_EQ(0x83, map[3 * 4096]);
	EXPECT_EQ(0x85, map[5 * 4096]);
	part = mmap(map + 4 * 4096, 4096, PROT_READ, MAP_SHARED | MAP_FIXED,
		    self->fd, offset + 4 * 4096);
	ASSERT_TRUE(part == map + 4 * 4096);
	EXPECT_EQ(0x84, part[0]);
	munmap(map, 64 * KIB);
}

TEST_F(buffers, mremap)
{
	unsigned char *map, *place, *moved;
	uint32_t handle;

	map = accel_buffer_new(self->fd, 32 * KIB, &handle);
	ASSERT_TRUE(map != NULL);
	memset(map, 1, 16 * KIB);
	/* Growing would reach what is not the buffer. */
	EXPECT_TRUE(mremap(map, 32 * KIB, 64 * KIB, 0) == MAP_FAILED);
	moved = mremap(map, 32 * KIB, 64 * KIB, MREMAP_MAYMOVE);
	ASSERT_TRUE(moved == MAP_FAILED);
	EXPECT_EQ(EFAULT, errno);
	place = mmap(NULL, 32 * KIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	ASSERT_TRUE(place != MAP_FAILED);
	moved = mremap(map, 32 * KIB, 32 * KIB, MREMAP_MAYMOVE | MREMAP_FIXED,
		       place);
	ASSERT_TRUE(place == moved);
	EXPECT_EQ(SIGSEGV, accel_touch(map));
	EXPECT_TRUE(all(moved, 16 * KIB, 1));
	EXPECT_TRUE(all(moved + 16 * KIB, 16 * KIB, 0));
	memset(moved + 16 * KIB, 2, 16 * KIB);
	ASSERT_TRUE(mremap(moved, 32 * KIB, 20 * KIB, 0) == moved);
	EXPECT_TRUE(all(moved + 16 * KIB, 4 * KIB, 2));
	EXPECT_EQ(SIGSEGV, accel_touch(moved + 20 * KIB));
	/* The move did not lose the buffer or count it twice. */
	munmap(moved, 20 * KIB);
	map = accel_buffer_map(self->fd, handle, 32 * KIB, PROT_READ);
	ASSERT_TRUE(map != NULL);
	EXPECT_TRUE(all(map + 16 * KIB, 16 * KIB, 2));
	munmap(map, 32 * KIB);
	EXPECT_EQ(0, accel_buffer_destroy(self->fd, handle));
	EXPECT_EQ(0, accel_fdinfo(self->fd, "accel-buffer-bytes"));
}

TEST_F(buffers, fork)
{
	unsigned char *map;
	uint32_t handle;
	int status;
	pid_t pid;

	map = accel_buffer_new(self->fd, 16 * KIB, &handle);
	ASSERT_TRUE(map != NULL);
	map[0] = 1;
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Both a page that was touched and one that was not. */
		int bad = map[0] != 1 || map[8192] != 0;

		map[0] = 2;
		map[8192] = 3;
		munmap(map, 16 * KIB);
		_exit(bad);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(2, map[0]);
	EXPECT_EQ(3, map[8192]);
	map[4096] = 4;
	EXPECT_EQ(4, map[4096]);
}

TEST_F(buffers, madvise)
{
	unsigned char *map;
	uint32_t handle;
	int ret;

	map = accel_buffer_new(self->fd, 64 * KIB, &handle);
	ASSERT_TRUE(map != NULL);
	memset(map, 9, 64 * KIB);
	/* Taken or refused, it is not anonymous memory that could be lost. */
	ret = madvise(map, 64 * KIB, MADV_DONTNEED);
	EXPECT_TRUE(ret == 0 || errno == EINVAL);
	EXPECT_TRUE(all(map, 64 * KIB, 9));
	ret = madvise(map, 64 * KIB, MADV_REMOVE);
	EXPECT_NE(0, ret);
	EXPECT_TRUE(all(map, 64 * KIB, 9));
	ret = madvise(map, 64 * KIB, MADV_FREE);
	EXPECT_TRUE(all(map, 64 * KIB, 9));
	msync(map, 64 * KIB, MS_SYNC);
	EXPECT_TRUE(all(map, 64 * KIB, 9));
}

/* Memory that is not the kernel's to pin: refused, not misused. */
TEST_F(buffers, pinning)
{
	unsigned char byte = 0, *map;
	struct iovec local = { &byte, 1 }, remote;
	uint32_t handle;
	int pipes[2];
	off_t at;
	int mem;

	map = accel_buffer_new(self->fd, 8192, &handle);
	ASSERT_TRUE(map != NULL);
	map[5000] = 42;
	remote.iov_base = map;
	remote.iov_len = 4096;
	ASSERT_EQ(0, pipe(pipes));
	EXPECT_EQ(-1, vmsplice(pipes[1], &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	remote.iov_base = map + 5000;
	remote.iov_len = 1;
	EXPECT_EQ(-1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);

	/* What copies is welcome. */
	ASSERT_EQ(1, write(pipes[1], map + 5000, 1));
	ASSERT_EQ(1, read(pipes[0], &byte, 1));
	EXPECT_EQ(42, byte);
	ASSERT_EQ(1, write(pipes[1], "x", 1));
	ASSERT_EQ(1, read(pipes[0], map + 100, 1));
	EXPECT_EQ('x', map[100]);

	/* So is a debugger, across pages too. */
	mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, mem);
	at = (uintptr_t)map + 5000;
	byte = 0;
	EXPECT_EQ(1, pread(mem, &byte, 1, at));
	EXPECT_EQ(42, byte);
	EXPECT_EQ(4, pwrite(mem, "abcd", 4, (uintptr_t)map + 4094));
	EXPECT_EQ(0, memcmp(map + 4094, "abcd", 4));
	close(mem);
	close(pipes[0]);
	close(pipes[1]);
}

/* A window of many pages a fault. */
TEST_F(buffers, faults)
{
	struct rusage before, after;
	unsigned char *map;
	uint32_t handle;
	int sum = 0;

	map = accel_buffer_new(self->fd, 4 * MIB, &handle);
	ASSERT_TRUE(map != NULL);
	getrusage(RUSAGE_SELF, &before);
	for (size_t i = 0; i < 512; i++)
		sum += map[i * 4096];
	getrusage(RUSAGE_SELF, &after);
	EXPECT_EQ(0, sum);
	EXPECT_GE(4, after.ru_minflt - before.ru_minflt);
	getrusage(RUSAGE_SELF, &before);
	for (size_t i = 512; i < 1024; i++)
		map[i * 4096] = 1;
	getrusage(RUSAGE_SELF, &after);
	EXPECT_GE(4, after.ru_minflt - before.ru_minflt);
	EXPECT_GE(0, after.ru_majflt - before.ru_majflt);
}

/* The answer of a call goes into a page that only its fault handler makes. */
TEST_F(buffers, argument_in_buffer)
{
	struct accel_info_state *state;
	struct accel_buffer_create *create;
	uint32_t handle;
	unsigned char *map;

	map = accel_buffer_new(self->fd, 8 * MIB, &handle);
	ASSERT_TRUE(map != NULL);
	state = (void *)(map + 4 * MIB);
	EXPECT_EQ(0, accel_info(self->fd, ACCEL_INFO_STATE, 0, state,
				sizeof(*state)));
	EXPECT_NE(0, state->registered_ns);
	create = (void *)(map + 2 * MIB);
	EXPECT_EQ(-EINVAL,
		  accel_ioctl(self->fd, ACCEL_IOCTL_BUFFER_CREATE, create));
	create->size = 4096;
	EXPECT_EQ(0, accel_ioctl(self->fd, ACCEL_IOCTL_BUFFER_CREATE, create));
	EXPECT_NE(0, create->handle);
}

TEST_F(buffers, many)
{
	enum { COUNT = 1000 };
	uint32_t handles[COUNT];
	unsigned char *map;

	for (int i = 0; i < COUNT; i++) {
		ASSERT_EQ(0, accel_buffer_create(self->fd, 4096, &handles[i]));
		map = accel_buffer_map(self->fd, handles[i], 4096,
				       PROT_READ | PROT_WRITE);
		ASSERT_TRUE(map != NULL);
		*(int *)map = i;
		munmap(map, 4096);
	}
	EXPECT_EQ(COUNT, accel_fdinfo(self->fd, "accel-buffers"));
	EXPECT_EQ(COUNT * 4096, accel_fdinfo(self->fd, "accel-buffer-bytes"));
	/* Every other one goes; the rest is what it was. */
	for (int i = 0; i < COUNT; i += 2)
		ASSERT_EQ(0, accel_buffer_destroy(self->fd, handles[i]));
	for (int i = 1; i < COUNT; i += 2) {
		map = accel_buffer_map(self->fd, handles[i], 4096, PROT_READ);
		ASSERT_TRUE(map != NULL);
		ASSERT_EQ(i, *(int *)map);
		munmap(map, 4096);
	}
	EXPECT_EQ(COUNT / 2, accel_fdinfo(self->fd, "accel-buffers"));
}

struct hammer {
	int fd;
	uint32_t *handle;
	bool *stop;
	int bad;
};

static void *hammer_destroy(void *data)
{
	struct hammer *hammer = data;

	while (!__atomic_load_n(hammer->stop, __ATOMIC_RELAXED)) {
		int ret = accel_buffer_destroy(hammer->fd, *hammer->handle);

		if (ret && ret != -ENOENT)
			hammer->bad = ret;
	}
	return NULL;
}

/* Handles are guessed and destroyed by another thread all the time. */
TEST_F(buffers, destroy_races)
{
	uint32_t handle = 1;
	bool stop = false;
	struct hammer hammer = { self->fd, &handle, &stop, 0 };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, hammer_destroy, &hammer));
	for (int i = 0; i < 300; i++) {
		uint64_t offset;
		void *map;
		int ret;

		ASSERT_EQ(0, accel_buffer_create(self->fd, 8192, &handle));
		ret = accel_buffer_mmap(self->fd, handle, &offset, NULL);
		ASSERT_TRUE(ret == 0 || ret == -ENOENT);
		if (ret)
			continue;
		map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED,
			   self->fd, offset);
		ASSERT_TRUE(map != MAP_FAILED || errno == EINVAL);
		if (map == MAP_FAILED)
			continue;
		ASSERT_EQ(0, accel_touch_write(map));
		munmap(map, 8192);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, hammer.bad);
}

#define CGROUP "/sys/fs/cgroup"
#define GROUP CGROUP "/accel-buffers"

static long long group_current(void)
{
	char line[64];

	if (accel_read_line(GROUP "/memory.current", line, sizeof(line)))
		return -1;
	return atoll(line);
}

/* What a buffer takes is its creator's, and is given back with the file. */
TEST_F(buffers, charged)
{
	long long before, during, after;
	char number[32];
	uint32_t handle;
	int fd, status;
	pid_t pid;

	if (!accel_exists(CGROUP "/cgroup.controllers"))
		ASSERT_EQ(0, mount("cgroup2", CGROUP, "cgroup2", 0, NULL));
	accel_write_line(CGROUP "/cgroup.subtree_control", "+memory");
	ASSERT_TRUE(!mkdir(GROUP, 0755) || errno == EEXIST);
	ASSERT_TRUE(accel_exists(GROUP "/memory.max"));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		snprintf(number, sizeof(number), "%d", getpid());
		if (accel_write_line(GROUP "/cgroup.procs", number))
			_exit(1);
		fd = accel_open(O_RDWR | O_CLOEXEC);
		if (fd < 0)
			_exit(2);
		before = group_current();
		if (accel_buffer_create(fd, 8 * MIB, &handle))
			_exit(3);
		during = group_current();
		close(fd);
		after = group_current();
		/* Charges are counted in batches of some pages. */
		if (during - before < (long long)(7 * MIB))
			_exit(4);
		if (after - before > (long long)MIB)
			_exit(5);
		/* More than the group may have: refused, and nobody killed. */
		if (accel_write_line(GROUP "/memory.max", "16777216"))
			_exit(6);
		fd = accel_open(O_RDWR | O_CLOEXEC);
		if (fd < 0)
			_exit(7);
		if (accel_buffer_create(fd, 64 * MIB, &handle) != -ENOMEM)
			_exit(8);
		/* The greatest size is a size. */
		if (accel_buffer_create(fd, ACCEL_BUFFER_SIZE_MAX, &handle) !=
		    -ENOMEM)
			_exit(9);
		if (accel_buffer_create(fd, MIB, &handle))
			_exit(10);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	for (int i = 0; i < 50 && rmdir(GROUP) && errno == EBUSY; i++)
		accel_sleep_ms(20);
	EXPECT_FALSE(accel_exists(GROUP));
}

TEST_HARNESS_MAIN
