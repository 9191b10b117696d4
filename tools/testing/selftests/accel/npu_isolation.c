// SPDX-License-Identifier: GPL-2.0
/*
 * No context reads or writes what is another's, whatever it has the device
 * execute, and nothing of one that has gone is left for the next.
 */

#include "kselftest_harness.h"
#include "npu.h"

#define PAGE 4096UL
#define PROGRAMS 10000
/* Programs of a batch: a fault stops the context, and the rest with it. */
#define BATCH 8
/* What the other context has, and nobody else has. */
#define SECRET 0xa7

FIXTURE(npu_isolation)
{
	struct npu other;
	unsigned char *secret[2];
	int64_t free;
};

/* The other's: a small buffer, one of pages of 2 MiB, memory of the device. */
#define SMALL (NPU_FREE + 64 * KIB)
#define SMALL_SIZE (64 * KIB)
#define LARGE (NPU_FREE + 4 * MIB)
#define DEVICE (NPU_FREE + 8 * MIB)
#define LARGE_SIZE (2 * MIB)

FIXTURE_SETUP(npu_isolation)
{
	ASSERT_EQ(0, npu_open(&self->other));
	self->free = npu_memory_free(&self->other);
	self->secret[0] = npu_memory(&self->other, SMALL_SIZE, SMALL, NPU_RW);
	self->secret[1] = npu_memory(&self->other, LARGE_SIZE, LARGE, NPU_RW);
	ASSERT_TRUE(self->secret[0] && self->secret[1]);
	memset(self->secret[0], SECRET, SMALL_SIZE);
	memset(self->secret[1], SECRET, LARGE_SIZE);
	ASSERT_EQ(0, npu_map_device(&self->other, NPU_RW, LARGE_SIZE, DEVICE));
	ASSERT_EQ(0, npu_run_one(&self->other,
				 npu_copy(DEVICE, LARGE, LARGE_SIZE)));
}

FIXTURE_TEARDOWN(npu_isolation)
{
	EXPECT_EQ(0, npu_check(&self->other));
	npu_close(&self->other);
}

/* What the one that runs the programs has, which is 1 MiB. */
#define OWN (NPU_FREE + 64 * MIB)

/* An address of its own, or near something that one of both has mapped. */
static uint64_t near(uint64_t *seed)
{
	static const uint64_t places[] = {
		NPU_LIST,
		SMALL,
		SMALL + SMALL_SIZE,
		LARGE,
		LARGE + LARGE_SIZE,
		DEVICE,
		NPU_FREE,
		OWN,
		0,
		ACCEL_NPU_ADDRESS_END,
		1ULL << 63,
	};
	uint64_t at = places[npu_random(seed) % ARRAY_SIZE(places)];

	switch (npu_random(seed) % 8) {
	case 0:
		return at + (int32_t)npu_random(seed) / 64;
	case 1:
		return at + 4 * (int32_t)(npu_random(seed) % 2048) - 4096;
	case 2:
	case 3:
	case 4:
	case 5:
		return OWN + 4 * (npu_random(seed) % 65536);
	default:
		return at + 4 * (npu_random(seed) % 8192);
	}
}

/* Sizes that are mostly small: what faults early tries little. */
static uint32_t little(uint64_t *seed)
{
	switch (npu_random(seed) % 8) {
	case 0:
		return npu_random(seed);
	case 1:
		return npu_random(seed) % 4096;
	default:
		return npu_random(seed) % 8 + 1;
	}
}

/* A command that could be meant, with another's addresses. */
static struct accel_npu_command plausible(uint64_t *seed)
{
	const uint32_t size = npu_random(seed) % 512 + 4;
	uint64_t to = near(seed) & ~3ULL, from = near(seed) & ~3ULL;
	struct accel_npu_command command;

	switch (npu_random(seed) % 6) {
	case 0:
		return npu_fill(to, size, npu_random(seed));
	case 1:
		return npu_fill32(to, size, npu_random(seed));
	case 2:
		return npu_matmul(to, from, near(seed), size % 7 + 1,
				  size % 13 + 1, size % 5 + 1);
	case 3:
		command =
			npu_op(ACCEL_NPU_OP_POOL,
			       npu_tensor(to, ACCEL_NPU_TYPE_I8, 1, 4, 4, 4),
			       npu_tensor(from, ACCEL_NPU_TYPE_I8, 1, 4, 4, 4));
		command.parameters[1] = 1 | 1 << 16;
		command.parameters[2] = 1 | 1 << 16;
		return command;
	case 4:
		command = npu_op(ACCEL_NPU_OP_ARGMAX,
				 npu_tensor(to, ACCEL_NPU_TYPE_I32, 1, 1, 4, 1),
				 npu_tensor(from, ACCEL_NPU_TYPE_I32, 1, 1, 4,
					    size));
		command.operands[1].strides[2] = near(seed);
		return command;
	default:
		return npu_copy(to, from, size);
	}
}

static struct accel_npu_command random_command(uint64_t *seed)
{
	static const uint16_t opcodes[] = { 0x00, 0x01, 0x02, 0x10, 0x11, 0x12,
					    0x13, 0x14, 0x20, 0x21, 0x22 };
	struct accel_npu_command command = plausible(seed);
	unsigned char *bytes = (void *)&command;

	switch (npu_random(seed) % 4) {
	case 0:
		/* Anything at all. */
		for (size_t i = 0; i < sizeof(command); i++)
			bytes[i] = npu_random(seed);
		command.opcode = opcodes[npu_random(seed) % 11];
		command.reserved = 0;
		for (int o = 0; o < 4; o++) {
			struct accel_npu_operand *operand =
				&command.operands[o];

			operand->address = near(seed);
			operand->type %= 6;
			operand->reserved = 0;
			for (int d = 0; d < 4; d++) {
				operand->dims[d] = little(seed);
				operand->strides[d] = npu_random(seed) % 2 ?
							      near(seed) :
							      little(seed);
			}
		}
		break;
	case 1:
		/* A few bits of one that could be meant. */
		for (uint32_t n = npu_random(seed) % 4 + 1; n; n--) {
			uint32_t bit = npu_random(seed) % (8 * sizeof(command));

			bytes[bit / 8] ^= 1 << bit % 8;
		}
		break;
	default:
		break;
	}
	return command;
}

/* Any eight bytes in a row of the other's; its own has none of them. */
static bool leaked(const unsigned char *bytes, size_t size)
{
	const unsigned char *at = bytes;

	for (;;) {
		at = memchr(at, SECRET, bytes + size - at);
		if (!at || bytes + size - at < 8)
			return false;
		if (npu_all(at, 8, SECRET))
			return true;
		at++;
	}
}

/*
 * Ten thousand programs of one context, at and around the addresses of the
 * other's buffers: those are as they were, and nothing of them has come over.
 */
TEST_F_TIMEOUT(npu_isolation, random_programs, 100)
{
	uint64_t seed = 0x9e3779b97f4a7c15ULL;
	unsigned char *map, *back;
	int completed = 0, faulted = 0, refused = 0;
	struct npu npu;

	ASSERT_EQ(0, npu_open(&npu));
	map = npu_memory(&npu, MIB, OWN, NPU_RW);
	ASSERT_TRUE(map != NULL);
	/* Some of it is where the other has its own, to be computed with. */
	ASSERT_EQ(0, npu_map_device(&npu, NPU_RW, 64 * KIB, NPU_FREE));
	for (uint32_t done = 0; done < PROGRAMS; done += BATCH) {
		struct accel_npu_job jobs[BATCH];
		struct accel_npu_error error;
		uint64_t point = 0;
		int ret;

		for (uint32_t i = 0; i < BATCH; i++) {
			uint32_t count = npu_random(&seed) % 3 + 1;

			for (uint32_t n = 0; n < count; n++) {
				npu.list[4 * i + n] = random_command(&seed);
				/* The secret is not made here. */
				if (npu.list[4 * i + n].opcode ==
				    ACCEL_NPU_OP_FILL)
					npu.list[4 * i + n].parameters[0] =
						0x01010101;
			}
			jobs[i] = (struct accel_npu_job){
				.address = NPU_LIST + 4 * i * 256,
				.count = count,
			};
		}
		/* Those behind a fault get a go of their own. */
		for (uint32_t first = 0; first < BATCH;) {
			ASSERT_EQ(0, npu_forget(&npu));
			ASSERT_EQ(0, npu_submit_jobs(&npu, jobs + first,
						     BATCH - first, 0, 60000,
						     &point));
			ret = npu_wait(&npu, point);
			if (!ret) {
				completed += BATCH - first;
				break;
			}
			ASSERT_TRUE(ret == -EFAULT || ret == -EINVAL ||
				    ret == -E2BIG)
			TH_LOG("%d", ret);
			ASSERT_EQ(0, npu_error(&npu, &error));
			if (error.kind != ACCEL_NPU_ERROR_FAULT) {
				refused += error.count;
				completed += BATCH - first - error.count;
				break;
			}
			faulted++;
			refused += error.count - 1;
			completed += error.point - error.count;
			first += error.point;
		}
	}
	TH_LOG("%d completed, %d faulted, %d refused", completed, faulted,
	       refused);
	/* It was a test only if many of each came about. */
	EXPECT_LT(PROGRAMS / 50, completed);
	EXPECT_LT(PROGRAMS / 10, faulted);
	EXPECT_LT(PROGRAMS / 50, refused);

	EXPECT_FALSE(leaked(map, MIB));
	ASSERT_EQ(0, npu_run_one(&npu, npu_copy(OWN, NPU_FREE, 64 * KIB)));
	EXPECT_FALSE(leaked(map, 64 * KIB));
	npu_close(&npu);

	EXPECT_TRUE(npu_all(self->secret[0], SMALL_SIZE, SECRET));
	EXPECT_TRUE(npu_all(self->secret[1], LARGE_SIZE, SECRET));
	back = npu_memory(&self->other, LARGE_SIZE, 2 * NPU_FREE, NPU_RW);
	ASSERT_TRUE(back != NULL);
	ASSERT_EQ(0, npu_run_one(&self->other,
				 npu_copy(2 * NPU_FREE, DEVICE, LARGE_SIZE)));
	EXPECT_TRUE(npu_all(back, LARGE_SIZE, SECRET));
}

/* Every read and every write of the other's addresses faults, page by page. */
TEST_F(npu_isolation, addresses_of_others)
{
	static const uint64_t starts[] = { SMALL, LARGE, DEVICE };
	struct accel_npu_error error;
	struct npu npu;

	ASSERT_EQ(0, npu_open(&npu));
	ASSERT_EQ(0, npu_map_device(&npu, NPU_RW, PAGE, NPU_FREE));
	/* A page of its own that lies right before and after. */
	ASSERT_EQ(0, npu_map_device(&npu, NPU_RW, PAGE, SMALL - PAGE));
	ASSERT_EQ(0, npu_map_device(&npu, NPU_RW, PAGE, SMALL + SMALL_SIZE));
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		for (uint64_t at = starts[i]; at < starts[i] + SMALL_SIZE;
		     at += 4 * PAGE) {
			/* So that the other's is in the TLB. */
			ASSERT_EQ(0, npu_run_one(&self->other,
						 npu_copy(SMALL, at, 64)));
			EXPECT_EQ(-EFAULT,
				  npu_run_one(&npu, npu_copy(NPU_FREE, at, 4)));
			ASSERT_EQ(0, npu_error(&npu, &error));
			EXPECT_EQ(at, error.address);
			EXPECT_EQ(-EFAULT,
				  npu_run_one(&npu, npu_fill(at, 4, 0)));
			ASSERT_EQ(0, npu_error(&npu, &error));
			EXPECT_EQ(at, error.address);
		}
	}
	EXPECT_TRUE(npu_all(self->secret[0], SMALL_SIZE, SECRET));
	EXPECT_TRUE(npu_all(self->secret[1], LARGE_SIZE, SECRET));
	npu_close(&npu);
}

/* All memory that is left of the device; the end of it, less the start. */
static uint64_t map_all(const struct npu *npu, uint64_t start)
{
	uint64_t size = 64 * MIB, at = start;

	while (size >= PAGE) {
		if (!npu_map_device(npu, NPU_RW, size, at))
			at += size;
		else
			size /= 2;
	}
	return at - start;
}

/* A window that the program sees of it, in parts. */
#define WINDOW_SIZE (8 * MIB)
#define WINDOW (1ULL << 44)

static bool all_zero(const struct npu *npu, unsigned char *window,
		     uint64_t start, uint64_t size)
{
	for (uint64_t done = 0; done < size; done += WINDOW_SIZE) {
		uint64_t part = size - done;

		if (part > WINDOW_SIZE)
			part = WINDOW_SIZE;
		window[0] = 1;
		if (npu_run_one(npu, npu_copy(WINDOW, start + done, part)))
			return false;
		if (!npu_all(window, part, 0))
			return false;
	}
	return true;
}

/*
 * Makes memory a table that maps the beginning of device memory everywhere:
 * VALID, READ, WRITE and LEAF in each word of 8 bytes, whose rest is zero.
 */
static struct accel_npu_command entries(uint64_t address, uint64_t size)
{
	struct accel_npu_command fill = npu_fill32(address, size / 8, 0xf);

	fill.operands[0].strides[3] = 8;
	return fill;
}

/*
 * All of the device's memory, full of what looks like entries of page tables,
 * is given back: the next one finds zeroes in all of it, and nothing mapped
 * but what it maps.
 */
TEST_F_TIMEOUT(npu_isolation, freed_device_memory, 60)
{
	const uint64_t start = 1ULL << 40;

	for (int round = 0; round < 2; round++) {
		const int pages = round ? 48 : 4;
		struct accel_npu_error error;
		unsigned char *window;
		uint64_t size;
		struct npu npu;

		ASSERT_EQ(0, npu_open(&npu));
		window = npu_memory(&npu, WINDOW_SIZE, WINDOW, NPU_RW);
		ASSERT_TRUE(window != NULL);
		/*
		 * Pages among nothing, whose tables are anybody's old ones:
		 * more of them than there were before, so that what was data
		 * is a table now.
		 */
		for (int i = 0; i < pages; i++) {
			uint64_t at = (1ULL << 46) + ((uint64_t)i << 30);

			ASSERT_EQ(0, npu_map_device(&npu, NPU_RW, PAGE, at));
			for (int shift = 12; shift < 39; shift += 9) {
				uint64_t bad = at + (1ULL << shift);

				/* Neighbours at 1 GiB are mapped. */
				if (shift == 30 && i < pages - 1)
					continue;
				EXPECT_EQ(-EFAULT,
					  npu_run_one(&npu, npu_copy(WINDOW,
								     bad, 8)));
				ASSERT_EQ(0, npu_error(&npu, &error));
				EXPECT_EQ(bad, error.address);
			}
		}
		size = map_all(&npu, start);
		EXPECT_LT(200 * MIB, size);
		EXPECT_TRUE(all_zero(&npu, window, start, size));
		for (uint64_t at = 0; at < size; at += 64 * MIB) {
			uint64_t part = size - at;

			if (part > 64 * MIB)
				part = 64 * MIB;
			ASSERT_EQ(0,
				  npu_run_one(&npu, entries(start + at, part)));
		}
		munmap(window, WINDOW_SIZE);
		npu_close(&npu);
	}
	EXPECT_EQ(0, npu_check(&self->other));
}

/*
 * What was a page table, of contexts that had a lot mapped, is zero as memory
 * and as a table of the next: a single page is all that is mapped there.
 */
TEST_F_TIMEOUT(npu_isolation, freed_tables, 60)
{
	const uint64_t start = 1ULL << 46;
	struct accel_npu_error error;
	struct npu npus[4], npu;
	unsigned char *window;
	uint64_t size;

	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, npu_open(&npus[i]));
		/* All but one page of 2 MiB: tables that are full. */
		for (uint64_t n = 1; n < 10; n++) {
			ASSERT_EQ(0, npu_map_device(&npus[i], NPU_RW,
						    HUGE_PAGE - PAGE, n << 39));
			ASSERT_EQ(0, npu_run_one(&npus[i],
						 entries(n << 39,
							 HUGE_PAGE - PAGE)));
		}
	}
	for (int i = 0; i < 4; i++)
		npu_close(&npus[i]);
	ASSERT_EQ(0, npu_open(&npu));
	window = npu_memory(&npu, WINDOW_SIZE, WINDOW, NPU_RW);
	ASSERT_TRUE(window != NULL);
	for (uint64_t n = 1; n < 24; n++) {
		static const uint64_t steps[] = { PAGE, 100 * PAGE, HUGE_PAGE };

		ASSERT_EQ(0, npu_map_device(&npu, NPU_RW, PAGE, n << 39));
		for (int i = 0; i < 3; i++) {
			uint64_t bad = (n << 39) + steps[i];

			EXPECT_EQ(-EFAULT,
				  npu_run_one(&npu, npu_copy(WINDOW, bad, 8)))
			TH_LOG("%#llx", (unsigned long long)bad);
			ASSERT_EQ(0, npu_error(&npu, &error));
			EXPECT_EQ(bad, error.address);
		}
	}
	/* Its own, of what is mapped no more, as well. */
	for (uint64_t n = 1; n < 24; n++)
		ASSERT_EQ(0, npu_unmap(&npu, n << 39, PAGE));
	size = map_all(&npu, start);
	EXPECT_LT(200 * MIB, size);
	EXPECT_TRUE(all_zero(&npu, window, start, size));
	munmap(window, WINDOW_SIZE);
	npu_close(&npu);
}

/* Host pages of one who has gone: zero in the next one's buffers. */
TEST_F(npu_isolation, freed_buffers)
{
	for (int round = 0; round < 3; round++) {
		unsigned char *map, *out;
		struct npu npu;

		ASSERT_EQ(0, npu_open(&npu));
		map = npu_memory(&npu, 16 * MIB, NPU_FREE, NPU_RW);
		out = npu_memory(&npu, 16 * MIB, 2 * NPU_FREE, NPU_RW);
		ASSERT_TRUE(map && out);
		memset(out, 1, 16 * MIB);
		/* As the device sees it. */
		ASSERT_EQ(0, npu_run_one(&npu, npu_copy(2 * NPU_FREE, NPU_FREE,
							16 * MIB)));
		EXPECT_TRUE(npu_all(out, 16 * MIB, 0));
		memset(map, 0x5c, 16 * MIB);
		munmap(map, 16 * MIB);
		munmap(out, 16 * MIB);
		npu_close(&npu);
	}
}

/*
 * A device that may no longer reach a buffer does not: what it goes on to be
 * used for by the program, or by others, is not changed by old jobs.
 */
TEST_F(npu_isolation, unmapped_during_job)
{
	struct accel_npu_error error;
	struct npu npu;

	ASSERT_EQ(0, npu_open(&npu));
	for (int i = 0; i < 20; i++) {
		unsigned char *map;
		uint64_t point;
		int ret;

		ASSERT_EQ(0, npu_forget(&npu));
		map = npu_memory(&npu, 16 * MIB, NPU_FREE, NPU_RW);
		ASSERT_TRUE(map != NULL);
		for (int n = 0; n < 8; n++)
			npu.list[n] = npu_fill(NPU_FREE, 16 * MIB, n + 1);
		ASSERT_EQ(0, npu_submit(&npu, 0, 8, &point));
		if (i % 4)
			accel_sleep_ms(i % 4);
		ASSERT_EQ(0, npu_unmap(&npu, NPU_FREE, 16 * MIB));
		/* From here on it is the program's alone. */
		memset(map, 0xdd, 16 * MIB);
		ret = npu_wait(&npu, point);
		EXPECT_TRUE(npu_all(map, 16 * MIB, 0xdd));
		munmap(map, 16 * MIB);
		EXPECT_TRUE(ret == 0 || ret == -EFAULT);
		if (ret)
			ASSERT_EQ(0, npu_error(&npu, &error));
	}
	npu_close(&npu);
}

TEST_HARNESS_MAIN
