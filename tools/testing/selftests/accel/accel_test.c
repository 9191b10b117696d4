// SPDX-License-Identifier: GPL-2.0
/* What the tests of the accelerator subsystem share. */

#define ACCEL_TEST_PART
#include "accel_test.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static struct accel_target target;
/* Where the device hangs, kept for when it is gone. */
static char target_pci[32];

static int mock_devices(void)
{
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	dir = opendir("/sys/bus/faux/devices");
	if (!dir)
		return 1;
	while ((entry = readdir(dir)))
		if (!strncmp(entry->d_name, MOCK_DRIVER, strlen(MOCK_DRIVER)))
			count++;
	closedir(dir);
	return count;
}

static int mock_count = 1;

static const struct {
	const char *name;
	const char *driver;
} kinds[] = {
	[ACCEL_MOCK] = { "mock", MOCK_DRIVER },
	[ACCEL_EDU] = { "edu", EDU_DRIVER },
	[ACCEL_NPU] = { "npu", NPU_DRIVER },
};

static enum accel_kind kind_of(const struct accel_info_identity *id)
{
	const char *name = getenv("ACCEL_KIND");

	for (enum accel_kind kind = ACCEL_MOCK; kind <= ACCEL_NPU; kind++)
		if (name ? !strcmp(name, kinds[kind].name) :
			   !strcmp(id->driver, kinds[kind].driver))
			return kind;
	return ACCEL_MOCK;
}

/* Its nodes: those of a path that ends before the number. */
static void set_nodes(const char *path, int length, unsigned int number)
{
	char stem[sizeof(target.compute)];

	snprintf(stem, sizeof(stem), "%.*s", length, path);
	target.number = number;
	snprintf(target.compute, sizeof(target.compute), "%.40s%u", stem,
		 number);
	snprintf(target.control, sizeof(target.control), "%.40s_control%u",
		 stem, number);
}

const struct accel_target *accel_target(void)
{
	const char *device = getenv("ACCEL_DEVICE");
	struct accel_info_identity id;
	unsigned int first;
	char found[64];
	const char *n;
	int fd;

	if (target.compute[0])
		return &target;
	if (!device) {
		if (accel_numbers(&first, 1) < 1)
			return NULL;
		snprintf(found, sizeof(found), "/dev/accel/accel%u", first);
		device = found;
	}
	n = device + strlen(device);
	while (n > device && isdigit((unsigned char)n[-1]))
		n--;
	if (!*n)
		return NULL;
	fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	memset(&id, 0, sizeof(id));
	if (accel_info(fd, ACCEL_INFO_IDENTITY, 0, &id, sizeof(id))) {
		close(fd);
		return NULL;
	}
	close(fd);
	target.kind = kind_of(&id);
	target.driver = kinds[target.kind].driver;
	if (target.kind != ACCEL_MOCK)
		snprintf(target_pci, sizeof(target_pci), "%.31s", id.parent);
	else
		mock_count = mock_devices();
	set_nodes(device, n - device, strtoul(n, NULL, 10));
	return &target;
}

void accel_follow(unsigned int number)
{
	int length = strlen(target.compute);

	while (length && isdigit((unsigned char)target.compute[length - 1]))
		length--;
	set_nodes(target.compute, length, number);
}

int accel_open(int flags)
{
	const struct accel_target *t = accel_target();
	int fd;

	if (!t)
		return -ENODEV;
	fd = open(t->compute, flags);
	return fd < 0 ? -errno : fd;
}

int accel_open_control(int flags)
{
	const struct accel_target *t = accel_target();
	int fd;

	if (!t)
		return -ENODEV;
	fd = open(t->control, flags);
	return fd < 0 ? -errno : fd;
}

int accel_ioctl(int fd, unsigned long cmd, const void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

int accel_info(int fd, uint32_t query, uint32_t index, void *answer,
	       uint32_t size)
{
	struct accel_info info = {
		.query = query,
		.index = index,
		.size = size,
		.ptr = (uintptr_t)answer,
	};

	return accel_ioctl(fd, ACCEL_IOCTL_INFO, &info);
}

int accel_buffer_create(int fd, uint64_t size, uint32_t *handle)
{
	struct accel_buffer_create create = { .size = size };
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_BUFFER_CREATE, &create);
	if (!ret)
		*handle = create.handle;
	return ret;
}

int accel_buffer_mmap(int fd, uint32_t handle, uint64_t *offset, uint64_t *size)
{
	struct accel_buffer_mmap map = { .handle = handle };
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_BUFFER_MMAP, &map);
	if (ret)
		return ret;
	*offset = map.offset;
	if (size)
		*size = map.size;
	return 0;
}

int accel_buffer_destroy(int fd, uint32_t handle)
{
	struct accel_handle destroy = { .handle = handle };

	return accel_ioctl(fd, ACCEL_IOCTL_BUFFER_DESTROY, &destroy);
}

void *accel_buffer_map(int fd, uint32_t handle, size_t size, int prot)
{
	uint64_t offset;
	void *map;
	int ret;

	ret = accel_buffer_mmap(fd, handle, &offset, NULL);
	if (ret) {
		errno = -ret;
		return NULL;
	}
	map = mmap(NULL, size, prot, MAP_SHARED, fd, offset);
	return map == MAP_FAILED ? NULL : map;
}

void *accel_buffer_new(int fd, size_t size, uint32_t *handle)
{
	int ret = accel_buffer_create(fd, size, handle);

	if (ret) {
		errno = -ret;
		return NULL;
	}
	return accel_buffer_map(fd, *handle, size, PROT_READ | PROT_WRITE);
}

int accel_timeline_create(int fd, uint32_t *handle)
{
	struct accel_timeline_create create = {};
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_CREATE, &create);
	if (!ret)
		*handle = create.handle;
	return ret;
}

int accel_timeline_destroy(int fd, uint32_t handle)
{
	struct accel_handle destroy = { .handle = handle };

	return accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_DESTROY, &destroy);
}

int accel_timeline_wait(int fd, uint32_t handle, uint64_t point,
			int64_t deadline, uint64_t *value, int32_t *status)
{
	struct accel_timeline_wait wait = {
		.handle = handle,
		.point = point,
		.deadline_ns = deadline,
		.value = ~0ULL,
		.status = 1,
	};
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_WAIT, &wait);
	if (ret)
		return ret;
	if (value)
		*value = wait.value;
	if (status)
		*status = wait.status;
	return 0;
}

int accel_timeline_eventfd(int fd, uint32_t handle, uint64_t point, int eventfd)
{
	struct accel_timeline_eventfd arg = {
		.handle = handle,
		.point = point,
		.eventfd = eventfd,
	};

	return accel_ioctl(fd, ACCEL_IOCTL_TIMELINE_EVENTFD, &arg);
}

static int submit_edu(int fd, uint32_t timeline, uint64_t *point)
{
	uint32_t number = 3;
	struct accel_edu_factorial factorial = {
		.numbers = (uintptr_t)&number,
		.count = 1,
		.timeline = timeline,
	};
	int ret;

	ret = accel_buffer_create(fd, 4, &factorial.dst);
	if (ret)
		return ret;
	ret = accel_ioctl(fd, ACCEL_EDU_IOCTL_FACTORIAL, &factorial);
	/* The job keeps the buffer. */
	accel_buffer_destroy(fd, factorial.dst);
	if (!ret)
		*point = factorial.point;
	return ret;
}

/* Zeroed memory is a list of commands that do nothing. */
static int submit_npu(int fd, uint32_t timeline, uint32_t flags,
		      uint64_t *point)
{
	struct accel_npu_map map = {
		.flags = ACCEL_NPU_MAP_READ | ACCEL_NPU_MAP_DEVICE,
		.size = 4096,
		.address = ACCEL_NPU_ADDRESS_MIN,
	};
	struct accel_npu_job job = { .address = map.address, .count = 1 };
	struct accel_npu_submit submit = {
		.jobs = (uintptr_t)&job,
		.count = 1,
		.timeline = timeline,
		.flags = flags,
	};
	int ret;

	ret = accel_ioctl(fd, ACCEL_NPU_IOCTL_MAP, &map);
	/* It is there since the file's first job. */
	if (ret && ret != -EEXIST)
		return ret;
	ret = accel_ioctl(fd, ACCEL_NPU_IOCTL_SUBMIT, &submit);
	if (!ret)
		*point = submit.point;
	return ret;
}

int accel_submit(int fd, uint32_t timeline, uint64_t *point)
{
	struct accel_mock_submit submit = { .timeline = timeline };
	int ret;

	if (target.kind == ACCEL_EDU)
		return submit_edu(fd, timeline, point);
	if (target.kind == ACCEL_NPU)
		return submit_npu(fd, timeline, 0, point);
	ret = accel_ioctl(fd, ACCEL_MOCK_IOCTL_SUBMIT, &submit);
	if (!ret)
		*point = submit.point;
	return ret;
}

int accel_submit_held(int fd, uint32_t timeline)
{
	struct accel_mock_submit submit = {
		.timeline = timeline,
		.flags = ACCEL_MOCK_SUBMIT_HOLD,
	};
	uint64_t point;

	if (target.kind == ACCEL_NPU)
		return submit_npu(fd, timeline, ACCEL_NPU_SUBMIT_DEFER, &point);
	return accel_ioctl(fd, ACCEL_MOCK_IOCTL_SUBMIT, &submit);
}

int accel_events(int fd, uint64_t types, uint64_t *before)
{
	struct accel_events events = { .types = types };
	int ret;

	ret = accel_ioctl(fd, ACCEL_IOCTL_EVENTS, &events);
	if (!ret && before)
		*before = events.types;
	return ret;
}

int accel_read(int fd, void *events, size_t size)
{
	ssize_t ret = read(fd, events, size);

	return ret < 0 ? -errno : ret;
}

uint64_t accel_eventfd_count(int eventfd)
{
	uint64_t count;

	if (read(eventfd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

/*
 * What it counts in the end: they are signalled soon after what they wait for.
 * Waits 10 seconds for @count, and no longer for more.
 */
uint64_t accel_eventfd_wait(int eventfd, uint64_t count)
{
	int64_t end = accel_now() + 10 * NSEC_PER_SEC;
	struct pollfd polled = { .fd = eventfd, .events = POLLIN };
	uint64_t counted = 0;

	while (counted < count && accel_now() < end) {
		poll(&polled, 1, 100);
		counted += accel_eventfd_count(eventfd);
	}
	return counted;
}

int64_t accel_fdinfo(int fd, const char *name)
{
	char path[64], line[256];
	int64_t value = -ENOENT;
	size_t length = strlen(name);
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, length) && line[length] == ':')
			value = strtoll(line + length + 1, NULL, 10);
	fclose(file);
	return value;
}

int64_t accel_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

void accel_sleep_ms(unsigned int ms)
{
	struct timespec time = {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * NSEC_PER_MSEC,
	};

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

/* Of each thread: where a fault goes while it touches something. */
static __thread sigjmp_buf touch_back;
static __thread volatile sig_atomic_t touching;

static void touch_handler(int sig)
{
	if (touching)
		siglongjmp(touch_back, sig);
	/* Not ours: the fault comes again, and kills. */
	signal(sig, SIG_DFL);
}

static int touch(unsigned char *p, bool write)
{
	struct sigaction action = { .sa_handler = touch_handler };
	int sig;

	/* They stay, since other threads may be here too. */
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sig = sigsetjmp(touch_back, 1);
	if (!sig) {
		unsigned char byte;

		touching = 1;
		byte = __atomic_load_n(p, __ATOMIC_RELAXED);
		if (write)
			__atomic_store_n(p, byte, __ATOMIC_RELAXED);
	}
	touching = 0;
	return sig;
}

int accel_touch(const void *p)
{
	return touch((unsigned char *)p, false);
}

int accel_touch_write(void *p)
{
	return touch(p, true);
}

int accel_mmap_errno(int fd, size_t size, int prot, int flags, uint64_t offset)
{
	void *map = mmap(NULL, size, prot, flags, fd, offset);

	if (map == MAP_FAILED)
		return -errno;
	munmap(map, size);
	return 0;
}

int accel_read_line(const char *path, char *line, size_t size)
{
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, line, size - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return 0;
}

int accel_write_line(const char *path, const char *line)
{
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, line, strlen(line)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

bool accel_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

const char *accel_class(void)
{
	return accel_exists("/sys/class/accel_core") ? "accel_core" : "accel";
}

static int compare(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return (x > y) - (x < y);
}

int accel_numbers(unsigned int *numbers, int most)
{
	unsigned int *all, number;
	struct dirent *entry;
	int count = 0;
	char path[64];
	char rest;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/class/%s", accel_class());
	dir = opendir(path);
	if (!dir)
		return -errno;
	all = calloc(65536, sizeof(*all));
	if (!all) {
		closedir(dir);
		return -ENOMEM;
	}
	while ((entry = readdir(dir)) && count < 65536)
		if (sscanf(entry->d_name, "accel%u%c", &number, &rest) == 1)
			all[count++] = number;
	closedir(dir);
	qsort(all, count, sizeof(*all), compare);
	memcpy(numbers, all, (count < most ? count : most) * sizeof(*all));
	free(all);
	return count;
}

static int compare_address(const void *a, const void *b)
{
	return strcmp(a, b);
}

int accel_pci_find(struct accel_pci *pci)
{
	return accel_pci_find_id(pci, 0x1234, 0x11e8);
}

int accel_pci_find_id(struct accel_pci *pci, unsigned int vendor,
		      unsigned int device)
{
	char path[320], line[16];
	struct dirent *entry;
	DIR *dir;

	pci->count = 0;
	dir = opendir("/sys/bus/pci/devices");
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) && pci->count < 4) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor",
			 entry->d_name);
		if (accel_read_line(path, line, sizeof(line)) ||
		    strtoul(line, NULL, 0) != vendor)
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device",
			 entry->d_name);
		if (accel_read_line(path, line, sizeof(line)) ||
		    strtoul(line, NULL, 0) != device)
			continue;
		snprintf(pci->address[pci->count++], sizeof(pci->address[0]),
			 "%.31s", entry->d_name);
	}
	closedir(dir);
	qsort(pci->address, pci->count, sizeof(pci->address[0]),
	      compare_address);
	return pci->count;
}

static int pci_tell(const char *driver, const char *what, const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver,
		 what);
	return accel_write_line(path, address);
}

static bool pci_bound(const char *driver, const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver,
		 address);
	return accel_exists(path);
}

int accel_pci_bind(const char *address)
{
	return pci_tell(EDU_DRIVER, "bind", address);
}

int accel_pci_unbind(const char *address)
{
	return pci_tell(EDU_DRIVER, "unbind", address);
}

bool accel_pci_bound(const char *address)
{
	return pci_bound(EDU_DRIVER, address);
}

static int number_of(const char *bus, const char *device)
{
	struct dirent *entry;
	unsigned int number;
	int found = -ENODEV;
	char path[128];
	char rest;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/%s/devices/%s/%s", bus, device,
		 accel_class());
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (sscanf(entry->d_name, "accel%u%c", &number, &rest) == 1)
			found = number;
	closedir(dir);
	return found;
}

int accel_pci_number(const char *address)
{
	return number_of("pci", address);
}

/* An argument for each of up to three parameters. */
static void split(const char *parameters, char *words, char *to[4])
{
	char *rest = NULL;

	strcpy(words, parameters ? parameters : "");
	for (int i = 0; i < 3; i++)
		to[i] = strtok_r(i ? NULL : words, " ", &rest);
	to[3] = NULL;
}

int accel_modprobe(const char *module, const char *parameters)
{
	char words[128], *word[4];
	int status;
	pid_t pid;

	if (parameters && strlen(parameters) >= sizeof(words))
		return -E2BIG;
	split(parameters, words, word);

	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execlp("modprobe", "modprobe", module, word[0], word[1],
		       word[2], NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EINVAL;
}

int accel_rmmod(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK) ? -errno : 0;
}

bool accel_loaded(const char *module)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s/initstate", module);
	return accel_exists(path);
}

int accel_remove(void)
{
	if (!accel_target())
		return -ENODEV;
	if (target.kind == ACCEL_MOCK)
		return accel_rmmod(MOCK_DRIVER);
	return pci_tell(target.driver, "unbind", target_pci);
}

int accel_restore(void)
{
	char parameter[32];
	int ret = 0;

	/*
	 * The tests leave no file open; still, one that was closed a moment
	 * ago may hold the number until the kernel has got round to it.
	 */
	for (int tries = 0; tries < 20; tries++) {
		if (accel_exists(target.compute))
			return 0;
		if (target.kind != ACCEL_MOCK) {
			if (pci_bound(target.driver, target_pci))
				pci_tell(target.driver, "unbind", target_pci);
			if (!accel_loaded(target.driver))
				ret = accel_modprobe(target.driver, NULL);
			else
				ret = pci_tell(target.driver, "bind",
					       target_pci);
		} else {
			if (accel_loaded(MOCK_DRIVER))
				accel_rmmod(MOCK_DRIVER);
			snprintf(parameter, sizeof(parameter), "devices=%d",
				 mock_count);
			ret = accel_modprobe(MOCK_DRIVER, parameter);
		}
		if (accel_exists(target.compute))
			return 0;
		accel_sleep_ms(50);
	}
	return ret ? ret : -ENODEV;
}

int accel_bind(void)
{
	return pci_tell(target.driver, "bind", target_pci);
}

int accel_restore_anywhere(void)
{
	int ret;

	if (target.kind != ACCEL_MOCK) {
		ret = pci_tell(target.driver, "bind", target_pci);
		return ret ? ret : accel_pci_number(target_pci);
	}
	ret = accel_modprobe(MOCK_DRIVER, NULL);
	return ret ? ret : number_of("faux", MOCK_DRIVER ".0");
}

static void *call_thread(void *data)
{
	struct accel_call *call = data;

	call->result = call->size ?
			       accel_read(call->fd, call->arg, call->size) :
			       accel_ioctl(call->fd, call->cmd, call->arg);
	call->ended = accel_now();
	__atomic_store_n(&call->done, true, __ATOMIC_RELEASE);
	return NULL;
}

int accel_call_start(struct accel_call *call, int fd, unsigned long cmd,
		     void *arg)
{
	memset(call, 0, sizeof(*call));
	call->fd = fd;
	call->cmd = cmd;
	call->arg = arg;
	return -pthread_create(&call->thread, NULL, call_thread, call);
}

int accel_call_read(struct accel_call *call, int fd, void *events, size_t size)
{
	memset(call, 0, sizeof(*call));
	call->fd = fd;
	call->arg = events;
	call->size = size;
	return -pthread_create(&call->thread, NULL, call_thread, call);
}

bool accel_call_wait(struct accel_call *call, unsigned int ms)
{
	int64_t until = accel_now() + ms * NSEC_PER_MSEC;

	while (!__atomic_load_n(&call->done, __ATOMIC_ACQUIRE)) {
		if (accel_now() > until)
			return false;
		accel_sleep_ms(2);
	}
	return true;
}

void accel_call_join(struct accel_call *call)
{
	pthread_join(call->thread, NULL);
}
