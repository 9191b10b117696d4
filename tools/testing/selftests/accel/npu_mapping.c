// SPDX-License-Identifier: GPL-2.0
/*
 * Device addresses: what can be mapped where, what a job sees there, and what
 * is left when it is unmapped.
 */

#include "kselftest_harness.h"
#include "npu.h"

#define PAGE 4096UL
#define RO ACCEL_NPU_MAP_READ
#define WO ACCEL_NPU_MAP_WRITE

FIXTURE(npu_mapping)
{
	struct npu npu;
	/* Where jobs put what they read. */
	unsigned char *out;
};

#define OUT 0x30000000ULL
#define OUT_SIZE (8 * MIB)

FIXTURE_SETUP(npu_mapping)
{
	ASSERT_EQ(0, npu_open(&self->npu));
	self->out = npu_memory(&self->npu, OUT_SIZE, OUT, NPU_RW);
	ASSERT_TRUE(self->out != NULL);
}

FIXTURE_TEARDOWN(npu_mapping)
{
	npu_close(&self->npu);
	EXPECT_EQ(0, npu_healthy());
}

/* Each word of a buffer says where it is. */
static void pattern(void *map, size_t size, uint32_t seed)
{
	uint32_t *word = map;

	for (size_t i = 0; i < size / 4; i++)
		word[i] = seed + i * 2654435761U;
}

/* Whether the device reads the pattern, from some byte of it on. */
static int reads(FIXTURE_DATA(npu_mapping) * self, uint64_t address,
		 size_t size, uint32_t seed, size_t from)
{
	const uint32_t *word = (void *)self->out;
	int ret;

	memset(self->out, 0xee, size);
	ret = npu_run_one(&self->npu, npu_copy(OUT, address, size));
	if (ret)
		return ret;
	for (size_t i = 0; i < size / 4; i++)
		if (word[i] != (uint32_t)(seed + (i + from / 4) * 2654435761U))
			return -EBADMSG;
	return 0;
}

static int64_t faults(FIXTURE_DATA(npu_mapping) * self,
		      struct accel_npu_command command)
{
	struct accel_npu_error error;
	int ret;

	ret = npu_run_one(&self->npu, command);
	if (ret != -EFAULT)
		return ret < 0 ? ret : -EBADMSG;
	ret = npu_error(&self->npu, &error);
	if (ret)
		return ret;
	return error.kind == ACCEL_NPU_ERROR_FAULT ? (int64_t)error.address :
						     -EBADMSG;
}

/* A read, or a write, of four bytes there faults there. */
static bool unreadable(FIXTURE_DATA(npu_mapping) * self, uint64_t address)
{
	return faults(self, npu_copy(OUT, address, 4)) == (int64_t)address;
}

static bool unwritable(FIXTURE_DATA(npu_mapping) * self, uint64_t address)
{
	return faults(self, npu_fill(address, 4, 1)) == (int64_t)address;
}

TEST_F(npu_mapping, errors)
{
	const struct accel_npu_map good = {
		.flags = NPU_RW,
		.size = 4 * PAGE,
		.address = NPU_FREE,
	};
	struct accel_npu_map map;
	uint32_t buffer, timeline;

	ASSERT_EQ(0, accel_buffer_create(self->npu.fd, 8 * PAGE, &buffer));
	ASSERT_EQ(0, accel_timeline_create(self->npu.fd, &timeline));
#define TRY(result, field, value)                                         \
	do {                                                              \
		map = good;                                               \
		map.buffer = buffer;                                      \
		map.field = (value);                                      \
		EXPECT_EQ(result, accel_ioctl(self->npu.fd,               \
					      ACCEL_NPU_IOCTL_MAP, &map)) \
		TH_LOG(#field " %#llx", (unsigned long long)(value));     \
	} while (0)
	TRY(-ENOENT, buffer, 0);
	TRY(-ENOENT, buffer, ~0U);
	TRY(-ENOENT, buffer, buffer + 1000);
	TRY(-EINVAL, flags, 0);
	TRY(-EINVAL, flags, NPU_RW | 8);
	TRY(-EINVAL, flags, NPU_RW | 1U << 31);
	/* Device memory with a buffer. */
	TRY(-EINVAL, flags, NPU_RW | ACCEL_NPU_MAP_DEVICE);
	TRY(-EINVAL, size, 0);
	TRY(-EINVAL, size, 1);
	TRY(-EINVAL, size, PAGE - 1);
	TRY(-EINVAL, size, PAGE + 8);
	TRY(-EINVAL, size, ~0ULL);
	TRY(-EINVAL, offset, 1);
	TRY(-EINVAL, offset, PAGE - 1);
	TRY(-EINVAL, offset, 64);
	TRY(-EINVAL, address, NPU_FREE + 1);
	TRY(-EINVAL, address, NPU_FREE + 2048);
	/* Beyond the buffer, by a page and by far, and around. */
	TRY(-ERANGE, size, 9 * PAGE);
	TRY(-ERANGE, size, 1ULL << 40);
	TRY(-ERANGE, size, -PAGE);
	TRY(-ERANGE, offset, 5 * PAGE);
	TRY(-ERANGE, offset, 8 * PAGE);
	TRY(-ERANGE, offset, 1ULL << 63);
	TRY(-ERANGE, offset, -PAGE);
	TRY(-ERANGE, offset, -4 * PAGE);
	/* Beyond the address space. */
	TRY(-ERANGE, address, 0);
	TRY(-ERANGE, address, PAGE);
	TRY(-ERANGE, address, ACCEL_NPU_ADDRESS_MIN - PAGE);
	TRY(-ERANGE, address, ACCEL_NPU_ADDRESS_MIN - 4 * PAGE);
	TRY(-ERANGE, address, ACCEL_NPU_ADDRESS_END);
	TRY(-ERANGE, address, ACCEL_NPU_ADDRESS_END - PAGE);
	TRY(-ERANGE, address, ACCEL_NPU_ADDRESS_END - 3 * PAGE);
	TRY(-ERANGE, address, ACCEL_NPU_ADDRESS_END + NPU_FREE);
	TRY(-ERANGE, address, 1ULL << 63);
	TRY(-ERANGE, address, -PAGE);
	TRY(-ERANGE, address, -4 * PAGE);
	/* A timeline's handle, where it is not a buffer's as well. */
	if (timeline != buffer)
		TRY(-ENOENT, buffer, timeline);
#undef TRY
	map = good;
	map.flags = NPU_RW | ACCEL_NPU_MAP_DEVICE;
	map.offset = PAGE;
	EXPECT_EQ(-EINVAL,
		  accel_ioctl(self->npu.fd, ACCEL_NPU_IOCTL_MAP, &map));
	map.offset = 0;
	map.size = 1ULL << 35;
	EXPECT_EQ(-ENOSPC,
		  accel_ioctl(self->npu.fd, ACCEL_NPU_IOCTL_MAP, &map));
	/* Nothing of that mapped anything. */
	EXPECT_EQ(-ENOENT, npu_unmap(&self->npu, NPU_FREE,
				     ACCEL_NPU_ADDRESS_END - NPU_FREE));
}

/* The lowest and the highest address are addresses. */
TEST_F(npu_mapping, ends)
{
	const uint64_t high = ACCEL_NPU_ADDRESS_END - PAGE;
	const uint64_t low = ACCEL_NPU_ADDRESS_MIN;
	uint32_t *map;

	map = npu_memory(&self->npu, PAGE, high, NPU_RW);
	ASSERT_TRUE(map != NULL);
	pattern(map, PAGE, 5);
	EXPECT_EQ(0, reads(self, high, PAGE, 5, 0));
	EXPECT_EQ(0, npu_run_one(&self->npu, npu_fill(high + PAGE - 1, 1, 7)));
	EXPECT_EQ(7, map[PAGE / 4 - 1] >> 24);
	/* The list of the fixture is at the lowest. */
	EXPECT_EQ(-EEXIST, npu_map_device(&self->npu, RO, PAGE, low));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, low - PAGE, PAGE));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, low - PAGE, 2 * PAGE));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, high, 2 * PAGE));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, high + PAGE, PAGE));
	EXPECT_EQ(0, npu_unmap(&self->npu, high, PAGE));
	EXPECT_TRUE(unreadable(self, high));
}

TEST_F(npu_mapping, overlap)
{
	const uint64_t at = NPU_FREE + 8 * PAGE;
	uint32_t buffer;
	uint32_t *map;

	map = accel_buffer_new(self->npu.fd, 16 * PAGE, &buffer);
	ASSERT_TRUE(map != NULL);
	pattern(map, 16 * PAGE, 1);
	ASSERT_EQ(0, npu_map(&self->npu, buffer, NPU_RW, 0, 4 * PAGE, at));
	/* The same, its parts, more than it, its edges. */
	EXPECT_EQ(-EEXIST,
		  npu_map(&self->npu, buffer, NPU_RW, 0, 4 * PAGE, at));
	EXPECT_EQ(-EEXIST, npu_map(&self->npu, buffer, NPU_RW, 0, PAGE, at));
	EXPECT_EQ(-EEXIST,
		  npu_map(&self->npu, buffer, NPU_RW, 0, PAGE, at + 3 * PAGE));
	EXPECT_EQ(-EEXIST,
		  npu_map(&self->npu, buffer, NPU_RW, 0, 2 * PAGE, at - PAGE));
	EXPECT_EQ(-EEXIST, npu_map(&self->npu, buffer, NPU_RW, 0, 2 * PAGE,
				   at + 3 * PAGE));
	EXPECT_EQ(-EEXIST, npu_map(&self->npu, buffer, NPU_RW, 0, 16 * PAGE,
				   at - 4 * PAGE));
	EXPECT_EQ(-EEXIST,
		  npu_map_device(&self->npu, NPU_RW, HUGE_PAGE, NPU_FREE));
	/* What was refused left nothing: neighbours fit, and it still reads. */
	EXPECT_EQ(0, npu_map(&self->npu, buffer, NPU_RW, 4 * PAGE, 8 * PAGE,
			     at - 8 * PAGE));
	EXPECT_EQ(0, npu_map(&self->npu, buffer, NPU_RW, 12 * PAGE, 4 * PAGE,
			     at + 4 * PAGE));
	EXPECT_EQ(0, reads(self, at, 4 * PAGE, 1, 0));
	EXPECT_EQ(0, reads(self, at - 8 * PAGE, 8 * PAGE, 1, 4 * PAGE));
	EXPECT_EQ(0, reads(self, at + 4 * PAGE, 4 * PAGE, 1, 12 * PAGE));
	EXPECT_TRUE(unreadable(self, at + 8 * PAGE));
	/* Another context has its own addresses. */
	EXPECT_EQ(0, npu_healthy());
}

TEST_F(npu_mapping, unmap_errors)
{
	EXPECT_EQ(-EINVAL, npu_unmap(&self->npu, NPU_FREE, 0));
	EXPECT_EQ(-EINVAL, npu_unmap(&self->npu, NPU_FREE, 1));
	EXPECT_EQ(-EINVAL, npu_unmap(&self->npu, NPU_FREE, PAGE + 1));
	EXPECT_EQ(-EINVAL, npu_unmap(&self->npu, NPU_FREE + 1, PAGE));
	EXPECT_EQ(-EINVAL, npu_unmap(&self->npu, NPU_FREE + 2048, PAGE));
	EXPECT_EQ(-ENOENT, npu_unmap(&self->npu, NPU_FREE, PAGE));
	EXPECT_EQ(-ENOENT, npu_unmap(&self->npu, NPU_FREE, 1ULL << 40));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, 0, PAGE));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, NPU_FREE, 1ULL << 48));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, NPU_FREE, -PAGE));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, -PAGE, PAGE));
	EXPECT_EQ(-ERANGE, npu_unmap(&self->npu, -PAGE, 2 * PAGE));
}

/* Of one mapping: its head, its tail, its middle; the rest stays. */
TEST_F(npu_mapping, partial_unmap)
{
	uint32_t *map = npu_memory(&self->npu, 16 * PAGE, NPU_FREE, NPU_RW);

	ASSERT_TRUE(map != NULL);
	pattern(map, 16 * PAGE, 9);
	/* All of it is in the TLB. */
	ASSERT_EQ(0, reads(self, NPU_FREE, 16 * PAGE, 9, 0));
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, 2 * PAGE));
	EXPECT_TRUE(unreadable(self, NPU_FREE));
	EXPECT_TRUE(unreadable(self, NPU_FREE + PAGE));
	EXPECT_EQ(0, reads(self, NPU_FREE + 2 * PAGE, 14 * PAGE, 9, 2 * PAGE));
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE + 15 * PAGE, PAGE));
	EXPECT_TRUE(unreadable(self, NPU_FREE + 15 * PAGE));
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE + 7 * PAGE, 3 * PAGE));
	for (int i = 7; i < 10; i++)
		EXPECT_TRUE(unreadable(self, NPU_FREE + i * PAGE));
	EXPECT_EQ(0, reads(self, NPU_FREE + 2 * PAGE, 5 * PAGE, 9, 2 * PAGE));
	EXPECT_EQ(0, reads(self, NPU_FREE + 10 * PAGE, 5 * PAGE, 9, 10 * PAGE));
	/* Holes are free for others, and for no more than they are. */
	EXPECT_EQ(-EEXIST, npu_map_device(&self->npu, RO, 4 * PAGE,
					  NPU_FREE + 7 * PAGE));
	EXPECT_EQ(0, npu_map_device(&self->npu, RO, 3 * PAGE,
				    NPU_FREE + 7 * PAGE));
	/* The rest at once, of more than one mapping, beyond both ends. */
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE - 64 * PAGE, 256 * PAGE));
	for (int i = 0; i < 16; i++)
		EXPECT_TRUE(unreadable(self, NPU_FREE + i * PAGE));
	EXPECT_EQ(-ENOENT,
		  npu_unmap(&self->npu, NPU_FREE - 64 * PAGE, 256 * PAGE));
}

/* From the middle of one mapping to the middle of another, over a gap. */
TEST_F(npu_mapping, unmap_across)
{
	const uint64_t second = NPU_FREE + 12 * PAGE;
	uint32_t *one, *two;

	one = npu_memory(&self->npu, 8 * PAGE, NPU_FREE, NPU_RW);
	two = npu_memory(&self->npu, 8 * PAGE, second, NPU_RW);
	ASSERT_TRUE(one && two);
	pattern(one, 8 * PAGE, 1);
	pattern(two, 8 * PAGE, 2);
	ASSERT_EQ(0, reads(self, NPU_FREE, 8 * PAGE, 1, 0));
	ASSERT_EQ(0, reads(self, second, 8 * PAGE, 2, 0));
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE + 4 * PAGE, 12 * PAGE));
	EXPECT_EQ(0, reads(self, NPU_FREE, 4 * PAGE, 1, 0));
	EXPECT_EQ(0, reads(self, second + 4 * PAGE, 4 * PAGE, 2, 4 * PAGE));
	for (int i = 4; i < 16; i++) {
		EXPECT_TRUE(unreadable(self, NPU_FREE + i * PAGE))
		TH_LOG("page %d", i);
	}
}

/* One page out of a page of 2 MiB, of a buffer and of the device's memory. */
TEST_F(npu_mapping, unmap_of_huge)
{
	static const int pages[] = { 0, 200, 511 };
	const uint64_t at[] = { NPU_FREE, NPU_FREE + HUGE_PAGE };
	uint32_t *map;

	map = npu_memory(&self->npu, HUGE_PAGE, at[0], NPU_RW);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0, npu_map_device(&self->npu, NPU_RW, HUGE_PAGE, at[1]));
	pattern(map, HUGE_PAGE, 77);
	ASSERT_EQ(0,
		  npu_run_one(&self->npu, npu_copy(at[1], at[0], HUGE_PAGE)));
	for (int m = 0; m < 2; m++) {
		ASSERT_EQ(0, reads(self, at[m], HUGE_PAGE, 77, 0));
		for (int i = 0; i < 3; i++) {
			uint64_t page = at[m] + pages[i] * PAGE;

			ASSERT_EQ(0, npu_unmap(&self->npu, page, PAGE));
			EXPECT_TRUE(unreadable(self, page));
			EXPECT_TRUE(unwritable(self, page));
			EXPECT_EQ(-ENOENT, npu_unmap(&self->npu, page, PAGE));
		}
		EXPECT_EQ(0, reads(self, at[m] + PAGE, 199 * PAGE, 77, PAGE));
		EXPECT_EQ(0, reads(self, at[m] + 201 * PAGE, 310 * PAGE, 77,
				   201 * PAGE));
	}
	EXPECT_EQ(0, npu_unmap(&self->npu, NPU_FREE, 2 * HUGE_PAGE));
	EXPECT_TRUE(unreadable(self, at[0] + PAGE));
	EXPECT_TRUE(unreadable(self, at[1] + PAGE));
	/* Whole again, in one piece. */
	EXPECT_EQ(0,
		  npu_map_device(&self->npu, NPU_RW, 2 * HUGE_PAGE, NPU_FREE));
}

/* Only what is allowed: reading, writing, or both. */
TEST_F(npu_mapping, read_only)
{
	static const size_t sizes[] = { PAGE, HUGE_PAGE };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t at = NPU_FREE + i * HUGE_PAGE;
		uint32_t *map;

		map = npu_memory(&self->npu, sizes[i], at, RO);
		ASSERT_TRUE(map != NULL);
		pattern(map, sizes[i], 3);
		EXPECT_TRUE(unwritable(self, at));
		EXPECT_TRUE(unwritable(self, at + sizes[i] - 4));
		/* Also by way of a page that the TLB knows from reading. */
		EXPECT_EQ(0, reads(self, at, sizes[i], 3, 0));
		EXPECT_TRUE(unwritable(self, at));
		EXPECT_EQ(0, reads(self, at, sizes[i], 3, 0));
		EXPECT_EQ(3, map[0]);
		munmap(map, sizes[i]);
		ASSERT_EQ(0, npu_unmap(&self->npu, at, sizes[i]));
	}
	ASSERT_EQ(0, npu_map_device(&self->npu, RO, PAGE, NPU_FREE));
	EXPECT_TRUE(unwritable(self, NPU_FREE));
}

TEST_F(npu_mapping, write_only)
{
	unsigned char *map = npu_memory(&self->npu, PAGE, NPU_FREE, WO);

	ASSERT_TRUE(map != NULL);
	EXPECT_TRUE(unreadable(self, NPU_FREE));
	EXPECT_EQ(0, npu_run_one(&self->npu, npu_fill(NPU_FREE, 100, 0x5a)));
	EXPECT_EQ(0x5a, map[0]);
	EXPECT_EQ(0x5a, map[99]);
	EXPECT_EQ(0, map[100]);
	EXPECT_TRUE(unreadable(self, NPU_FREE));
	ASSERT_EQ(0, npu_map_device(&self->npu, WO, PAGE, NPU_FREE + PAGE));
	EXPECT_TRUE(unreadable(self, NPU_FREE + PAGE));
}

/* One buffer at two addresses, with other rights at each. */
TEST_F(npu_mapping, twice)
{
	const uint64_t second = NPU_FREE + 64 * MIB;
	unsigned char *map;
	uint32_t buffer;

	map = accel_buffer_new(self->npu.fd, 4 * PAGE, &buffer);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0,
		  npu_map(&self->npu, buffer, NPU_RW, 0, 4 * PAGE, NPU_FREE));
	ASSERT_EQ(0, npu_map(&self->npu, buffer, RO, PAGE, 2 * PAGE, second));
	EXPECT_EQ(0,
		  npu_run_one(&self->npu, npu_fill(NPU_FREE + PAGE, 8, 0x11)));
	EXPECT_EQ(0, npu_run_one(&self->npu, npu_copy(OUT, second, 8)));
	EXPECT_EQ(0x11, self->out[7]);
	EXPECT_EQ(0x11, map[PAGE + 7]);
	EXPECT_TRUE(unwritable(self, second));
	/* One goes, the other stays. */
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, 4 * PAGE));
	map[PAGE] = 0x22;
	EXPECT_EQ(0, npu_run_one(&self->npu, npu_copy(OUT, second, 8)));
	EXPECT_EQ(0x22, self->out[0]);
	EXPECT_TRUE(unreadable(self, NPU_FREE + PAGE));
}

/* The mapping keeps the buffer when its handle and the program's view go. */
TEST_F(npu_mapping, destroyed_buffer)
{
	struct accel_info_memory before, during, after;
	uint32_t *map, buffer;

	ASSERT_EQ(0, accel_info(self->npu.fd, ACCEL_INFO_MEMORY, 0, &before,
				sizeof(before)));
	map = accel_buffer_new(self->npu.fd, 4 * MIB, &buffer);
	ASSERT_TRUE(map != NULL);
	pattern(map, 4 * MIB, 4);
	ASSERT_EQ(0, npu_map(&self->npu, buffer, NPU_RW, 0, 4 * MIB, NPU_FREE));
	ASSERT_EQ(0, accel_buffer_destroy(self->npu.fd, buffer));
	munmap(map, 4 * MIB);
	/* Others do not get its pages. */
	for (int i = 0; i < 8; i++) {
		map = accel_buffer_new(self->npu.fd, MIB, &buffer);
		ASSERT_TRUE(map != NULL);
		memset(map, 0x99, MIB);
		munmap(map, MIB);
		ASSERT_EQ(0, accel_buffer_destroy(self->npu.fd, buffer));
	}
	EXPECT_EQ(0, reads(self, NPU_FREE, 4 * MIB, 4, 0));
	ASSERT_EQ(0, accel_info(self->npu.fd, ACCEL_INFO_MEMORY, 0, &during,
				sizeof(during)));
	EXPECT_EQ(before.used + 4 * MIB, during.used);
	/* As long as any part of it is mapped. */
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, 3 * MIB));
	EXPECT_EQ(0, reads(self, NPU_FREE + 3 * MIB, MIB, 4, 3 * MIB));
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, 4 * MIB));
	ASSERT_EQ(0, accel_info(self->npu.fd, ACCEL_INFO_MEMORY, 0, &after,
				sizeof(after)));
	EXPECT_EQ(before.used, after.used);
}

/*
 * A page of 2 MiB is one only where buffer, offset and address allow: every
 * way of missing that computes right all the same.
 */
TEST_F(npu_mapping, misaligned_for_huge)
{
	static const struct {
		uint64_t offset;
		uint64_t address;
		uint64_t size;
	} cases[] = {
		{ 0, 0, 4 * MIB },
		{ PAGE, 0, 4 * MIB },
		{ 0, PAGE, 4 * MIB },
		{ PAGE, PAGE, 4 * MIB },
		{ HUGE_PAGE - PAGE, 0, 4 * MIB },
		{ MIB, 0, 4 * MIB },
		{ 0, MIB, 4 * MIB },
		{ MIB, MIB, 4 * MIB },
		{ 5 * PAGE, 7 * PAGE, 3 * MIB },
		{ 0, 0, 4 * MIB - PAGE },
		{ 0, 0, HUGE_PAGE + PAGE },
	};
	uint32_t *map, buffer;

	map = accel_buffer_new(self->npu.fd, 8 * MIB, &buffer);
	ASSERT_TRUE(map != NULL);
	pattern(map, 8 * MIB, 6);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t at = NPU_FREE + cases[i].address;

		ASSERT_EQ(0, npu_map(&self->npu, buffer, NPU_RW,
				     cases[i].offset, cases[i].size, at));
		EXPECT_EQ(0, reads(self, at, cases[i].size, 6, cases[i].offset))
		TH_LOG("case %zu", i);
		EXPECT_TRUE(unreadable(self, at + cases[i].size));
		if (cases[i].address)
			EXPECT_TRUE(unreadable(self, at - 4));
		/* And what is written is where it belongs. */
		EXPECT_EQ(0, npu_run_one(&self->npu,
					 npu_fill32(at + cases[i].size - 4, 1,
						    0x12345678)));
		EXPECT_EQ(0x12345678,
			  map[(cases[i].offset + cases[i].size) / 4 - 1]);
		pattern(map, 8 * MIB, 6);
		ASSERT_EQ(0, npu_unmap(&self->npu, at, cases[i].size));
	}
}

/* Pages of 2 MiB are used where they can: few translations do. */
TEST_F(npu_mapping, huge_pages)
{
	int64_t aligned = 0, misaligned = 0;
	uint32_t buffer;

	ASSERT_EQ(0, accel_buffer_create(self->npu.fd, 8 * MIB, &buffer));
	for (int i = 0; i < 2; i++) {
		const uint64_t at = NPU_FREE + i * (16 * MIB + PAGE);
		int64_t before;

		ASSERT_EQ(0, npu_map(&self->npu, buffer, RO, 0, 8 * MIB, at));
		before = npu_stat("tlb_misses");
		ASSERT_LE(0, before);
		ASSERT_EQ(0,
			  npu_run_one(&self->npu, npu_copy(OUT, at, 8 * MIB)));
		*(i ? &misaligned : &aligned) = npu_stat("tlb_misses") - before;
	}
	EXPECT_LE(2048, misaligned);
	EXPECT_GT(64, aligned);
	/* Likewise of device memory, where it is not in pieces. */
	ASSERT_EQ(0,
		  npu_map_device(&self->npu, RO, 8 * MIB, NPU_FREE + 64 * MIB));
	aligned = npu_stat("tlb_misses");
	ASSERT_EQ(0, npu_run_one(&self->npu,
				 npu_copy(OUT, NPU_FREE + 64 * MIB, 8 * MIB)));
	EXPECT_GT(64, npu_stat("tlb_misses") - aligned);
}

/* After unmap and map at the same address jobs see the new buffer only. */
TEST_F(npu_mapping, tlb)
{
	static const size_t sizes[] = { PAGE, 3 * PAGE, HUGE_PAGE };

	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		for (uint32_t round = 0; round < 4; round++) {
			uint32_t *map;

			map = npu_memory(&self->npu, sizes[s], NPU_FREE,
					 NPU_RW);
			ASSERT_TRUE(map != NULL);
			pattern(map, sizes[s], round);
			/* Twice: the second time from the TLB. */
			for (int i = 0; i < 2; i++) {
				EXPECT_EQ(0, reads(self, NPU_FREE, sizes[s],
						   round, 0))
				TH_LOG("%zu bytes, round %u", sizes[s], round);
			}
			ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, sizes[s]));
			if (round == 3) {
				EXPECT_TRUE(unreadable(self, NPU_FREE));
				EXPECT_TRUE(unwritable(self, NPU_FREE));
				EXPECT_TRUE(unreadable(
					self, NPU_FREE + sizes[s] - 4));
			}
			munmap(map, sizes[s]);
		}
	}
	/* What was written through it went to the new one as well. */
	for (int round = 0; round < 2; round++) {
		unsigned char *map;

		map = npu_memory(&self->npu, PAGE, NPU_FREE, NPU_RW);
		ASSERT_TRUE(map != NULL);
		EXPECT_EQ(0, npu_run_one(&self->npu, npu_fill(NPU_FREE, 8, 9)));
		EXPECT_EQ(9, map[7]);
		ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, PAGE));
		munmap(map, PAGE);
	}
}

/* The same of device memory: what is new is zero, and is where it says. */
TEST_F(npu_mapping, tlb_device_memory)
{
	for (int round = 0; round < 4; round++) {
		struct accel_npu_command commands[] = {
			npu_copy(OUT, NPU_FREE, HUGE_PAGE),
			npu_fill(NPU_FREE, HUGE_PAGE, 0xa0 + round),
			npu_copy(OUT + HUGE_PAGE, NPU_FREE, HUGE_PAGE),
		};

		ASSERT_EQ(0, npu_map_device(&self->npu, NPU_RW, HUGE_PAGE,
					    NPU_FREE));
		memset(self->out, 0xee, 2 * HUGE_PAGE);
		ASSERT_EQ(0, npu_run(&self->npu, commands, 3));
		EXPECT_TRUE(npu_all(self->out, HUGE_PAGE, 0));
		EXPECT_TRUE(npu_all(self->out + HUGE_PAGE, HUGE_PAGE,
				    0xa0 + round));
		ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, HUGE_PAGE));
		EXPECT_TRUE(unreadable(self, NPU_FREE));
	}
}

/*
 * A context's id is given to another one, some time after: of the first nothing
 * is left in the TLB. As many ids as the card has are used, and used again.
 */
TEST_F(npu_mapping, tlb_of_closed)
{
	enum { IDS = 127 };

	for (int i = 0; i < 2 * IDS; i++) {
		struct accel_npu_error error;
		uint32_t *data;
		struct npu npu;

		ASSERT_EQ(0, npu_open(&npu));
		if (i < IDS) {
			data = npu_memory(&npu, PAGE, NPU_FREE, NPU_RW);
			ASSERT_TRUE(data != NULL);
			ASSERT_EQ(0,
				  npu_run_one(&npu, npu_fill(NPU_FREE, 4, 1)));
			munmap(data, PAGE);
		} else {
			EXPECT_EQ(-EFAULT,
				  npu_run_one(&npu, npu_fill(NPU_FREE, 4, 2)))
			TH_LOG("context %d", i);
			EXPECT_EQ(0, npu_error(&npu, &error));
		}
		npu_close(&npu);
	}
}

/* Two contexts, the same addresses: each sees its own, also while one unmaps. */
TEST_F(npu_mapping, two_contexts)
{
	FIXTURE_DATA(npu_mapping) other;
	uint32_t *mine, *theirs;

	ASSERT_EQ(0, npu_open(&other.npu));
	other.out = npu_memory(&other.npu, OUT_SIZE, OUT, NPU_RW);
	ASSERT_TRUE(other.out != NULL);
	mine = npu_memory(&self->npu, 4 * PAGE, NPU_FREE, NPU_RW);
	theirs = npu_memory(&other.npu, 4 * PAGE, NPU_FREE, NPU_RW);
	ASSERT_TRUE(mine && theirs);
	pattern(mine, 4 * PAGE, 100);
	pattern(theirs, 4 * PAGE, 200);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(0, reads(self, NPU_FREE, 4 * PAGE, 100, 0));
		EXPECT_EQ(0, reads(&other, NPU_FREE, 4 * PAGE, 200, 0));
	}
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, 2 * PAGE));
	EXPECT_TRUE(unreadable(self, NPU_FREE));
	EXPECT_EQ(0, reads(&other, NPU_FREE, 4 * PAGE, 200, 0));
	EXPECT_EQ(0, reads(self, NPU_FREE + 2 * PAGE, 2 * PAGE, 100, 2 * PAGE));
	munmap(other.out, OUT_SIZE);
	npu_close(&other.npu);
	EXPECT_EQ(0, reads(self, NPU_FREE + 2 * PAGE, 2 * PAGE, 100, 2 * PAGE));
}

/* A buffer of another file means nothing here. */
TEST_F(npu_mapping, buffers_of_others)
{
	uint32_t buffer = 0;
	int fd;

	fd = accel_open(O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	for (int i = 0; i < 8; i++)
		ASSERT_EQ(0, accel_buffer_create(fd, PAGE, &buffer));
	EXPECT_EQ(-ENOENT,
		  npu_map(&self->npu, buffer, NPU_RW, 0, PAGE, NPU_FREE));
	close(fd);
}

/* What DEVICE and INFO say of the memory, and that it is given back. */
TEST_F(npu_mapping, accounting)
{
	struct accel_npu_device device = {};
	struct accel_info_memory memory;
	int64_t before, during;
	struct npu other;

	ASSERT_EQ(0,
		  accel_ioctl(self->npu.fd, ACCEL_NPU_IOCTL_DEVICE, &device));
	ASSERT_EQ(0, accel_info(self->npu.fd, ACCEL_INFO_MEMORY, 1, &memory,
				sizeof(memory)));
	EXPECT_EQ(ACCEL_MEMORY_DEVICE, memory.kind);
	EXPECT_TRUE(memory.flags & ACCEL_MEMORY_TOTAL);
	EXPECT_EQ(device.memory_total, memory.total);
	EXPECT_EQ(256 * MIB, device.memory_total);
	if (memory.flags & ACCEL_MEMORY_USED)
		EXPECT_EQ(memory.total - memory.used, device.memory_free);
	EXPECT_EQ(0x10000, device.revision);
	EXPECT_EQ(2, device.compute_engines);
	EXPECT_EQ(1, device.copy_engines);

	before = npu_memory_free(&self->npu);
	ASSERT_EQ(0, npu_map_device(&self->npu, NPU_RW, 3 * MIB, NPU_FREE));
	during = npu_memory_free(&self->npu);
	EXPECT_LE(during, before - 3 * (int64_t)MIB);
	/* And a few tables. */
	EXPECT_GT(during, before - 4 * (int64_t)MIB);
	/* A part of it, as much as that is. */
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE + HUGE_PAGE, MIB));
	EXPECT_LE(during + (int64_t)MIB, npu_memory_free(&self->npu));
	ASSERT_EQ(0, npu_unmap(&self->npu, NPU_FREE, HUGE_PAGE));
	EXPECT_LE(before - 256 * (int64_t)KIB, npu_memory_free(&self->npu));

	/* Another context's goes with it, tables and all. */
	before = npu_memory_free(&self->npu);
	ASSERT_EQ(0, npu_open(&other));
	for (int i = 1; i < 16; i++) {
		ASSERT_EQ(0, npu_map_device(&other, NPU_RW, PAGE * i,
					    ((uint64_t)i << 40) + NPU_FREE));
	}
	EXPECT_GT(before, npu_memory_free(&self->npu));
	npu_close(&other);
	EXPECT_TRUE(npu_memory_is_back(&self->npu, before));
}

/* To the last page; then ENOSPC, and what is mapped goes on. */
TEST_F(npu_mapping, memory_full)
{
	int64_t before = npu_memory_free(&self->npu);
	uint64_t at = NPU_FREE, size = 64 * MIB;
	struct npu other;

	ASSERT_EQ(0, npu_open(&other));
	while (size >= PAGE) {
		int ret = npu_map_device(&other, NPU_RW, size, at);

		if (!ret) {
			at += size;
			continue;
		}
		ASSERT_EQ(-ENOSPC, ret);
		size /= 2;
	}
	/* What is left, where it needs no tables. */
	for (int i = 0; i < 16; i++) {
		if (npu_map_device(&self->npu, NPU_RW, PAGE,
				   NPU_LIST + MIB + i * PAGE))
			break;
	}
	/* Nearly all that there was. */
	EXPECT_LT(before - 4 * (int64_t)MIB, (int64_t)(at - NPU_FREE));
	EXPECT_GT((int64_t)(64 * KIB), npu_memory_free(&self->npu));
	/* No tables for an address that is far from the others. */
	EXPECT_EQ(-ENOSPC, npu_map_device(&other, NPU_RW, PAGE, 1ULL << 45));
	ASSERT_EQ(0, npu_run_one(&other, npu_fill(at - PAGE, PAGE, 1)));
	ASSERT_EQ(0, npu_run_one(&other, npu_fill(NPU_FREE, PAGE, 1)));
	/* What was mapped before is still usable, and one more is not here. */
	EXPECT_EQ(-ENOSPC, npu_map_device(&self->npu, NPU_RW, MIB, NPU_FREE));
	ASSERT_EQ(0, npu_run_one(&self->npu, npu_fill(OUT, 4, 1)));
	/* A hole in a page of 2 MiB needs a table, which there is not. */
	EXPECT_EQ(-ENOSPC, npu_unmap(&other, NPU_FREE + PAGE, PAGE));
	ASSERT_EQ(0, npu_run_one(&other, npu_fill(NPU_FREE + PAGE, PAGE, 1)));
	npu_close(&other);
	EXPECT_TRUE(npu_memory_is_back(&self->npu, before));
}

/* Bytes of buffers that one context may have mapped. */
TEST_F(npu_mapping, mapped_limit)
{
	uint64_t mapped = 0;
	uint32_t buffer;
	int ret = 0;

	/* The context has its list and its output mapped as well. */
	ASSERT_EQ(0, accel_buffer_create(self->npu.fd, 256 * MIB, &buffer));
	while (mapped <= ACCEL_NPU_MAPPED_MAX) {
		ret = npu_map(&self->npu, buffer, NPU_RW, 0, 256 * MIB,
			      (1ULL << 40) + mapped);
		if (ret)
			break;
		mapped += 256 * MIB;
	}
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_EQ(ACCEL_NPU_MAPPED_MAX - 256 * MIB, mapped);
	ASSERT_EQ(0, npu_unmap(&self->npu, 1ULL << 40, mapped));
	EXPECT_EQ(0, npu_map(&self->npu, buffer, NPU_RW, 0, 256 * MIB,
			     1ULL << 40));
}

TEST_HARNESS_MAIN
