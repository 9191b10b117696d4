// SPDX-License-Identifier: GPL-2.0
/*
 * Accesses that the MMU refuses: the context that made one is told exactly
 * which, and is stopped; nobody else notices.
 */

#include "kselftest_harness.h"
#include "npu.h"

#define PAGE 4096UL
#define DATA NPU_FREE
/* Nothing is mapped there. */
#define NOWHERE (NPU_FREE + 16 * MIB)

FIXTURE(npu_faults)
{
	struct npu npu;
	unsigned char *data;
};

FIXTURE_SETUP(npu_faults)
{
	ASSERT_EQ(0, npu_open(&self->npu));
	self->data = npu_memory(&self->npu, 4 * PAGE, DATA, NPU_RW);
	ASSERT_TRUE(self->data != NULL);
}

FIXTURE_TEARDOWN(npu_faults)
{
	munmap(self->data, 4 * PAGE);
	npu_close(&self->npu);
	EXPECT_EQ(0, npu_healthy());
}

struct fault {
	const char *name;
	uint64_t address;
	uint32_t access;
	struct accel_npu_command command;
};

/* The next event of a file that does not block: a fault, or a negative errno. */
static int next_fault(int fd, struct accel_event_fault *fault)
{
	int ret = accel_read(fd, fault, sizeof(*fault));

	return ret < 0 ? ret : fault->header.type;
}

static int nonblock(int fd)
{
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/*
 * The one whose job it was is told, before the job ends. Another context, which
 * runs jobs too, is not, nor is a monitor.
 */
TEST_F(npu_faults, told)
{
	const uint64_t ro = DATA + 8 * MIB;
	const struct fault faults[] = {
		{ "read of nothing", NOWHERE, ACCEL_FAULT_READ,
		  npu_copy(DATA, NOWHERE, 16) },
		{ "write of what is read only", ro, ACCEL_FAULT_WRITE,
		  npu_fill(ro, 4, 1) },
		{ "an end beyond all addresses", 0, ACCEL_FAULT_WRITE,
		  npu_fill(-4ULL, 16, 1) },
	};
	static const uint32_t codes[] = {
		ACCEL_NPU_FAULT_UNMAPPED,
		ACCEL_NPU_FAULT_DENIED,
		ACCEL_NPU_FAULT_RANGE,
	};
	struct accel_npu_command wrong = npu_nop();
	int control = accel_open_control(O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct accel_event_state state;
	struct accel_event_fault told;
	struct accel_npu_error error;
	struct npu other;
	uint64_t point;

	ASSERT_LE(0, control);
	ASSERT_EQ(0, npu_open(&other));
	ASSERT_EQ(0, nonblock(other.fd));
	ASSERT_EQ(0, nonblock(self->npu.fd));
	ASSERT_EQ(0, npu_map_device(&self->npu, ACCEL_NPU_MAP_READ, PAGE, ro));
	ASSERT_EQ(0, accel_events(self->npu.fd, 1 << ACCEL_EVENT_FAULT, NULL));
	ASSERT_EQ(0, accel_events(other.fd, 1 << ACCEL_EVENT_FAULT, NULL));
	ASSERT_EQ(0, accel_events(control, 1 << ACCEL_EVENT_STATE, NULL));
	ASSERT_EQ(sizeof(state), accel_read(control, &state, sizeof(state)));
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		const struct fault *fault = &faults[i];

		ASSERT_EQ(0, npu_forget(&self->npu));
		self->npu.list[0] = npu_nop();
		self->npu.list[1] = fault->command;
		ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, NULL));
		ASSERT_EQ(0, npu_submit(&self->npu, 0, 2, &point));
		EXPECT_EQ(-EFAULT, npu_wait(&self->npu, point));
		ASSERT_EQ(ACCEL_EVENT_FAULT, next_fault(self->npu.fd, &told));
		EXPECT_EQ(i + 1, told.header.sequence);
		EXPECT_EQ(codes[i], told.code) TH_LOG("%s", fault->name);
		EXPECT_EQ(fault->access, told.access)
		TH_LOG("%s", fault->name);
		if (fault->address) {
			EXPECT_EQ(fault->address, told.address)
			TH_LOG("%s", fault->name);
		}
		EXPECT_EQ(point, told.point);
		EXPECT_EQ(self->npu.timeline, told.timeline);
		EXPECT_EQ(0, npu_run_one(&other, npu_nop()));
		ASSERT_EQ(0, npu_error(&self->npu, &error));
	}
	/* What is wrong with a command is no fault. */
	ASSERT_EQ(0, npu_forget(&self->npu));
	wrong.opcode = 0xffff;
	EXPECT_EQ(-EINVAL, npu_run_one(&self->npu, wrong));
	ASSERT_EQ(0, npu_forget(&self->npu));
	EXPECT_EQ(-EAGAIN, next_fault(self->npu.fd, &told));
	EXPECT_EQ(-EAGAIN, next_fault(other.fd, &told));
	EXPECT_EQ(-EAGAIN, accel_read(control, &state, sizeof(state)));
	npu_close(&other);
	close(control);
}

/* Where exactly, of what kind, by which command. */
TEST_F(npu_faults, details)
{
	const uint64_t ro = DATA + 8 * MIB, wo = DATA + 10 * MIB;
	const uint64_t last = ACCEL_NPU_ADDRESS_END;
	const struct fault faults[] = {
		{ "read of nothing", NOWHERE, ACCEL_NPU_ACCESS_READ,
		  npu_copy(DATA, NOWHERE, 16) },
		{ "write to nothing", NOWHERE + 64, ACCEL_NPU_ACCESS_WRITE,
		  npu_fill(NOWHERE + 64, 16, 1) },
		{ "read across the end", DATA + 4 * PAGE, ACCEL_NPU_ACCESS_READ,
		  npu_copy(DATA, DATA + 4 * PAGE - 8, 16) },
		{ "write across the end", DATA + 4 * PAGE,
		  ACCEL_NPU_ACCESS_WRITE,
		  npu_fill(DATA + 4 * PAGE - 8, 16, 1) },
		{ "write of what is read only", ro, ACCEL_NPU_ACCESS_WRITE,
		  npu_fill(ro, 4, 1) },
		{ "read of what is write only", wo + 4, ACCEL_NPU_ACCESS_READ,
		  npu_copy(DATA, wo + 4, 4) },
		{ "low addresses", 0, ACCEL_NPU_ACCESS_READ,
		  npu_copy(DATA, 0, 4) },
		{ "low addresses", 8, ACCEL_NPU_ACCESS_WRITE,
		  npu_fill(8, 4, 1) },
		{ "the highest", last - 4, ACCEL_NPU_ACCESS_READ,
		  npu_copy(DATA, last - 4, 4) },
	};
	struct accel_npu_error error;

	ASSERT_EQ(0, npu_map_device(&self->npu, ACCEL_NPU_MAP_READ, PAGE, ro));
	ASSERT_EQ(0, npu_map_device(&self->npu, ACCEL_NPU_MAP_WRITE, PAGE, wo));
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		const struct fault *fault = &faults[i];
		uint64_t point;

		ASSERT_EQ(0, npu_forget(&self->npu));
		self->npu.list[0] = npu_nop();
		self->npu.list[1] = npu_nop();
		self->npu.list[2] = fault->command;
		self->npu.list[3] = npu_nop();
		ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
		ASSERT_EQ(0, npu_submit(&self->npu, 0, 4, &point));
		EXPECT_EQ(-EFAULT, npu_wait(&self->npu, 2))
		TH_LOG("%s", fault->name);
		EXPECT_EQ(0, npu_wait(&self->npu, 1));
		EXPECT_EQ(-EIO, npu_submit(&self->npu, 0, 1, NULL));
		ASSERT_EQ(0, npu_error(&self->npu, &error));
		EXPECT_EQ(ACCEL_NPU_ERROR_FAULT, error.kind);
		EXPECT_EQ(fault->address, error.address)
		TH_LOG("%s: %#llx, expected %#llx", fault->name,
		       (unsigned long long)error.address,
		       (unsigned long long)fault->address);
		EXPECT_EQ(fault->access, error.access)
		TH_LOG("%s", fault->name);
		EXPECT_EQ(2, error.command) TH_LOG("%s", fault->name);
		EXPECT_EQ(2, error.point);
		EXPECT_EQ(self->npu.timeline, error.timeline);
		EXPECT_EQ(-ENODATA, npu_error(&self->npu, &error));
	}
	EXPECT_EQ(0, npu_check(&self->npu));
}

/* An operand whose end is beyond what there is of addresses. */
TEST_F(npu_faults, beyond)
{
	const struct accel_npu_command commands[] = {
		npu_copy(DATA, ACCEL_NPU_ADDRESS_END - 4, 8),
		npu_copy(DATA, ACCEL_NPU_ADDRESS_END, 4),
		npu_copy(DATA, -16ULL, 4),
		npu_copy(DATA, -16ULL, 32),
		npu_fill(-4ULL, 16, 1),
	};
	struct accel_npu_error error;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		EXPECT_EQ(-EFAULT, npu_run_one(&self->npu, commands[i]))
		TH_LOG("command %zu", i);
		ASSERT_EQ(0, npu_error(&self->npu, &error));
		EXPECT_EQ(ACCEL_NPU_ERROR_FAULT, error.kind);
	}
}

/* The list itself: not there, not all there, not to be read. */
TEST_F(npu_faults, list)
{
	struct accel_npu_job job = { .address = NOWHERE, .count = 1 };
	struct accel_npu_error error;
	uint64_t point;

	ASSERT_EQ(0, npu_submit_jobs(&self->npu, &job, 1, 0, 0, &point));
	EXPECT_EQ(-EFAULT, npu_wait(&self->npu, point));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(ACCEL_NPU_ERROR_FAULT, error.kind);
	EXPECT_EQ(NOWHERE, error.address);
	EXPECT_EQ(ACCEL_NPU_ACCESS_READ, error.access);
	EXPECT_EQ(0, error.command);

	/* Two commands are there, the third is not. */
	memset(self->data, 0, 4 * PAGE);
	ASSERT_EQ(0, npu_forget(&self->npu));
	job.address = DATA + 4 * PAGE - 512;
	job.count = 4;
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, &job, 1, 0, 0, &point));
	EXPECT_EQ(-EFAULT, npu_wait(&self->npu, point));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(DATA + 4 * PAGE, error.address);
	EXPECT_EQ(ACCEL_NPU_ACCESS_READ, error.access);

	ASSERT_EQ(0, npu_map_device(&self->npu, ACCEL_NPU_MAP_WRITE, PAGE,
				    NOWHERE));
	ASSERT_EQ(0, npu_forget(&self->npu));
	job.address = NOWHERE + 256;
	job.count = 1;
	ASSERT_EQ(0, npu_submit_jobs(&self->npu, &job, 1, 0, 0, &point));
	EXPECT_EQ(-EFAULT, npu_wait(&self->npu, point));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(NOWHERE + 256, error.address);
	/* A list that would wrap round. */
	ASSERT_EQ(0, npu_forget(&self->npu));
	job.address = -256ULL;
	job.count = 2;
	if (!npu_submit_jobs(&self->npu, &job, 1, 0, 0, &point)) {
		EXPECT_EQ(-EFAULT, npu_wait(&self->npu, point));
		EXPECT_EQ(0, npu_error(&self->npu, &error));
	}
	EXPECT_EQ(0, npu_check(&self->npu));
}

/* All that is queued behind a fault is dropped, and says so; then it goes on. */
TEST_F(npu_faults, jobs_behind)
{
	struct accel_npu_job jobs[40];
	struct accel_npu_error error;
	struct npu later = self->npu;
	uint64_t point;
	int32_t status;

	ASSERT_EQ(0, accel_timeline_create(self->npu.fd, &later.timeline));
	for (int round = 0; round < 5; round++) {
		ASSERT_EQ(0, npu_forget(&self->npu));
		memset(self->data, 0, PAGE);
		for (int i = 0; i < 40; i++) {
			self->npu.list[i] = i == 10 ?
						    npu_copy(DATA, NOWHERE, 1) :
						    npu_fill(DATA + i, 1, 1);
			jobs[i] = (struct accel_npu_job){
				.address = NPU_LIST + i * 256,
				.count = 1,
			};
		}
		/* The last 20 are on another timeline. */
		ASSERT_EQ(0,
			  npu_submit_jobs(&self->npu, jobs, 20,
					  ACCEL_NPU_SUBMIT_DEFER, 0, &point));
		ASSERT_EQ(0, accel_timeline_destroy(later.fd, later.timeline));
		ASSERT_EQ(0, accel_timeline_create(later.fd, &later.timeline));
		ASSERT_EQ(0,
			  npu_submit_jobs(&later, jobs + 20, 20, 0, 0, &point));
		EXPECT_EQ(-EFAULT, npu_wait(&self->npu, 20));
		EXPECT_EQ(0, npu_wait(&self->npu, 10));
		EXPECT_EQ(-ECANCELED, npu_wait(&later, 20));
		ASSERT_EQ(0, accel_timeline_wait(later.fd, later.timeline, 1, 0,
						 NULL, &status));
		EXPECT_EQ(-ECANCELED, status);
		EXPECT_TRUE(npu_all(self->data, 10, 1));
		EXPECT_TRUE(npu_all(self->data + 10, 30, 0));
		/* Until it has asked why. */
		EXPECT_EQ(-EIO, npu_submit(&self->npu, 0, 1, NULL));
		EXPECT_EQ(-EIO, npu_submit(&later, 0, 1, NULL));
		ASSERT_EQ(0, npu_error(&self->npu, &error));
		EXPECT_EQ(ACCEL_NPU_ERROR_FAULT, error.kind);
		EXPECT_EQ(11, error.point);
		EXPECT_EQ(self->npu.timeline, error.timeline);
		ASSERT_EQ(0, npu_forget(&self->npu));
		ASSERT_EQ(0, npu_submit(&self->npu, 39, 1, &point));
		EXPECT_EQ(1, point);
		EXPECT_EQ(0, npu_wait(&self->npu, point));
		EXPECT_EQ(1, self->data[39]);
	}
}

/* The error that stopped it is told, not a lesser one before it. */
TEST_F(npu_faults, after_wrong_command)
{
	struct accel_npu_command bad = { .opcode = 0x99 };
	struct accel_npu_error error;
	uint64_t point;

	self->npu.list[0] = bad;
	self->npu.list[1] = npu_copy(DATA, NOWHERE, 1);
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
	ASSERT_EQ(0, npu_submit(&self->npu, 1, 1, &point));
	EXPECT_EQ(-EINVAL, npu_wait(&self->npu, point));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	EXPECT_EQ(ACCEL_NPU_ERROR_FAULT, error.kind);
	EXPECT_EQ(2, error.point);
	EXPECT_EQ(2, error.count);
}

/* Memory can be mapped and unmapped while the context is stopped. */
TEST_F(npu_faults, map_while_stopped)
{
	struct accel_npu_error error;
	uint64_t point;

	self->npu.list[0] = npu_fill(NOWHERE, 4, 7);
	self->npu.list[1] = npu_copy(DATA, NOWHERE, 4);
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 2, &point));
	EXPECT_EQ(-EFAULT, npu_wait(&self->npu, point));
	ASSERT_EQ(0, npu_map_device(&self->npu, NPU_RW, PAGE, NOWHERE));
	ASSERT_EQ(0, npu_error(&self->npu, &error));
	ASSERT_EQ(0, npu_forget(&self->npu));
	ASSERT_EQ(0, npu_submit(&self->npu, 0, 2, &point));
	EXPECT_EQ(0, npu_wait(&self->npu, point));
	EXPECT_EQ(7, self->data[3]);
}

struct other {
	struct npu npu;
	uint32_t *data;
	bool stop;
	int jobs;
	int bad;
};

/* Batches whose results are looked at, until it is told to stop. */
static void *other_thread(void *argument)
{
	struct other *other = argument;

	while (!__atomic_load_n(&other->stop, __ATOMIC_RELAXED)) {
		struct accel_npu_job jobs[8];
		uint64_t point;

		for (int i = 0; i < 8; i++) {
			other->npu.list[i] =
				npu_fill32(DATA + 4 * i, 1, other->jobs + i);
			jobs[i] = (struct accel_npu_job){
				.address = NPU_LIST + i * 256,
				.count = 1,
			};
		}
		other->bad =
			npu_submit_jobs(&other->npu, jobs, 8, 0, 0, &point);
		if (!other->bad)
			other->bad = npu_wait(&other->npu, point);
		for (int i = 0; i < 8 && !other->bad; i++)
			if (other->data[i] != (uint32_t)(other->jobs + i))
				other->bad = -EBADMSG;
		if (other->bad)
			break;
		other->jobs += 8;
	}
	return NULL;
}

/* A hundred faults of one context; the neighbours complete everything. */
TEST_F_TIMEOUT(npu_faults, others_go_on, 60)
{
	enum { OTHERS = 3, FAULTS = 100 };
	struct other others[OTHERS] = {};
	pthread_t threads[OTHERS];
	struct accel_npu_error error;

	for (int i = 0; i < OTHERS; i++) {
		ASSERT_EQ(0, npu_open(&others[i].npu));
		others[i].data = npu_memory(&others[i].npu, PAGE, DATA, NPU_RW);
		ASSERT_TRUE(others[i].data != NULL);
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, other_thread,
					    &others[i]));
	}
	for (int i = 0; i < FAULTS; i++) {
		ASSERT_EQ(-EFAULT,
			  npu_run_one(&self->npu,
				      i % 2 ? npu_copy(DATA, NOWHERE, 4) :
					      npu_fill(NOWHERE + i, 1, 1)));
		ASSERT_EQ(0, npu_error(&self->npu, &error));
	}
	for (int i = 0; i < OTHERS; i++) {
		__atomic_store_n(&others[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, others[i].bad);
		EXPECT_LT(0, others[i].jobs);
		/* Nobody tells them of what was not theirs. */
		EXPECT_EQ(-ENODATA, npu_error(&others[i].npu, &error));
		EXPECT_EQ(0, npu_check(&others[i].npu));
		munmap(others[i].data, PAGE);
		npu_close(&others[i].npu);
	}
}

/* A job that waits in another context's queue is not dropped either. */
TEST_F(npu_faults, queued_elsewhere)
{
	struct accel_npu_error error;
	struct npu other;
	uint64_t point, held;

	ASSERT_EQ(0, npu_open(&other));
	other.list[0] = npu_nop();
	for (int i = 0; i < 10; i++) {
		struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };

		ASSERT_EQ(0, npu_submit_jobs(&other, &job, 1,
					     ACCEL_NPU_SUBMIT_DEFER, 0, &held));
		self->npu.list[0] = npu_copy(DATA, NOWHERE, 4);
		ASSERT_EQ(0, npu_forget(&self->npu));
		ASSERT_EQ(0, npu_submit(&self->npu, 0, 1, &point));
		EXPECT_EQ(-EFAULT, npu_wait(&self->npu, point));
		ASSERT_EQ(0, npu_error(&self->npu, &error));
		ASSERT_EQ(0, npu_submit(&other, 0, 1, &point));
		EXPECT_EQ(held + 1, point);
		EXPECT_EQ(0, npu_wait(&other, point));
	}
	npu_close(&other);
}

/* A faulting context that is closed without asking leaves nothing behind. */
TEST_F(npu_faults, closed_while_stopped)
{
	int64_t free = npu_memory_free(&self->npu);

	for (int i = 0; i < 2 * ACCEL_NPU_CONTEXTS_MAX; i++) {
		struct npu other;
		uint64_t point;

		ASSERT_EQ(0, npu_open(&other));
		other.list[0] = npu_fill(NOWHERE, 1, 1);
		ASSERT_EQ(0, npu_submit(&other, 0, 1, &point));
		/* Every other one does not even wait for it. */
		if (i % 2)
			EXPECT_EQ(-EFAULT, npu_wait(&other, point));
		npu_close(&other);
	}
	EXPECT_TRUE(npu_memory_is_back(&self->npu, free));
}

TEST_HARNESS_MAIN
