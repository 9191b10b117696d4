// SPDX-License-Identifier: GPL-2.0
/*
 * A device that errs, forgets, repeats itself and lies, as its model is told
 * to through its control socket. Whatever it did: afterwards it is usable, or
 * its state says that it is not, and then unbinding and binding helps.
 */

#include "kselftest_harness.h"
#include "npu.h"
#include "shape.h"

#define DATA NPU_FREE
#define NOWHERE (NPU_FREE + 16 * MIB)
/* Longest that the driver may take to find a device usable again. */
#define RECOVERY_MS 10000

FIXTURE(npu_inject)
{
	struct npu npu;
	unsigned char *data;
};

/* A device that works, with a context on it: 0, or the number of what fails. */
static int begin(FIXTURE_DATA(npu_inject) * self)
{
	if (npu_inject("clear"))
		return 1;
	if (npu_recovers(RECOVERY_MS))
		return 2;
	if (npu_open(&self->npu))
		return 3;
	self->data = npu_memory(&self->npu, 4096, DATA, NPU_RW);
	return self->data ? 0 : 4;
}

static int end(FIXTURE_DATA(npu_inject) * self)
{
	if (self->npu.list) {
		munmap(self->data, 4096);
		npu_close(&self->npu);
		self->npu.list = NULL;
	}
	if (npu_inject("clear"))
		return 1;
	return npu_recovers(RECOVERY_MS) ? 2 : 0;
}

FIXTURE_SETUP(npu_inject)
{
	ASSERT_EQ(0, begin(self));
}

FIXTURE_TEARDOWN(npu_inject)
{
	EXPECT_EQ(0, end(self));
}

typedef void one_cycle(struct __test_metadata *_metadata,
		       FIXTURE_DATA(npu_inject) * self);

/* Once, or as often as asked for: then nothing may be left of it. */
static void inject(struct __test_metadata *_metadata,
		   FIXTURE_DATA(npu_inject) * self, one_cycle *once)
{
	static struct shape shape;

	once(_metadata, self);
	if (accel_cycles(1) == 1)
		return;
	ASSERT_EQ(0, end(self));
	shape_begin(&shape, _metadata->name, 1);
	while (shape.done < shape.cycles && !_metadata->exit_code) {
		ASSERT_EQ(0, begin(self)) TH_LOG("cycle %d", shape.done);
		once(_metadata, self);
		ASSERT_EQ(0, end(self)) TH_LOG("cycle %d", shape.done);
		shape.done++;
	}
	EXPECT_EQ(0, shape_end(&shape));
	ASSERT_EQ(0, begin(self));
}

/* A case that is one cycle. */
#define INJECT_TIMEOUT(name, seconds)                              \
	static one_cycle name##_once;                              \
	TEST_F_TIMEOUT(npu_inject, name, seconds)                  \
	{                                                          \
		inject(_metadata, self, name##_once);              \
	}                                                          \
	static void name##_once(struct __test_metadata *_metadata, \
				FIXTURE_DATA(npu_inject) * self)
#define INJECT(name) INJECT_TIMEOUT(name, 30)

enum after { USABLE, FAILED, LIES };

/*
 * Ends all injections, and sees what there is now. A device that has failed is
 * bound anew, for which the fixture's context has to be closed.
 */
static enum after aftermath(FIXTURE_DATA(npu_inject) * self)
{
	int state;

	if (npu_inject("clear"))
		return LIES;
	if (!npu_recovers(RECOVERY_MS))
		return npu_state() == ACCEL_STATE_OPERATIONAL ? USABLE : LIES;
	state = npu_state();
	if (state != ACCEL_STATE_NEEDS_RESET &&
	    state != ACCEL_STATE_MALFUNCTION)
		return LIES;
	/* What does not work says so, and does not hang. */
	if (npu_run_one(&self->npu, npu_nop()) != -EIO)
		return LIES;
	munmap(self->data, 4096);
	npu_close(&self->npu);
	self->npu.list = NULL;
	if (accel_remove() || accel_restore() || npu_recovers(RECOVERY_MS))
		return LIES;
	return npu_state() == ACCEL_STATE_OPERATIONAL ? FAILED : LIES;
}

/* One job with that time to end. */
static int run(const struct npu *npu, struct accel_npu_command command,
	       uint32_t deadline_ms)
{
	struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };
	struct npu own = *npu;
	uint64_t point;
	int ret;

	npu->list[0] = command;
	ret = accel_timeline_create(npu->fd, &own.timeline);
	if (ret)
		return ret;
	ret = npu_submit_jobs(&own, &job, 1, 0, deadline_ms, &point);
	if (!ret)
		ret = npu_wait(&own, point);
	accel_timeline_destroy(npu->fd, own.timeline);
	return ret;
}

/* The context again after whatever stopped it. */
static int resume(struct npu *npu)
{
	struct accel_npu_error error;
	int ret = npu_error(npu, &error);

	return ret == -ENODATA ? 0 : ret;
}

/* One job in which its engine hangs: what becomes of it. */
static int run_hanging(struct npu *npu)
{
	int ret, tries = 20;

	if (npu_inject("hang copy"))
		return 1;
	/* On a slow machine its time may be over before the engine has begun. */
	do
		ret = run(npu, npu_fill(DATA, 4, 1), 200);
	while (ret == -ETIMEDOUT && npu_stat("planned") == 1 && !resume(npu) &&
	       tries--);
	return ret;
}

INJECT(control_socket)
{
	char answer[4096];
	uint64_t jobs;

	ASSERT_EQ(0, npu_control("help", answer, sizeof(answer)));
	EXPECT_LT(0, strlen(answer));
	EXPECT_EQ(-EPROTO, npu_control("nonsense", NULL, 0));
	EXPECT_EQ(-EPROTO, npu_control("stall", NULL, 0));
	EXPECT_EQ(-EPROTO, npu_control("stall many", NULL, 0));
	EXPECT_EQ(-EPROTO, npu_control("hang everything", NULL, 0));
	EXPECT_EQ(-EPROTO, npu_control("peek 0 999999999999", NULL, 0));
	jobs = npu_stat("jobs");
	EXPECT_EQ(0, npu_check(&self->npu));
	EXPECT_EQ(jobs + 1, npu_stat("jobs"));
	ASSERT_EQ(0, npu_control("peek 0 16", answer, sizeof(answer)));
	EXPECT_EQ(32, strspn(answer, "0123456789abcdefABCDEF"));
}

INJECT(interrupts_lost)
{
	/* The job has ended, and somebody looks in time: it is no failure. */
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, npu_inject("interrupts drop 1"));
		EXPECT_EQ(0, run(&self->npu, npu_fill(DATA, 4, i), 1000));
		EXPECT_EQ(i, self->data[3]);
	}
	/* With many on their way the next one brings them along. */
	ASSERT_EQ(0, npu_inject("interrupts drop 4"));
	for (int i = 0; i < 8; i++) {
		uint64_t point;

		self->npu.list[i] = npu_fill(DATA + i, 1, 0x80 + i);
		ASSERT_EQ(0, npu_submit(&self->npu, i, 1, &point));
	}
	EXPECT_EQ(0, npu_wait(&self->npu, 8));
	for (int i = 0; i < 8; i++)
		EXPECT_EQ(0x80 + i, self->data[i]);
	EXPECT_EQ(USABLE, aftermath(self));
}

INJECT(interrupts_repeated)
{
	ASSERT_EQ(0, npu_inject("interrupts repeat 50"));
	for (int i = 0; i < 50; i++)
		ASSERT_EQ(0, npu_check(&self->npu));
	EXPECT_EQ(USABLE, aftermath(self));
}

INJECT(interrupts_spurious)
{
	for (int vector = 0; vector < 8; vector++) {
		for (int i = 0; i < 5; i++)
			ASSERT_EQ(0,
				  npu_inject("interrupts spurious %d", vector));
		EXPECT_EQ(0, npu_check(&self->npu));
	}
	EXPECT_EQ(USABLE, aftermath(self));
}

/* A completion that cannot be: the job failed, and nothing worse. */
INJECT(lies_of_completions)
{
	static const char *const lies[] = { "cookie", "status", "phase",
					    "command" };

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		for (int n = 1; n < 4; n += 2) {
			int ret;

			ASSERT_EQ(0, npu_inject("lie completion %s %d", lies[i],
						n));
			ret = run(&self->npu, npu_fill(DATA, 4, 1), 500);
			/* How many it executed does not matter to anybody. */
			EXPECT_TRUE(ret == -EIO || ret == -ETIMEDOUT ||
				    (i == 3 && ret == 0))
			TH_LOG("%s: %d", lies[i], ret);
			ASSERT_EQ(0, npu_inject("clear"));
			EXPECT_EQ(0, resume(&self->npu));
			EXPECT_EQ(0, npu_recovers(RECOVERY_MS));
			EXPECT_EQ(0, npu_check(&self->npu))
			TH_LOG("%s", lies[i]);
		}
	}
	/* In the midst of a batch. */
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct accel_npu_job jobs[16];
		uint64_t point;

		for (int n = 0; n < 16; n++) {
			self->npu.list[n] = npu_fill(DATA + n, 1, 1);
			jobs[n] = (struct accel_npu_job){
				.address = NPU_LIST + n * 256, .count = 1
			};
		}
		ASSERT_EQ(0, npu_forget(&self->npu));
		ASSERT_EQ(0, npu_inject("lie completion %s 2", lies[i]));
		ASSERT_EQ(0, npu_submit_jobs(&self->npu, jobs, 16, 0, 500,
					     &point));
		EXPECT_NE(-ETIME, npu_wait(&self->npu, point));
		ASSERT_EQ(0, npu_inject("clear"));
		EXPECT_EQ(0, resume(&self->npu));
		EXPECT_EQ(0, npu_recovers(RECOVERY_MS));
		EXPECT_EQ(0, npu_check(&self->npu)) TH_LOG("%s", lies[i]);
	}
	EXPECT_EQ(USABLE, aftermath(self));
}

/* A fault of which the registers say nonsense. */
INJECT(lies_of_faults)
{
	static const uint32_t queue_registers[] = { 0x24, 0x28, 0x30, 0x34,
						    0x38 };

	for (size_t i = 0; i < ARRAY_SIZE(queue_registers); i++) {
		/* Of every queue: which one the context has is not known. */
		for (int q = 0; q < 64; q++)
			ASSERT_EQ(0, npu_inject("lie register %#x 0x5a5a5a5a 2",
						0x10000 + q * 0x100 +
							queue_registers[i]));
		EXPECT_GT(0, run(&self->npu, npu_fill(NOWHERE, 4, 1), 500));
		ASSERT_EQ(0, npu_inject("clear"));
		EXPECT_EQ(0, npu_recovers(RECOVERY_MS));
		EXPECT_EQ(0, resume(&self->npu));
		EXPECT_EQ(0, npu_check(&self->npu))
		TH_LOG("register %#x", queue_registers[i]);
	}
	EXPECT_EQ(USABLE, aftermath(self));
}

/* What a user does, of which every step asks the device something. */
static void use(const struct npu *npu)
{
	struct accel_npu_error error;
	struct npu other;

	run(npu, npu_fill(DATA, 4, 1), 100);
	npu_error(npu, &error);
	npu_map_device(npu, NPU_RW, 64 * KIB, NOWHERE);
	run(npu, npu_fill(NOWHERE + MIB, 4, 1), 100);
	npu_unmap(npu, NOWHERE, 64 * KIB);
	npu_error(npu, &error);
	if (!npu_open(&other)) {
		run(&other, npu_nop(), 100);
		npu_close(&other);
	}
}

INJECT_TIMEOUT(lies_of_registers, 100)
{
	static const uint32_t registers[] = { 0x000, 0x018, 0x01c, 0x090,
					      0x114, 0x010, 0x008, 0x00c };
	static const uint32_t values[] = { 0xffffffff, 0, 0x5a5a5a5a };

	for (size_t r = 0; r < ARRAY_SIZE(registers); r++) {
		for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
			enum after after;

			ASSERT_EQ(0, npu_inject("lie register %#x %#x 3",
						registers[r], values[v]));
			use(&self->npu);
			after = aftermath(self);
			EXPECT_NE(LIES, after)
			TH_LOG("register %#x, value %#x, state %d",
			       registers[r], values[v], npu_state());
			if (after == FAILED) {
				ASSERT_EQ(0, npu_open(&self->npu));
				self->data = npu_memory(&self->npu, 4096, DATA,
							NPU_RW);
				ASSERT_TRUE(self->data != NULL);
			}
			EXPECT_EQ(0, resume(&self->npu));
		}
	}
}

INJECT(lies_of_events)
{
	ASSERT_EQ(0, npu_inject("lie event 3"));
	ASSERT_EQ(0, npu_inject("ecc 1"));
	ASSERT_EQ(0, npu_inject("ecc 1"));
	ASSERT_EQ(0, npu_inject("ecc 1"));
	EXPECT_EQ(0, npu_check(&self->npu));
	EXPECT_EQ(USABLE, aftermath(self));
}

/* Events of which there are more than the ring holds. */
INJECT(corrected_errors)
{
	for (int i = 0; i < 300; i++)
		ASSERT_EQ(0, npu_inject("ecc 3 %d", i * 4096));
	EXPECT_EQ(0, npu_check(&self->npu));
	EXPECT_EQ(USABLE, aftermath(self));
}

INJECT(slow_registers)
{
	ASSERT_EQ(0, npu_inject("slow 100 8"));
	EXPECT_EQ(0, run(&self->npu, npu_fill(DATA, 4, 7), 10000));
	EXPECT_EQ(0, npu_map_device(&self->npu, NPU_RW, 64 * KIB, NOWHERE));
	EXPECT_EQ(0, npu_run_one(&self->npu, npu_fill(NOWHERE, 4, 7)));
	EXPECT_EQ(0, npu_unmap(&self->npu, NOWHERE, 64 * KIB));
	EXPECT_EQ(7, self->data[3]);
	EXPECT_EQ(USABLE, aftermath(self));
}

/*
 * An invalidation that does not end: only a reset is as good. When unmapping
 * has returned nothing is reached there, whatever it returned.
 */
INJECT(tlb_stuck)
{
	int64_t before = accel_now(), resets = npu_stat("resets");
	int ret;

	ASSERT_EQ(0, npu_map_device(&self->npu, NPU_RW, 4096, NOWHERE));
	ASSERT_EQ(0, npu_run_one(&self->npu, npu_fill(NOWHERE, 4, 1)));
	ASSERT_EQ(0, npu_inject("tlb-stuck 1"));
	ret = npu_unmap(&self->npu, NOWHERE, 4096);
	EXPECT_TRUE(ret == 0 || ret == -EIO) TH_LOG("%d", ret);
	EXPECT_GT(5000 * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_LT(resets, npu_stat("resets"));
	EXPECT_EQ(0, npu_recovers(RECOVERY_MS));
	EXPECT_EQ(0, resume(&self->npu));
	EXPECT_EQ(-EFAULT, run(&self->npu, npu_fill(NOWHERE, 4, 1), 1000));
	EXPECT_EQ(0, resume(&self->npu));
	EXPECT_EQ(0, npu_check(&self->npu));
	EXPECT_EQ(USABLE, aftermath(self));
}

INJECT(scrub_stuck)
{
	int64_t before = accel_now();
	int ret;

	ASSERT_EQ(0, npu_inject("scrub-stuck 1"));
	ret = npu_map_device(&self->npu, NPU_RW, MIB, NOWHERE);
	EXPECT_TRUE(ret == 0 || ret == -EIO) TH_LOG("%d", ret);
	EXPECT_GT(10000 * NSEC_PER_MSEC, accel_now() - before);
	EXPECT_EQ(USABLE, aftermath(self));
	EXPECT_EQ(0, resume(&self->npu));
	/* What is given out after it is as empty as ever. */
	if (ret)
		ASSERT_EQ(0, npu_map_device(&self->npu, NPU_RW, MIB, NOWHERE));
	for (int i = 0; i < 256; i++) {
		memset(self->data, 1, 4096);
		ASSERT_EQ(0, npu_run_one(&self->npu,
					 npu_copy(DATA, NOWHERE + i * 4096,
						  4096)));
		ASSERT_TRUE(npu_all(self->data, 4096, 0));
	}
}

/* The engine hangs, and the reset that should help does not complete. */
INJECT(reset_stuck)
{
	/* Once: tried again, or given up. */
	ASSERT_EQ(0, npu_inject("reset-stuck 1"));
	EXPECT_GT(0, run_hanging(&self->npu));
	EXPECT_NE(LIES, aftermath(self));
}

INJECT(reset_stuck_for_good)
{
	struct accel_npu_error error;
	int ret;

	ASSERT_EQ(0, npu_inject("reset-stuck 1000"));
	EXPECT_GT(0, run_hanging(&self->npu));
	/* It says so soon, and every call that needs the device does. */
	for (int i = 0; i < 500 && npu_state() != ACCEL_STATE_MALFUNCTION; i++)
		accel_sleep_ms(20);
	EXPECT_EQ(ACCEL_STATE_MALFUNCTION, npu_state());
	EXPECT_EQ(-EIO, run(&self->npu, npu_nop(), 0));
	EXPECT_EQ(-EIO, npu_map_device(&self->npu, NPU_RW, 4096, NOWHERE));
	EXPECT_EQ(-EIO, npu_unmap(&self->npu, DATA, 4096));
	ret = npu_error(&self->npu, &error);
	EXPECT_TRUE(ret == 0 || ret == -EIO);
	EXPECT_EQ(-EIO, npu_error(&self->npu, &error));
	EXPECT_EQ(FAILED, aftermath(self));
}

/*
 * A card that was given up and comes back: what contexts had on it is lost, and
 * so are the registers that they have mapped, wherever they are mapped.
 */
INJECT(registers_of_lost)
{
	const int rw = PROT_READ | PROT_WRITE;
	struct npu other;
	char *bells, *moved, *untouched;
	char path[128];

	bells = mmap(NULL, 4096, rw, MAP_SHARED, self->npu.fd,
		     ACCEL_NPU_MMAP_DOORBELL);
	ASSERT_NE(MAP_FAILED, (void *)bells);
	untouched = mmap(NULL, 4096, rw, MAP_SHARED, self->npu.fd,
			 ACCEL_NPU_MMAP_DOORBELL);
	ASSERT_NE(MAP_FAILED, (void *)untouched);
	EXPECT_EQ(0, accel_touch(bells));
	EXPECT_EQ(0, accel_touch_write(bells));

	ASSERT_EQ(0, npu_inject("reset-stuck 1000"));
	EXPECT_GT(0, run_hanging(&self->npu));
	for (int i = 0; i < 500 && npu_state() != ACCEL_STATE_MALFUNCTION; i++)
		accel_sleep_ms(20);
	ASSERT_EQ(ACCEL_STATE_MALFUNCTION, npu_state());
	EXPECT_EQ(SIGBUS, accel_touch(bells));
	EXPECT_EQ(SIGBUS, accel_touch_write(untouched));

	ASSERT_EQ(0, npu_inject("clear"));
	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/reset",
		 accel_class(), accel_target()->number);
	/* A model that the host does not let run misses the time of a reset. */
	for (int i = 0; i < 500 && npu_state() != ACCEL_STATE_OPERATIONAL;
	     i++) {
		if (npu_state() == ACCEL_STATE_MALFUNCTION)
			ASSERT_EQ(0, accel_write_line(path, "1"));
		accel_sleep_ms(20);
	}
	ASSERT_EQ(ACCEL_STATE_OPERATIONAL, npu_state());
	moved = mremap(bells, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
		       mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0));
	ASSERT_NE(MAP_FAILED, (void *)moved);
	/* For ever, and not only until somebody else works on it. */
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(SIGBUS, accel_touch(moved));
		EXPECT_EQ(SIGBUS, accel_touch_write(moved));
		EXPECT_EQ(SIGBUS, accel_touch(untouched));
		EXPECT_EQ(SIGBUS, accel_touch_write(untouched));
		EXPECT_EQ(-ESTALE,
			  accel_mmap_errno(self->npu.fd, 4096, rw, MAP_SHARED,
					   ACCEL_NPU_MMAP_DOORBELL));
		EXPECT_EQ(-ESTALE, run(&self->npu, npu_nop(), 0));
		ASSERT_EQ(0, npu_open(&other));
		EXPECT_EQ(0, npu_check(&other));
		EXPECT_EQ(0, accel_mmap_errno(other.fd, 4096, rw, MAP_SHARED,
					      ACCEL_NPU_MMAP_DOORBELL));
		npu_close(&other);
	}
	/* Host memory is no part of it. */
	EXPECT_EQ(0, accel_touch_write(self->data));
	munmap(moved, 4096);
	munmap(untouched, 4096);
}

/* A card that stops by itself, with a job on it and one that comes later. */
INJECT(fatal)
{
	static const char *const kinds[] = { "ecc", "engine", "thermal" };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int64_t resets = npu_stat("resets");
		struct accel_npu_error error;
		uint64_t point;

		ASSERT_EQ(0, npu_forget(&self->npu));
		self->npu.list[0] = npu_fill(DATA, 4, 1);
		ASSERT_EQ(0, npu_inject("stall 20000"));
		ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
		ASSERT_EQ(0, npu_await_begun());
		ASSERT_EQ(0, npu_inject("fatal %s", kinds[i]));
		EXPECT_EQ(-EIO, npu_wait(&self->npu, point))
		TH_LOG("%s", kinds[i]);
		EXPECT_EQ(0, npu_recovers(RECOVERY_MS)) TH_LOG("%s", kinds[i]);
		ASSERT_EQ(0, npu_error(&self->npu, &error));
		EXPECT_EQ(ACCEL_NPU_ERROR_RESET, error.kind);
		EXPECT_EQ(1, error.point);
		EXPECT_LT(resets, npu_stat("resets"));
		EXPECT_EQ(0, npu_check(&self->npu)) TH_LOG("%s", kinds[i]);
		EXPECT_EQ(ACCEL_STATE_OPERATIONAL, npu_state());
		ASSERT_EQ(0, npu_inject("clear"));
	}
	EXPECT_EQ(USABLE, aftermath(self));
}

/* Nothing was running: the next user notices nothing, or a moment's delay. */
INJECT(fatal_while_idle)
{
	int64_t resets = npu_stat("resets");

	ASSERT_EQ(0, npu_inject("fatal engine"));
	EXPECT_EQ(0, npu_recovers(RECOVERY_MS));
	EXPECT_LT(resets, npu_stat("resets"));
	EXPECT_EQ(0, resume(&self->npu));
	EXPECT_EQ(0, npu_check(&self->npu));
	EXPECT_EQ(USABLE, aftermath(self));
}

INJECT(too_hot)
{
	ASSERT_EQ(0, npu_inject("sensor temperature 60000"));
	EXPECT_EQ(0, npu_check(&self->npu));
	ASSERT_EQ(0, npu_inject("sensor temperature 200000"));
	use(&self->npu);
	EXPECT_NE(LIES, aftermath(self));
}

INJECT(sensors)
{
	ASSERT_EQ(0, npu_inject("sensor power 12345"));
	ASSERT_EQ(0, npu_inject("sensor voltage 0"));
	ASSERT_EQ(0, npu_inject("sensor core_clock 1"));
	ASSERT_EQ(0, npu_inject("sensor memory_clock 2000000000"));
	EXPECT_EQ(-EPROTO, npu_inject("sensor mood 1"));
	EXPECT_EQ(0, npu_check(&self->npu));
	EXPECT_EQ(USABLE, aftermath(self));
}

/* The device is taken away while its engine hangs, and comes back. */
INJECT(unbind_during_hang)
{
	uint64_t point;

	self->npu.list[0] = npu_fill(DATA, 4, 1);
	ASSERT_EQ(0, npu_inject("hang copy"));
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
	ASSERT_EQ(0, npu_await_begun());
	ASSERT_EQ(0, accel_remove());
	EXPECT_EQ(-ENODEV, npu_submit(&self->npu, 0, 1, &point));
	munmap(self->data, 4096);
	npu_close(&self->npu);
	self->npu.list = NULL;
	ASSERT_EQ(0, npu_inject("clear"));
	ASSERT_EQ(0, accel_restore());
	EXPECT_EQ(0, npu_recovers(RECOVERY_MS));
}

/* Several things at once, and again. */
INJECT(all_at_once)
{
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, npu_inject("slow 20 20"));
		ASSERT_EQ(0, npu_inject("interrupts drop 2"));
		ASSERT_EQ(0, npu_inject("lie event 2"));
		ASSERT_EQ(0, npu_inject("lie completion status 1"));
		ASSERT_EQ(0, npu_inject("ecc 2"));
		ASSERT_EQ(0, npu_inject("hang %s", i % 2 ? "copy" : "compute"));
		use(&self->npu);
		ASSERT_EQ(0, npu_inject("clear"));
		EXPECT_EQ(0, npu_recovers(RECOVERY_MS));
		EXPECT_EQ(0, resume(&self->npu));
		EXPECT_EQ(0, npu_check(&self->npu));
	}
	EXPECT_EQ(USABLE, aftermath(self));
}

TEST_HARNESS_MAIN
