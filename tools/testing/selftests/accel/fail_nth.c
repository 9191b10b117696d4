// SPDX-License-Identifier: GPL-2.0
/*
 * Every allocation and every copy from or to user space fails once: of each
 * operation the first, then the second, and so on until there is none left.
 * Each time the operation says so with an errno, or does without; the next one
 * works; and nothing is left behind.
 *
 * Needs a kernel with fault injection. The kernel's fail-nth counts slab and
 * page allocations and user copies of this thread alike.
 *
 * A second round prints where it failed, one line a place ("# failed at"), by
 * the frame of our modules that is nearest: the runner counts them against all
 * such places that the modules have. To bind takes long: there one round does
 * both, and that the next bind works is seen after some failures only, unless
 * the long form is asked for.
 */

#include "calls.h"
#include "kselftest_harness.h"

#define FAILS "/sys/kernel/debug/"
#define KMEMLEAK "/sys/kernel/debug/kmemleak"
/* kmemleak tells of what is older than 5 s. */
#define KMEMLEAK_AGE_MS 6000
/* No operation has as many places; one that never gets through ends here. */
#define MOST 4000
#define PLACES 1024
#define PLACE 288
/* The core's copies fail for their callers. */
#define COPIES "accel_copy_"

static const char *const kinds_of_failure[] = { "failslab", "fail_page_alloc",
						"fail_usercopy" };

/*
 * What fails: what modules of ours ask for themselves, or through a few functions
 * of the kernel, not what is deeper. There others have faults of their own, in
 * 7.2: ACPICA (a use after free), the interrupts' files in /proc (a warning),
 * devtmpfs (a node that is missing, or that stays).
 */
static const struct {
	const char *name;
	const char *value;
} attributes[] = {
	{ "ignore-gfp-wait", "0" },
	{ "ignore-gfp-highmem", "0" },
	{ "min-order", "0" },
	{ "verbose_ratelimit_interval_ms", "0" },
	/* Where x86-64 has modules. */
	{ "require-start", "0xffffffffa0000000" },
	{ "require-end", "0xffffffffff000000" },
	{ "stacktrace-depth", "8" },
};

/* Something that is done with and without failures. */
struct operation {
	const char *name;
	/* What is needed for it, without failures: 0 or a negative errno. */
	int (*prepare)(struct operation *op);
	/* 0 or more, or a negative errno. */
	int (*run)(struct operation *op);
	/* Takes back what it did, without failures. */
	void (*undo)(struct operation *op, int result);
	struct env *env;
	const struct call *call;
	unsigned char arg[LONGEST];
	int fd;
	uint64_t offset;
	unsigned char *map;
	/* That the next one works is seen after every so many failures. */
	unsigned int every;
	/* What came of it. */
	unsigned int failures;
	unsigned int survived;
	char errnos[64];
};

/* fail-nth of this thread; kept open, since to open it might fail. */
static int fail_fd = -1;

static int fail_setup(int verbose)
{
	char path[128];
	char value[8];
	int ret;

	for (size_t i = 0; i < ARRAY_SIZE(kinds_of_failure); i++) {
		for (size_t a = 0; a < ARRAY_SIZE(attributes); a++) {
			snprintf(path, sizeof(path), FAILS "%s/%s",
				 kinds_of_failure[i], attributes[a].name);
			/* Not each of them has all. */
			if (accel_exists(path))
				accel_write_line(path, attributes[a].value);
		}
		snprintf(path, sizeof(path), FAILS "%s/verbose",
			 kinds_of_failure[i]);
		snprintf(value, sizeof(value), "%d", verbose);
		ret = accel_write_line(path, value);
		if (ret)
			return ret;
	}
	if (fail_fd < 0)
		fail_fd =
			open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return fail_fd < 0 ? -errno : 0;
}

/* The nth that can fail from here on does. */
static void fail_arm(unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(fail_fd, text, len, 0) != len)
		abort();
}

/* Nothing fails any more; whether something did. */
static bool fail_disarm(void)
{
	char text[16] = "";
	ssize_t len;

	len = pread(fail_fd, text, sizeof(text) - 1, 0);
	/* To read it can fail too: then there was one left. */
	if (len <= 0)
		strcpy(text, "1");
	/* And so can to write it. */
	while (pwrite(fail_fd, "0", 1, 0) != 1)
		;
	return text[0] == '0';
}

static void note_errno(struct operation *op, int error)
{
	const char *name = strerrorname_np(-error);
	size_t len = strlen(op->errnos);

	if (name && !strstr(op->errnos, name))
		snprintf(op->errnos + len, sizeof(op->errnos) - len, "%s%s",
			 len ? " " : "", name);
}

/* Once, without a failure. */
static int once(struct operation *op)
{
	int ret = op->prepare ? op->prepare(op) : 0;

	if (ret)
		return ret;
	ret = op->run(op);
	if (op->undo)
		op->undo(op, ret);
	return ret;
}

/* Where failures were, each once; NULL while nobody asks. */
static char (*places)[PLACE];
static int place_count;
static int log_fd = -1;

/* Notes the nearest frame of our modules in what the kernel has logged. */
static void note_place(void)
{
	char line[1024], place[PLACE];
	bool found = false;
	ssize_t len;

	while ((len = read(log_fd, line, sizeof(line) - 1)) > 0 ||
	       errno == EPIPE) {
		char symbol[256], module[32];
		const char *text;

		if (len <= 0)
			continue;
		line[len] = 0;
		text = strchr(line, ';');
		/* "symbol+0x1/0x2 [module]"; a frame that is a guess has a "?" */
		if (!text || found ||
		    sscanf(text, "; %255[^ ] [%31[^] ]", symbol, module) != 2 ||
		    strncmp(module, "accel", 5) ||
		    !strncmp(symbol, COPIES, strlen(COPIES)))
			continue;
		found = true;
		snprintf(place, sizeof(place), "%s %s", module, symbol);
	}
	if (!found)
		return;
	for (int i = 0; i < place_count; i++)
		if (!strcmp(places[i], place))
			return;
	if (place_count < PLACES)
		strcpy(places[place_count++], place);
}

/* From here on places are noted: 0 or a negative errno. */
static int places_begin(void)
{
	places = calloc(PLACES, sizeof(*places));
	log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (!places || log_fd < 0 || lseek(log_fd, 0, SEEK_END) < 0)
		return -errno;
	return fail_setup(2);
}

/* Prints them: how many there are. */
static int places_end(void)
{
	fail_setup(0);
	for (int i = 0; i < place_count; i++)
		printf("# failed at: %s\n", places[i]);
	close(log_fd);
	free(places);
	places = NULL;
	return place_count;
}

/* 0, or what is wrong has been said. */
static int sweep(struct operation *op)
{
	int ret = once(op);

	if (ret < 0) {
		printf("# %s does not work: %s\n", op->name, strerror(-ret));
		return -1;
	}
	for (unsigned int nth = 1; nth < MOST; nth++) {
		bool failed;

		ret = op->prepare ? op->prepare(op) : 0;
		if (ret) {
			printf("# %s cannot be tried after failure %u: %s\n",
			       op->name, nth - 1, strerror(-ret));
			return -1;
		}
		fail_arm(nth);
		ret = op->run(op);
		failed = fail_disarm();
		if (op->undo)
			op->undo(op, ret);
		if (!failed) {
			if (ret < 0) {
				printf("# %s fails by itself: %s\n", op->name,
				       strerror(-ret));
				return -1;
			}
			printf("# %-22s %4u failures, %3u made no difference, else %s\n",
			       op->name, op->failures, op->survived,
			       op->errnos);
			return 0;
		}
		op->failures++;
		if (places)
			note_place();
		if (ret < 0)
			note_errno(op, ret);
		else
			op->survived++;
		if (op->every && nth % op->every)
			continue;
		/* The next one works. */
		ret = once(op);
		if (ret < 0) {
			printf("# %s does not work after failure %u: %s\n",
			       op->name, nth, strerror(-ret));
			return -1;
		}
	}
	printf("# %s: no end after %d failures\n", op->name, MOST);
	return -1;
}

/* Whether nothing but these came of it. */
static bool only(const struct operation *op, const char *const *allowed)
{
	char text[sizeof(op->errnos)];
	char *rest, *name;

	strcpy(text, op->errnos);
	for (name = strtok_r(text, " ", &rest); name;
	     name = strtok_r(NULL, " ", &rest)) {
		const char *const *fits = allowed;

		while (*fits && strcmp(*fits, name))
			fits++;
		if (!*fits)
			return false;
	}
	return true;
}

static int call_prepare(struct operation *op)
{
	memset(op->arg, 0, sizeof(op->arg));
	return op->call->fill(op->env, op->arg);
}

static int call_run(struct operation *op)
{
	return accel_ioctl(op->env->fd, op->call->cmd, op->arg);
}

static void call_undo(struct operation *op, int result)
{
	if (op->call->undo)
		op->call->undo(op->env, op->arg, result);
}

static int compute_run(struct operation *op)
{
	op->fd = open(accel_target()->compute, O_RDWR | O_CLOEXEC);
	return op->fd < 0 ? -errno : 0;
}

static int control_run(struct operation *op)
{
	op->fd = open(accel_target()->control, O_RDONLY | O_CLOEXEC);
	return op->fd < 0 ? -errno : 0;
}

static void node_undo(struct operation *op, int result)
{
	if (!result)
		close(op->fd);
}

static int close_prepare(struct operation *op)
{
	struct env env;
	int ret = env_open(&env);

	close(env.eventfd);
	op->fd = env.fd;
	return ret;
}

static int close_run(struct operation *op)
{
	return close(op->fd) ? -errno : 0;
}

static int mmap_run(struct operation *op)
{
	void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			 op->env->fd, op->offset);

	op->map = map;
	return map == MAP_FAILED ? -errno : 0;
}

static void mmap_undo(struct operation *op, int result)
{
	if (!result)
		munmap(op->map, 4096);
}

static int fault_run(struct operation *op)
{
	*(volatile unsigned char *)op->map = 1;
	return 0;
}

static int poll_run(struct operation *op)
{
	struct pollfd poll_fd = { .fd = op->env->fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) < 0 ? -errno : 0;
}

static int fdinfo_run(struct operation *op)
{
	char path[64], text[1024];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", op->env->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = read(fd, text, sizeof(text));
	len = len < 0 ? -errno : 0;
	close(fd);
	return len;
}

/* Of all that INFO tells about; what a device has none of is ENOENT. */
static int info_run(struct operation *op)
{
	for (uint32_t query = 0; query <= ACCEL_INFO_LIMITS; query++) {
		uint64_t answer[32];
		int ret = accel_info(op->env->fd, query, 0, answer,
				     sizeof(answer));

		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	return 0;
}

static int event_prepare(struct operation *op)
{
	return accel_events(op->env->fd, 1 << ACCEL_EVENT_STATE, NULL);
}

static int event_run(struct operation *op)
{
	unsigned char events[256];
	int ret = accel_read(op->env->fd, events, sizeof(events));

	return ret < 0 ? ret : 0;
}

static void event_undo(struct operation *op, int result)
{
	(void)result;
	accel_events(op->env->fd, 0, NULL);
}

/* The whole of a file, from a call that cannot fail to one that cannot. */
static int read_file(const char *path)
{
	char text[4096];
	ssize_t len;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	do {
		len = read(fd, text, sizeof(text));
	} while (len > 0);
	len = len < 0 ? -errno : 0;
	close(fd);
	return len;
}

static int debugfs_run(struct operation *op)
{
	static const char *const files[] = { "clients", "contexts", "buffers",
					     "mappings", "history" };
	char path[128];
	int ret = 0;

	(void)op;
	for (size_t i = 0; i < ARRAY_SIZE(files) && !ret; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/accel%u/%s",
			 accel_class(), accel_target()->number, files[i]);
		ret = read_file(path);
	}
	return ret;
}

static int probe_prepare(struct operation *op)
{
	(void)op;
	return accel_exists(accel_target()->compute) ? accel_remove() : 0;
}

static int probe_run(struct operation *op)
{
	(void)op;
	return accel_bind();
}

static int remove_prepare(struct operation *op)
{
	(void)op;
	return accel_restore();
}

static int remove_run(struct operation *op)
{
	(void)op;
	return accel_remove();
}

/* What is there but for the ioctls, and what may come of it. */
struct allowed {
	struct operation op;
	const char *const *errnos;
	/* Of a device on PCI, whose files are closed. */
	bool alone;
};

static const char *const none[] = { NULL };
static const char *const memory[] = { "ENOMEM", NULL };
static const char *const memory_or_fault[] = { "ENOMEM", "EFAULT", NULL };
/* The kernel says a region is busy when it has no memory to note it. */
static const char *const probing[] = { "ENOMEM", "EFAULT", "EBUSY", NULL };

static const struct allowed others[] = {
	{ { .name = "open compute", .run = compute_run, .undo = node_undo },
	  memory_or_fault,
	  false },
	{ { .name = "open control", .run = control_run, .undo = node_undo },
	  memory_or_fault,
	  false },
	{ { .name = "close", .prepare = close_prepare, .run = close_run },
	  none,
	  false },
	{ { .name = "mmap", .run = mmap_run, .undo = mmap_undo },
	  memory,
	  false },
	/* A fault that has no memory is tried again by the processor. */
	{ { .name = "fault",
	    .prepare = mmap_run,
	    .run = fault_run,
	    .undo = mmap_undo },
	  none,
	  false },
	{ { .name = "poll", .run = poll_run }, memory_or_fault, false },
	{ { .name = "fdinfo", .run = fdinfo_run }, memory_or_fault, false },
	{ { .name = "INFO, all", .run = info_run }, memory_or_fault, false },
	{ { .name = "read events",
	    .prepare = event_prepare,
	    .run = event_run,
	    .undo = event_undo },
	  memory_or_fault,
	  false },
	{ { .name = "debugfs", .run = debugfs_run }, memory_or_fault, false },
	{ { .name = "probe", .prepare = probe_prepare, .run = probe_run },
	  probing,
	  true },
	{ { .name = "unbind", .prepare = remove_prepare, .run = remove_run },
	  memory_or_fault,
	  true },
};

FIXTURE(fail_nth)
{
	struct env env;
	uint64_t offset;
};

FIXTURE_SETUP(fail_nth)
{
	ASSERT_TRUE(accel_target() != NULL);
	ASSERT_EQ(0, fail_setup(0));
	ASSERT_EQ(0, env_open(&self->env));
	ASSERT_EQ(0, accel_buffer_mmap(self->env.fd, self->env.buffer,
				       &self->offset, NULL));
}

FIXTURE_TEARDOWN(fail_nth)
{
	env_close(&self->env);
	accel_restore();
}

static struct operation of_call(const struct call *call, struct env *env)
{
	return (struct operation){
		.name = call->name,
		.prepare = call_prepare,
		.run = call_run,
		.undo = call_undo,
		.env = env,
		.call = call,
	};
}

static void sweep_calls(struct __test_metadata *_metadata, struct env *env)
{
	for (const struct call *call = next_call(NULL); call;
	     call = next_call(call)) {
		struct operation op = of_call(call, env);

		EXPECT_EQ(0, sweep(&op));
		EXPECT_TRUE(only(&op, memory_or_fault))
		TH_LOG("%s: %s", call->name, op.errnos);
		/* All of them copy something in. */
		EXPECT_LT(0, op.failures);
	}
}

/* The operations that need no file of ours, or the others. */
static void sweep_others(struct __test_metadata *_metadata, struct env *env,
			 uint64_t offset, bool alone)
{
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct operation op = others[i].op;

		if (others[i].alone != alone)
			continue;
		op.env = env;
		op.offset = offset;
		if (alone && !getenv("ACCEL_CYCLES"))
			op.every = 8;
		EXPECT_EQ(0, sweep(&op));
		EXPECT_TRUE(only(&op, others[i].errnos))
		TH_LOG("%s: %s", op.name, op.errnos);
	}
}

TEST_F(fail_nth, ioctls)
{
	sweep_calls(_metadata, &self->env);
	ASSERT_EQ(0, places_begin());
	sweep_calls(_metadata, &self->env);
	EXPECT_LT(0, places_end());
}

TEST_F(fail_nth, files)
{
	sweep_others(_metadata, &self->env, self->offset, false);
	ASSERT_EQ(0, places_begin());
	sweep_others(_metadata, &self->env, self->offset, false);
	EXPECT_LT(0, places_end());
}

TEST_F_TIMEOUT(fail_nth, probe, 600)
{
	if (accel_target()->kind == ACCEL_MOCK)
		return; /* It is not on a bus that can be told to bind. */
	if (accel_target()->kind == ACCEL_NPU && !getenv("ACCEL_CYCLES"))
		return; /* Several hundred failures, each a second. */
	env_close(&self->env);
	if (getenv("ACCEL_CYCLES"))
		sweep_others(_metadata, NULL, 0, true);
	ASSERT_EQ(0, places_begin());
	sweep_others(_metadata, NULL, 0, true);
	EXPECT_LT(0, places_end());
	ASSERT_EQ(0, accel_restore());
	ASSERT_EQ(0, env_open(&self->env));
}

static int kmemleak_scan(void)
{
	return accel_write_line(KMEMLEAK, "scan");
}

/* Nothing is left of all that failed before. */
TEST_F_TIMEOUT(fail_nth, leaks, 300)
{
	char text[4096] = "";
	ssize_t len;
	int fd;

	accel_sleep_ms(KMEMLEAK_AGE_MS);
	/* What is on a stack or in a register now is not in the second. */
	ASSERT_EQ(0, kmemleak_scan());
	ASSERT_EQ(0, kmemleak_scan());
	fd = open(KMEMLEAK, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	EXPECT_EQ(0, len) TH_LOG("%s", text);
}

TEST_HARNESS_MAIN
