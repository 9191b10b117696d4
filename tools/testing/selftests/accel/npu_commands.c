// SPDX-License-Identifier: GPL-2.0
/*
 * Commands: what each of them computes, and what becomes of wrong ones. Results
 * are known beforehand or computed here, from what the manual says.
 */

#include "kselftest_harness.h"
#include "npu.h"

#define DATA NPU_FREE
#define DATA_SIZE (256 * KIB)

FIXTURE(npu_commands)
{
	struct npu npu;
	unsigned char *data;
};

FIXTURE_SETUP(npu_commands)
{
	ASSERT_EQ(0, npu_open(&self->npu));
	self->data = npu_memory(&self->npu, DATA_SIZE, DATA, NPU_RW);
	ASSERT_TRUE(self->data != NULL);
}

FIXTURE_TEARDOWN(npu_commands)
{
	munmap(self->data, DATA_SIZE);
	npu_close(&self->npu);
}

/* A result between what surrounds it: exactly its bytes are written. */
static void poison(FIXTURE_DATA(npu_commands) * self)
{
	memset(self->data, 0xa5, DATA_SIZE);
}

TEST_F(npu_commands, nop)
{
	struct accel_npu_command commands[3] = {};

	EXPECT_EQ(0, npu_run(&self->npu, commands, 1));
	EXPECT_EQ(0, npu_run(&self->npu, commands, 3));
}

TEST_F(npu_commands, fill)
{
	static const struct {
		uint32_t type;
		unsigned char bytes[4];
	} types[] = {
		{ ACCEL_NPU_TYPE_I8, { 0x44 } },
		{ ACCEL_NPU_TYPE_U8, { 0x44 } },
		{ ACCEL_NPU_TYPE_BF16, { 0x44, 0x33 } },
		{ ACCEL_NPU_TYPE_I32, { 0x44, 0x33, 0x22, 0x11 } },
		{ ACCEL_NPU_TYPE_F32, { 0x44, 0x33, 0x22, 0x11 } },
	};

	for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
		size_t size = npu_type_size(types[t].type);
		struct accel_npu_command command = {
			.opcode = ACCEL_NPU_OP_FILL,
			.parameters = { 0x11223344 },
			.operands = { npu_vector(DATA + 16, types[t].type, 5) },
		};

		poison(self);
		ASSERT_EQ(0, npu_run_one(&self->npu, command));
		for (size_t i = 0; i < 5 * size; i++)
			EXPECT_EQ(types[t].bytes[i % size], self->data[16 + i]);
		EXPECT_EQ(0xa5, self->data[15]);
		EXPECT_EQ(0xa5, self->data[16 + 5 * size]);
	}
}

/* A matrix of 2 x 3 is turned over by its strides. */
TEST_F(npu_commands, copy_strided)
{
	struct accel_npu_command command =
		npu_op(ACCEL_NPU_OP_COPY,
		       npu_tensor(DATA + 64, ACCEL_NPU_TYPE_I8, 1, 1, 3, 2),
		       npu_tensor(DATA, ACCEL_NPU_TYPE_I8, 1, 1, 3, 2));
	static const unsigned char turned[] = { 1, 4, 2, 5, 3, 6 };

	command.operands[1].strides[2] = 1;
	command.operands[1].strides[3] = 3;
	poison(self);
	for (int i = 0; i < 6; i++)
		self->data[i] = i + 1;
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	EXPECT_EQ(0, memcmp(self->data + 64, turned, 6));
	EXPECT_EQ(0xa5, self->data[70]);
	/* A stride of 0 repeats. */
	command = npu_copy(DATA + 128, DATA, 8);
	command.operands[1].strides[3] = 0;
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	for (int i = 0; i < 8; i++)
		EXPECT_EQ(1, self->data[128 + i]);
	EXPECT_EQ(0xa5, self->data[136]);
}

/* All is read before anything is written. */
TEST_F(npu_commands, copy_overlapping)
{
	for (int i = 0; i < 64; i++)
		self->data[i] = i;
	ASSERT_EQ(0, npu_run_one(&self->npu, npu_copy(DATA + 1, DATA, 32)));
	for (int i = 0; i < 32; i++)
		EXPECT_EQ(i, self->data[i + 1]);
	EXPECT_EQ(33, self->data[33]);
}

TEST_F(npu_commands, matmul)
{
	struct accel_npu_command command =
		npu_matmul(DATA + 64, DATA, DATA + 32, 2, 3, 2);
	static const int8_t a[] = { 1, -2, 3, 127, -128, 0 };
	static const int8_t b[] = { 7, -8, 9, 10, -11, 127 };
	/* By hand. */
	static const int32_t plain[] = { 7 - 18 - 33, -8 - 20 + 381, 889 - 1152,
					 -1016 - 1280 };
	int32_t *d = (void *)(self->data + 64);

	poison(self);
	memcpy(self->data, a, sizeof(a));
	memcpy(self->data + 32, b, sizeof(b));
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(plain[i], d[i]);
	EXPECT_EQ((int32_t)0xa5a5a5a5, d[4]);
	/* Once more, added to what is there. */
	command.flags = ACCEL_NPU_ACCUMULATE;
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(2 * plain[i], d[i]);
	/* With zero points. */
	command.flags = 0;
	command.parameters[0] = 2;
	command.parameters[1] = -3;
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	for (int i = 0; i < 4; i++) {
		int32_t sum = 0;

		for (int k = 0; k < 3; k++)
			sum += (a[i / 2 * 3 + k] - 2) * (b[k * 2 + i % 2] + 3);
		EXPECT_EQ(sum, d[i]);
	}
}

/* Small whole numbers are exact in F32 and BF16. */
TEST_F(npu_commands, matmul_float)
{
	struct accel_npu_command command =
		npu_matmul(DATA + 64, DATA, DATA + 32, 1, 2, 2);
	const float a[] = { 1.5F, -2.0F }, b[] = { 4.0F, 8.0F, 0.5F, 3.0F };
	const float *d = (void *)(self->data + 64);
	uint32_t bits;

	for (int bf16 = 0; bf16 < 2; bf16++) {
		uint32_t type = bf16 ? ACCEL_NPU_TYPE_BF16 : ACCEL_NPU_TYPE_F32;

		poison(self);
		for (int i = 0; i < 2; i++) {
			memcpy(&bits, &a[i], 4);
			if (bf16)
				((uint16_t *)self->data)[i] = bits >> 16;
			else
				((uint32_t *)self->data)[i] = bits;
		}
		for (int i = 0; i < 4; i++) {
			memcpy(&bits, &b[i], 4);
			if (bf16)
				((uint16_t *)(self->data + 32))[i] = bits >> 16;
			else
				((uint32_t *)(self->data + 32))[i] = bits;
		}
		command.operands[0] =
			npu_tensor(DATA + 64, ACCEL_NPU_TYPE_F32, 1, 1, 1, 2);
		command.operands[1] = npu_tensor(DATA, type, 1, 1, 1, 2);
		command.operands[2] = npu_tensor(DATA + 32, type, 1, 1, 2, 2);
		ASSERT_EQ(0, npu_run_one(&self->npu, command));
		EXPECT_TRUE(d[0] == 5.0F);
		EXPECT_TRUE(d[1] == 6.0F);
	}
}

/* 3 x 3 with one row and column of padding, two channels, two outputs. */
TEST_F(npu_commands, conv2d)
{
	enum { H = 4, W = 5, C = 2, O = 2, K = 3 };
	struct accel_npu_command command = {
		.opcode = ACCEL_NPU_OP_CONV2D,
		.parameters = { 3, 0, 2 | 1 << 16, 1 | 1 << 16, 1 | 1 << 16,
				1 },
	};
	int8_t *a = (void *)self->data, *b = a + 512;
	int32_t *d = (void *)(self->data + 1024);
	/* Strides of 2 rows and 1 column. */
	enum { OH = 2, OW = 5 };
	uint64_t seed = 99;

	command.operands[0] =
		npu_tensor(DATA + 1024, ACCEL_NPU_TYPE_I32, 1, OH, OW, O);
	command.operands[1] = npu_tensor(DATA, ACCEL_NPU_TYPE_I8, 1, H, W, C);
	command.operands[2] =
		npu_tensor(DATA + 512, ACCEL_NPU_TYPE_I8, O, K, K, C);
	poison(self);
	for (int i = 0; i < H * W * C; i++)
		a[i] = npu_random(&seed);
	for (int i = 0; i < O * K * K * C; i++)
		b[i] = npu_random(&seed);
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	for (int y = 0; y < OH; y++)
		for (int x = 0; x < OW; x++)
			for (int o = 0; o < O; o++) {
				int32_t sum = 0;

				for (int i = 0; i < K * K * C; i++) {
					int row = y * 2 - 1 + i / (K * C);
					int column = x - 1 + i / C % K;

					if (row < 0 || row >= H || column < 0 ||
					    column >= W)
						continue;
					sum += (a[(row * W + column) * C +
						  i % C] -
						3) *
					       b[o * K * K * C + i];
				}
				ASSERT_EQ(sum, d[(y * OW + x) * O + o])
				TH_LOG("%d %d %d", y, x, o);
			}
	EXPECT_EQ((int32_t)0xa5a5a5a5, d[OH * OW * O]);
}

TEST_F(npu_commands, requantize)
{
	/* [bias, multiplier, shift] of two channels. */
	static const int32_t numbers[] = { 100, -50, 3, 1, 2, 0 };
	static const int32_t a[] = { 0, 0, -100, 50, 10, 300, -1000, 5 };
	/* ((a + bias) * m + r >> s) + 1, from -100 to 100; by hand. */
	static const int8_t expected[] = { 76, -49, 1, 1, 84, 100, -100, -44 };
	struct accel_npu_command command = {
		.opcode = ACCEL_NPU_OP_REQUANTIZE,
		.parameters = { 1, -100, 100 },
		.operands = {
			npu_tensor(DATA + 256, ACCEL_NPU_TYPE_I8, 1, 2, 2, 2),
			npu_tensor(DATA, ACCEL_NPU_TYPE_I32, 1, 2, 2, 2),
			npu_tensor(DATA + 64, ACCEL_NPU_TYPE_I32, 1, 1, 1, 2),
			npu_tensor(DATA + 72, ACCEL_NPU_TYPE_I32, 1, 1, 2, 2),
		},
	};

	poison(self);
	memcpy(self->data, a, sizeof(a));
	memcpy(self->data + 64, numbers, sizeof(numbers));
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	for (int i = 0; i < 8; i++) {
		EXPECT_EQ(expected[i], ((int8_t *)self->data)[256 + i])
		TH_LOG("element %d", i);
	}
	EXPECT_EQ(0xa5, self->data[264]);
}

TEST_F(npu_commands, activate)
{
	static const float a[] = { -1.0F, 0.5F, 2.0F, 10.0F };
	static const float b[] = { 1.0F, 0.0F, -1.0F, 0.25F };
	/* max(0.5 a + b, 0), exactly. */
	static const float expected[] = { 0.5F, 0.25F, 0.0F, 5.25F };
	const float half = 0.5F, *d = (void *)(self->data + 64);
	struct accel_npu_command command =
		npu_op(ACCEL_NPU_OP_ACTIVATE,
		       npu_vector(DATA + 64, ACCEL_NPU_TYPE_F32, 4),
		       npu_vector(DATA, ACCEL_NPU_TYPE_F32, 4));

	command.operands[2] = npu_vector(DATA + 32, ACCEL_NPU_TYPE_F32, 4);
	command.parameters[0] = 1;
	memcpy(&command.parameters[1], &half, 4);
	memcpy(self->data, a, sizeof(a));
	memcpy(self->data + 32, b, sizeof(b));
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	for (int i = 0; i < 4; i++)
		EXPECT_TRUE(d[i] > expected[i] - 1e-5F * (1 + expected[i]) &&
			    d[i] < expected[i] + 1e-5F * (1 + expected[i]));
}

TEST_F(npu_commands, add)
{
	static const int8_t a[] = { 10, -20, 127, -128 };
	static const int8_t b[] = { 5, 6, 127, -128 };
	/* ((a - 1) * 3 + (b + 2) * 2 + 1 >> 1) + 4, of eight bits; by hand. */
	static const int8_t expected[] = { 25, -19, 127, -128 };
	struct accel_npu_command command = {
		.opcode = ACCEL_NPU_OP_ADD,
		.parameters = { 1, -2, 3, 2, 1, 4, -128, 127 },
		.operands = { npu_vector(DATA + 64, ACCEL_NPU_TYPE_I8, 4),
			      npu_vector(DATA, ACCEL_NPU_TYPE_I8, 4),
			      npu_vector(DATA + 32, ACCEL_NPU_TYPE_I8, 4) },
	};
	const float two[] = { 0.5F, 0.25F };

	memcpy(self->data, a, sizeof(a));
	memcpy(self->data + 32, b, sizeof(b));
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	EXPECT_EQ(0, memcmp(self->data + 64, expected, 4));
	/* Of F32. */
	memset(command.parameters, 0, sizeof(command.parameters));
	command.operands[0] = npu_vector(DATA + 64, ACCEL_NPU_TYPE_F32, 1);
	command.operands[1] = npu_vector(DATA, ACCEL_NPU_TYPE_F32, 1);
	command.operands[2] = npu_vector(DATA + 4, ACCEL_NPU_TYPE_F32, 1);
	memcpy(self->data, two, sizeof(two));
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	EXPECT_TRUE(*(float *)(self->data + 64) == 0.75F);
}

TEST_F(npu_commands, pool)
{
	static const int8_t a[] = { 1, 2, 3, -4, 5, 6, 7, -8, 9 };
	static const int8_t greatest[] = { 5, 6, 7, 9 };
	/* 4/4, 16/4, 0/4, 12/4 */
	static const int8_t means[] = { 1, 4, 0, 3 };
	struct accel_npu_command command =
		npu_op(ACCEL_NPU_OP_POOL,
		       npu_tensor(DATA + 64, ACCEL_NPU_TYPE_I8, 1, 2, 2, 1),
		       npu_tensor(DATA, ACCEL_NPU_TYPE_I8, 1, 3, 3, 1));

	command.parameters[1] = 2 | 2 << 16;
	command.parameters[2] = 1 | 1 << 16;
	memcpy(self->data, a, sizeof(a));
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	EXPECT_EQ(0, memcmp(self->data + 64, greatest, 4));
	command.parameters[0] = 1;
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	EXPECT_EQ(0, memcmp(self->data + 64, means, 4));
}

TEST_F(npu_commands, softmax)
{
	struct accel_npu_command command =
		npu_op(ACCEL_NPU_OP_SOFTMAX,
		       npu_vector(DATA + 64, ACCEL_NPU_TYPE_F32, 4),
		       npu_vector(DATA, ACCEL_NPU_TYPE_F32, 4));
	const float a[] = { 0, 0.6931471806F, 0, 1.3862943611F }, one = 1.0F;
	/* exp gives 1, 2, 1, 4 */
	static const float expected[] = { 0.125F, 0.25F, 0.125F, 0.5F };
	const float *d = (void *)(self->data + 64);

	memcpy(&command.parameters[0], &one, 4);
	memcpy(self->data, a, sizeof(a));
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	for (int i = 0; i < 4; i++)
		EXPECT_TRUE(d[i] > expected[i] - 1e-5F &&
			    d[i] < expected[i] + 1e-5F);
}

TEST_F(npu_commands, argmax)
{
	static const int32_t a[2][5] = { { -3, 8, -9, 8, 2 },
					 { -5, -4, -3, -2, -1 } };
	struct accel_npu_command command =
		npu_op(ACCEL_NPU_OP_ARGMAX,
		       npu_tensor(DATA + 64, ACCEL_NPU_TYPE_I32, 1, 1, 2, 1),
		       npu_tensor(DATA, ACCEL_NPU_TYPE_I32, 1, 1, 2, 5));
	const int32_t *d = (void *)(self->data + 64);

	memcpy(self->data, a, sizeof(a));
	ASSERT_EQ(0, npu_run_one(&self->npu, command));
	EXPECT_EQ(1, d[0]);
	EXPECT_EQ(4, d[1]);
}

struct wrong {
	const char *name;
	int status;
	uint32_t kind;
	struct accel_npu_command command;
};

/*
 * Wrong commands: the job says so, and no more happens than that. What is
 * before the wrong one has been done, what is behind it not; the next job is.
 */
TEST_F(npu_commands, wrong_commands)
{
	struct wrong wrongs[] = {
		{ "opcode",
		  -EINVAL,
		  ACCEL_NPU_ERROR_OPCODE,
		  { .opcode = 0x7f } },
		{ "great opcode",
		  -EINVAL,
		  ACCEL_NPU_ERROR_OPCODE,
		  { .opcode = 0xffff } },
		{ "flags", -EINVAL, ACCEL_NPU_ERROR_OPCODE,
		  npu_fill(DATA + 64, 4, 1) },
		{ "reserved", -EINVAL, ACCEL_NPU_ERROR_OPCODE,
		  npu_fill(DATA + 64, 4, 1) },
		{ "type", -EINVAL, ACCEL_NPU_ERROR_OPERAND,
		  npu_fill(DATA + 64, 4, 1) },
		{ "alignment", -EINVAL, ACCEL_NPU_ERROR_OPERAND,
		  npu_fill32(DATA + 66, 4, 1) },
		{ "no dimension", -EINVAL, ACCEL_NPU_ERROR_OPERAND,
		  npu_fill(DATA + 64, 0, 1) },
		{ "shapes", -EINVAL, ACCEL_NPU_ERROR_OPERAND,
		  npu_copy(DATA + 64, DATA, 4) },
		{ "zero point", -EINVAL, ACCEL_NPU_ERROR_PARAMETER,
		  npu_matmul(DATA + 64, DATA, DATA + 32, 1, 1, 1) },
		{ "elements", -E2BIG, ACCEL_NPU_ERROR_SIZE,
		  npu_fill(DATA + 64, (1 << 26) + 1, 1) },
		{ "work", -E2BIG, ACCEL_NPU_ERROR_SIZE,
		  npu_matmul(DATA + 64, DATA, DATA, 4096, 4096, 512) },
	};
	struct accel_npu_error error;

	wrongs[2].command.flags = 1;
	wrongs[3].command.reserved = 1;
	wrongs[4].command.operands[0].type = 9;
	wrongs[7].command.operands[1].dims[3] = 5;
	wrongs[8].command.parameters[0] = 128;
	for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
		const struct wrong *wrong = &wrongs[i];
		struct accel_npu_command *list = self->npu.list;
		uint64_t point;

		ASSERT_EQ(0, npu_forget(&self->npu));
		memset(self->data, 0, 4096);
		list[0] = npu_fill(DATA, 4, 1);
		list[1] = wrong->command;
		list[2] = npu_fill(DATA + 4, 4, 2);
		list[3] = npu_fill(DATA + 8, 4, 3);
		ASSERT_EQ(0, npu_submit(&self->npu, 3, 1, &point));
		ASSERT_EQ(0, npu_submit(&self->npu, 0, 3, &point));
		ASSERT_EQ(0, npu_submit(&self->npu, 3, 1, &point));
		EXPECT_EQ(wrong->status, npu_wait(&self->npu, point))
		TH_LOG("%s", wrong->name);
		/* The one before it is not blamed. */
		EXPECT_EQ(0, npu_wait(&self->npu, 1));
		EXPECT_EQ(1, self->data[0]) TH_LOG("%s", wrong->name);
		EXPECT_EQ(0, self->data[4]) TH_LOG("%s", wrong->name);
		EXPECT_EQ(3, self->data[8]) TH_LOG("%s", wrong->name);
		ASSERT_EQ(0, npu_error(&self->npu, &error));
		EXPECT_EQ(wrong->kind, error.kind) TH_LOG("%s", wrong->name);
		EXPECT_EQ(self->npu.timeline, error.timeline);
		EXPECT_EQ(2, error.point);
		EXPECT_EQ(1, error.command);
		EXPECT_EQ(0, error.address);
		EXPECT_EQ(0, error.access);
		EXPECT_EQ(1, error.count);
		EXPECT_EQ(-ENODATA, npu_error(&self->npu, &error));
	}
	EXPECT_EQ(0, npu_check(&self->npu));
}

/* Of several the first is told, and how many there were. */
TEST_F(npu_commands, errors_are_counted)
{
	struct accel_npu_command bad = { .opcode = 0x99 };
	struct accel_npu_command small = npu_fill(DATA, 0, 1);
	struct accel_npu_error error;
	uint64_t point;

	self->npu.list[0] = npu_nop();
	self->npu.list[1] = small;
	self->npu.list[2] = bad;
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 2, &point));
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, npu_submit(&self->npu, 2, 1, &point));
	EXPECT_EQ(-EINVAL, npu_wait(&self->npu, point));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(ACCEL_NPU_ERROR_OPERAND, error.kind);
	EXPECT_EQ(2, error.point);
	EXPECT_EQ(1, error.command);
	EXPECT_EQ(6, error.count);
	EXPECT_EQ(-ENODATA, npu_error(&self->npu, &error));
}

TEST_HARNESS_MAIN
