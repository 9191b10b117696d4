// SPDX-License-Identifier: GPL-2.0
/*
 * Many users at once, and users that end in the midst of a job, stop, or give
 * their file away.
 */

#include "accel_pass.h"
#include "accel_watch.h"
#include "kselftest_harness.h"
#include "npu.h"

#include <sys/socket.h>

#define DATA NPU_FREE
#define DATA_SIZE (64 * KIB)

FIXTURE(npu_stress)
{
	struct npu npu;
	/* Bytes that are free when nobody but one has it open. */
	int64_t free;
};

FIXTURE_SETUP(npu_stress)
{
	ASSERT_EQ(0, npu_inject("clear"));
	ASSERT_EQ(0, npu_open(&self->npu));
	self->free = npu_memory_free(&self->npu);
	/* Tables that it has from here on are there when others come and go. */
	ASSERT_EQ(0, npu_check(&self->npu));
}

FIXTURE_TEARDOWN(npu_stress)
{
	EXPECT_EQ(0, npu_inject("clear"));
	EXPECT_EQ(0, npu_check(&self->npu));
	npu_close(&self->npu);
	/* Nothing of anybody is left. */
	ASSERT_EQ(0, npu_open(&self->npu));
	EXPECT_TRUE(npu_memory_is_back(&self->npu, self->free));
	npu_close(&self->npu);
}

struct user {
	struct npu npu;
	uint32_t *data;
};

#define ROUNDS 12
#define BATCH 24

/* A batch that fills, copies in memory of the device, and multiplies. */
static int submit(struct user *user, uint32_t tag, uint64_t *point)
{
	struct accel_npu_job jobs[BATCH];
	const uint64_t own = DATA + 16 * MIB;

	for (uint32_t i = 0; i < BATCH; i++) {
		struct accel_npu_command *list = &user->npu.list[4 * i];

		list[0] = npu_fill32(own + 256 * i, 64, tag + i);
		list[1] = npu_copy(DATA + 256 * i, own + 256 * i, 256);
		list[2] = npu_nop();
		/* 1 + 1 + ... 64 times, of the bytes at the end. */
		list[3] = npu_matmul(DATA + 32 * KIB + 4 * i,
				     DATA + DATA_SIZE - 128,
				     DATA + DATA_SIZE - 64, 1, 64, 1);
		jobs[i] = (struct accel_npu_job){
			.address = NPU_LIST + 4 * i * 256,
			.count = 4,
		};
	}
	return npu_submit_jobs(&user->npu, jobs, BATCH, 0, 60000, point);
}

static int verify(const struct user *user, uint32_t tag)
{
	for (uint32_t i = 0; i < BATCH * 64; i++)
		if (user->data[i] != tag + i / 64)
			return -EBADMSG;
	for (uint32_t i = 0; i < BATCH; i++)
		if (user->data[32 * KIB / 4 + i] != 64)
			return -EBADMSG;
	return 0;
}

/* A process: its contexts all have something to do at the same time. */
static int work(unsigned int number, unsigned int contexts)
{
	struct user users[4];
	uint64_t point;

	for (unsigned int c = 0; c < contexts; c++) {
		struct user *user = &users[c];

		if (npu_open(&user->npu))
			return 1;
		user->data = npu_memory(&user->npu, DATA_SIZE, DATA, NPU_RW);
		if (!user->data ||
		    npu_map_device(&user->npu, NPU_RW, MIB, DATA + 16 * MIB))
			return 2;
		memset((char *)user->data + DATA_SIZE - 128, 1, 128);
	}
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (unsigned int c = 0; c < contexts; c++)
			if (submit(&users[c],
				   number << 24 | c << 20 | round << 8, &point))
				return 3;
		for (unsigned int c = 0; c < contexts; c++) {
			if (npu_wait(&users[c].npu, (round + 1) * BATCH))
				return 4;
			if (verify(&users[c],
				   number << 24 | c << 20 | round << 8))
				return 5;
		}
	}
	for (unsigned int c = 0; c < contexts; c++)
		npu_close(&users[c].npu);
	return 0;
}

TEST_F_TIMEOUT(npu_stress, processes_and_contexts, 60)
{
	enum { PROCESSES = 8, CONTEXTS = 4 };
	pid_t pids[PROCESSES];
	int status;

	for (int i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i])
			_exit(work(i + 1, CONTEXTS));
	}
	for (int i = 0; i < PROCESSES; i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status) TH_LOG("process %d: %#x", i, status);
	}
}

/* A process with a long job on the device and more behind it. */
static pid_t start_long(int ready)
{
	pid_t pid = fork();

	if (!pid) {
		struct accel_timeline_wait wait = { .point = 8,
						    .deadline_ns = FOREVER };
		int fd = accel_open(O_RDWR | O_CLOEXEC);

		if (fd < 0 || accel_timeline_create(fd, &wait.handle) ||
		    npu_submit_long(fd, wait.handle, 8) ||
		    write(ready, "x", 1) != 1)
			_exit(1);
		accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_WAIT, &wait);
		_exit(2);
	}
	return pid;
}

TEST_F_TIMEOUT(npu_stress, killed_mid_job, 60)
{
	int64_t free = npu_memory_free(&self->npu);

	for (int i = 0; i < 20; i++) {
		int ready[2], status;
		int64_t before;
		pid_t pid;
		char c;

		ASSERT_EQ(0, pipe(ready));
		pid = start_long(ready[1]);
		ASSERT_LE(0, pid);
		ASSERT_EQ(1, read(ready[0], &c, 1));
		accel_sleep_ms(i * 2);
		kill(pid, SIGKILL);
		before = accel_now();
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status)) TH_LOG("%#x", status);
		/* Its jobs are given up, and do not hold up its end. */
		EXPECT_GT(3000 * NSEC_PER_MSEC, accel_now() - before);
		EXPECT_EQ(0, npu_check(&self->npu));
		ASSERT_TRUE(npu_memory_is_back(&self->npu, free));
		close(ready[0]);
		close(ready[1]);
	}
}

/* A submitter that is stopped holds up nobody, and goes on where it was. */
TEST_F(npu_stress, stopped_mid_job)
{
	int ready[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct npu npu;
		unsigned char *map;
		uint64_t point;

		if (npu_open(&npu))
			_exit(1);
		map = npu_memory(&npu, 4096, DATA, NPU_RW);
		if (!map)
			_exit(2);
		for (uint32_t i = 0; i < 100; i++)
			npu.list[i] = npu_fill(DATA + i, 1, i);
		for (uint32_t i = 0; i < 100; i++) {
			if (npu_submit(&npu, i, 1, &point))
				_exit(3);
			if (i == 50 && write(ready[1], "x", 1) != 1)
				_exit(4);
		}
		if (npu_wait(&npu, point))
			_exit(5);
		for (int i = 0; i < 100; i++)
			if (map[i] != i)
				_exit(6);
		_exit(0);
	}
	ASSERT_EQ(0, npu_inject("stall 20 20"));
	ASSERT_EQ(1, read(ready[0], &c, 1));
	kill(pid, SIGSTOP);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	for (int i = 0; i < 50; i++)
		ASSERT_EQ(0, npu_check(&self->npu));
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) TH_LOG("%#x", status);
}

/* n contexts, and one more. */
TEST_F(npu_stress, contexts)
{
	struct npu npus[ACCEL_NPU_CONTEXTS_MAX];
	uint64_t point;

	ASSERT_EQ(0, accel_take_all_contexts(accel_target()->compute));
	/* One is the fixture's. */
	for (int round = 0; round < 2; round++) {
		for (int i = 1; i < ACCEL_NPU_CONTEXTS_MAX; i++) {
			ASSERT_EQ(0, npu_open(&npus[i]));
			npus[i].list[0] = npu_nop();
		}
		EXPECT_EQ(-EBUSY, accel_open(O_RDWR | O_CLOEXEC));
		EXPECT_EQ(-EBUSY, accel_open(O_RDWR | O_CLOEXEC));
		for (int i = 1; i < ACCEL_NPU_CONTEXTS_MAX; i++)
			ASSERT_EQ(0, npu_submit(&npus[i], 0, 1, &point));
		for (int i = 1; i < ACCEL_NPU_CONTEXTS_MAX; i++)
			ASSERT_EQ(0, npu_wait(&npus[i], 1));
		/* One goes, one comes, and it works. */
		npu_close(&npus[7]);
		ASSERT_EQ(0, npu_open(&npus[7]));
		EXPECT_EQ(0, npu_check(&npus[7]));
		EXPECT_EQ(-EBUSY, accel_open(O_RDWR | O_CLOEXEC));
		for (int i = 1; i < ACCEL_NPU_CONTEXTS_MAX; i++)
			npu_close(&npus[i]);
	}
}

struct storm {
	struct npu npu;
	bool stop;
	int result;
};

/* Jobs that end as fast as they can be told, in batches. */
static void *submit_on(void *data)
{
	struct accel_npu_job jobs[ACCEL_NPU_BATCH_MAX];
	struct storm *storm = data;
	uint64_t point;

	storm->npu.list[0] = npu_nop();
	for (size_t i = 0; i < ACCEL_NPU_BATCH_MAX; i++)
		jobs[i] = (struct accel_npu_job){ .address = NPU_LIST,
						  .count = 1 };
	while (!storm->result &&
	       !__atomic_load_n(&storm->stop, __ATOMIC_RELAXED)) {
		int ret = npu_submit_jobs(&storm->npu, jobs,
					  ACCEL_NPU_BATCH_MAX, 0, 60000,
					  &point);

		if (ret == -EAGAIN)
			accel_sleep_ms(1);
		else
			storm->result = ret;
	}
	return NULL;
}

/*
 * Each end of a job woke all who watch the file, in the thread that looks for
 * everybody's completions: one file watched sixty thousand times was enough for
 * nobody else's jobs to end.
 */
TEST_F_TIMEOUT(npu_stress, watched_file_starves_nobody, 60)
{
	struct accel_watch watch;
	int64_t longest = 0;
	struct storm storm = {};
	pthread_t thread;

	ASSERT_EQ(0, npu_open(&storm.npu));
	ASSERT_EQ(0, accel_watch_begin(&watch, storm.npu.fd));
	ASSERT_EQ(0, pthread_create(&thread, NULL, submit_on, &storm));
	for (int i = 0; i < 5; i++) {
		int64_t begin = accel_now();

		EXPECT_EQ(0, npu_run_one(&self->npu, npu_nop()));
		if (accel_now() - begin > longest)
			longest = accel_now() - begin;
	}
	__atomic_store_n(&storm.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, accel_watch_end(&watch));
	TH_LOG("longest %lld ms", (long long)(longest / NSEC_PER_MSEC));
	EXPECT_GT(accel_patience() * NSEC_PER_SEC, longest);
	EXPECT_EQ(0, storm.result);
	npu_close(&storm.npu);
}

#define MAPPED (256 * MIB)
#define TIMES 16
#define RESETS 20

/* Much, in small pages: neither end of the buffer lies right. */
static void *map_on(void *data)
{
	struct storm *storm = data;
	uint32_t buffer;

	storm->result = accel_buffer_create(storm->npu.fd, MAPPED, &buffer);
	while (!storm->result &&
	       !__atomic_load_n(&storm->stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < TIMES && !storm->result; i++)
			storm->result = npu_map(&storm->npu, buffer, NPU_RW, 0,
						MAPPED,
						NPU_FREE + 4096 + i * MAPPED);
		if (!storm->result)
			storm->result = npu_unmap(&storm->npu, NPU_FREE + 4096,
						  TIMES * MAPPED);
	}
	return NULL;
}

/*
 * Calls that map and unmap much make way for a reset, and are done as if there
 * had been none.
 */
TEST_F_TIMEOUT(npu_stress, maps_beside_resets, 60)
{
	struct storm storm = {};
	int64_t longest = 0;
	pthread_t thread;
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/reset",
		 accel_class(), accel_target()->number);
	ASSERT_EQ(0, npu_open(&storm.npu));
	ASSERT_EQ(0, pthread_create(&thread, NULL, map_on, &storm));
	for (int i = 0; i < RESETS; i++) {
		int64_t begin, before = npu_stat("resets");

		accel_sleep_ms(50 + i);
		begin = accel_now();
		ASSERT_EQ(0, accel_write_line(path, "1"));
		while (npu_stat("resets") == before &&
		       accel_now() - begin < 10 * NSEC_PER_SEC)
			accel_sleep_ms(1);
		if (accel_now() - begin > longest)
			longest = accel_now() - begin;
	}
	__atomic_store_n(&storm.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	TH_LOG("longest %lld ms", (long long)(longest / NSEC_PER_MSEC));
	EXPECT_GT(accel_patience() * NSEC_PER_SEC, longest);
	EXPECT_EQ(0, storm.result);
	EXPECT_EQ(0, npu_check(&storm.npu));
	npu_close(&storm.npu);
	EXPECT_EQ(0, npu_recovers(NPU_JOB_MS));
}

/* Blocks of 2 MiB whose every second page is free, and pages of one MAP. */
#define HOLED 26
#define PIECES 6400
#define PAGE 4096UL

/* Memory in ever so many pieces took ever so long to zero, inside the gate. */
TEST_F_TIMEOUT(npu_stress, fragmented, 60)
{
	const uint64_t holed = NPU_FREE + 1024 * MIB;
	const uint64_t rest = holed + 1024 * MIB, at = rest + 1024 * MIB;
	struct npu other;
	int64_t left;

	ASSERT_EQ(0, npu_open(&other));
	ASSERT_EQ(0, npu_map_device(&other, NPU_RW, HOLED * HUGE_PAGE, holed));
	for (int64_t i = 0; i < HOLED * (int64_t)(HUGE_PAGE / PAGE); i += 2)
		ASSERT_EQ(0, npu_unmap(&other, holed + i * PAGE, PAGE));
	/* All other blocks but three, which are for tables too. */
	left = npu_memory_free(&other) / HUGE_PAGE - HOLED / 2 - 3;
	ASSERT_LT(0, left);
	ASSERT_EQ(0, npu_map_device(&other, NPU_RW, left * HUGE_PAGE, rest));
	ASSERT_LT(PIECES * (int64_t)PAGE, npu_memory_free(&other));
	EXPECT_EQ(-ENOSPC,
		  npu_map_device(&other, NPU_RW, PIECES * PAGE, at + PAGE));
	/* In less at a time it is to be had. */
	EXPECT_EQ(0, npu_map_device(&other, NPU_RW, PIECES / 2 * PAGE, at));
	npu_close(&other);
}

/* The context is the file: parent and child share it. */
TEST_F(npu_stress, forked)
{
	unsigned char *map;
	uint64_t point;
	int status;
	pid_t pid;

	map = npu_memory(&self->npu, 4096, DATA, NPU_RW);
	ASSERT_TRUE(map != NULL);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (npu_run_one(&self->npu, npu_fill(DATA, 16, 0x42)))
			_exit(1);
		self->npu.list[1] = npu_fill(DATA + 16, 16, 0x43);
		if (npu_submit(&self->npu, 1, 1, &point))
			_exit(2);
		/* It does not wait: the job is the file's. */
		_exit(map[15] == 0x42 ? 0 : 3);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, npu_wait(&self->npu, 1));
	EXPECT_TRUE(npu_all(map, 16, 0x42));
	EXPECT_TRUE(npu_all(map + 16, 16, 0x43));
	EXPECT_EQ(0, npu_unmap(&self->npu, DATA, 4096));
	munmap(map, 4096);
}

/* A file that was sent to another process is a context there. */
TEST_F(npu_stress, passed_on)
{
	int sockets[2], status;
	unsigned char *map;
	struct npu npu;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct npu got = { .fd = accel_receive_fd(sockets[1]) };
		uint32_t buffer;

		/* The sender's list is mapped there still; it needs its own. */
		if (got.fd < 0 || accel_timeline_create(got.fd, &got.timeline))
			_exit(1);
		got.list = accel_buffer_new(got.fd, 256 * KIB, &buffer);
		if (!got.list || npu_unmap(&got, NPU_LIST, 256 * KIB) ||
		    npu_map(&got, buffer, ACCEL_NPU_MAP_READ, 0, 256 * KIB,
			    NPU_LIST))
			_exit(2);
		if (npu_run_one(&got, npu_fill(DATA, 4096, 0x24)) ||
		    npu_check(&got))
			_exit(3);
		npu_close(&got);
		_exit(0);
	}
	ASSERT_EQ(0, npu_open(&npu));
	map = npu_memory(&npu, 4096, DATA, NPU_RW);
	ASSERT_TRUE(map != NULL);
	ASSERT_EQ(0, accel_send_fd(sockets[0], npu.fd));
	npu_close(&npu);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) TH_LOG("%#x", status);
	/* The sender's mapping of the buffer has outlived both files. */
	EXPECT_TRUE(npu_all(map, 4096, 0x24));
	munmap(map, 4096);
	close(sockets[0]);
	close(sockets[1]);
}

struct hammer {
	const struct npu *npu;
	bool stop;
	int bad;
	int done;
};

/* Maps and unmaps where the jobs of the others do not look. */
static void *map_thread(void *data)
{
	struct hammer *hammer = data;
	uint32_t i = 0;

	while (!__atomic_load_n(&hammer->stop, __ATOMIC_RELAXED)) {
		uint64_t at = (1ULL << 41) + (i++ % 8) * 4 * MIB;
		int ret = npu_map_device(hammer->npu, NPU_RW, 64 * KIB, at);

		if (!ret)
			ret = npu_unmap(hammer->npu, at, 64 * KIB);
		if (ret)
			hammer->bad = ret;
		hammer->done++;
	}
	return NULL;
}

static void *error_thread(void *data)
{
	struct hammer *hammer = data;

	while (!__atomic_load_n(&hammer->stop, __ATOMIC_RELAXED)) {
		struct accel_npu_error error;
		int ret = npu_error(hammer->npu, &error);

		if (ret != -ENODATA)
			hammer->bad = ret ? ret : -EBADMSG;
		hammer->done++;
	}
	return NULL;
}

/* Threads of one context: jobs, mappings and questions at the same time. */
TEST_F(npu_stress, threads_of_one_context)
{
	struct hammer maps = { .npu = &self->npu }, errors = maps;
	pthread_t threads[2];

	ASSERT_EQ(0, pthread_create(&threads[0], NULL, map_thread, &maps));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, error_thread, &errors));
	for (int i = 0; i < 100; i++)
		ASSERT_EQ(0, npu_check(&self->npu));
	__atomic_store_n(&maps.stop, true, __ATOMIC_RELAXED);
	__atomic_store_n(&errors.stop, true, __ATOMIC_RELAXED);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	EXPECT_EQ(0, maps.bad);
	EXPECT_EQ(0, errors.bad);
	EXPECT_LT(0, maps.done);
	EXPECT_LT(0, errors.done);
}

TEST_HARNESS_MAIN
