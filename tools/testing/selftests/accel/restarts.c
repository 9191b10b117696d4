// SPDX-License-Identifier: GPL-2.0
/*
 * The system goes down and comes up again while all devices work: by reboot,
 * and by kexec, where nothing but the kernel's shutdown stops what they do to
 * memory. Needs a guest of its own that may restart.
 *
 * The program begins anew in each boot, and asks the host how far it had come.
 */

#define ACCEL_TEST_PART
#include "npu.h"
#include "kselftest.h"

#include <linux/kexec.h>
#include <linux/reboot.h>
#include <sys/reboot.h>
#include <sys/syscall.h>

/* Cycles of each kind; of those that the long form is asked for, one of so many. */
#define CYCLES 1
#define SHARE 10
#define PORT "/dev/virtio-ports/accel.host"
#define KERNEL "/accel/vmlinuz"
#define INITRD "/sys/firmware/initrd"
#define DEVICES_MAX 16

static const char *const ways[] = { "reboot", "kexec" };

/* What a boot leaves to the next one. */
struct progress {
	unsigned int boots;
	/* Devices that there were in the first boot. */
	unsigned int devices;
};

static int port = -1;

static int recall(struct progress *progress)
{
	char line[64] = "";
	size_t length = 0;

	if (write(port, "kept\n", 5) != 5)
		return -errno;
	while (length < sizeof(line) - 1 && !strchr(line, '\n')) {
		if (read(port, line + length, 1) != 1)
			return -errno;
		length++;
	}
	memset(progress, 0, sizeof(*progress));
	/* Nothing is kept before the first restart. */
	if (line[0] != '\n' &&
	    sscanf(line, "%u %u", &progress->boots, &progress->devices) != 2)
		return -EPROTO;
	return 0;
}

static int remember(const struct progress *progress)
{
	return dprintf(port, "keep %u %u\n", progress->boots,
		       progress->devices) < 0 ?
		       -errno :
		       0;
}

/* What a process that keeps a device busy says of itself. */
struct worker {
	char node[32];
	unsigned int rounds;
	int result;
};

static struct worker *workers;

/* Some jobs; those of an NPU take it a while. */
static int submit(int fd, uint32_t timeline, uint64_t *point)
{
	const struct npu npu = { .fd = fd, .timeline = timeline };
	const struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };
	int ret = 0;

	for (int i = 0; i < 2 && !ret; i++)
		ret = accel_target()->kind == ACCEL_NPU ?
			      npu_submit_jobs(&npu, &job, 1, 0, NPU_JOB_MS,
					      point) :
			      accel_submit(fd, timeline, point);
	return ret;
}

/* Has jobs running for as long as there is a device. */
static void work(struct worker *worker)
{
	uint64_t point = 0;
	uint32_t timeline;
	int fd, ret;

	setenv("ACCEL_DEVICE", worker->node, 1);
	unsetenv("ACCEL_KIND");
	fd = accel_target() ? accel_open(O_RDWR | O_CLOEXEC) : -ENODEV;
	ret = fd < 0 ? fd : accel_timeline_create(fd, &timeline);
	if (!ret && accel_target()->kind == ACCEL_NPU)
		ret = npu_submit_long(fd, timeline, 1);
	while (!ret) {
		ret = submit(fd, timeline, &point);
		if (!ret)
			ret = accel_timeline_wait(
				fd, timeline, point,
				accel_now() + 120 * NSEC_PER_SEC, NULL, NULL);
		__atomic_add_fetch(&worker->rounds, 1, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&worker->result, ret, __ATOMIC_RELAXED);
	pause();
}

static bool is_null(unsigned int number)
{
	char path[96], driver[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/class/%s/accel%u/device",
		 accel_class(), number);
	n = readlink(path, driver, sizeof(driver) - 1);
	driver[n < 0 ? 0 : n] = '\0';
	return strstr(driver, NULL_DRIVER);
}

/* Keeps all devices busy; how many that are, or a negative errno. */
static int start_workers(void)
{
	unsigned int numbers[DEVICES_MAX];
	int found, count = 0;

	found = accel_numbers(numbers, DEVICES_MAX);
	for (int i = 0; i < found; i++) {
		struct worker *worker = &workers[count];

		if (is_null(numbers[i]))
			continue;
		snprintf(worker->node, sizeof(worker->node),
			 "/dev/accel/accel%u", numbers[i]);
		if (!fork()) {
			work(worker);
			_exit(0);
		}
		count++;
	}
	return count;
}

/* Waits until each has done something; one that does not, or NULL. */
static const struct worker *idle_worker(int count)
{
	int64_t limit = accel_now() + 120 * NSEC_PER_SEC;

	for (int i = 0; i < count; i++) {
		struct worker *worker = &workers[i];

		while (__atomic_load_n(&worker->rounds, __ATOMIC_RELAXED) < 2) {
			if (__atomic_load_n(&worker->result,
					    __ATOMIC_RELAXED) ||
			    accel_now() > limit)
				return worker;
			accel_sleep_ms(1);
		}
	}
	return NULL;
}

/* Loads the kernel that runs, with its first file system and its parameters. */
static int load_kernel(void)
{
	char line[4096];
	int kernel, initrd, ret;

	ret = accel_read_line("/proc/cmdline", line, sizeof(line));
	if (ret)
		return ret;
	kernel = open(KERNEL, O_RDONLY | O_CLOEXEC);
	initrd = open(INITRD, O_RDONLY | O_CLOEXEC);
	if (kernel < 0 || initrd < 0)
		return -errno;
	ret = syscall(SYS_kexec_file_load, kernel, initrd, strlen(line) + 1,
		      line, 0UL);
	if (ret)
		ret = -errno;
	close(kernel);
	close(initrd);
	return ret;
}

static int restart(unsigned int way)
{
	int ret;

	if (!way)
		return reboot(RB_AUTOBOOT);
	ret = load_kernel();
	if (ret)
		return ret;
	return reboot(LINUX_REBOOT_CMD_KEXEC);
}

int main(void)
{
	const char *asked = getenv("ACCEL_CYCLES");
	unsigned int cycles = asked ? (atoi(asked) + SHARE - 1) / SHARE :
				      CYCLES;
	struct progress progress;
	const struct worker *idle;
	int devices, ret;

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(ways));
	port = open(PORT, O_RDWR | O_CLOEXEC);
	if (port < 0 || recall(&progress))
		ksft_exit_fail_msg("the host does not answer\n");
	workers = mmap(NULL, DEVICES_MAX * sizeof(*workers),
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		       0);
	if (workers == MAP_FAILED)
		ksft_exit_fail_msg("no memory\n");
	devices = start_workers();
	if (!progress.boots)
		progress.devices = devices;
	if (devices <= 0 || devices != progress.devices)
		ksft_exit_fail_msg("boot %u: %d devices, at first %u\n",
				   progress.boots, devices, progress.devices);
	idle = idle_worker(devices);
	if (idle)
		ksft_exit_fail_msg("boot %u: %s does not work: %u rounds, %s\n",
				   progress.boots, idle->node, idle->rounds,
				   strerror(-idle->result));
	if (progress.boots < ARRAY_SIZE(ways) * cycles) {
		progress.boots++;
		ret = remember(&progress);
		if (!ret)
			ret = restart((progress.boots - 1) % ARRAY_SIZE(ways));
		ksft_exit_fail_msg("boot %u: no restart: %s\n", progress.boots,
				   strerror(-ret));
	}
	for (unsigned int way = 0; way < ARRAY_SIZE(ways); way++) {
		ksft_print_msg("stress: shape=restarts/%s cycles=%u\n",
			       ways[way], cycles);
		ksft_test_result_pass("%s\n", ways[way]);
	}
	ksft_finished();
}
