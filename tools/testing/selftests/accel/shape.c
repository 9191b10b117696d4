// SPDX-License-Identifier: GPL-2.0
/* What the tests of a device's end share: cycles and what they leave behind. */

#define ACCEL_TEST_PART
#include "shape.h"
#include "kselftest.h"

#include <dirent.h>
#include <sched.h>
#include <sys/utsname.h>

unsigned int shape_limit_ms(void)
{
	struct utsname name;

	/* The promise is for the small kernel; others have more to do. */
	uname(&name);
	return strstr(name.release, "cloud") ? 1000 : 5000 * accel_patience();
}

static void count(struct shape_census *census, const char *name, long value,
		  long slack)
{
	struct shape_count *entry = &census->counts[census->count];

	if (census->count == ARRAY_SIZE(census->counts))
		return;
	snprintf(entry->name, sizeof(entry->name), "%.39s", name);
	entry->value = value;
	entry->slack = slack;
	census->count++;
}

static int count_entries(const char *path)
{
	struct dirent *entry;
	int found = 0;
	DIR *dir;

	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		found += entry->d_name[0] != '.';
	closedir(dir);
	return found;
}

static void count_references(struct shape_census *census, const char *module)
{
	char path[128], line[32];

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module);
	if (!accel_read_line(path, line, sizeof(line))) {
		snprintf(path, sizeof(path), "references of %.24s", module);
		count(census, path, strtol(line, NULL, 10), 0);
	}
}

/* From so many cycles on, what a cycle leaves is more than what caches keep. */
#define SETTLED 100

bool shape_kernel_finds_leaks(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK);
}

/* Gives back what the allocator keeps for later, so that counts are exact. */
static void settle(void)
{
	struct dirent *entry;
	char path[320];
	DIR *dir;

	if (shape_kernel_finds_leaks())
		return;
	dir = opendir("/sys/kernel/slab");
	while (dir && (entry = readdir(dir))) {
		/* The others are links to these. */
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink",
			 entry->d_name);
		accel_write_line(path, "1");
	}
	if (dir)
		closedir(dir);
	/* 4: without a word in the log. Twice: some have a second chance. */
	accel_write_line("/proc/sys/vm/drop_caches", "4");
	for (int i = 0; i < 2; i++)
		accel_write_line("/proc/sys/vm/drop_caches", "2");
}

/*
 * Objects of a cache that the allocator keeps at hand, without their being in
 * use: a few sheaves for each of two CPUs.
 */
static long kept_of(const char *cache)
{
	char path[128], line[32];

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/sheaf_capacity",
		 cache);
	return accel_read_line(path, line, sizeof(line)) ? 0 : 8 * atol(line);
}

/* Objects of each cache of the allocator. */
static void count_slabs(struct shape_census *census, long growth)
{
	char line[512], name[40];
	long objects;
	FILE *file;

	file = fopen("/proc/slabinfo", "re");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%39s %ld", name, &objects) == 2 &&
		    name[0] != '#') {
			long kept = kept_of(name);

			count(census, name, objects,
			      growth > kept ? growth : kept);
		}
	fclose(file);
}

/* Pages of the allocators that are none of slabs, in KiB. */
static void count_pages(struct shape_census *census, long slack)
{
	static const char *const kinds[] = { "Percpu", "VmallocUsed" };
	char line[128], name[40];
	long kib;
	FILE *file;

	file = fopen("/proc/meminfo", "re");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%39[^:]: %ld", name, &kib) != 2)
			continue;
		for (int i = 0; i < ARRAY_SIZE(kinds); i++)
			if (!strcmp(name, kinds[i]))
				count(census, name, kib, slack);
	}
	fclose(file);
}

static void take_census(struct shape_census *census, int cycles)
{
	census->count = 0;
	census->devices =
		accel_numbers(census->numbers, ARRAY_SIZE(census->numbers));
	count(census, "devices", census->devices, 0);
	count(census, "open files", count_entries("/proc/self/fd"), 0);
	count_references(census, "accel");
	count_references(census, accel_target()->driver);
	if (shape_kernel_finds_leaks())
		return;
	/* What grows with cycles grows by at least one in each. */
	count_slabs(census, cycles - 1);
	/* A device has about 100 bytes for each CPU; chunks are large. */
	count_pages(census, cycles / 16 > 512 ? cycles / 16 : 512);
}

static long value_in(const struct shape_census *census, const char *name)
{
	for (int i = 0; i < census->count; i++)
		if (!strcmp(census->counts[i].name, name))
			return census->counts[i].value;
	return 0;
}

/* What is there more than before; says what, if it is to. */
static int compare(const struct shape *shape, bool say)
{
	static struct shape_census now;
	int leaks = 0;

	take_census(&now, shape->cycles);
	for (int i = 0; i < now.count; i++) {
		const struct shape_count *entry = &now.counts[i];
		long before = value_in(&shape->before, entry->name);

		if (entry->value - before <= entry->slack &&
		    (entry->slack || entry->value == before))
			continue;
		leaks++;
		if (say)
			fprintf(stderr, "# %s: %s: %ld, before %ld\n",
				shape->name, entry->name, entry->value, before);
	}
	if (memcmp(now.numbers, shape->before.numbers,
		   sizeof(now.numbers[0]) * now.devices)) {
		leaks++;
		if (say)
			fprintf(stderr, "# %s: other numbers than before\n",
				shape->name);
	}
	return leaks;
}

#define WATCHERS 4
#define WATCH_MS 5
/* Later than that the CPU was not there, or nobody was let onto it. */
#define LATE_NS (20 * NSEC_PER_MSEC)

static struct watcher {
	int cpu;
	/* When it last ran, and by how much it was late since it was asked. */
	int64_t seen_ns;
	int64_t late_ns;
} watchers[WATCHERS];

static void *watch(void *data)
{
	struct sched_param param = { .sched_priority = 99 };
	struct watcher *watcher = data;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(watcher->cpu, &cpus);
	if (pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus) ||
	    pthread_setschedparam(pthread_self(), SCHED_FIFO, &param))
		return NULL;
	for (;;) {
		int64_t now = accel_now();
		int64_t last = __atomic_exchange_n(&watcher->seen_ns, now,
						   __ATOMIC_RELAXED);

		if (last && now - last > LATE_NS)
			__atomic_add_fetch(&watcher->late_ns, now - last,
					   __ATOMIC_RELAXED);
		accel_sleep_ms(WATCH_MS);
	}
}

/* One for each CPU, for as long as the process is there. */
static void start_watching(void)
{
	static bool started;
	pthread_t thread;

	for (int i = 0; i < WATCHERS && !started; i++) {
		watchers[i].cpu = i;
		if (!pthread_create(&thread, NULL, watch, &watchers[i]))
			pthread_detach(thread);
	}
	started = true;
}

/* What was taken on the CPU that was worst off, since this was asked. */
static int64_t taken_ns(void)
{
	int64_t most = 0;

	for (int i = 0; i < WATCHERS; i++) {
		int64_t late = __atomic_exchange_n(&watchers[i].late_ns, 0,
						   __ATOMIC_RELAXED);

		if (late > most)
			most = late;
	}
	return most;
}

static void set_name(struct shape *shape, const char *name)
{
	const char *kind = getenv("ACCEL_KIND");

	snprintf(shape->name, sizeof(shape->name), "%s%s%s/%s",
		 program_invocation_short_name, kind ? "." : "",
		 kind ? kind : "", name);
}

void shape_begin(struct shape *shape, const char *name, int cycles)
{
	memset(shape, 0, sizeof(*shape));
	start_watching();
	set_name(shape, name);
	shape->cycles = accel_cycles(cycles);
	/* It takes as long as several cycles do. */
	if (shape->cycles >= SETTLED)
		settle();
	take_census(&shape->before, shape->cycles);
}

void shape_going(struct shape *shape)
{
	start_watching();
	taken_ns();
	shape->began_ns = accel_now();
}

void shape_gone(struct shape *shape)
{
	int64_t took = accel_now() - shape->began_ns;

	if (took > shape->longest_ns)
		shape->longest_ns = took;
	if (took > shape_limit_ms() * NSEC_PER_MSEC) {
		/* Who is late now says so once it runs again. */
		accel_sleep_ms(2 * WATCH_MS);
		took -= taken_ns();
	}
	if (took > shape->longest_own_ns)
		shape->longest_own_ns = took;
	shape->done++;
}

bool shape_in_time(const struct shape *shape)
{
	int64_t limit_ns = shape_limit_ms() * NSEC_PER_MSEC;

	return shape->longest_own_ns <= limit_ns &&
	       shape->longest_ns <= 4 * limit_ns;
}

int shape_remove(struct shape *shape)
{
	int ret;

	shape_going(shape);
	ret = accel_remove();
	shape_gone(shape);
	return ret;
}

static void print(const struct shape *shape, int leaks)
{
	fprintf(stderr,
		"# stress: shape=%s cycles=%d longest_unbind_ms=%lld leaks=%d\n",
		shape->name, shape->done,
		(long long)((shape->longest_ns + NSEC_PER_MSEC - 1) /
			    NSEC_PER_MSEC),
		leaks);
}

int shape_end(struct shape *shape)
{
	int leaks = 0;

	/* What is freed later, by RCU and workers, is so within some time. */
	for (int tries = 0; tries < 100; tries++) {
		leaks = compare(shape, false);
		if (!leaks)
			break;
		accel_sleep_ms(20);
		settle();
	}
	if (leaks)
		leaks = compare(shape, true);
	print(shape, leaks);
	return leaks;
}

void shape_print(struct shape *shape, const char *name)
{
	if (!shape->done)
		return;
	set_name(shape, name);
	print(shape, 0);
}

static int submit_one(int fd, uint32_t *timeline, uint64_t *point)
{
	int ret = accel_timeline_create(fd, timeline);

	return ret ? ret : accel_submit(fd, *timeline, point);
}

int shape_healthy(const char *node)
{
	uint32_t timeline, buffer;
	uint64_t point;
	int32_t status;
	void *map;
	int fd, ret;

	fd = open(node, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = submit_one(fd, &timeline, &point);
	if (!ret)
		ret = accel_timeline_wait(
			fd, timeline, point,
			accel_now() + 5 * NSEC_PER_SEC * accel_patience(), NULL,
			&status);
	if (!ret)
		ret = status;
	map = ret ? NULL : accel_buffer_new(fd, 4096, &buffer);
	if (!ret && (!map || *(int *)map || accel_touch_write(map)))
		ret = -EIO;
	if (map)
		munmap(map, 4096);
	close(fd);
	return ret;
}

int shape_unplug(const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", address);
	return accel_write_line(path, "1");
}

int shape_rescan(void)
{
	return accel_write_line("/sys/bus/pci/rescan", "1");
}

const char *shape_address(void)
{
	static char address[32];
	char path[96], target[512];
	ssize_t n;

	if (accel_target()->kind == ACCEL_MOCK)
		return NULL;
	if (!address[0]) {
		snprintf(path, sizeof(path), "/sys/class/%s/accel%u/device",
			 accel_class(), accel_target()->number);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			return NULL;
		target[n] = '\0';
		snprintf(address, sizeof(address), "%.31s",
			 strrchr(target, '/') + 1);
	}
	return address;
}
