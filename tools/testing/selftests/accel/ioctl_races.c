// SPDX-License-Identifier: GPL-2.0
/*
 * Arguments that another thread rewrites, or takes away, while a call is in
 * the kernel: what was read once is what counts.
 */

#include "calls.h"
#include "kselftest_harness.h"

FIXTURE(races)
{
	struct env env;
};

FIXTURE_SETUP(races)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(0, env_open(&self->env));
}

FIXTURE_TEARDOWN(races)
{
	env_close(&self->env);
}

struct race {
	/* One byte that another thread flips between two values. */
	unsigned char *byte;
	unsigned char one, other;
	bool stop;
};

static void *race_thread(void *data)
{
	struct race *race = data;

	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		__atomic_store_n(race->byte, race->one, __ATOMIC_RELAXED);
		__atomic_store_n(race->byte, race->other, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Flags that are rewritten meanwhile: one of both answers, never a third. */
TEST_F(races, flags)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		unsigned char arg[LONGEST] = {};
		struct race race = { .byte = arg + call->zero[0].offset,
				     .one = 0,
				     .other = 0x80 };
		size_t size = _IOC_SIZE(call->cmd);
		int loops = call->keeps_job ? 20 : 100;
		pthread_t thread;

		if (!call->zero[0].size)
			continue;
		ASSERT_EQ(0, pthread_create(&thread, NULL, race_thread, &race));
		for (int i = 0; i < loops; i++) {
			unsigned char fresh[LONGEST] = {};
			int ret;

			/* The racing byte is not the one that is filled. */
			ASSERT_EQ(0, call->fill(&self->env, fresh));
			for (size_t n = 0; n < size; n++)
				if (n != call->zero[0].offset)
					arg[n] = fresh[n];
			ret = accel_ioctl(self->env.fd, call->cmd, arg);
			EXPECT_TRUE(ret == 0 || ret == -EINVAL)
			TH_LOG("%s: %d", call->name, ret);
			memcpy(fresh, arg, size);
			if (call->undo)
				call->undo(&self->env, fresh, ret);
		}
		__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
	}
	EXPECT_EQ(1, accel_fdinfo(self->env.fd, "accel-buffers"));
}

/* An operand and an array that are rewritten: what was read once counts. */
TEST_F(races, values)
{
	uint64_t values[256], partial[256];
	struct accel_mock_sum sum = {
		.values = (uintptr_t)values,
		.partial = (uintptr_t)partial,
		.count = ARRAY_SIZE(values),
	};
	struct accel_mock_add add = {};
	struct race race = { .one = 1, .other = 2 };
	/* The low byte of a number, in this byte order. */
	const int low = htole32(1) == 1 ? 0 : 7;
	pthread_t thread;

	if (accel_target()->kind == ACCEL_NPU) {
		struct accel_npu_job job = { .address = env_list(&self->env),
					     .count = 1 };
		struct accel_npu_submit submit = {
			.jobs = (uintptr_t)&job,
			.count = 1,
			.timeline = self->env.timeline,
		};
		int32_t status;

		ASSERT_NE(0, job.address);
		/* One command, or 0x10001 which are too many. */
		race.byte = (unsigned char *)&job.count + (low ? 1 : 2);
		race.one = 0;
		race.other = 1;
		ASSERT_EQ(0, pthread_create(&thread, NULL, race_thread, &race));
		for (int i = 0; i < 50; i++) {
			int ret = accel_ioctl(self->env.fd,
					      ACCEL_NPU_IOCTL_SUBMIT, &submit);

			ASSERT_TRUE(ret == 0 || ret == -EINVAL);
			if (ret)
				continue;
			ASSERT_EQ(0, accel_timeline_wait(self->env.fd,
							 submit.timeline,
							 submit.point, FOREVER,
							 NULL, &status));
			ASSERT_EQ(0, status);
		}
		__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
		return;
	}
	if (accel_target()->kind == ACCEL_EDU) {
		uint32_t number = 3;
		struct accel_edu_factorial job = {
			.numbers = (uintptr_t)&number,
			.count = 1,
			.timeline = self->env.timeline,
			.dst = self->env.buffer,
		};
		uint32_t *answer;

		/* 3, or 0x0103 which is too great: run, or refused. */
		answer = accel_buffer_map(self->env.fd, self->env.buffer, 4096,
					  PROT_READ | PROT_WRITE);
		ASSERT_TRUE(answer != NULL);
		race.byte = (unsigned char *)&number + (low ? 2 : 1);
		race.one = 0;
		race.other = 1;
		ASSERT_EQ(0, pthread_create(&thread, NULL, race_thread, &race));
		for (int i = 0; i < 50; i++) {
			int ret;

			*answer = 1;
			ret = accel_ioctl(self->env.fd,
					  ACCEL_EDU_IOCTL_FACTORIAL, &job);
			ASSERT_TRUE(ret == 0 || ret == -EINVAL);
			if (ret)
				continue;
			ASSERT_EQ(0, accel_timeline_wait(
					     self->env.fd, job.timeline,
					     job.point, FOREVER, NULL, NULL));
			ASSERT_EQ(6, *answer);
		}
		__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
		return;
	}
	race.byte = (unsigned char *)&add.a + low;
	ASSERT_EQ(0, pthread_create(&thread, NULL, race_thread, &race));
	for (int i = 0; i < 200; i++) {
		add.b = 1ULL << 40;
		ASSERT_EQ(0, accel_ioctl(self->env.fd, ACCEL_MOCK_IOCTL_ADD,
					 &add));
		ASSERT_TRUE(add.b == (1ULL << 40) + 1 ||
			    add.b == (1ULL << 40) + 2 || add.b == (1ULL << 40));
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);

	/* The sums agree with each other, whichever values were read. */
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		values[i] = 1;
	race.byte = (unsigned char *)&values[128] + low;
	race.stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, race_thread, &race));
	for (int i = 0; i < 200; i++) {
		ASSERT_EQ(0, accel_ioctl(self->env.fd, ACCEL_MOCK_IOCTL_SUM,
					 &sum));
		ASSERT_TRUE(sum.sum == 256 || sum.sum == 257);
		ASSERT_EQ(sum.sum, partial[255]);
		ASSERT_EQ(sum.sum - 256, partial[128] - 129);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

/* Mappings and handles that come and go under a call. */
TEST_F(races, unmap)
{
	const struct call *call;

	for (call = next_call(NULL); call; call = next_call(call)) {
		unsigned char arg[LONGEST] = {};
		struct accel_call other;

		for (int i = 0; i < 10; i++) {
			unsigned char *page;
			int ret;

			page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			ASSERT_TRUE(page != MAP_FAILED);
			memset(arg, 0, sizeof(arg));
			ASSERT_EQ(0, call->fill(&self->env, arg));
			memcpy(page, arg, sizeof(arg));
			ASSERT_EQ(0, accel_call_start(&other, self->env.fd,
						      call->cmd, page));
			munmap(page, 4096);
			accel_call_join(&other);
			ret = other.result;
			EXPECT_TRUE(ret == 0 || ret == -EFAULT)
			TH_LOG("%s: %d", call->name, ret);
		}
	}
}

TEST_HARNESS_MAIN
